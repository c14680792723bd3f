"""Typed stretches of text: an entity, a clause, a keyword; what a concept is, place by place.

Spans are half open and count characters, so that no encoding can cut one. They may overlap, and need
not cover the text. Here too: words as spans, and stretches of words that are like given ones but
overlap none.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data.alignment import Kind, character_kinds, character_starts
from lrope_interp.data.documents import Document
from lrope_interp.data.labels.words import word_starts
from lrope_interp.errors import LRopeError

OTHER = "other"
"""The name of spans that are of none of the concepts that a family tells apart."""

Typed = tuple[int, int, str]
Row = tuple[int, int, int, str]
"""What stands where in a document, and in which document."""
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


def annotated(
    documents: Sequence[Document],
    rows_of: Callable[[Document], Sequence[Typed]],
    can_tell: Callable[[Document], bool],
    concepts: Sequence[str],
    wanted: str,
) -> Spans:
    """Return the spans of all documents that can tell; code that does not parse is left out.

    Args:
        documents: Any documents; `Spans.document` counts all of them.
        rows_of: Returns (start, end, concept) of one document.
        can_tell: Whether a document is of the kind that `rows_of` reads.
        concepts: Their names, in order.
        wanted: What it is and what it needs, as a message begins ("titles need ...").

    Raises:
        LRopeError: No span was found.
    """
    failed: dict[str, Any] = {}

    def rows() -> Iterator[Row]:
        for number, document in enumerate(documents):
            if can_tell(document):
                try:
                    found = rows_of(document)
                except LRopeError as error:
                    failed.setdefault(str(error), document.name)
                    continue
                for start, end, concept in found:
                    yield number, start, end, concept

    spans = Spans.of(rows(), concepts)
    if len(spans) == 0:
        why = "".join(f"; {name}: {error}" for error, name in failed.items())
        raise LRopeError(f"{wanted}, and none of the {len(documents)} documents has any{why}")
    return spans


Span = tuple[int, int]
_INNER = re.compile(r"['’\-‐‑·・]|(?<=\d)[.,:．](?=\d)")
_WORDS_COMPARED = 16


def word_spans(document: Document) -> Int64[np.ndarray, "n_words 2"]:
    """Return first character and the one past the last of every word of a document.

    They are the words that the document brings (of a de-spaced one, those of its white space), else
    those of the label `words`, each up to the end of its run of letters, marks and numbers. Words
    without any of these are left out.
    """
    is_word = (character_kinds(document.text) & Kind.WORD) != 0
    if document.words is not None:
        words = np.array(document.words, dtype=np.int64).reshape(-1, 2)
        counts = np.concatenate([[0], np.cumsum(is_word)])
        return words[counts[words[:, 1]] > counts[words[:, 0]]]
    starts = np.flatnonzero(word_starts(document)[0])
    run_ends = np.flatnonzero(is_word & ~np.append(is_word[1:], False)) + 1
    ends = run_ends[np.searchsorted(run_ends, starts, side="right")]
    return np.stack([starts, np.minimum(ends, np.append(starts[1:], len(is_word)))], axis=1)


def is_whole(document: Document, start: int, end: int) -> bool:
    """Return whether a span is known to be whole: a piece may have cut what touches its ends."""
    return document.cut_from is None or (start > 0 and end < len(document.text))


def punctuation(text: str) -> Bool[np.ndarray, " n_characters"]:
    """Mark punctuation (category P), except what stands within a word or a number.

    Apostrophes, hyphens and middle dots between two word characters, and . , : between two digits,
    part nothing.
    """
    return ((character_kinds(text) & Kind.PUNCTUATION) != 0) & ~inner_marks(text)


def inner_marks(text: str) -> Bool[np.ndarray, " n_characters"]:
    """Mark the punctuation within a word or a number."""
    is_word = (character_kinds(text) & Kind.WORD) != 0
    is_inner = np.zeros(len(text), dtype=bool)
    is_inner[[found.start() for found in _INNER.finditer(text)]] = True
    is_inner[1:-1] &= is_word[:-2] & is_word[2:]
    is_inner[[0, -1] if text else []] = False
    return is_inner


def matched_stretches(document: Document, spans: Iterable[Span], avoided: Iterable[Span] = ()) -> list[Span]:
    """Return for each span a stretch of as many words of the same document that overlaps none of them.

    Stretches cross no punctuation, and overlap neither each other nor what is to be avoided. Of those
    that are free, the one is taken whose words begin with capitals where the span's do (of the first
    16 words, as far as possible), and of equal ones any, by the hash of the document. A span gets none
    where no stretch is free or it holds no word.
    """
    given = np.array(sorted(set(spans)), dtype=np.int64).reshape(-1, 2)
    pool = _Pool(document, np.concatenate([given, np.array([*avoided], dtype=np.int64).reshape(-1, 2)]))
    first = np.searchsorted(pool.words[:, 1], given[:, 0], side="right")
    n_words = np.searchsorted(pool.words[:, 0], given[:, 1]) - first
    found: list[Span] = []
    for number in sorted(set(n_words[n_words > 0].tolist())):
        found += pool.like(first[n_words == number], number)
    return found


class _Pool:
    """The words of one document, and which of them a stretch may take."""

    def __init__(self, document: Document, blocked: Int64[np.ndarray, "n_blocked 2"]) -> None:
        text = document.text
        self.words = word_spans(document)
        self.random = np.random.default_rng(int(document.sha256[32:48], 16))
        change = np.zeros(len(text) + 1, dtype=np.int64)
        np.add.at(change, blocked[:, 0], 1)
        np.add.at(change, blocked[:, 1], -1)
        is_mark = (character_kinds(text) & Kind.PUNCTUATION) != 0
        is_blocked = (np.cumsum(change)[:-1] > 0) | is_mark
        self.n_blocked = np.concatenate([[0], np.cumsum(is_blocked)])
        self.is_inner = np.concatenate([[False], inner_marks(text), [False]])
        self.is_capital = np.array([text[start].isupper() for start in self.words[:, 0].tolist()], dtype=bool)
        self.is_taken = bytearray(len(self.words))

    def like(self, first: Int64[np.ndarray, " n"], n_words: int) -> list[Span]:
        """Take a stretch of `n_words` for each span of as many, given the first word of each."""
        free = self._stretches(n_words)
        taken = (self._take(free, capitals, n_words) for capitals in self._capitals(first, n_words).tolist())
        return [
            (int(self.words[at, 0]), int(self.words[at + n_words - 1, 1])) for at in taken if at is not None
        ]

    def _take(self, free: dict[int, list[int]], capitals: int, n_words: int) -> int | None:
        """Take a stretch that begins words with capitals as wanted, or nearly; return its first word."""
        choices = [capitals] if free.get(capitals) else []
        for choice in choices or sorted(free, key=lambda one: ((one ^ capitals).bit_count(), one)):
            while free[choice]:
                at = free[choice].pop()
                if not any(self.is_taken[at : at + n_words]):
                    self.is_taken[at : at + n_words] = b"\1" * n_words
                    return at
            del free[choice]
        return self._take(free, capitals, n_words) if choices else None

    def _stretches(self, n_words: int) -> dict[int, list[int]]:
        """Return the first words of all stretches in random order, by the capitals of their words."""
        first = np.arange(max(0, len(self.words) - n_words + 1))
        start, end = self.words[first, 0], self.words[first + n_words - 1, 1]
        is_free = self.n_blocked[end] == self.n_blocked[start]
        is_free &= ~self.is_inner[start] & ~self.is_inner[end + 1]
        first = self.random.permutation(first[is_free])
        free: defaultdict[int, list[int]] = defaultdict(list)
        for capitals, at in zip(self._capitals(first, n_words).tolist(), first.tolist(), strict=True):
            free[capitals].append(at)
        return dict(free)

    def _capitals(self, first: Int64[np.ndarray, " n"], n_words: int) -> Int64[np.ndarray, " n"]:
        """Return which words begin with a capital, as the bits of a number."""
        bits = np.zeros(len(first), dtype=np.int64)
        for place in range(min(n_words, _WORDS_COMPARED)):
            bits |= self.is_capital[first + place].astype(np.int64) << place
        return bits
