"""Does cutting a sentence at its widest gaps, again and again, find the brackets that people or rules mark?

The leaves of a tree are the words of a sentence (of code: the tokens of a line), and a gap between two
of them is the increments summed over the bytes from the end of the one to the first byte of the other.
Wider gaps are cut first, equal ones from the left. No tree need be built to score one: a stretch of
words is a bracket of it where every gap inside is lower than the gaps at its ends. What they find stands
beside what trees find that know nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from lrope_interp.probes.concepts.units import HOLDERS, SMALLEST, Stretches, StructuredText
from lrope_interp.probes.statistics.bootstrap import Units
from lrope_interp.probes.statistics.estimates import SHARE, Estimate, over_seeds

TREE_COLUMNS = (
    *("unit", "layer", "head", "language", "tree", "metric", "value", "ci_low", "ci_high"),
    *("n", "n_documents"),
)
METRICS = ("f1", "precision", "recall")
MIN_LEAVES = 3
MAX_LEAVES = 40
ANY_UNIT = "any"


@dataclass(frozen=True)
class Sentences:
    """Sentences as rows of words, and the gaps between their words.

    Attributes:
        first: First byte of the first word of each sentence.
        n_leaves: How many words each has.
        gap_start: The byte past the word before each gap.
        gap_stop: The byte past the first byte of the word after it.
        leaf: Number of the first word of each sentence among all words of the text.
    """

    first: Int64[np.ndarray, " sentences"]
    n_leaves: Int64[np.ndarray, " sentences"]
    gap_start: Int64[np.ndarray, " gaps"]
    gap_stop: Int64[np.ndarray, " gaps"]
    leaf: Int64[np.ndarray, " sentences"]

    @classmethod
    def of(cls, text: StructuredText) -> Sentences:
        """Take the sentences of 3 to 40 words that are scored throughout.

        Words that do not lie in a sentence as a whole are no leaves.
        """
        holders, words = text.first_known(HOLDERS), text.words
        begin, end = leaves_of(holders, words)
        unscored = np.append(0, np.cumsum(~text.is_scored))
        kept = (end - begin >= MIN_LEAVES) & (end - begin <= MAX_LEAVES)
        kept &= unscored[holders.past] == unscored[holders.first]
        begin, n_leaves = begin[kept], (end - begin)[kept]
        before = np.repeat(begin, n_leaves - 1) + _counted(n_leaves - 1)
        return cls(words.first[begin], n_leaves, words.past[before], words.first[before + 1] + 1, begin)

    @cached_property
    def gap(self) -> Int64[np.ndarray, " sentences"]:
        """Number of the first gap of each sentence among all gaps."""
        n_gaps = self.n_leaves - 1
        return np.cumsum(n_gaps) - n_gaps

    def sums(self, values: Float[np.ndarray, " n_bytes"]) -> Float64[np.ndarray, " gaps"]:
        """Sum values over the bytes of each gap."""
        if not len(self.gap_start):
            return np.zeros(0)
        edges = np.stack([self.gap_start, self.gap_stop], axis=1).ravel()
        return np.add.reduceat(np.append(values, 0.0).astype(np.float64), edges)[::2]

    def shapes(self, text: StructuredText) -> Iterator[tuple[str, list[Float64[np.ndarray, " gaps"]]]]:
        """Give gaps whose trees know little or nothing of the text, by the name of the tree.

        "bytes" has each gap as wide as its bytes are many, which is what increments of one would
        give; "random" has five draws.
        """
        place = _counted(self.n_leaves - 1).astype(np.float64)
        yield "right", [-place]
        yield "left", [place]
        known = {int(n): balanced_gaps(int(n) - 1) for n in np.unique(self.n_leaves)}
        yield "balanced", [np.concatenate([np.zeros(0), *(known[int(n)] for n in self.n_leaves)])]
        yield "bytes", [self.sums(text.captured.is_token_start.astype(np.float64))]
        key = (text.bootstrap.seed, len(place))
        draws = [np.random.Generator(np.random.Philox(key=[key[0] + n, key[1]])) for n in range(5)]
        yield "random", [rng.random(len(place)) for rng in draws]


@dataclass(frozen=True)
class Brackets:
    """Reference brackets of the sentences: what at least two words of one, and not all, make up.

    Attributes:
        sentence: The sentence of each.
        start: Its first leaf.
        stop: The leaf past its last one.
        levels: Of which level of unit there is one there; "any" holds all.
    """

    sentence: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    stop: Int64[np.ndarray, " n"]
    levels: dict[str, Bool[np.ndarray, " n"]]

    @classmethod
    def of(cls, text: StructuredText, sentences: Sentences) -> Brackets:
        """Find the units that lie in a sentence; a word that is half in a unit is not of it."""
        width = MAX_LEAVES + 1
        keys = {}
        for unit, stretches in text.stretches.items():
            if unit in (*SMALLEST, *HOLDERS):
                continue
            begin, end = leaves_of(stretches, text.words)
            sentence = np.searchsorted(sentences.leaf, begin, side="right") - 1
            kept = (sentence >= 0) & (end - begin >= 2)
            sentence, begin, end = sentence[kept], begin[kept], end[kept]
            start, stop = begin - sentences.leaf[sentence], end - sentences.leaf[sentence]
            n_leaves = sentences.n_leaves[sentence]
            kept = (stop <= n_leaves) & (stop - start < n_leaves)
            keys[unit] = np.unique(((sentence * width + start) * width + stop)[kept])
        every = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *keys.values()]))
        levels = {unit: np.isin(every, own) for unit, own in keys.items() if len(own)}
        if len(levels) > 1:
            levels[ANY_UNIT] = np.ones(len(every), dtype=bool)
        return cls(every // width**2, every // width % width, every % width, levels)

    def found_by(self, gaps: Float64[np.ndarray, " gaps"], sentences: Sentences) -> Bool[np.ndarray, " n"]:
        """Return which of them the trees of some gaps hold."""
        if not len(self.start):
            return np.zeros(0, dtype=bool)
        offset, n_gaps = sentences.gap[self.sentence], sentences.n_leaves[self.sentence] - 1
        edges = offset[:, None] + np.stack([self.start, self.stop - 1], axis=1)
        padded = np.append(gaps, np.inf)
        inside = np.maximum.reduceat(padded, edges.ravel())[::2]
        left = np.where(self.start > 0, padded[edges[:, 0] - 1], np.inf)
        right = np.where(self.stop <= n_gaps, padded[edges[:, 1]], np.inf)
        return (left >= inside) & (right > inside)


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
    for where, draws in text.columns(signal):
        gaps = [trees.sentences.sums(draw * is_read) for draw in draws]
        rows += _rows(text, trees, gaps, {"tree": signal or "increments"} | where)
    return rows


def shape_rows(text: StructuredText, trees: Trees) -> list[dict[str, Any]]:
    """Score right- and left-branching, balanced and random trees, and those of the number of bytes."""
    no_layer = {"layer": None, "head": None}
    return [
        row
        for name, draws in trees.sentences.shapes(text)
        for row in _rows(text, trees, draws, {"tree": name} | no_layer)
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
        scored: list[list[Estimate]] = [[] for _ in METRICS]
        for counts in map(design.counts, is_found):
            drawn = None
            if design.units.has_interval:
                drawn = _scores(text.bootstrap.weights(design.units.count) @ counts)
            for at, value in enumerate(_scores(counts.sum(axis=0)).tolist()):
                resampled = None if drawn is None else drawn[at]
                scored[at].append(Estimate(value, resampled, design.units.count, within=SHARE))
        where = {"unit": design.unit, "language": design.language, "n": int(design.own.sum())}
        where |= said | {"n_documents": design.units.n_documents}
        rows += [
            where | {"metric": metric} | over_seeds(one) for metric, one in zip(METRICS, scored, strict=True)
        ]
    return rows


def _scores(counts: Float64[np.ndarray, "*resamples 3"]) -> Float64[np.ndarray, "3 *resamples"]:
    right, found, wanted = np.moveaxis(counts, -1, 0)
    pairs = ((2 * right, found + wanted), (right, found), (right, wanted))
    return np.stack([np.divide(a, b, out=np.full_like(a, math.nan), where=b > 0) for a, b in pairs])


def balanced_gaps(n: int) -> Float64[np.ndarray, " n"]:
    """Return n gaps whose tree halves every stretch of leaves, the left half the smaller one."""
    gaps = np.zeros(n)
    todo = [(0, n + 1, 0)]
    while todo:
        start, stop, depth = todo.pop()
        if stop - start > 1:
            middle = (start + stop) // 2
            gaps[middle - 1] = -depth
            todo += [(start, middle, depth + 1), (middle, stop, depth + 1)]
    return gaps


def leaves_of(
    holders: Stretches, words: Stretches
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Return the number of the first word that lies in each stretch as a whole, and the one past its last."""
    begin = np.searchsorted(words.first, holders.first)
    return begin, np.maximum(np.searchsorted(words.past, holders.past, side="right"), begin)


def _counted(sizes: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " total"]:
    """Count 0, 1, ... up to each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
