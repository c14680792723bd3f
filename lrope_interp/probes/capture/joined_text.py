"""Characters of documents joined end to end, and the part of a training text that a table reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, UInt8, UInt32

from lrope_interp.data import Document, in_hash_order, piece_of
from lrope_interp.data.alignment import code_points

WINDOW = 6
_POINT_BITS = 21
PAD = (1 << _POINT_BITS) - 1
_ALL_PADS = (1 << 3 * _POINT_BITS) - 1


@dataclass(frozen=True)
class JoinedText:
    """Characters of some documents.

    Attributes:
        point: The code point of each.
        place: The place of each in its document.
    """

    point: UInt32[np.ndarray, " characters"]
    place: Int32[np.ndarray, " characters"]

    @classmethod
    def of(cls, documents: Iterable[Document]) -> JoinedText:
        """Join the characters of `documents`, read one at a time."""
        points = [code_points(document.text) for document in documents]
        places = [np.arange(len(own), dtype=np.int32) for own in points]
        return cls(
            np.concatenate([np.zeros(0, dtype=np.uint32), *points]),
            np.concatenate([np.zeros(0, dtype=np.int32), *places]),
        )

    @cached_property
    def width(self) -> UInt8[np.ndarray, " characters"]:
        """How many UTF-8 bytes each character has."""
        point = self.point
        return (1 + (point >= 0x80).astype(np.uint8) + (point >= 0x800) + (point >= 0x10000)).astype(np.uint8)

    @cached_property
    def first_byte(self) -> Int64[np.ndarray, " characters"]:
        """The first byte of each character, counted over all documents."""
        return np.cumsum(self.width, dtype=np.int64) - self.width

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents."""
        return int(self.width.sum(dtype=np.int64))

    @cached_property
    def follows(self) -> Bool[np.ndarray, " characters"]:
        """Whether another character of the same document stands before it: whether there is a gap."""
        return self.place > 0

    def at_first_bytes(
        self, values: Float[np.ndarray, "characters *columns"], elsewhere: Float[np.ndarray, "*columns"]
    ) -> Float64[np.ndarray, "n_bytes *columns"]:
        """Put the value of a character at its first byte, and `elsewhere` at its other bytes."""
        out = np.empty((self.n_bytes, *values.shape[1:]), dtype=np.float64)
        out[:] = elsewhere
        out[self.first_byte] = values
        return out


@dataclass(frozen=True)
class Windows:
    """The different stretches of six characters of a text; a short one at a document's start is padded.

    Attributes:
        point: Code points; what is missing on the left is `PAD`.
        room: How many characters there are before the last.
        counts: How often each stretch occurs.
    """

    point: Int64[np.ndarray, "windows 6"]
    room: Int64[np.ndarray, " windows"]
    counts: Int64[np.ndarray, " windows"]

    @classmethod
    def of(cls, text: JoinedText) -> Windows:
        """Count the stretches that end at each character, by two sorts of 64-bit keys of three characters."""
        halves = _last_three(text)
        known = np.unique(np.append(halves, _ALL_PADS))
        half = np.searchsorted(known, halves)
        earlier = np.full(len(half), len(known) - 1)
        has_earlier = text.place >= WINDOW // 2
        earlier[has_earlier] = half[np.flatnonzero(has_earlier) - WINDOW // 2]
        keys, counts = np.unique(earlier * len(known) + half, return_counts=True)
        both = np.stack([known[keys // len(known)], known[keys % len(known)]], axis=1)
        shifts = np.array([2, 1, 0]) * _POINT_BITS
        point = ((both[:, :, None] >> shifts) & PAD).reshape(-1, WINDOW)
        return cls(point, (point[:, :-1] != PAD).sum(axis=1), counts)


def _last_three(text: JoinedText) -> Int64[np.ndarray, " characters"]:
    """Return each character and the two before it as one number."""
    key = text.point.astype(np.int64)
    for back in (1, 2):
        before = np.full(len(key), PAD)
        has_before = text.place >= back
        before[has_before] = text.point[np.flatnonzero(has_before) - back]
        key |= before << (back * _POINT_BITS)
    return key


@dataclass(frozen=True)
class Sample:
    """What a table reads of a training text.

    Attributes:
        documents: Whole documents in the order of their hashes; the last may be a piece.
        is_all: Whether nothing was left out.
    """

    documents: tuple[Document, ...]
    is_all: bool

    @classmethod
    def of(cls, training: Iterable[Document], max_bytes: int) -> Sample:
        """Take documents in the order of their hashes until `max_bytes` are full.

        Args:
            training: A sequence; one on disk is read one document at a time.
            max_bytes: Of UTF-8. The document that does not fit gives a piece at a place that its
                hash chooses, so that a single long one is not read whole.
        """
        taken = []
        for document, piece in pieces(training, max_bytes):
            taken.append(piece)
            if piece is not document:
                return cls(tuple(one for one in taken if one.text), is_all=False)
        return cls(tuple(taken), is_all=True)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes that were taken."""
        return sum(document.n_bytes for document in self.documents)


def pieces(training: Iterable[Document], max_bytes: int) -> Iterator[tuple[Document, Document]]:
    """Yield documents in the order of their hashes, and beside each what of it still fits.

    The two are the same object until one does not fit; that one is the last.
    """
    left = max_bytes
    for document in in_hash_order(training):
        piece = piece_of(document, max(left, 0))
        yield document, piece
        left -= piece.n_bytes
        if piece is not document:
            return


def counted(sample: Sequence[Document]) -> str:
    """Say how much text some documents are."""
    n_bytes = sum(document.n_bytes for document in sample)
    return f"{n_bytes / 1e6:.1f} MB in {len(sample)} documents"
