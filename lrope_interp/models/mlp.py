"""The gated MLP: ``post = act(x @ W_gate) * (x @ W_in) + b_in``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lrope_interp.models.biases import ModuleWithOptionalBiases
from lrope_interp.models.caching import HookPoint
from lrope_interp.models.config import LRopeConfig

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class GatedMLP(ModuleWithOptionalBiases):
    """SwiGLU (or its relatives) with HookedTransformer's names: `hook_pre` is the gate's input."""

    def __init__(self, cfg: LRopeConfig) -> None:
        d_mlp = cfg.d_mlp
        assert d_mlp is not None
        super().__init__({"b_in": (d_mlp,), "b_out": (cfg.d_model,)}, cfg.use_biases)
        self.activation = _ACTIVATIONS[cfg.act_fn]
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
