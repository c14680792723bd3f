"""Typed stretches of text: an entity, a clause, a keyword; what a concept is, place by place.

Spans are half open and count characters, so that no encoding can cut one. They may overlap, and need
not cover the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data.alignment import character_starts
from lrope_interp.data.documents import Document

OTHER = "other"
"""The name of spans that are of none of the concepts that a family tells apart."""

Row = tuple[int, int, int, str]
_LONGEST_TYPE = 256


def _lexical_type(text: str) -> str:
    folded = text.casefold()
    if len(folded) <= _LONGEST_TYPE:
        return folded
    return folded[:_LONGEST_TYPE] + hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Spans:
    """Spans of some documents, in the order of documents and of their starts.

    Attributes:
        document: Number of the document of each.
        start: Its first character.
        end: The character past its last one; above `start`.
        concept: Number of its concept in `concepts`.
        concepts: Names; "other" may be one.
    """

    document: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    end: Int64[np.ndarray, " n"]
    concept: Int64[np.ndarray, " n"]
    concepts: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[Row], concepts: Sequence[str]) -> Spans:
        """Make spans of (document, start, end, concept) in any order; each counts once."""
        number = {name: at for at, name in enumerate(concepts)}
        ordered = sorted({(d, start, end, number[name]) for d, start, end, name in rows})
        columns = np.array(ordered, dtype=np.int64).reshape(-1, 4).T
        return cls(*columns, concepts=tuple(concepts))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.start)

    @property
    def names(self) -> list[str]:
        """The concept of each, by name."""
        return [self.concepts[number] for number in self.concept]

    def take(self, rows: Bool[np.ndarray, " n"] | Int64[np.ndarray, " m"]) -> Spans:
        """Return some of them; all concepts stay known."""
        kept = {name: getattr(self, name)[rows] for name in ("document", "start", "end", "concept")}
        return replace(self, **kept)

    def texts(self, documents: Sequence[Document]) -> list[str]:
        """Return the text of each."""
        columns = zip(self.document.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        return [documents[document].text[start:end] for document, start, end in columns]

    def lexical_types(self, documents: Sequence[Document]) -> tuple[Int64[np.ndarray, " n"], list[str]]:
        """Return the lexical type of each, its text without regard to case, as a number; and all types.

        A long text is told by its beginning and its hash, so that spans that hold each other cost no
        memory in the square of the text.
        """
        columns = zip(self.document.tolist(), self.start.tolist(), self.end.tolist(), strict=True)
        types = [_lexical_type(documents[at].text[start:end]) for at, start, end in columns]
        known = sorted(set(types))
        place = {one: number for number, one in enumerate(known)}
        return np.array([place[one] for one in types], dtype=np.int64), known

    def bytes_of(
        self, documents: Sequence[Document]
    ) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the first byte of each and the byte past its last, of all documents joined end to end.

        Joined as in `Captured`: byte 0 is the first of the first document.
        """
        first, past = np.zeros((2, len(self)), dtype=np.int64)
        sizes = np.array([document.n_bytes for document in documents], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        for number in np.unique(self.document).tolist():
            edges = np.append(character_starts(documents[number].text), sizes[number]) + offsets[number]
            own = self.document == number
            first[own], past[own] = edges[self.start[own]], edges[self.end[own]]
        return first, past
