"""How far apart a model takes the words of a text to be, beside what is usual at their token distance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64

from lrope_interp.data import Document
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.labels.kinds import label_gaps
from lrope_interp.data.sources.plain_text import read_text
from lrope_interp.data.spans.typed import Span, word_spans
from lrope_interp.data.texts import given_document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.distance import DistanceReads, Place, effective_distance, span_of
from lrope_interp.probes.capture.capture import Layers, check_layers
from lrope_interp.probes.capture.selection import describe, despaced_notes
from lrope_interp.results import Result, provenance, table

MEASURES = ("normalised", "effective")
MOST_WORDS = 120
LEAST_PAIRS = 20
_MOST_CHARACTERS = 1_000_000  # of a file: far more than a window holds
_RANGE = (0.025, 0.975)

_DISTANCES = ("layer", "head", "measure", "value", "n_tokens", "expected", "low", "high", "is_outside")
_MATRIX = ("word_a", "word_b", "index_a", "index_b")


# Mean, low and high end of the central 95 % of distances, each by layer and head.
_Expected = tuple[Float64[np.ndarray, "layers heads"], ...]


class Expectations:
    """Distances of one text by token distance, computed when first asked for.

    Attributes:
        positions: Running sum of the increments of each layer and head, at each token read.
    """

    def __init__(self, reads: DistanceReads) -> None:
        self._reads = reads
        rows = reads.increments if reads.increments.ndim == 3 else reads.increments.unsqueeze(-1)
        self.positions = torch.cumsum(rows, dim=1).permute(0, 2, 1)
        self.mean = reads.mean.reshape(len(rows), -1, 1)
        self._known: dict[tuple[str, int], _Expected] = {}

    def of(self, measure: str, n_tokens: int) -> _Expected:
        """Return mean, low and high of all pairs of the text's tokens that are so many apart.

        2.5 % of them lie below low and as many above high; both are NaN with fewer than 20 pairs.
        """
        if (measure, n_tokens) not in self._known:
            first = np.arange(self._reads.n_lead, self.positions.shape[-1] - n_tokens)
            found = self.values(measure, first, first + n_tokens)
            low, high = np.quantile(found, _RANGE, axis=-1)
            if len(first) < LEAST_PAIRS:
                low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
            self._known[measure, n_tokens] = (found.mean(axis=-1), low, high)
        return self._known[measure, n_tokens]

    def values(
        self, measure: str, first: Int64[np.ndarray, " pairs"], last: Int64[np.ndarray, " pairs"]
    ) -> Float64[np.ndarray, "layers heads pairs"]:
        """Return the distances of pairs of tokens, the first of each before the last."""
        summed = self.positions[..., last] - self.positions[..., first]
        if measure == "normalised":
            return (summed / self.mean).cpu().numpy()
        shares = self._reads.shares.reshape(*self.mean.shape, -1)
        return effective_distance(summed, shares, self._reads.inv_freq).cpu().numpy()


def distance(
    model: LRopeTransformer,
    text: str | Path | Document,
    a: Place | None = None,
    b: Place | None = None,
    layers: Layers = None,
    *,
    encoding_errors: str = "strict",
) -> Result:
    """Measure how far apart each layer takes the words of a text to be.

    Everything comes from one forward pass over the whole text. Distances are those of
    `perceived_distance`: from the last byte of one word to the last byte of the other, *normalised*
    (in mean increments of the text) and *effective* (what the rotary planes make of it, 0 to 2).

    Beside each stands what its token distance leads one to expect: the mean and the central 95 % of
    the same layer's distances between all tokens of this text that are as many tokens apart. A pair
    outside that range is unusual for this text; pairs overlap and there are many, so that one in
    twenty lies outside by construction, and none of it is a test.

    Args:
        model: Any model; in a fixed one the normalised distance is the token distance.
        text: No longer than the model's window; a `Path` is a UTF-8 file.
        a: One place to measure from: a character, a span of characters, or a substring that occurs
            exactly once. None for the matrix alone.
        b: The other place; the order does not matter.
        layers: Which layers; None for all.
        encoding_errors: Of a file, "strict" or "replace".

    Returns:
        A result of kind "distance" with the tables `distances` and `asked` (the places asked for), `matrix`
        (every pair of words) and `words`.

    Raises:
        LRopeError: Fewer than two words, a text that the model cannot read at once, or a place that
            is not there.
    """
    layers = check_layers(model, layers)
    if isinstance(text, Path):
        text = read_text(text.expanduser(), encoding_errors, most=_MOST_CHARACTERS)
    document = given_document(text)
    if (a is None) != (b is None):
        raise LRopeError("a distance has two ends, and one was given: give both places, or neither")
    spans, warnings = _units(document)
    n_tokens, most = len(model.own_tokenizer().encode(document.text)), model.cfg.n_ctx - 1
    if n_tokens > most:
        raise LRopeError(
            f"the text has {n_tokens} tokens, and the model reads {most} of them at once; a distance between "
            "two windows is none that it uses: give a shorter text"
        )
    reads = model.distance_reads(document.text)
    expectations = Expectations(reads)
    asked: list[tuple[int, ...]] = []
    if a is not None and b is not None:
        first, last = sorted(reads.place_of(place) for place in (a, b))
        asked = [(first, last)]
        warnings += ["both places end in the same token: their distance is 0"] if first == last else []
    ends = [reads.place_of(span) for span in spans]
    distances = _rows(expectations, asked, layers)
    return Result(
        kind="distance",
        provenance=provenance(
            config=model.cfg.to_dict(), data=describe(document.name, (document,), split="all"), seed=None
        ),
        headline=_headline(distances),
        tables={
            "distances": distances,
            "matrix": _matrix(expectations, document.text, spans, ends, layers),
            "words": _words(document.text, spans),
            "asked": _asked(document.text, (a, b)),
        },
        warnings=tuple([*warnings, *despaced_notes(model, document.text)]),
    )


def _units(document: Document) -> tuple[list[Span], list[str]]:
    """Return what the matrix is about; too many are cut, and too few refused."""
    if not document.text.strip():
        raise LRopeError("there is no text to measure: it is empty, or blank")
    problem = "the text has no word: its characters stand in for words"
    try:
        spans = [(start, end) for start, end in word_spans(document).tolist()]
        is_silver = document.words is None and label_gaps(document, "words").grade == "silver"
    except LRopeError as error:
        spans, is_silver, problem = [], False, f"characters stand in for words: {error}"
    unit, warnings = "words", ["the Chinese words are jieba's (silver)"] if is_silver else []
    if not spans:
        unit, warnings = "characters", [problem]
        is_shown = (character_kinds(document.text) & Kind.SPACE) == 0
        spans = [(at, at + 1) for at in np.flatnonzero(is_shown).tolist()]
    if len(spans) < 2:
        raise LRopeError(
            f"a distance is between two words, and the text has {len(spans)} of them: {document.text!r:.40}; "
            "give a longer text"
        )
    if len(spans) > MOST_WORDS:
        warnings.append(f"the matrix has the first {MOST_WORDS} of {len(spans)} {unit}")
    return spans[:MOST_WORDS], warnings


def _rows(
    expectations: Expectations, pairs: Sequence[tuple[int, ...]], layers: Sequence[int]
) -> pd.DataFrame:
    """Return one row a pair, layer, head and measure, with what its token distance leads one to expect."""
    rows: list[dict[str, Any]] = []
    first, last = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    for measure in MEASURES:
        values = expectations.values(measure, first, last) if len(pairs) else np.zeros((0, 0, 0))
        for number, n_tokens in enumerate((last - first).tolist()):
            expected = expectations.of(measure, n_tokens)
            for layer, head in product(layers, range(values.shape[1])):
                value = float(values[layer, head, number])
                usual, low, high = (float(one[layer, head]) for one in expected)
                rows.append(
                    {
                        "layer": layer,
                        "head": head if values.shape[1] > 1 else None,
                        "measure": measure,
                        "value": value,
                        "n_tokens": n_tokens,
                        "expected": usual,
                        "low": low,
                        "high": high,
                        "is_outside": None if np.isnan(low) else bool(value < low or value > high),
                    }
                )
    return table(rows, _DISTANCES)


def _matrix(
    expectations: Expectations, text: str, spans: Sequence[Span], ends: Sequence[int], layers: Sequence[int]
) -> pd.DataFrame:
    """Return every pair of words, the earlier one first."""
    index_a, index_b = np.triu_indices(len(spans), k=1)
    at = np.array(ends)
    pairs = zip(at[index_a].tolist(), at[index_b].tolist(), strict=True)
    frame = _rows(expectations, list(pairs), layers)
    n_each = len(frame) // (len(MEASURES) * len(index_a))
    texts = np.array([text[start:end] for start, end in spans], dtype=object)
    a, b = (np.tile(np.repeat(index, n_each), len(MEASURES)) for index in (index_a, index_b))
    named = {
        "word_a": pd.Series(texts[a], dtype="str"),
        "word_b": pd.Series(texts[b], dtype="str"),
        "index_a": pd.Series(a, dtype="Int64"),
        "index_b": pd.Series(b, dtype="Int64"),
    }
    found: Any = frame.assign(**named)
    return found[[*_DISTANCES[:3], *_MATRIX, *_DISTANCES[3:]]]


def _words(text: str, spans: Sequence[Span]) -> pd.DataFrame:
    columns = {
        "index": pd.Series(range(len(spans)), dtype="Int64"),
        "word": pd.Series([text[start:end] for start, end in spans], dtype="str"),
        "start": pd.Series([start for start, _ in spans], dtype="Int64"),
        "end": pd.Series([end for _, end in spans], dtype="Int64"),
    }
    return pd.DataFrame(columns)


def _asked(text: str, places: Sequence[Place | None]) -> Any:
    """Return the two places asked for, as spans and as text."""
    spans = [span_of(text, place) for place in places if place is not None]
    names = pd.Series(["from", "to"][: len(spans)], dtype="str")
    frame = _words(text, spans).drop(columns="index").rename(columns={"word": "text"})
    return pd.concat([names.rename("place"), frame], axis=1)


def _headline(distances: pd.DataFrame) -> dict[str, float | None]:
    """Name each layer's normalised distance of the places asked for."""
    rows: Any = distances[distances["measure"] == "normalised"] if len(distances) else distances
    return {
        f"L{row.layer}{'' if pd.isna(row.head) else f'.{row.head}'} normalised": float(row.value)
        for row in rows.itertuples(index=False)
    }
