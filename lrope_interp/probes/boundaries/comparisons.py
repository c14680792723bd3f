"""Paired differences between a layer and its controls, and its share of the ceiling."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lrope_interp.probes.boundaries.harness import Trial
from lrope_interp.probes.statistics.bootstrap import interval, paired_interval

DIFFERENCE_COLUMNS = (
    *("signal", "layer", "head", "control", "control_layer", "control_head"),
    *("label", "stratum", "value", "ci_low", "ci_high"),
)
SHARE_COLUMNS = (
    *("signal", "layer", "head", "label", "stratum", "share", "ci_low", "ci_high"),
    *("probe_value", "probe_low", "probe_high"),
)
LEAST_PROBE_LOW = 0.55


@dataclass(frozen=True)
class _Control:
    """A control, or the mean over the seeds of one."""

    name: str
    layer: int | None
    head: int | None
    auc: float
    resampled: Float[np.ndarray, " resamples"] | None


def difference_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return ROC-AUC of each layer minus that of each control, the resamples paired.

    A control with a value a layer is compared with its own layer only, one with several seeds by
    the mean of its seeds.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        controls = _controls(members)
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            for control in controls:
                if _is_beside(trial, control):
                    low, high = _paired(trial.resampled, control.resampled)
                    beside = {"control": control.name, "control_layer": control.layer}
                    beside |= {"control_head": control.head, "label": label, "stratum": stratum}
                    value = {"value": trial.auc - control.auc, "ci_low": low, "ci_high": high}
                    rows.append(_place(trial) | beside | value)
    return rows


def share_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return how much of what a linear probe finds in the same state the increment tells.

    The share (AUC - 1/2) / (AUC of the probe - 1/2) is empty where the probe itself finds little:
    where the lower bound of its AUC is at most 0.55.
    """
    rows = []
    for (label, stratum), members in _cells(trials):
        probes = {one.column.layer: one for one in members if one.column.signal.kind == "ceiling"}
        for trial in (one for one in members if one.column.signal.kind == "layer"):
            probe = probes.get(trial.column.layer)
            if probe is not None:
                rows.append(_place(trial) | {"label": label, "stratum": stratum} | _share(trial, probe))
    return rows


def _share(trial: Trial, probe: Trial) -> dict[str, float]:
    low, high = (math.nan, math.nan) if probe.resampled is None else interval(probe.resampled)
    found = {"probe_value": probe.auc, "probe_low": low, "probe_high": high}
    if not low > LEAST_PROBE_LOW or trial.resampled is None or probe.resampled is None:
        return found | {"share": math.nan, "ci_low": math.nan, "ci_high": math.nan}
    share_low, share_high = interval((trial.resampled - 0.5) / (probe.resampled - 0.5))
    return found | {
        "share": (trial.auc - 0.5) / (probe.auc - 0.5), "ci_low": share_low, "ci_high": share_high
    }  # fmt: skip


def _cells(trials: Sequence[Trial]) -> Iterator[tuple[tuple[str, str], list[Trial]]]:
    cells: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        cells[trial.label, trial.stratum].append(trial)
    yield from cells.items()


def _controls(members: Sequence[Trial]) -> list[_Control]:
    groups: dict[tuple[str, int | None, int | None], list[Trial]] = defaultdict(list)
    for one in members:
        if one.column.signal.kind == "control":
            groups[one.column.signal.name, one.column.layer, one.column.head].append(one)
    found = []
    for (name, layer, head), seeds in groups.items():
        known = [one.resampled for one in seeds if one.resampled is not None]
        resampled = np.mean(known, axis=0) if len(known) == len(seeds) else None
        found.append(_Control(name, layer, head, float(np.mean([one.auc for one in seeds])), resampled))
    return found


def _is_beside(trial: Trial, control: _Control) -> bool:
    same_head = control.head is None or control.head == trial.column.head
    return (
        control.layer is None
        or trial.column.layer is None
        or (control.layer == trial.column.layer and same_head)
    )


def _paired(
    a: Float[np.ndarray, " resamples"] | None, b: Float[np.ndarray, " resamples"] | None
) -> tuple[float, float]:
    return (math.nan, math.nan) if a is None or b is None else paired_interval(a, b)


def _place(trial: Trial) -> dict[str, Any]:
    column = trial.column
    return {"signal": column.signal.name, "layer": column.layer, "head": column.head}
