"""How far the model's angles are from exact ones, at positions as large as they can become.

The exact angles are computed in whole numbers: float32 increments are multiples of a power of two,
so their running sum is exact, and a frequency of 160 binary places turns it into a part of a turn.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from lrope_interp.models import LRopeConfig
from lrope_interp.models.increments import accumulate
from lrope_interp.models.rotary import angles_at, inverse_frequencies

_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
_PLACES = 160
_UNIT = 2**26
"""A float32 of at least 1/4 is a multiple of its reciprocal."""
_SATURATED = 5.0
"""Mean of the values before the sigmoid: increments stand within a few per cent of their maximum."""


def angle_errors(cfg: LRopeConfig, context: int, *, seed: int, device: str) -> list[dict[str, Any]]:
    """Return the largest error of an angle over all positions and planes, a row a method.

    Methods are "float64", the model's own `accumulate` and `angles_at` on `device`, and "float32",
    a running sum kept in float32, for comparison; its angles are computed from there as the model's.

    Args:
        cfg: Gives base, width of a head and the largest increment.
        context: Number of positions.
        seed: Of the increments.
        device: Where the model's own path runs.

    Returns:
        Rows with `context`, `method`, `max_error` (radians, at most pi), `plane` (0 turns fastest),
        `position` (where in the text, from 0) and `largest` (the last position).
    """
    increments = saturated_increments(cfg, context, seed)
    placed = {
        "float64": accumulate(torch.from_numpy(increments)[None].to(device)),
        "float32": torch.from_numpy(np.cumsum(increments, dtype=np.float32).astype(np.float64))[None],
    }
    exact = exact_positions(increments)
    rows = []
    for method, positions in placed.items():
        errors = angle_error(positions, exact, cfg)
        t, plane = np.unravel_index(int(errors.argmax()), errors.shape)
        row = {"context": context, "method": method, "max_error": float(errors[t, plane])}
        rows.append(row | {"plane": int(plane), "position": int(t), "largest": float(exact[-1] / _UNIT)})
    return rows


def saturated_increments(cfg: LRopeConfig, context: int, seed: int) -> Float32[np.ndarray, " pos"]:
    """Return increments near `max_increment`, all different, as a head's squash would give them."""
    pre = np.random.default_rng(seed).normal(_SATURATED, 1.0, context).astype(np.float32)
    return (cfg.max_increment * torch.sigmoid(torch.from_numpy(pre))).clamp(min=0.25).numpy()


def exact_positions(increments: Float32[np.ndarray, " pos"]) -> Int64[np.ndarray, " pos"]:
    """Return the exact running sum in units of 2 ** -26."""
    scaled = increments.astype(np.float64) * _UNIT
    assert np.array_equal(scaled, np.rint(scaled)), "an increment is below 1/4"
    return np.cumsum(scaled.astype(np.int64))


def angle_error(
    positions: Float[Tensor, "1 pos"], exact: Int64[np.ndarray, " pos"], cfg: LRopeConfig
) -> Float64[np.ndarray, "pos plane"]:
    """Return how far each angle at `positions` is from the exact one, in radians, the short way round."""
    found = angles_at(positions, inverse_frequencies(cfg.d_head, cfg.rope_base, positions.device))
    angles = found[0, :, 0].double().cpu().numpy()
    errors = np.empty_like(angles)
    for plane in range(angles.shape[1]):
        true = 2 * math.pi * exact_turns(exact, plane, cfg)
        errors[:, plane] = np.abs(np.remainder(angles[:, plane] - true + math.pi, 2 * math.pi) - math.pi)
    return errors


def exact_turns(
    exact: Int64[np.ndarray, " pos"], plane: int, cfg: LRopeConfig
) -> Float64[np.ndarray, " pos"]:
    """Return how far into its turn each position is in a plane, in [0, 1], rounded once."""
    with localcontext() as context:
        context.prec = 70
        exponent = Decimal(-2 * plane) / Decimal(cfg.d_head)
        turns = Decimal(cfg.rope_base) ** exponent / (2 * _PI)
        frequency = int((turns * 2**_PLACES / _UNIT).to_integral_value())
    whole = 2**_PLACES
    return np.array([(int(one) * frequency) % whole / whole for one in exact])
