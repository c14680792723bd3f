"""The nulls of one text: drawn once for each stratum and label, and the same for every signal."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from lrope_interp.probes.boundaries.lexical import lexical_codes
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.statistics.nulls import SameByte, Shifts, Turned
from lrope_interp.probes.statistics.ranking import Ranking


@dataclass(frozen=True)
class Nulls:
    """Circular shifts and same-byte flips for the fields of one set of gaps.

    Attributes:
        gaps: The gaps.
        captured: Their tokens.
        seed: Of offsets and flips.
    """

    gaps: Gaps
    captured: Captured
    seed: int = 0
    _shifts: dict[int, Shifts] = field(default_factory=dict, repr=False, compare=False)
    _turned: dict[tuple[int, str], Turned] = field(default_factory=dict, repr=False, compare=False)
    _same: dict[tuple[int, str], SameByte] = field(default_factory=dict, repr=False, compare=False)

    def shifted(self, one: Field, label: str, ranking: Ranking) -> Float[np.ndarray, " shifts"]:
        """Return the ROC-AUC of ranked values under every circular shift of the label."""
        if id(one) not in self._shifts:
            self._shifts[id(one)] = Shifts.of(self.gaps.document[one.gaps], self.seed)
        key = (id(one), label)
        if key not in self._turned:
            self._turned[key] = self._shifts[id(one)].turn(one.labels[label])
        return self._turned[key].null_auc(ranking)

    def same_byte(
        self, one: Field, label: str, align: str, ranking: Ranking
    ) -> tuple[float, Float[np.ndarray, " flips"]]:
        """Return the same-byte statistic of ranked values, and its draws under the null."""
        key = (id(one), align)
        if key not in self._same:
            codes = lexical_codes(self.captured, self.gaps, one.gaps, align)
            self._same[key] = SameByte.of(codes, one.units, self.seed)
        same = self._same[key]
        return same.draw(same.scores(ranking), one.labels[label])
