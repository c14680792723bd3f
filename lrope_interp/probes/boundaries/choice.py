"""What dev decides before test is looked at: alignment, sign and threshold of a signal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Num

from lrope_interp.probes.capture.gaps import ALIGNMENTS, Field, Gaps
from lrope_interp.probes.statistics.ranking import Curve, Ranking


@dataclass(frozen=True)
class Choice:
    """What dev decided for one signal, stratum and label.

    Attributes:
        align: "lead", "last" or "sum" over a character's bytes.
        sign: 1 where the signal rises at boundaries, -1 where it falls.
        threshold: Of the signed signal, for the best F1; NaN where dev could not tell.
        dev_auc: Of the signed signal on dev; NaN where dev could not tell.
        prevalence_threshold: At and above which dev calls as many gaps as it has boundaries.
    """

    align: str = ALIGNMENTS[0]
    sign: int = 1
    threshold: float = math.nan
    dev_auc: float = math.nan
    prevalence_threshold: float = math.nan


@dataclass(frozen=True)
class AlignedColumn:
    """One column of one split, aligned and sorted once for all labels."""

    gaps: Gaps
    values: Num[np.ndarray, " n_bytes"]
    _done: dict[tuple[int, str], tuple[np.ndarray, Ranking]] = field(default_factory=dict)

    def ranked(self, one: Field, align: str) -> tuple[Num[np.ndarray, " n"], Ranking]:
        """Return the aligned values of a field, and their ranking."""
        key = (id(one), align)
        if key not in self._done:
            values = self.gaps.characters.align(self.values, one.gaps, align)
            self._done[key] = values, Ranking.of(values)
        return self._done[key]


def choose_on(dev: Field, on_dev: AlignedColumn, label: str, alignments: Sequence[str]) -> Choice:
    """Take the alignment of the best signed AUC, its sign, and the threshold of the best F1."""
    best, is_boundary = Choice(), dev.labels[label]
    for align in alignments:
        values, ranking = on_dev.ranked(dev, align)
        auc = Curve.of(values, is_boundary, ranking).roc_auc()
        if math.isnan(best.dev_auc) or max(auc, 1 - auc) > best.dev_auc:
            best = Choice(align, 1 if auc >= 0.5 else -1, math.nan, max(auc, 1 - auc))
    values, ranking = on_dev.ranked(dev, best.align)
    signed = (values, ranking) if best.sign > 0 else (-values, ranking.reversed())
    curve = Curve.of(signed[0], is_boundary, signed[1])
    share = float(is_boundary.mean())
    return replace(
        best, threshold=curve.best_threshold(), prevalence_threshold=curve.prevalence_threshold(share)
    )
