"""What a score would be if signal and label did not belong together.

Two nulls, which ask different things. The **circular shift** turns the labels of each document
against the signal (in short documents it flips what each says within itself): it keeps how both cluster
within a document and how documents differ, and breaks only their alignment. The **same-byte** test
compares gaps before equal bytes only, so that nothing a lookup table over bytes knows can make it small.
Draws are shared by all signals, so that the largest of a family can be judged as such.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num

from lrope_interp.probes.statistics.bootstrap import Units
from lrope_interp.probes.statistics.ranking import Ranking, ranks_within

N_SHIFTS = 1_000
N_FLIPS = 1_000
MIN_SHIFT = 32
_NOISE = 1e-9


def p_value(observed: float, null: Float[np.ndarray, " draws"]) -> float:
    """The share of draws that reach the observed value, itself counted: (1 + #) / (1 + N).

    One-sided: a signal that falls at boundaries is negated by its caller, as dev chose. NaN where
    anything is unknown. The smallest p there can be is 1 / (1 + N).
    """
    if math.isnan(observed) or np.isnan(null).any():
        return math.nan
    noise = _NOISE * max(abs(observed), float(np.abs(null).max(initial=0)))
    return (1 + int(np.count_nonzero(null >= observed - noise))) / (1 + len(null))


def family_wise(
    observed: Float[np.ndarray, " family"], null: Float[np.ndarray, "family draws"]
) -> Float[np.ndarray, " family"]:
    """The p of each member against the largest of its family in every draw (Westfall & Young 1993).

    Members are compared in standard deviations of their own nulls, so that none dominates by its
    scale. One whose null never moves has p = 1; one that is unknown stays NaN, out of the family.
    """
    is_known = ~(np.isnan(observed) | np.isnan(null).any(axis=1))
    mean, spread = null.mean(axis=1, keepdims=True), null.std(axis=1, keepdims=True)
    moves = is_known & (spread[:, 0] > _NOISE * np.abs(null).max(axis=1, initial=0))
    largest = ((null[moves] - mean[moves]) / spread[moves]).max(axis=0, initial=-np.inf)
    p = np.where(is_known, 1.0, np.nan)
    p[moves] = [p_value(z, largest) for z in ((observed[:, None] - mean)[moves] / spread[moves])[:, 0]]
    return p


@dataclass(frozen=True)
class Shifts:
    """How far the labels of each document are turned in each draw; one object a field.

    The offsets keep away from 0 by 32 gaps, or a quarter of a short document: closer, an
    autocorrelated label would still sit on itself. A document of one gap stays. Where documents are short
    (half of the gaps in documents of fewer than 128) too few offsets are left, and p would be too small: at
    200 documents of 50 gaps, correlated by 0.6 from one to the next, 11 % for 5. There the sign of each
    document's own part of the ROC-AUC is flipped instead.

    Attributes:
        starts: The first gap of each document.
        sizes: The gaps of each document.
        offsets: By how many gaps its labels move onward, those past its end to its beginning.
        flips: 1 or -1 for each document, where documents are short; else None.
    """

    starts: Int[np.ndarray, " documents"]
    sizes: Int[np.ndarray, " documents"]
    offsets: Int[np.ndarray, "documents shifts"]
    flips: Float[np.ndarray, "documents shifts"] | None = None

    @classmethod
    def of(cls, document: Int[np.ndarray, " n"], seed: int = 0, n_shifts: int = N_SHIFTS) -> Shifts:
        """Draw offsets for gaps given by document, all gaps of one document side by side."""
        starts = np.flatnonzero(np.append(True, np.diff(document) != 0)[: len(document)])
        assert len(np.unique(document[starts])) == len(starts), "the gaps of a document must be side by side"
        sizes = np.diff(starts, append=len(document))
        least = np.ceil(np.minimum(MIN_SHIFT, sizes / 4)).astype(np.int64)
        choices = sizes - 2 * least + 1
        rng = np.random.Generator(np.random.Philox(key=[seed, len(document)]))
        drawn = least[:, None] + np.floor(rng.random((len(sizes), n_shifts)) * choices[:, None])
        offsets = np.where(choices[:, None] > 0, drawn, 0).astype(np.int64)
        is_short = len(sizes) and np.median(np.repeat(sizes, sizes)) < 4 * MIN_SHIFT
        flips = 2.0 * rng.integers(0, 2, size=offsets.shape) - 1 if is_short else None
        return cls(starts, sizes, offsets, flips)

    def turn(self, is_boundary: Bool[np.ndarray, " n"]) -> Turned:
        """Prepare a label to be turned against many signals."""
        spectra = tuple(np.fft.rfft(part).conj() for part in self.split(is_boundary.astype(np.float64)))
        return Turned(self, int(is_boundary.sum()), spectra)

    def split(self, values: Num[np.ndarray, " n"]) -> list[np.ndarray]:
        """Return the values of each document."""
        return np.split(values, self.starts[1:])


@dataclass(frozen=True)
class Turned:
    """A label under all shifts, as spectra of its documents.

    A document's rank sum under a shift is the circular cross-correlation of its ranks with its
    labels at that offset, so that one FFT a document answers all shifts; ranks are those among
    all gaps. Sums of doubled midranks are integers, and rounding makes them exact.
    """

    shifts: Shifts
    n_positive: int
    spectra: tuple[np.ndarray, ...]

    def null_auc(self, ranking: Ranking) -> Float[np.ndarray, " shifts"]:
        """ROC-AUC of the signal under each shift; NaN without both kinds of gap.

        Its mean is not 0.5 where documents differ in both signal and base rate: a shift keeps
        that, and so an observed AUC is not credited for it.
        """
        n, shifts = len(ranking.order), self.shifts
        pairs = self.n_positive * (n - self.n_positive)
        doubled = np.zeros(shifts.offsets.shape[1])
        if not pairs:
            return np.full(len(doubled), np.nan)
        parts = shifts.split(ranking.doubled.astype(np.float64))
        if shifts.flips is not None:
            return self._flipped(parts, pairs, shifts.flips)
        for ranks, spectrum, offsets in zip(parts, self.spectra, shifts.offsets, strict=True):
            doubled += np.rint(np.fft.irfft(np.fft.rfft(ranks) * spectrum, len(ranks)))[offsets]
        return 0.5 + doubled / (2 * pairs)

    def _flipped(
        self, parts: Sequence[np.ndarray], pairs: int, flips: Float[np.ndarray, "documents shifts"]
    ) -> Float[np.ndarray, " shifts"]:
        """Keep what documents differ in, and flip what each says within itself."""
        labels = [np.fft.irfft(one.conj(), len(own)) for one, own in zip(self.spectra, parts, strict=True)]
        sums = np.array([ranks @ label for ranks, label in zip(parts, labels, strict=True)])
        across = np.array([ranks.mean() * label.sum() for ranks, label in zip(parts, labels, strict=True)])
        return 0.5 + (across.sum() + (sums - across) @ flips) / (2 * pairs)


@dataclass(frozen=True)
class SameByte:
    """Does the signal order boundaries above other gaps *before the same byte*? One object a field.

    The statistic is van Elteren's (1960): the boundaries' centred midranks within each stratum of
    equal bytes over its size plus one, summed. His variance takes gaps for independent, which makes
    p far too small here; so a null draw flips the sign of each unit's whole contribution. As the
    sum of squares does not change by that, this is a permutation t-test over units and the score
    form of the wild cluster bootstrap with the null imposed (Cameron, Gelbach & Miller 2008; Kline
    & Santos 2012): it holds however gaps within a unit depend on each other, exactly where
    contributions are symmetric and nearly so from 20 units on.

    It removes what the *one* byte after the gap tells, and neither earlier bytes nor surprisal.

    Attributes:
        strata: The byte after each gap, or a code of it, from 0.
        units: Whose contributions are independent.
        flips: 1 or -1.
    """

    strata: Integer[np.ndarray, " n"]
    units: Units
    flips: Float[np.ndarray, "flips units"]

    @classmethod
    def of(
        cls, strata: Integer[np.ndarray, " n"], units: Units, seed: int = 0, n_flips: int = N_FLIPS
    ) -> SameByte:
        """Draw signs for gaps given by stratum and unit."""
        found, codes = np.unique(strata, return_inverse=True)
        narrow = codes.astype(np.uint16 if len(found) <= 1 << 16 else np.int64)  # sorted by radix
        rng = np.random.Generator(np.random.Philox(key=[seed, units.count]))
        return cls(narrow, units, 2.0 * rng.integers(0, 2, size=(n_flips, units.count)) - 1)

    def draw(
        self, ranking: Ranking, is_boundary: Bool[np.ndarray, " n"]
    ) -> tuple[float, Float[np.ndarray, " flips"]]:
        """The statistic and its null draws; NaN with fewer than 5 units."""
        if not self.units.has_interval:
            return math.nan, np.full(len(self.flips), np.nan)
        share = np.bincount(self.strata, weights=is_boundary) / np.maximum(np.bincount(self.strata), 1)
        # 0 where a stratum has one value only, as every stratum has in layer 0.
        amounts = (is_boundary - share[self.strata]) * ranks_within(self.strata, ranking)
        per_unit = np.bincount(self.units.index, weights=amounts, minlength=self.units.count)
        return float(per_unit.sum()), self.flips @ per_unit
