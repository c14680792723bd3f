"""Whether increments follow the units of a text: gap contrasts, matched pairs and, from `trees`, gap trees.

Takes arrays, not models. The increments ("") and every control go through the same gaps, pairs,
sentences and resamples, so that rows of one table can be compared line by line.

*Contrasts*: is a gap between two units wider than a gap within one, among gaps before bytes of the same
class? The gap before byte t is *within* a unit when both of its sides are in it, and *between* units
otherwise. Only gaps before characters count, read at the character's first byte. Above the word,
gaps inside a word do not count: they are within every unit, and would measure words once more.

*Pairs*: are two words of one unit closer than two words of different units, as far apart in bytes?
The distance of two words is the increments summed from the first byte of the one to the first
byte of the other: how much further on the model puts it. Pairs are compared within strata of equal
language, number of words, bytes, spaces, punctuation marks and Chinese characters from the one to the
other, so that no count of these can tell pairs apart. *Which* marks and words lie between can: the
controls say how far that goes. At levels that end at marks every pair of different units
has a mark between, and is held against pairs of one unit with another mark between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int64

from lrope_interp.data.alignment import BYTE_CLASSES, Kind, byte_class, character_kinds, character_starts
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.capture.capture import Progress, counted
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.concepts.trees import TREE_COLUMNS, Trees, shape_rows, tree_rows
from lrope_interp.probes.concepts.units import SMALLEST, Signal, Stretches, StructuredText
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate, over_seeds
from lrope_interp.probes.statistics.strata import Strata, informative
from lrope_interp.results import table

CONTRAST_COLUMNS = (
    *("unit", "layer", "head", "byte_class", "language", "between", "within", "ratio", "ci_low", "ci_high"),
    *("n_between", "n_within", "n_documents", "control"),
)
PAIR_COLUMNS = (
    *("unit", "layer", "head", "language", "metric", "value", "ci_low", "ci_high", "n", "n_documents"),
    "control",
)
MIN_GAPS = 20
ALL_CLASSES = "all"
MAX_WORDS = 6
MAX_BYTES = 1_023
MAX_PAIRS = 20_000
MIN_PAIRS = 50
_SHAPE = (len(BYTE_CLASSES), 2)
_N_CELLS = 2 * len(BYTE_CLASSES)
_DIGITS = 7


def structure_tables(
    captured: Captured,
    signals: Mapping[str, Signal | Sequence[Signal]],
    units: Mapping[str, Spans],
    is_scored: Bool[np.ndarray, " n_bytes"],
    bootstrap: Bootstrap,
    on_progress: Progress | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the tables "contrasts", "pairs" and "trees".

    Args:
        captured: The documents, joined. Its increments are not read.
        signals: "" is the normalised increments [layers, heads, n_bytes]; other names are controls of
            the same shape, "entropy" and "surprisal" with one layer and one head. A sequence of arrays
            is several draws of one control: rows give their mean, and their range as the interval.
        units: By level: word, entity, phrase, clause, sentence; token, line, ... of code. Pairs and
            trees need "word" or "token"; trees "sentence" or "line" as well.
        is_scored: False at bytes that stand in text shared with training text.
        bootstrap: The resamples.
        on_progress: Told after every signal: "structure", signals done, signals in all.

    Raises:
        LRopeError: A signal is of another text.
    """
    text = StructuredText(captured, signals, units, is_scored, bootstrap)
    contrasts, pairs, trees = contrast_designs(text), pair_designs(text), Trees.of(text)
    rows = {"contrasts": [], "pairs": [], "trees": shape_rows(text, trees)}
    for name in counted([*signals], "structure", on_progress):
        rows["contrasts"] += contrast_rows(text, contrasts, name)
        rows["pairs"] += pair_rows(text, pairs, name)
        rows["trees"] += tree_rows(text, trees, name)
    columns = {"contrasts": CONTRAST_COLUMNS, "pairs": PAIR_COLUMNS, "trees": TREE_COLUMNS}
    return {name: table(rows[name], columns[name]) for name in columns}


@dataclass(frozen=True)
class ContrastDesign:
    """The gaps of one level and language.

    Attributes:
        unit: The level.
        language: Or "all".
        at: The byte after each gap.
        cell: Twice its byte class, and one more for a gap within a unit.
        units: What is resampled.
    """

    unit: str
    language: str
    at: Int64[np.ndarray, " n"]
    cell: Int64[np.ndarray, " n"]
    units: Units

    def sums(self, values: Float32[np.ndarray, " n"]) -> Float[np.ndarray, "units classes sides"]:
        """Return what values at the gaps sum to, by unit of resampling, byte class, and between or within."""
        key = self.units.index * _N_CELLS + self.cell
        found = np.bincount(key, weights=values, minlength=self.units.count * _N_CELLS)
        return found.reshape(self.units.count, *_SHAPE)


def contrast_designs(text: StructuredText) -> list[ContrastDesign]:
    """Choose the gaps of every level, in all languages and in each."""
    captured = text.captured
    known = [byte_class(document.text) for document in captured.documents]
    classes = np.concatenate([np.zeros(0, dtype=np.int8), *known]).astype(np.int64)
    n_documents, n_bytes = len(captured.documents), captured.n_bytes
    is_first_byte = (captured.byte & 0xC0) != 0x80
    is_gap = is_first_byte & captured.is_token_start & text.is_scored & (captured.t > 0)
    is_outside_words = is_gap
    if len(text.words.first):
        has_words = text.words.in_documents(n_documents)[captured.document]
        is_outside_words = is_gap & has_words & ~text.words.is_within(n_bytes)
    designs = []
    for unit, stretches in text.stretches.items():
        is_candidate = is_gap if unit in SMALLEST else is_outside_words
        is_within, is_marked = stretches.is_within(n_bytes), stretches.in_documents(n_documents)
        for language, spoken in text.languages():
            at = np.flatnonzero(is_candidate & (is_marked & spoken)[captured.document])
            if len(at):
                cell = 2 * classes[at] + is_within[at]
                designs.append(ContrastDesign(unit, language, at, cell, text.units_at(at)))
    return designs


def contrast_rows(
    text: StructuredText, designs: Sequence[ContrastDesign], signal: str
) -> list[dict[str, Any]]:
    """Compare a signal's mean at gaps between and within units.

    `ratio` is the mean between over the mean within, with an interval over documents. The row of
    class "all" weights the means of the classes, on both sides, by how many gaps within units each
    has: which classes stand at borders cannot make it differ from 1. Which bytes of a class
    stand there can; hold it against the control "lexical", which knows the byte and nothing else.
    A class with under 20 gaps of a kind has no value, and is no part of "all".
    """
    rows = []
    for design in designs:
        counts = design.sums(np.ones(len(design.at), dtype=np.float32))
        n = counts.sum(axis=0)
        is_usable = n.min(axis=1) >= MIN_GAPS
        groups = [(ALL_CLASSES, np.flatnonzero(is_usable))]
        groups += [(BYTE_CLASSES[at], np.array([at])) for at in np.flatnonzero(n.min(axis=1) > 0)]
        for where, draws in text.columns(signal):
            sums = [design.sums(draw[design.at]) for draw in draws]
            drawn = None
            if len(sums) == 1 and design.units.has_interval and is_usable.any():
                weights = text.bootstrap.weights(design.units.count)
                flat = (one.reshape(len(one), -1).astype(np.float32) for one in (sums[0], counts))
                drawn = [(weights @ one).reshape(-1, *_SHAPE).astype(np.float64) for one in flat]
            said = {"unit": design.unit, "language": design.language, "control": signal} | where
            said |= {"n_documents": design.units.n_documents}
            for name, own in groups:
                means = np.array([_standardised(one.sum(axis=0)[own], n[own]) for one in sums])
                means = means if is_usable[own].all() else np.full_like(means, math.nan)
                resampled = None
                if drawn is not None:
                    resampled = _ratio(_standardised(*(one[:, own] for one in drawn)))
                ratio = over_seeds(
                    [Estimate(value, resampled, design.units.count) for value in _ratio(means).tolist()]
                )
                sides = dict(zip(("between", "within"), means.mean(axis=0).tolist(), strict=True))
                counted = zip(("n_between", "n_within"), n[own].sum(axis=0).astype(int).tolist(), strict=True)
                rows.append(
                    said | sides | {"byte_class": name} | dict(counted) | ratio | {"ratio": ratio["value"]}
                )
    return rows


def _standardised(
    sums: Float[np.ndarray, "*resamples own sides"], counts: Float[np.ndarray, "*resamples own sides"]
) -> Float[np.ndarray, "*resamples sides"]:
    """Average the means of classes, weighted by the gaps within; a class without both kinds has no part."""
    is_there = counts.min(axis=-1) > 0
    weight = np.where(is_there, counts[..., 1], 0.0)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=is_there[..., None])
    total = weight.sum(axis=-1)[..., None]
    weighted = (means * weight[..., None]).sum(axis=-2)
    return np.divide(weighted, total, out=np.full_like(weighted, math.nan), where=total > 0)


def _ratio(means: Float[np.ndarray, "*resamples sides"]) -> Float[np.ndarray, "*resamples"]:
    between, within = means[..., 0], means[..., 1]
    return np.divide(between, within, out=np.full_like(between, math.nan), where=within != 0)


@dataclass(frozen=True)
class PairedWords:
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
    def of(cls, text: StructuredText) -> PairedWords:
        """Pair every word with the six that follow it in its document.

        Pairs more than 1,023 bytes apart and pairs across text that is not scored are left out.
        """
        words, unscored = text.words, np.append(0, np.cumsum(~text.is_scored))
        kinds = np.zeros(text.captured.n_bytes, dtype=np.int64)  # 0 at bytes that continue a character
        for offset, document in zip(text.captured.offsets, text.captured.documents, strict=False):
            kinds[offset + character_starts(document.text)] = character_kinds(document.text)
        # How many characters of each kind begin before each byte, and in all.
        kinds_counted = (Kind.SPACE, Kind.PUNCTUATION, Kind.HAN)
        counts = [np.append(0, np.cumsum((kinds & kind) != 0)) for kind in kinds_counted]
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


def pair_designs(text: StructuredText) -> list[PairDesign]:
    """Choose pairs for every level above the word, in all languages and in each.

    Of a language at most 20,000 pairs of a level are used, by a seeded draw: half of one unit and
    half not, or all of the rarer kind. Drawing each kind at one rate leaves what is expected as it is.
    """
    pairs, n_documents = PairedWords.of(text), len(text.captured.documents)
    designs = []
    for unit, units in text.stretches.items():
        if unit in SMALLEST:
            continue
        is_same, is_marked = pairs.are_in_one(units), units.in_documents(n_documents)
        drawn = [np.zeros(0, dtype=np.int64)]
        for language in np.unique(text.spoken):
            at = np.flatnonzero((is_marked & (text.spoken == language))[pairs.document])
            at = at[informative(pairs.stratum[at], is_same[at])[0]]
            at = np.random.Generator(np.random.Philox(key=[text.bootstrap.seed, len(at)])).permutation(at)
            rare, common = sorted((at[is_same[at]], at[~is_same[at]]), key=len)
            rare = rare[: MAX_PAIRS // 2]
            drawn += [rare, common[: MAX_PAIRS - len(rare)]]
        at = np.sort(np.concatenate(drawn))
        for language, spoken in text.languages():
            own = at[spoken[pairs.document[at]]]
            known, number = informative(pairs.stratum[own], is_same[own])
            own, strata = own[known], Strata(number[known], is_same[own[known]])
            first, second = pairs.first[own], pairs.second[own]
            designs.append(PairDesign(unit, language, first, second, strata, text.units_at(first)))
    return designs


def pair_rows(text: StructuredText, designs: Sequence[PairDesign], signal: str) -> list[dict[str, Any]]:
    """Score how well small sums of a signal tell pairs of one unit from other pairs.

    `roc_auc` is the chance that of two pairs of one stratum the one within a unit has the smaller
    sum, 0.5 by chance; `distance_ratio` the mean sum within units over that of other pairs, strata
    weighing alike on both sides, 1 by chance. Intervals are over documents, to first order (see
    `strata`). Under 50 pairs of a kind have no value. `n` counts pairs in strata of both kinds.
    """
    is_read = text.captured.is_token_start
    rows = []
    for where, draws in text.columns(signal):
        positions = [np.cumsum(draw * is_read, dtype=np.float64) for draw in draws]
        for design in designs:
            n, n_same = len(design.first), int(design.strata.is_one.sum())
            said = {"unit": design.unit, "language": design.language, "n": n, "control": signal} | where
            said |= {"n_documents": design.units.n_documents}
            scored = {"roc_auc": [Estimate(math.nan)], "distance_ratio": [Estimate(math.nan)]}
            if min(n_same, n - n_same) >= MIN_PAIRS:
                sums = [_rounded(position[design.second] - position[design.first]) for position in positions]
                found = {
                    "roc_auc": [design.strata.roc_auc(-one) for one in sums],
                    "distance_ratio": [design.strata.ratio_of_means(one) for one in sums],
                }
                scored = {
                    metric: [one.estimate(text.bootstrap, design.units) for one in own]
                    for metric, own in found.items()
                }
            rows += [said | {"metric": metric} | over_seeds(own) for metric, own in scored.items()]
    return rows


def _rounded(sums: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Round to a ten-millionth of the mean, so that equal increments sum to equal distances."""
    scale = float(np.abs(sums).mean())
    return np.round(sums / scale, _DIGITS) * scale if scale else sums
