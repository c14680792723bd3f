"""What costs are told in: tables of timed rounds and peaks, counted operations, angles against exact ones."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.increments import accumulate, angles_at, inverse_frequencies
from lrope_interp.probes.studies.context.plan import REFERENCE, CostPlan
from lrope_interp.results import provenance

PARTS = ("linears", "attention", "increment_heads", "rotation")
TARGET_CONTEXT = 131_072
TARGETS = {"time": 0.05, "memory": 0.10, "angle": 1e-6}
"""Asked at `TARGET_CONTEXT`: more time and memory than fixed RoPE, as shares; an angle's error in radians."""
COSTS = (
    *("arm", "context", "phase", "seconds_median", "q1", "q3", "ratio_to_fixed", "ratio_q1", "ratio_q3"),
    *("peak_mb", "peak_ratio", "n"),
)
_MB = 1e6
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
_PLACES = 160
_UNIT = 2**26
"""A float32 of at least 1/4 is a multiple of its reciprocal."""
_SATURATED = 5.0
"""Mean of the values before the sigmoid: increments stand within a few per cent of their maximum."""


def costs_table(rounds: Any, memory: Any) -> pd.DataFrame:
    """Return one row for every arm, context and phase.

    Quartiles stand for the spread over rounds, and are missing where there was one. The ratio is that of
    the same round's times, then its median. For the increment path it is ``1 + (path - path of fixed) /
    forward pass of fixed``: what a forward pass would take with this path, over what it takes without.

    Args:
        rounds: Columns `phase part arm context round seconds`.
        memory: Columns `phase arm context standing working`, in bytes.
    """
    rows = []
    for (context, phase), own in rounds.groupby(["context", "phase"], sort=False):
        order = list(dict.fromkeys(own["arm"]))
        sums = own.groupby(["round", "arm"], sort=False)["seconds"].sum()  # the parts of a path are added up
        seconds = sums.unstack()[order]
        if phase == "increment_path":
            ratios = 1 + seconds.sub(seconds[REFERENCE], axis=0) / _forward_seconds(rounds, context)
        else:
            ratios = seconds.div(seconds[REFERENCE], axis=0)
        held = memory[(memory["context"] == context) & (memory["phase"] == phase)]
        peaks = {
            str(arm): float((part["standing"] + part["working"]).median())
            for arm, part in held.groupby("arm")
        }
        for arm in seconds.columns:
            q1, median, q3 = _quartiles(seconds[arm])
            low, ratio, high = _quartiles(ratios[arm])
            peak, reference = peaks.get(arm, math.nan), peaks.get(REFERENCE) or math.nan
            values = (arm, context, phase, median, q1, q3, ratio, low, high, peak / _MB, peak / reference)
            rows.append((*values, len(seconds)))
    return pd.DataFrame(rows, columns=list(COSTS)).astype({"context": int, "n": int})


def path_table(rounds: Any) -> pd.DataFrame:
    """Return the median time of each part of the increment path, and its share of fixed RoPE's forward."""
    rows = []
    path = rounds[rounds["phase"] == "increment_path"]
    for (context, part, arm), own in path.groupby(["context", "part", "arm"], sort=False):
        q1, median, q3 = _quartiles(own["seconds"])
        forward = _forward_seconds(rounds, context)
        rows.append((arm, context, part, median, q1, q3, median / forward, len(own)))
    columns = ["arm", "context", "part", "seconds_median", "q1", "q3", "share_of_forward", "n"]
    return pd.DataFrame(rows, columns=columns)


def arms_table(models: dict[str, Any]) -> pd.DataFrame:
    """Return the parameters of every arm, and how many more than fixed RoPE they are."""
    fixed = models[REFERENCE].n_params_total
    rows = [
        (arm, model.n_params_total, model.n_params_total - fixed, model.n_params_total / fixed - 1)
        for arm, model in models.items()
    ]
    return pd.DataFrame(rows, columns=["arm", "n_parameters", "extra", "extra_share"])


def flops_table(models: dict[str, Any], contexts: Sequence[int]) -> pd.DataFrame:
    """Return the operations of a forward pass, a row for every arm, context and part."""
    counted = [
        (arm, context, part, forward_flops(model.cfg, context)[part])
        for context in contexts
        for arm, model in models.items()
        for part in PARTS
    ]
    return pd.DataFrame(counted, columns=["arm", "context", "part", "flops"])


def targets_table(plan: CostPlan, costs: Any, angles: Any) -> pd.DataFrame:
    """Compare what was found at the largest context with `TARGETS`.

    The verdict is "met", "not met", or "none" where the context is another or nothing was measured.
    """
    context = plan.contexts[-1]
    rows = []
    for arm in plan.arms[1:]:
        own = costs[(costs["context"] == context) & (costs["arm"] == arm)].set_index("phase")
        rows.append(("time", arm, own["ratio_to_fixed"].get("increment_path", math.nan) - 1))
        rows.append(("memory", arm, own["peak_ratio"].get("forward", math.nan) - 1))
    is_own = (angles["context"] == context) & (angles["method"] == "float64")
    rows.append(("angle", "", float(angles.loc[is_own, "max_error"].iloc[0])))
    limits = [
        (name, arm, context, value, TARGETS[name], _verdict(name, context, value))
        for name, arm, value in rows
    ]
    return pd.DataFrame(limits, columns=["target", "arm", "context", "value", "limit", "verdict"])


def _verdict(name: str, context: int, value: float) -> str:
    if context != TARGET_CONTEXT or math.isnan(value):
        return "none"
    is_met = value <= TARGETS[name] if name == "angle" else value < TARGETS[name]
    return "met" if is_met else "not met"


def _forward_seconds(rounds: Any, context: Any) -> float:
    """Return the median time of fixed RoPE's forward pass; NaN where there was none."""
    is_wanted = (rounds["phase"] == "forward") & (rounds["arm"] == REFERENCE)
    found = rounds.loc[is_wanted & (rounds["context"] == context), "seconds"]
    return float(found.median()) if len(found) else math.nan


def _quartiles(values: Any) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile; of a single value only the median."""
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return math.nan, float(found[0]), math.nan
    low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
    return float(low), float(median), float(high)


def forward_flops(cfg: LRopeConfig, context: int) -> dict[str, int]:
    """Return the floating-point operations of a forward pass over one text, by part, counted from the shape.

    A multiplication and an addition count one each, so a product of [n, a] and [a, b] counts 2 n a b.
    Norms, activations and the softmax are left out, as is usual.
    With n tokens, L layers, H heads of width d, residual width m and MLP width f:

    * linears: ``L n (8 m H d + 6 m f) + 2 n m vocabulary``;
    * attention, causal, each token seeing itself and those before: ``L 2 H d n (n + 1)``;
    * increment heads: ``2 n h (m + outputs)`` each, h the hidden width; L of them, one, or none;
    * rotation: of queries and keys ``L 6 n H d``; of each position, in every plane, a product, a
      reduction, a cosine and a sine, and one addition for the running sum.

    Args:
        cfg: The model's configuration.
        context: Number of tokens.
    """
    n, layers, width = context, cfg.n_layers, cfg.d_model
    inner, d_mlp = cfg.n_heads * cfg.d_head, cfg.d_mlp
    assert d_mlp is not None
    n_positions = cfg.n_heads if cfg.per_head else 1
    n_heads = {"per_layer": cfg.n_layers, "shared": 1, "fixed": 0}[cfg.increments]
    return {
        "linears": layers * n * (8 * width * inner + 6 * width * d_mlp) + 2 * n * width * cfg.d_vocab,
        "attention": layers * 2 * inner * n * (n + 1),
        "increment_heads": n_heads * 2 * n * max(1, width // 4) * (width + n_positions),
        "rotation": layers * n * (6 * inner + n_positions * (1 + 4 * cfg.d_head // 2)),
    }


def angle_errors(cfg: LRopeConfig, context: int, *, seed: int, device: str) -> list[dict[str, Any]]:
    """Return the largest error of an angle over all positions and planes, a row a method.

    Methods are "float64", the model's own `accumulate` and `angles_at` on `device`, and "float32",
    a running sum kept in float32, for comparison; its angles are computed from there as the model's.
    The exact angles are computed in whole numbers: float32 increments are multiples of a power of two,
    so their running sum is exact, and a frequency of 160 binary places turns it into a part of a turn.

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


def headline(plan: CostPlan, targets: Any) -> dict[str, float | None]:
    """Return the largest context, and the worst arm's figure for each target there."""
    worst = targets.groupby("target")["value"].max()
    names = {"time": "time_share", "memory": "memory_share", "angle": "angle_error"}
    found = {name: float(worst[target]) for target, name in names.items()}
    return {"largest_context": float(plan.contexts[-1]), **found}


def warnings(plan: CostPlan, rounds: Any, memory: Any) -> Iterator[str]:
    """Yield what a reader must know before believing the figures."""
    if memory.empty:
        yield "peak memory was not measured: this system does not tell (it takes Linux, or CUDA)"
    skipped = [f"{context:,}" for context in plan.contexts if not plan.has_forward(context)]
    if skipped:
        yield f"no forward pass at {', '.join(skipped)} tokens, so that no share of one is known there"
    forward = rounds[rounds["phase"] == "forward"]
    counts = forward.groupby("context")["round"].nunique()
    once = [f"{context:,}" for context, n in counts.items() if n == 1]
    if once:
        yield f"one forward pass an arm at {', '.join(once)} tokens: its time has no spread to judge it by"


def machine_provenance(plan: CostPlan, model: LRopeTransformer) -> dict[str, Any]:
    """Return the result's provenance, with what was measured and on what."""
    differing = ("increments", "per_head")
    config = {name: value for name, value in model.cfg.to_dict().items() if name not in differing}
    measured = {
        "arms": list(plan.arms),
        "contexts": list(plan.contexts),
        "repeats": plan.repeats,
        "batch_size": 1,
        "dtype": plan.dtype,
        "device": plan.device,
        "device_name": _device_name(plan.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    return provenance(config=config, data={}, seed=plan.seed) | {"measured": measured}


def _device_name(device: str) -> str:
    """Return what the processor or accelerator calls itself; "" where it does not say."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor()
