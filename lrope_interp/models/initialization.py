"""Initial weights: each parameter from its own seed, so that arms of a comparison share them."""

from __future__ import annotations

import hashlib
import math

import torch
import torch.nn as nn

from lrope_interp.models.increments import IncrementHead
from lrope_interp.models.redrawing import WEIGHT_STD

_INTO_RESIDUAL = ("attn.W_O", "mlp.W_out")


def initialize(model: nn.Module, seed: int, n_layers: int) -> None:
    """Draw every weight in place.

    Matrices are normal with s.d. 0.02, those that write into the residual stream divided by
    ``sqrt(2 n_layers)`` (as in GPT-2); gains are 1, biases 0. Increment heads start as ordinary RoPE:
    last weight 0, last bias at increment 1.

    Each parameter's generator is seeded by the seed and the parameter's name: models that differ
    in their increments only start from the same shared weights.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            _draw(name, parameter, seed, n_layers)
        for module in model.modules():
            if isinstance(module, IncrementHead):
                module.start_as_ordinary_rope()


def parameter_generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator that depends on nothing but the seed and the parameter's name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _draw(name: str, parameter: nn.Parameter, seed: int, n_layers: int) -> None:
    """Fill one parameter by its kind, which its name tells."""
    if parameter.is_meta:  # a shape without values
        return
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "w":
        parameter.fill_(1.0)
    elif leaf.startswith("b_"):
        parameter.zero_()
    else:
        std = WEIGHT_STD / math.sqrt(2 * n_layers) if name.endswith(_INTO_RESIDUAL) else WEIGHT_STD
        generator = parameter_generator(seed, name)
        values = torch.randn(parameter.shape, generator=generator, dtype=torch.float32) * std
        parameter.copy_(values.to(parameter.dtype))
