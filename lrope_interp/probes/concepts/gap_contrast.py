"""Is a gap between two units wider than a gap within one, among gaps before bytes of the same class?

The gap before byte t is *within* a unit when both of its sides are in it, and *between* units
otherwise. Only gaps before characters count, read at the character's first byte. Above the word,
gaps inside a word do not count: they are within every unit, and would measure words once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from lrope_interp.data.alignment import BYTE_CLASSES, byte_class
from lrope_interp.probes.concepts.structured_text import SMALLEST, Column, StructuredText, estimate
from lrope_interp.probes.statistics.bootstrap import Units

CONTRAST_COLUMNS = (
    *("unit", "layer", "head", "byte_class", "language", "between", "within", "ratio", "ci_low", "ci_high"),
    *("n_between", "n_within", "n_documents", "control"),
)
MIN_GAPS = 20
ALL_CLASSES = "all"
_SHAPE = (len(BYTE_CLASSES), 2)
_N_CELLS = 2 * len(BYTE_CLASSES)


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

    def counts(self) -> Float[np.ndarray, "units classes sides"]:
        """Return how many gaps each unit of resampling has of each class, between and within."""
        return self.sums(np.ones(len(self.at), dtype=np.float32))

    def sums(self, values: Float32[np.ndarray, " n"]) -> Float[np.ndarray, "units classes sides"]:
        """Return what values at the gaps sum to."""
        key = self.units.index * _N_CELLS + self.cell
        found = np.bincount(key, weights=values, minlength=self.units.count * _N_CELLS)
        return found.reshape(self.units.count, *_SHAPE)


def contrast_designs(text: StructuredText) -> list[ContrastDesign]:
    """Choose the gaps of every level, in all languages and in each."""
    known = [byte_class(document.text) for document in text.captured.documents]
    classes = np.concatenate([np.zeros(0, dtype=np.int8), *known]).astype(np.int64)
    n_documents, n_bytes = len(text.captured.documents), text.captured.n_bytes
    designs = []
    for unit, stretches in text.stretches.items():
        is_candidate, is_within = _candidates(text, unit), stretches.is_within(n_bytes)
        is_marked = stretches.in_documents(n_documents)
        for language, spoken in text.languages():
            at = np.flatnonzero(is_candidate & (is_marked & spoken)[text.captured.document])
            if len(at):
                cell = 2 * classes[at] + is_within[at]
                designs.append(ContrastDesign(unit, language, at, cell, text.units_at(at)))
    return designs


def _candidates(text: StructuredText, unit: str) -> Bool[np.ndarray, " n_bytes"]:
    captured = text.captured
    is_first_byte = (captured.byte & 0xC0) != 0x80
    is_gap = is_first_byte & captured.is_token_start & text.is_scored & (captured.t > 0)
    if unit in SMALLEST or not len(text.words.first):
        return is_gap
    has_words = text.words.in_documents(len(captured.documents))[captured.document]
    return is_gap & has_words & ~text.words.is_within(captured.n_bytes)


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
    return [
        row
        for design in designs
        for column in text.columns(signal)
        for row in _rows(text, design, design.counts(), column)
    ]


def _rows(
    text: StructuredText,
    design: ContrastDesign,
    counts: Float[np.ndarray, "units classes sides"],
    column: Column,
) -> list[dict[str, Any]]:
    sums = [design.sums(draw[design.at]) for draw in column.draws]
    n = counts.sum(axis=0)
    is_usable = n.min(axis=1) >= MIN_GAPS
    drawn = None
    if len(sums) == 1 and design.units.has_interval and is_usable.any():
        weights = text.bootstrap.weights(design.units.count)
        drawn = tuple(_resampled(weights, one) for one in (sums[0], counts))
    said = {"unit": design.unit, "language": design.language, "n_documents": design.units.n_documents}
    rows = []
    for name, own in _groups(n, is_usable):
        means = np.array([_standardised(one.sum(axis=0)[own], n[own]) for one in sums])
        means = means if is_usable[own].all() else np.full_like(means, math.nan)
        resample = (
            None if drawn is None else lambda own=own: _ratio(_standardised(*(a[:, own] for a in drawn)))
        )
        value, low, high = estimate(_ratio(means).tolist(), resample)
        between, within = means.mean(axis=0).tolist()
        n_between, n_within = n[own].sum(axis=0).astype(int).tolist()
        found = {"byte_class": name, "between": between, "within": within, "ratio": value}
        found |= {"ci_low": low, "ci_high": high, "n_between": n_between, "n_within": n_within}
        rows.append(column.where | said | found)
    return rows


def _groups(
    n: Float[np.ndarray, "classes sides"], is_usable: Bool[np.ndarray, " classes"]
) -> list[tuple[str, Int64[np.ndarray, " own"]]]:
    """Return "all" with the classes that have enough gaps, and each class that has both kinds."""
    single = [(BYTE_CLASSES[at], np.array([at])) for at in np.flatnonzero(n.min(axis=1) > 0)]
    return [(ALL_CLASSES, np.flatnonzero(is_usable)), *single]


def _resampled(
    weights: Float32[np.ndarray, "resamples units"], amounts: Float[np.ndarray, "units classes sides"]
) -> Float[np.ndarray, "resamples classes sides"]:
    drawn = weights @ amounts.reshape(len(amounts), -1).astype(np.float32)
    return drawn.reshape(-1, *_SHAPE).astype(np.float64)


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
