"""The layers that know nothing of positions: norm, MLP, embedding and unembedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.models.config import ACTIVATIONS, LRopeConfig
from lrope_interp.models.hooks import HookPoint, has_live_hook
from lrope_interp.models.kernels import fused_rms_norm, runs_fused

WEIGHT_STD = 0.02


class Redrawable(nn.Module):
    """A module with parameters of its own, which TransformerLens' tools ask it to draw again."""

    def reset_parameters(self) -> None:
        """Draw the parameters that this very module holds, from torch's default generator, in place.

        Matrices are normal with s.d. 0.02, gains become 1 and biases 0. The whole model's
        `reset_parameters` draws from `cfg.seed` instead.
        """
        with torch.no_grad():
            for name, parameter in self.named_parameters(recurse=False):
                if name == "w":
                    parameter.fill_(1.0)
                elif name.startswith("b_"):
                    parameter.zero_()
                else:
                    parameter.normal_(std=WEIGHT_STD)


class ModuleWithOptionalBiases(Redrawable):
    """A module whose `b_*` names read as zeros when it was built without biases."""

    def __init__(self, bias_shapes: Mapping[str, tuple[int, ...]], has_biases: bool) -> None:
        super().__init__()
        self.bias_shapes = dict(bias_shapes)
        self.has_biases = has_biases
        if has_biases:
            for name, shape in bias_shapes.items():
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def __getattr__(self, name: str) -> Any:
        """Return zeros for a bias that the model does not have."""
        shapes = self.__dict__.get("bias_shapes", {})
        if name in shapes and not self.__dict__["has_biases"]:
            like = next(self.parameters(recurse=False))
            return torch.zeros(shapes[name], dtype=like.dtype, device=like.device)
        return super().__getattr__(name)


class RMSNorm(Redrawable):
    """``w * x / rms(x)`` over the last axis, computed in float32 at least, without hook points.

    Args:
        width: Length of the last axis.
        eps: Added to the mean square.
        has_gain: Whether there is a `w`; without it ("RMSPre") the norm only divides.
    """

    w: nn.Parameter

    def __init__(self, width: int, eps: float, has_gain: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.has_gain = has_gain
        if has_gain:
            self.w = nn.Parameter(torch.ones(width, dtype=torch.float32))

    def scale(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead 1"]:
        """Return ``sqrt(mean(x ** 2) + eps)``, at least float32."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return (wide.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def gain(
        self, normalized: Float[Tensor, "*lead width"], dtype: torch.dtype
    ) -> Float[Tensor, "*lead width"]:
        """Multiply by the gain, if there is one, in the model's dtype."""
        normalized = normalized.to(dtype)
        return normalized * self.w if self.has_gain else normalized

    def drop_gain(self) -> None:
        """Forget the gain, once it is folded into what reads this norm."""
        del self.w
        self.has_gain = False

    def forward(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise without firing any hook."""
        if self.has_gain and runs_fused(self, x):
            return fused_rms_norm(x, self.w, self.eps)
        return self.gain(x / self.scale(x), x.dtype)


class HookedRMSNorm(RMSNorm):
    """RMSNorm that fires `hook_scale` and `hook_normalized` (before the gain, as HookedTransformer)."""

    def __init__(self, width: int, eps: float, has_gain: bool = True) -> None:
        super().__init__(width, eps, has_gain)
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise and fire both hooks, where they are watched."""
        if not (has_live_hook(self.hook_scale) or has_live_hook(self.hook_normalized)):
            return RMSNorm.forward(self, x)
        return self.gain(self.hook_normalized(x / self.hook_scale(self.scale(x))), x.dtype)

    def unhooked(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise without firing the hooks a second time (forked q, k, v inputs)."""
        return RMSNorm.forward(self, x)


class GatedMLP(ModuleWithOptionalBiases):
    """SwiGLU (or its relatives) with HookedTransformer's names: `hook_pre` is the gate's input."""

    def __init__(self, cfg: LRopeConfig) -> None:
        d_mlp = cfg.d_mlp
        super().__init__({"b_in": (d_mlp,), "b_out": (cfg.d_model,)}, cfg.use_biases)
        self.activation = ACTIVATIONS[cfg.act_fn]
        self.W_in = nn.Parameter(torch.empty(cfg.d_model, d_mlp))
        self.W_gate = nn.Parameter(torch.empty(cfg.d_model, d_mlp))
        self.W_out = nn.Parameter(torch.empty(d_mlp, cfg.d_model))
        self.hook_pre = HookPoint()
        self.hook_pre_linear = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """Return what this layer's MLP adds to the residual stream."""
        pre = self.hook_pre(F.linear(x, self.W_gate.T))
        pre_linear = self.hook_pre_linear(F.linear(x, self.W_in.T))
        post = self.activation(pre) * pre_linear
        post = self.hook_post(post + self.b_in if self.has_biases else post)
        return F.linear(post, self.W_out.T, self.b_out if self.has_biases else None)


class Embed(Redrawable):
    """Rows of `W_E` [d_vocab, d_model]."""

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(cfg.d_vocab, cfg.d_model))

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_model"]:
        """Look up each token's row."""
        return F.embedding(tokens, self.W_E)


class Unembed(ModuleWithOptionalBiases):
    """``x @ W_U + b_U``; if tied, `W_U` is a view of the embedding and no parameter of its own."""

    def __init__(self, cfg: LRopeConfig, embed: Embed) -> None:
        super().__init__({"b_U": (cfg.d_vocab,)}, cfg.use_biases)
        if not cfg.tie_embeddings:
            self.W_U = nn.Parameter(torch.empty(cfg.d_model, cfg.d_vocab))
        self._embed = (embed,)  # in a tuple, so that it is not registered a second time
        self.hook_in = HookPoint()
        self.hook_out = HookPoint()

    @property
    def is_tied(self) -> bool:
        """Whether `W_U` is the transposed embedding."""
        return "W_U" not in self._parameters

    def untie(self) -> None:
        """Make `W_U` a parameter of its own, equal to the transposed embedding so far."""
        if self.is_tied:
            tied = self._embed[0].W_E
            own = tied.detach().T.clone(memory_format=torch.contiguous_format)
            # Not register_parameter, for which the tied W_U is an attribute that exists already.
            self._parameters["W_U"] = nn.Parameter(own, requires_grad=tied.requires_grad)

    def __getattr__(self, name: str) -> Any:
        """Return the tied `W_U`, and zeros for an absent bias."""
        if name == "W_U" and "_embed" in self.__dict__ and self.is_tied:
            return self._embed[0].W_E.T
        if name == "b_U" and not self.__dict__["has_biases"]:
            return torch.zeros(self.bias_shapes[name], dtype=self.W_U.dtype, device=self.W_U.device)
        return super().__getattr__(name)

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_vocab"]:
        """Return the logits."""
        x = self.hook_in(x)
        return self.hook_out(F.linear(x, self.W_U.T, self.b_U if self.has_biases else None))
