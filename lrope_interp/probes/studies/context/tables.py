"""From timed rounds and peaks of memory to costs, ratios, and what was asked of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.probes.studies.context.flops import PARTS, forward_flops
from lrope_interp.probes.studies.context.plan import REFERENCE, CostPlan

TARGET_CONTEXT = 131_072
TARGETS = {"time": 0.05, "memory": 0.10, "angle": 1e-6}
"""Asked at `TARGET_CONTEXT`: more time and memory than fixed RoPE, as shares; an angle's error in radians."""
COSTS = (
    *("arm", "context", "phase", "seconds_median", "q1", "q3", "ratio_to_fixed", "ratio_q1", "ratio_q3"),
    *("peak_mb", "peak_ratio", "n"),
)
_MB = 1e6


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
        seconds = _by_round(own)
        ratios = _ratios(seconds, str(phase), _forward_seconds(rounds, context))
        peaks = _peaks(memory, context, phase)
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


def _by_round(rounds: Any) -> Any:
    """Return seconds, a row a round and a column an arm; the parts of a path are added up."""
    order = list(dict.fromkeys(rounds["arm"]))
    return rounds.groupby(["round", "arm"], sort=False)["seconds"].sum().unstack()[order]


def _ratios(seconds: Any, phase: str, forward: float) -> Any:
    if phase != "increment_path":
        return seconds.div(seconds[REFERENCE], axis=0)
    return 1 + seconds.sub(seconds[REFERENCE], axis=0) / forward


def _forward_seconds(rounds: Any, context: Any) -> float:
    """Return the median time of fixed RoPE's forward pass; NaN where there was none."""
    is_wanted = (rounds["phase"] == "forward") & (rounds["arm"] == REFERENCE)
    found = rounds.loc[is_wanted & (rounds["context"] == context), "seconds"]
    return float(found.median()) if len(found) else math.nan


def _peaks(memory: Any, context: Any, phase: Any) -> dict[str, float]:
    """Return the peak of each arm in bytes: what stands, and the median of what comes on top."""
    own = memory[(memory["context"] == context) & (memory["phase"] == phase)]
    return {
        str(arm): float((rows["standing"] + rows["working"]).median()) for arm, rows in own.groupby("arm")
    }


def _quartiles(values: Any) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile; of a single value only the median."""
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return math.nan, float(found[0]), math.nan
    low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
    return float(low), float(median), float(high)
