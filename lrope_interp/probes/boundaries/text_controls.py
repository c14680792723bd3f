"""What text alone says about a gap: branching entropy, PMI and byte bigrams of the training text, and jieba.

A model that knew nothing but which characters follow which would have the numbers of these tables. They
are counted on the text that the model was trained on, not on the small fit split, so that they are not
weaker than the model for lack of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, Integer, UInt8, UInt32

from lrope_interp.data import Document, character_starts, in_hash_order, piece_of
from lrope_interp.data.alignment import Kind, character_kinds, code_points
from lrope_interp.data.labels.words import quiet_jieba, silver_word_starts
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import Signal
from lrope_interp.probes.statistics.suffixes import (
    find,
    grow,
    look_up,
    numbers_of,
    paired,
    runs_of,
    symbols_of,
)

MAX_BYTES = 20_000_000
WINDOW = 6
MAX_CONTEXT = WINDOW - 1
LEAST_COUNT = 10
_POINT_BITS = 21
PAD = (1 << _POINT_BITS) - 1
_ALL_PADS = (1 << 3 * _POINT_BITS) - 1
_UNSEEN_PAIR = 0.5
_UNSEEN_CHARACTER = 1.0


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


def text_sample(training: Iterable[Document], max_bytes: int) -> tuple[tuple[Document, ...], bool]:
    """Take documents in the order of their hashes until `max_bytes` are full; say whether that was all.

    Args:
        training: A sequence; one on disk is read one document at a time.
        max_bytes: Of UTF-8. The document that does not fit gives a piece at a place that its
            hash chooses, so that a single long one is not read whole.
    """
    taken, left = [], max_bytes
    for document in in_hash_order(training):
        piece = piece_of(document, max(left, 0))
        if piece is not document:
            return tuple(one for one in (*taken, piece) if one.text), False
        taken.append(piece)
        left -= piece.n_bytes
    return tuple(taken), True


def _windows(
    text: JoinedText,
) -> tuple[Int64[np.ndarray, "windows 6"], Int64[np.ndarray, " windows"]]:
    """Count the different stretches of six characters, by two sorts of 64-bit keys of three characters.

    Returns:
        The code points of each stretch, `PAD` for what is missing on the left at a document's start; and
        how often it occurs.
    """
    halves = text.point.astype(np.int64)  # each character and the two before it as one number
    for back in (1, 2):
        before = np.full(len(halves), PAD)
        has_before = text.place >= back
        before[has_before] = text.point[np.flatnonzero(has_before) - back]
        halves |= before << (back * _POINT_BITS)
    known = np.unique(np.append(halves, _ALL_PADS))
    half = np.searchsorted(known, halves)
    earlier = np.full(len(half), len(known) - 1)
    has_earlier = text.place >= WINDOW // 2
    earlier[has_earlier] = half[np.flatnonzero(has_earlier) - WINDOW // 2]
    keys, counts = np.unique(earlier * len(known) + half, return_counts=True)
    both = np.stack([known[keys // len(known)], known[keys % len(known)]], axis=1)
    shifts = np.array([2, 1, 0]) * _POINT_BITS
    return ((both[:, :, None] >> shifts) & PAD).reshape(-1, WINDOW), counts


@dataclass(frozen=True)
class Branching:
    """How uncertain the next character is after each context that is not rare.

    Attributes:
        keys: Of the contexts of 1, 2, ... characters (see `suffixes`).
        entropies: Of the next character after each, in nats; after no context at all in the first.
    """

    keys: tuple[Int64[np.ndarray, " _"], ...]
    entropies: tuple[Float64[np.ndarray, " _"], ...]

    @classmethod
    def of(cls, text: JoinedText) -> Branching:
        """Count what follows each context of at most 5 characters that occurs at least 10 times."""
        point, counts = _windows(text)
        following, room = point[:, -1], (point[:, :-1] != PAD).sum(axis=1)
        ends = np.arange(1, len(following) + 1) * WINDOW - 2
        keys, entropies = [], [_entropies(np.zeros_like(following), following, counts, 1)]
        for known, at, numbers in grow(point.ravel(), ends, room, [LEAST_COUNT] * MAX_CONTEXT, counts):
            keys.append(known)
            entropies.append(_entropies(numbers, following[at], counts[at], len(known)))
        return cls(tuple(keys), tuple(entropies))

    def at(self, text: JoinedText) -> Float64[np.ndarray, " characters"]:
        """Return the entropy of each character after the longest context before it that is known."""
        values = np.full(len(text.point), self.entropies[0][0])
        levels = look_up(text.point, np.arange(len(values)) - 1, text.place, self.keys)
        for (places, numbers), entropy in zip(levels, self.entropies[1:], strict=True):
            values[places] = entropy[numbers]
        return values


@dataclass(frozen=True)
class CharacterPairs:
    """How much more often two characters stand side by side than chance would put them there.

    Attributes:
        keys: Of the pairs that occur, sorted.
        counts: How often each occurs.
        points: The characters that occur, sorted.
        n_before: How often each is the first of a pair.
        n_after: How often each is the second of a pair.
    """

    keys: Int64[np.ndarray, " pairs"]
    counts: Int64[np.ndarray, " pairs"]
    points: Int64[np.ndarray, " characters"]
    n_before: Int64[np.ndarray, " characters"]
    n_after: Int64[np.ndarray, " characters"]

    @classmethod
    def of(cls, text: JoinedText) -> CharacterPairs:
        """Count neighbours within documents."""
        at = np.flatnonzero(text.follows)
        ordered = np.sort(paired(text.point[at - 1], text.point[at]))
        first, counts = runs_of(ordered)
        keys = ordered[first]
        before, after = numbers_of(keys), symbols_of(keys)
        points = np.union1d(before, after)
        n_before, n_after = (
            np.bincount(np.searchsorted(points, one), weights=counts, minlength=len(points)).astype(np.int64)
            for one in (before, after)
        )
        return cls(keys, counts, points, n_before, n_after)

    def pmi(
        self, before: Integer[np.ndarray, " n"], after: Integer[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        """Return ln p(ab) / (p(a) p(b)) of pairs of code points, unseen ones counted as half a pair."""
        at = find(self.keys, paired(before, after))
        seen = np.append(self.counts, _UNSEEN_PAIR)[at]
        n_before, n_after = (
            np.append(counts, 0)[find(self.points, points.astype(np.int64))] + _UNSEEN_CHARACTER
            for counts, points in ((self.n_before, before), (self.n_after, after))
        )
        n_pairs = self.counts.sum() + _UNSEEN_CHARACTER * (len(self.points) + 1)
        return np.log(seen) + np.log(n_pairs) - np.log(n_before) - np.log(n_after)

    def highest(self) -> float:
        """Return the largest value of a pair that occurs; 0 where none does."""
        if not len(self.keys):
            return 0.0
        return float(self.pmi(numbers_of(self.keys), symbols_of(self.keys)).max())


@dataclass(frozen=True)
class TextTables:
    """Tables counted on training text.

    Each method takes documents and returns one float64 for every byte of them, joined end to end.
    None knows words; a score of theirs shows how far character statistics go.

    Attributes:
        sample: What was read of the training text.
        branching: Contexts of characters.
        pairs: Neighbouring characters.
        bigrams: How often each byte follows each other within a document.
        bytes_seen: How often each byte occurs.
    """

    sample: str
    branching: Branching
    pairs: CharacterPairs
    bigrams: Int64[np.ndarray, "256 256"]
    bytes_seen: Int64[np.ndarray, " 256"]

    @classmethod
    def of(cls, training: Iterable[Document], max_bytes: int = MAX_BYTES) -> TextTables:
        """Count the tables.

        Args:
            training: What the model was trained on; a sequence on disk is read one document at a time.
            max_bytes: The most to read, in the order of hashes. `sample` says what was read.

        Raises:
            LRopeError: There is no text.
        """
        documents, is_all = text_sample(training, max_bytes)
        n_bytes = sum(document.n_bytes for document in documents)
        if not n_bytes:
            raise LRopeError("tables of the training text need text, and there is none; give its documents")
        text = JoinedText.of(documents)
        raw, is_start = _raw_bytes(documents)
        pairs = (raw[:-1].astype(np.int64) << 8 | raw[1:])[~is_start[1:]]
        return cls(
            sample=f"{n_bytes / 1e6:.1f} MB in {len(documents)} documents"
            + ("" if is_all else ", taken in the order of hashes"),
            branching=Branching.of(text),
            pairs=CharacterPairs.of(text),
            bigrams=np.bincount(pairs, minlength=1 << 16).reshape(256, 256),
            bytes_seen=np.bincount(raw, minlength=256),
        )

    def branching_entropy(self, documents: Sequence[Document]) -> Float64[np.ndarray, " n_bytes"]:
        """Entropy of the next character, in nats, at the first byte of each character; 0 elsewhere.

        It is that after the longest context of at most 5 characters which occurs at least 10 times
        in the training text: right branching entropy (Harris 1955; Jin and Tanaka-Ishii 2006).
        Contexts do not cross the start of a document.
        """
        text = JoinedText.of(documents)
        return text.at_first_bytes(self.branching.at(text), np.zeros(()))

    def pmi(self, documents: Sequence[Document]) -> Float64[np.ndarray, " n_bytes"]:
        """Pointwise mutual information, in nats, of the two characters beside the gap.

        ln p(ab) / (p(a) p(b)) with p(a) and p(b) among first and second characters of pairs. A pair
        that never occurs counts half a time, and every character once more than it occurs. Where
        no gap between characters is (within a character, at the start of a document) stands the
        largest value of the table. Values of rare characters are high by chance.
        """
        text, highest = JoinedText.of(documents), np.array(self.pairs.highest())
        values = np.full(len(text.point), highest)
        at = np.flatnonzero(text.follows)
        values[at] = self.pairs.pmi(text.point[at - 1], text.point[at])
        return text.at_first_bytes(values, highest)

    def log_bigram(self, documents: Sequence[Document]) -> Float64[np.ndarray, " n_bytes"]:
        """Log probability of each byte after the one before it, in nats, add-one smoothed.

        At the start of a document it is that of the byte alone.
        """
        raw, is_start = _raw_bytes(documents)
        conditional = np.log(self.bigrams + 1.0) - np.log(self.bigrams.sum(axis=1, keepdims=True) + 256.0)
        alone = np.log(self.bytes_seen + 1.0) - np.log(self.bytes_seen.sum() + 256.0)
        return np.where(is_start, alone[raw], conditional[np.roll(raw, 1), raw])


def text_signals(tables: TextTables) -> list[Signal]:
    """Make the controls that know the statistics of the training text and no model."""

    def signal(name: str, table: Callable[[Sequence[Document]], np.ndarray]) -> Signal:
        return Signal(name, lambda read: table(read.documents), is_rule=True, is_per_character=True)

    return [signal("branching_entropy", tables.branching_entropy), signal("pmi", tables.pmi)]


def _entropies(
    contexts: Int64[np.ndarray, " n"],
    following: Int64[np.ndarray, " n"],
    counts: Int64[np.ndarray, " n"],
    n_contexts: int,
) -> Float64[np.ndarray, " n_contexts"]:
    """Return the entropy of what follows each context, in nats."""
    keys = paired(contexts, following)
    order = np.argsort(keys)
    first, _ = runs_of(keys[order])
    together = np.add.reduceat(counts[order], first) if len(first) else counts
    context = numbers_of(keys[order[first]])
    totals = np.maximum(np.bincount(context, weights=together, minlength=n_contexts), 1)
    weighted = np.bincount(context, weights=together * np.log(together), minlength=n_contexts)
    return np.maximum(np.log(totals) - weighted / totals, 0.0)


def _raw_bytes(documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
    """Return the joined bytes, and which of them begin a document."""
    encoded = [document.encoded for document in documents]
    raw = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    starts = np.cumsum([0, *map(len, encoded)])[:-1]
    is_start = np.zeros(len(raw), dtype=bool)
    is_start[starts[starts < len(raw)]] = True
    return raw, is_start


def jieba_signal(documents: Iterable[Document]) -> tuple[Signal | None, list[str]]:
    """Make the control `jieba`: 1 where it begins a word within a run of Chinese characters, else 0.

    It was made by people with a dictionary; a model that falls short of it has not failed. Where
    the reference itself is silver, this row agrees with it by construction.

    Args:
        documents: What will be scored. Without a Chinese character among them there is no signal.

    Returns:
        The signal or None, and what to tell the reader.
    """
    if not any(_is_han(document.text).any() for document in documents):
        return None, []
    try:
        quiet_jieba()
    except LRopeError:
        missing = "the control jieba is left out: the package jieba is not installed (pip install jieba)"
        return None, [missing]
    known: dict[str, Bool[np.ndarray, " _"]] = {}

    def starts(captured: Captured) -> Int64[np.ndarray, " n_bytes"]:
        for document in captured.documents:
            if document.sha256 not in known:
                is_start = np.zeros(document.n_bytes, dtype=bool)
                firsts = character_starts(document.text)
                is_start[firsts] = silver_word_starts(document.text, _is_han(document.text))
                known[document.sha256] = is_start
        parts = [known[document.sha256] for document in captured.documents]
        return np.concatenate([np.zeros(0, dtype=bool), *parts]).astype(np.int64)

    return Signal("jieba", starts, is_rule=True, is_per_character=True), []


def _is_han(text: str) -> Bool[np.ndarray, " n_characters"]:
    return (character_kinds(text) & Kind.HAN) != 0
