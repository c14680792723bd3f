"""What the corrected tests look at: pairs of words in English text, marked words in Chinese text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from lrope_interp.data import Document, character_starts
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.studies.entities.counts import CHINESE, ENGLISH, neighbours

NAME_TAGS = ("nr", "ns", "nt", "nz")
"""Of the People's Daily: persons (surname and given name are two words), places, organisations, others."""

Row = tuple[tuple[int, ...], str, bool]
"""Characters of a unit (first, those that are read, past its last), its text, whether it is a name."""


@dataclass(frozen=True)
class EntityUnits:
    """Stretches of some documents, some of which are names.

    Attributes:
        document: Of each, the number of the whole document that its text comes from.
        start: Its first byte, of all documents joined.
        past: The byte past its last one.
        inner: The bytes that are read inside it: of a pair of words the space and the first byte of the
            second word; of a Chinese word the first bytes of its second to last characters, -1 where there
            are no more.
        is_name: Whether it is one.
        kind: Number of its text in `texts`.
        texts: The different texts, sorted.
    """

    document: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    past: Int64[np.ndarray, " n"]
    inner: Int64[np.ndarray, "n places"]
    is_name: Bool[np.ndarray, " n"]
    kind: Int64[np.ndarray, " n"]
    texts: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.start)

    def take(self, rows: Bool[np.ndarray, " n"]) -> EntityUnits:
        """Return some of them; texts keep their numbers."""
        kept = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return EntityUnits(**kept, texts=self.texts)

    def kind_is_name(self) -> Bool[np.ndarray, " kinds"]:
        """Whether each text is a name; of Chinese words, whether most of its occurrences are."""
        return self.mean_of_kinds(self.is_name.astype(np.float64)) > 0.5

    def mean_of_kinds(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " kinds"]:
        """Average over the occurrences of each text, leaving NaN out; NaN where there is none."""
        known = ~np.isnan(values)
        n = np.bincount(self.kind[known], minlength=len(self.texts))
        sums = np.bincount(self.kind[known], weights=values[known], minlength=len(self.texts))
        return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)


_COLUMNS = ("document", "start", "past", "inner", "is_name", "kind")


def word_pairs(captured: Captured, is_scored: Bool[np.ndarray, " n_bytes"], names: set[str]) -> EntityUnits:
    """Find every pair of words with one space between in the English documents.

    Args:
        captured: Its documents.
        is_scored: False at bytes that training text has too; a pair with one of them is left out.
        names: The pairs that are names.
    """

    def rows(document: Document) -> Iterator[Row]:
        for first, gap, second, past in neighbours(document.text):
            text = document.text[first:past]
            yield (first, gap, second, past), text, text in names

    return _units(captured, is_scored, ENGLISH, rows)


def chinese_words(captured: Captured, is_scored: Bool[np.ndarray, " n_bytes"]) -> EntityUnits:
    """Find the words of two and more Chinese characters in documents whose words have tags."""

    def rows(document: Document) -> Iterator[Row]:
        is_han = (character_kinds(document.text) & Kind.HAN) != 0
        for (first, past), tag in zip(document.words or (), document.tags or (), strict=False):
            if past - first >= 2 and bool(is_han[first:past].all()):
                text = document.text[first:past]
                yield (first, *range(first + 1, past), past), text, tag in NAME_TAGS

    return _units(captured, is_scored, CHINESE, rows)


def _units(
    captured: Captured,
    is_scored: Bool[np.ndarray, " n_bytes"],
    languages: tuple[str, ...],
    rows_of: Callable[[Document], Iterator[Row]],
) -> EntityUnits:
    sources = {one: at for at, one in enumerate(dict.fromkeys(d.source_sha256 for d in captured.documents))}
    found, texts, names = [], [], []
    before = np.append(0, np.cumsum(~is_scored))
    for number, document in enumerate(captured.documents):
        if document.language not in languages:
            continue
        edges = np.append(character_starts(document.text), document.n_bytes) + captured.offsets[number]
        for characters, text, is_name in rows_of(document):
            places = edges[list(characters)]
            if before[places[-1]] == before[places[0]]:
                found.append([sources[document.source_sha256], *places.tolist()])
                texts.append(text)
                names.append(is_name)
    return _assembled(found, texts, names)


def _assembled(found: Sequence[Sequence[int]], texts: Sequence[str], names: Sequence[bool]) -> EntityUnits:
    width = max((len(row) - 3 for row in found), default=0)
    inner = np.full((len(found), width), -1, dtype=np.int64)
    for at, row in enumerate(found):
        inner[at, : len(row) - 3] = row[2:-1]
    known = sorted(set(texts))
    number = {text: at for at, text in enumerate(known)}
    return EntityUnits(
        document=np.array([row[0] for row in found], dtype=np.int64),
        start=np.array([row[1] for row in found], dtype=np.int64),
        past=np.array([row[-1] for row in found], dtype=np.int64),
        inner=inner,
        is_name=np.array(names, dtype=bool),
        kind=np.array([number[text] for text in texts], dtype=np.int64),
        texts=tuple(known),
    )
