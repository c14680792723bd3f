"""Are two words of one unit closer than two words of different units, as far apart in bytes?

The distance of two words is the increments summed from the first byte of the one to the first
byte of the other: how much further on the model puts it. Pairs are compared within strata of equal
language, number of words, bytes, spaces, punctuation marks and Chinese characters from the one to the
other, so that no count of these can tell pairs apart. *Which* marks and words lie between can: the
controls say how far that goes. At levels that end at marks every pair of different units
has a mark between, and is held against pairs of one unit with another mark between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lrope_interp.data.alignment import Kind
from lrope_interp.probes.concepts.structured_text import SMALLEST, Column, Stretches, StructuredText, estimate
from lrope_interp.probes.statistics.bootstrap import Units
from lrope_interp.probes.statistics.strata import Influenced, Strata, informative

PAIR_COLUMNS = (
    *("unit", "layer", "head", "language", "metric", "value", "ci_low", "ci_high", "n", "n_documents"),
    "control",
)
MAX_WORDS = 6
MAX_BYTES = 1_023
MAX_PAIRS = 20_000
MIN_PAIRS = 50
_DIGITS = 7


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words of one document.

    Attributes:
        document: Number of the document.
        first: First byte of the earlier word.
        second: First byte of the later word.
        past: The byte past the later word.
        stratum: Equal for pairs that agree in everything that is matched.
    """

    document: Int64[np.ndarray, " n"]
    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    past: Int64[np.ndarray, " n"]
    stratum: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, text: StructuredText) -> WordPairs:
        """Pair every word with the six that follow it in its document.

        Pairs more than 1,023 bytes apart and pairs across text that is not scored are left out.
        """
        words, unscored = text.words, np.append(0, np.cumsum(~text.is_scored))
        counts = [text.count(kind) for kind in (Kind.SPACE, Kind.PUNCTUATION, Kind.HAN)]
        language = np.unique(text.spoken, return_inverse=True)[1].astype(np.int64)
        parts = [np.zeros((5, 0), dtype=np.int64)]
        for apart in range(1, MAX_WORDS + 1):
            document, past = words.document[:-apart], words.past[apart:]
            a, b = words.first[:-apart], words.first[apart:]
            stratum = language[document] * (MAX_WORDS + 1) + apart
            for amount in (b - a, *(count[b] - count[a] for count in counts)):
                stratum = stratum * (MAX_BYTES + 1) + amount
            kept = (document == words.document[apart:]) & (b - a <= MAX_BYTES)
            kept &= unscored[b + 1] == unscored[a + 1]
            parts.append(np.stack([document, a, b, past, stratum])[:, kept])
        return cls(*np.concatenate(parts, axis=1))

    def are_in_one(self, units: Stretches) -> Bool[np.ndarray, " n"]:
        """Return which pairs lie in one unit, both words as a whole."""
        if not len(units.first):
            return np.zeros(len(self.first), dtype=bool)
        reach = np.append(0, np.maximum.accumulate(units.past))
        return reach[np.searchsorted(units.first, self.first, side="right")] >= self.past


@dataclass(frozen=True)
class PairDesign:
    """The pairs of one level and language.

    Attributes:
        unit: The level.
        language: Or "all".
        first: First byte of the earlier word of each.
        second: First byte of the later word.
        strata: What they are matched on; the first kind are pairs of one unit.
        units: What is resampled.
    """

    unit: str
    language: str
    first: Int64[np.ndarray, " n"]
    second: Int64[np.ndarray, " n"]
    strata: Strata
    units: Units

    @property
    def is_measurable(self) -> bool:
        """Whether there are at least 50 pairs of each kind."""
        n_same = int(self.strata.is_one.sum())
        return min(n_same, len(self.first) - n_same) >= MIN_PAIRS


def pair_designs(text: StructuredText) -> list[PairDesign]:
    """Choose pairs for every level above the word, in all languages and in each.

    Of a language at most 20,000 pairs of a level are used, by a seeded draw: half of one unit and
    half not, or all of the rarer kind. Drawing each kind at one rate leaves what is expected as it is.
    """
    pairs, n_documents = WordPairs.of(text), len(text.captured.documents)
    designs = []
    for unit, units in text.stretches.items():
        if unit in SMALLEST:
            continue
        is_same, is_marked = pairs.are_in_one(units), units.in_documents(n_documents)
        drawn = [
            _drawn(
                pairs, is_same, (is_marked & (text.spoken == language))[pairs.document], text.bootstrap.seed
            )
            for language in np.unique(text.spoken)
        ]
        at = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *drawn]))
        for language, spoken in text.languages():
            own = at[spoken[pairs.document[at]]]
            known, number = informative(pairs.stratum[own], is_same[own])
            own, strata = own[known], Strata(number[known], is_same[own[known]])
            first, second = pairs.first[own], pairs.second[own]
            designs.append(PairDesign(unit, language, first, second, strata, text.units_at(first)))
    return designs


def _drawn(
    pairs: WordPairs, is_same: Bool[np.ndarray, " n"], is_open: Bool[np.ndarray, " n"], seed: int
) -> Int64[np.ndarray, " drawn"]:
    at = np.flatnonzero(is_open)
    at = at[informative(pairs.stratum[at], is_same[at])[0]]
    at = np.random.Generator(np.random.Philox(key=[seed, len(at)])).permutation(at)
    rare, common = sorted((at[is_same[at]], at[~is_same[at]]), key=len)
    rare = rare[: MAX_PAIRS // 2]
    return np.concatenate([rare, common[: MAX_PAIRS - len(rare)]])


def pair_rows(text: StructuredText, designs: Sequence[PairDesign], signal: str) -> list[dict[str, Any]]:
    """Score how well small sums of a signal tell pairs of one unit from other pairs.

    `roc_auc` is the chance that of two pairs of one stratum the one within a unit has the smaller
    sum, 0.5 by chance; `distance_ratio` the mean sum within units over that of other pairs, strata
    weighing alike on both sides, 1 by chance. Intervals are over documents, to first order (see
    `stratified`). Under 50 pairs of a kind have no value. `n` counts pairs in strata of both kinds.
    """
    is_read = text.captured.is_token_start
    rows = []
    for column in text.columns(signal):
        positions = [np.cumsum(draw * is_read, dtype=np.float64) for draw in column.draws]
        for design in designs:
            rows += _rows(text, design, column, positions)
    return rows


def _rows(
    text: StructuredText,
    design: PairDesign,
    column: Column,
    positions: Sequence[Float64[np.ndarray, " n_bytes"]],
) -> list[dict[str, Any]]:
    said = {"unit": design.unit, "language": design.language, "n": len(design.first)}
    said |= column.where | {"n_documents": design.units.n_documents}
    if not design.is_measurable:
        nothing = {"value": math.nan, "ci_low": math.nan, "ci_high": math.nan}
        return [said | {"metric": metric} | nothing for metric in ("roc_auc", "distance_ratio")]
    sums = [_rounded(position[design.second] - position[design.first]) for position in positions]
    found = {
        "roc_auc": [design.strata.roc_auc(-one) for one in sums],
        "distance_ratio": [design.strata.ratio_of_means(one) for one in sums],
    }
    rows = []
    for metric, draws in found.items():
        value, low, high = _estimate(text, design, draws)
        rows.append(said | {"metric": metric, "value": value, "ci_low": low, "ci_high": high})
    return rows


def _estimate(
    text: StructuredText, design: PairDesign, draws: Sequence[Influenced]
) -> tuple[float, float, float]:
    resample = (
        (lambda: draws[0].resampled(text.bootstrap, design.units)) if design.units.has_interval else None
    )
    return estimate([one.value for one in draws], resample)


def _rounded(sums: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Round to a ten-millionth of the mean, so that equal increments sum to equal distances."""
    scale = float(np.abs(sums).mean())
    return np.round(sums / scale, _DIGITS) * scale if scale else sums
