"""Token embedding and unembedding, tied or not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lrope_interp.models.biases import ModuleWithOptionalBiases
from lrope_interp.models.caching import HookPoint
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.redrawing import Redrawable


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
