"""All layers' weights by HookedTransformer's names, and the optimiser's view of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from transformer_lens import FactoredMatrix

_STACKED = {
    **{name: ("attn", name) for name in ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")},
    **{name: ("mlp", name) for name in ("W_in", "W_gate", "W_out", "b_in", "b_out")},
}
_NO_DECAY = ("w", "b_in", "b_out", "b_Q", "b_K", "b_V", "b_O", "b_U")


class WeightViews:
    """Mixed into the model: ``W_E W_U b_U``, and ``W_Q`` to ``b_out`` stacked over layers."""

    blocks: Any
    embed: Any
    unembed: Any
    cfg: Any

    def __getattr__(self, name: str) -> Any:
        """Stack one weight over the layers, [layer, ...]."""
        if name in _STACKED:
            part, weight = _STACKED[name]
            return torch.stack([getattr(getattr(block, part), weight) for block in self.blocks])
        return super().__getattr__(name)  # type: ignore[misc]

    @property
    def W_E(self) -> Tensor:
        """The embedding, [d_vocab, d_model]."""
        return self.embed.W_E

    @property
    def W_U(self) -> Tensor:
        """The unembedding, [d_model, d_vocab]."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Tensor:
        """The unembedding's bias, [d_vocab]; zeros without biases."""
        return self.unembed.b_U

    @property
    def QK(self) -> FactoredMatrix:
        """``W_Q @ W_K.T`` of every layer and head; it ignores the rotation by position."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    @property
    def OV(self) -> FactoredMatrix:
        """``W_V @ W_O`` of every layer and head."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def n_params_total(self) -> int:
        """Number of parameters, tied ones once, increment heads included."""
        return sum(parameter.numel() for parameter in self.parameters())  # type: ignore[attr-defined]

    def increment_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield name and parameter of every increment head."""
        for name, parameter in self.named_parameters():  # type: ignore[attr-defined]
            if name.startswith("shared_increments.") or ".increments." in name:
                yield name, parameter

    def parameter_groups(
        self, weight_decay: float, lr: float, head_lr_multiplier: float = 1.0
    ) -> list[dict[str, Any]]:
        """Return optimiser groups.

        Norms, biases and the increment heads' last layer are not decayed: decay would drag the last
        bias from increment 1 towards half of max_increment.

        Args:
            weight_decay: For everything else.
            lr: Learning rate of the trunk.
            head_lr_multiplier: The heads' learning rate divided by `lr`.
        """
        heads = {name for name, _ in self.increment_parameters()}
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():  # type: ignore[attr-defined]
            leaf = name.rsplit(".", 1)[-1]
            decays = leaf not in _NO_DECAY and not (name in heads and leaf == "W_out")
            groups.setdefault((name in heads, decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": lr * (head_lr_multiplier if is_head else 1.0),
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in sorted(groups.items())
        ]
