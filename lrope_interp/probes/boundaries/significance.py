"""p values of every trial, and family-wise ones of the increments (EVALUATION 2).

Six layers are six chances to find something. The p value of a layer is therefore the probability
that the *best* of all layers and heads would look as good if labels were shifted, or documents'
signs flipped; the one of the layer alone stands beside it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from lrope_interp.probes.boundaries.harness import Trial
from lrope_interp.probes.statistics.nulls import family_wise, p_value

NULL_COLUMNS = (
    *("signal", "layer", "head", "label", "stratum", "null_low", "null_high"),
    *("p_shift_alone", "p_shift", "p_same_byte_alone", "p_same_byte", "n_shifts"),
)


def null_rows(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return one row of `nulls.csv` for each trial that has draws under a null."""
    rows = []
    tested = [one for one in trials if one.shifted is not None or one.same_byte is not None]
    for _, group in itertools.groupby(sorted(tested, key=_cell), key=_cell):
        members = list(group)
        shift = _p_values([(one.auc, one.shifted) for one in members], members)
        same = _p_values([one.same_byte or (math.nan, None) for one in members], members)
        rows += [_row(*each) for each in zip(members, shift, same, strict=True)]
    return rows


def with_p_values(scores: Iterable[dict[str, Any]], nulls: Sequence[dict[str, Any]]) -> None:
    """Enter p values into the ROC-AUC rows that they belong to."""
    key = ("signal", "layer", "head", "label", "stratum")
    by_key = {tuple(row[name] for name in key): row for row in nulls}
    for row in scores:
        known = by_key.get(tuple(row[name] for name in key))
        if known is not None and row["metric"] == "roc_auc" and row["seed"] is None:
            row["p_shift"], row["p_same_byte"] = known["p_shift"], known["p_same_byte"]


def _cell(trial: Trial) -> tuple[str, str]:
    return trial.label, trial.stratum


def _p_values(
    drawn: Sequence[tuple[float, Float[np.ndarray, " draws"] | None]], members: Sequence[Trial]
) -> list[tuple[float, float]]:
    """Return each one's own p value and, where a signal has several layers or heads, the family-wise one."""
    alone = [math.nan if null is None else p_value(value, null) for value, null in drawn]
    found = list(alone)
    names = [one.column.signal.name for one in members]
    for name in dict.fromkeys(names):
        family = [at for at, (_, null) in enumerate(drawn) if names[at] == name and null is not None]
        if len(family) > 1:
            observed = np.array([drawn[at][0] for at in family], dtype=np.float64)
            nulls = np.stack([np.asarray(drawn[at][1], dtype=np.float64) for at in family])
            for at, p in zip(family, family_wise(observed, nulls).tolist(), strict=True):
                found[at] = p
    return list(zip(alone, found, strict=True))


def _row(trial: Trial, shift: tuple[float, float], same: tuple[float, float]) -> dict[str, Any]:
    column, null = trial.column, trial.shifted
    low, high = (math.nan, math.nan) if null is None else np.quantile(null, [0.025, 0.975]).tolist()
    where = {"signal": column.signal.name, "layer": column.layer, "head": column.head}
    where |= {"label": trial.label, "stratum": trial.stratum, "null_low": low, "null_high": high}
    where |= {"p_shift_alone": shift[0], "p_shift": shift[1], "n_shifts": 0 if null is None else len(null)}
    return where | {"p_same_byte_alone": same[0], "p_same_byte": same[1]}
