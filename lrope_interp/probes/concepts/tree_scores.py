"""How many of the reference brackets the trees of a signal's gaps find, beside trees that know nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from lrope_interp.probes.concepts.gap_tree import Brackets, Sentences
from lrope_interp.probes.concepts.structured_text import INCREMENTS, StructuredText, estimate
from lrope_interp.probes.statistics.bootstrap import Units

TREE_COLUMNS = (
    *("unit", "layer", "head", "language", "tree", "metric", "value", "ci_low", "ci_high"),
    *("n", "n_documents"),
)
METRICS = ("f1", "precision", "recall")
_NO_LAYER = {"layer": None, "head": None}


@dataclass(frozen=True)
class TreeDesign:
    """The sentences of one level and language that have a reference bracket.

    Attributes:
        unit: The level that the brackets are of, or "any".
        language: Or "all".
        own: Which of all reference brackets count.
        index: For each of those, its sentence among those that count.
        n_found: How many brackets any tree has, by sentence: two fewer than words.
        units: What is resampled, by sentence.
    """

    unit: str
    language: str
    own: Bool[np.ndarray, " n"]
    index: Int64[np.ndarray, " m"]
    n_found: Int64[np.ndarray, " sentences"]
    units: Units

    def counts(self, is_found: Bool[np.ndarray, " n"]) -> Float64[np.ndarray, "units 3"]:
        """Return how many brackets are right, found and wanted, by unit of resampling."""
        n = self.units.count
        unit_of = self.units.index[self.index]
        right = np.bincount(unit_of, weights=is_found[self.own], minlength=n)
        found = np.bincount(self.units.index, weights=self.n_found, minlength=n)
        return np.stack([right, found, np.bincount(unit_of, minlength=n)], axis=1).astype(np.float64)


@dataclass(frozen=True)
class Trees:
    """Sentences, their reference brackets, and every level and language of them."""

    sentences: Sentences
    brackets: Brackets
    designs: tuple[TreeDesign, ...]

    @classmethod
    def of(cls, text: StructuredText) -> Trees:
        """Lay out what every signal is scored on."""
        sentences = Sentences.of(text)
        brackets = Brackets.of(text, sentences)
        document = text.captured.document[sentences.first]
        designs = []
        for unit, is_level in brackets.levels.items():
            for language, spoken in text.languages():
                own = is_level & spoken[document[brackets.sentence]]
                if own.any():
                    used, index = np.unique(brackets.sentence[own], return_inverse=True)
                    units = text.units_at(sentences.first[used])
                    n_found = sentences.n_leaves[used] - 2
                    designs.append(TreeDesign(unit, language, own, index, n_found, units))
        return cls(sentences, brackets, tuple(designs))


def tree_rows(text: StructuredText, trees: Trees, signal: str) -> list[dict[str, Any]]:
    """Score the trees of a signal; see `_rows` for what the numbers mean."""
    is_read = text.captured.is_token_start
    rows = []
    for column in text.columns(signal):
        draws = [trees.sentences.sums(draw * is_read) for draw in column.draws]
        name = "increments" if signal == INCREMENTS else signal
        rows += _rows(text, trees, draws, {"tree": name, "layer": column.layer, "head": column.head})
    return rows


def shape_rows(text: StructuredText, trees: Trees) -> list[dict[str, Any]]:
    """Score right- and left-branching, balanced and random trees, and those of the number of bytes."""
    return [
        row
        for name, draws in trees.sentences.shapes(text)
        for row in _rows(text, trees, draws, {"tree": name} | _NO_LAYER)
    ]


def _rows(
    text: StructuredText, trees: Trees, draws: Sequence[Float64[np.ndarray, " gaps"]], said: dict[str, Any]
) -> list[dict[str, Any]]:
    """Count brackets over all sentences that have a reference bracket of the level.

    Whole sentences and single words count on neither side. A tree has two brackets fewer than words, and
    a reference that marks a few per sentence keeps the precision of any tree low: compare trees,
    and read the recall. `n` counts reference brackets.
    """
    is_found = [trees.brackets.found_by(gaps, trees.sentences) for gaps in draws]
    rows = []
    for design in trees.designs:
        counts = [design.counts(one) for one in is_found]
        values = [_scores(one.sum(axis=0)) for one in counts]
        resampled = None
        if len(draws) == 1 and design.units.has_interval:
            resampled = _scores(text.bootstrap.weights(design.units.count) @ counts[0])
        where = {"unit": design.unit, "language": design.language, "n": int(design.own.sum())}
        where |= said | {"n_documents": design.units.n_documents}
        for at, metric in enumerate(METRICS):
            resample = None if resampled is None else lambda at=at, of=resampled: of[at]
            value, low, high = estimate([float(one[at]) for one in values], resample)
            rows.append(where | {"metric": metric, "value": value, "ci_low": low, "ci_high": high})
    return rows


def _scores(counts: Float64[np.ndarray, "*resamples 3"]) -> Float64[np.ndarray, "3 *resamples"]:
    right, found, wanted = np.moveaxis(counts, -1, 0)
    pairs = ((2 * right, found + wanted), (right, found), (right, wanted))
    return np.stack([np.divide(a, b, out=np.full_like(a, math.nan), where=b > 0) for a, b in pairs])
