"""Rotary position embedding at real-valued positions. Pure functions, no tables.

Positions are float64 up to the angle, because a float32 position of 1e6 has steps of 0.06. The
angle is reduced to [0, 2 pi) before it becomes float32 (rotate-half pairing, as in HF Llama).
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def inverse_frequencies(
    d_head: int, base: float, device: torch.device | str = "cpu"
) -> Float[Tensor, " plane"]:
    """Return ``base ** (-2k / d_head)`` for the d_head / 2 rotary planes, float64, in radians a position."""
    exponents = torch.arange(0, d_head, 2, dtype=torch.float64, device=device) / d_head
    return base**-exponents


def angles_at(
    positions: Float[Tensor, "batch pos *head"], inv_freq: Float[Tensor, " plane"]
) -> Float[Tensor, "batch pos heads_or_1 plane"]:
    """Return every plane's angle, in radians below one turn, float32.

    `positions` are float64, one number a token or one a token and head; only their differences reach the
    attention scores. The product is a broadcast multiplication, never a matmul: TF32 would destroy it.
    """
    by_head = positions if positions.ndim == 3 else rearrange(positions, "batch pos -> batch pos 1")
    angles = by_head.double().unsqueeze(-1) * inv_freq.to(positions.device)
    return torch.remainder(angles, 2 * math.pi).float()


def turn(
    x: Float[Tensor, "batch pos head d_head"],
    cosines: Float[Tensor, "batch pos heads_or_1 plane"],
    sines: Float[Tensor, "batch pos heads_or_1 plane"],
) -> Float[Tensor, "batch pos head d_head"]:
    """Turn the planes (k, k + d_head / 2) of `x` by the given angles; the result has x's dtype."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return turned.to(x.dtype)
