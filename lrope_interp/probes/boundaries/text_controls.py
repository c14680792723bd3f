"""What the training text alone says about a gap: branching entropy, PMI, byte bigrams.

A model that knew nothing but which characters follow which would have these numbers. They are
counted on the text that the model was trained on, not on the small fit split, so that they are not
weaker than the model for lack of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64, Integer

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.joined_text import WINDOW, JoinedText, Sample, Windows, counted
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
MAX_CONTEXT = WINDOW - 1
LEAST_COUNT = 10
_UNSEEN_PAIR = 0.5
_UNSEEN_CHARACTER = 1.0


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
        windows = Windows.of(text)
        following, counts = windows.point[:, -1], windows.counts
        ends = np.arange(1, len(following) + 1) * WINDOW - 2
        keys, entropies = [], [_entropies(np.zeros_like(following), following, counts, 1)]
        for level in grow(windows.point.ravel(), ends, windows.room, [LEAST_COUNT] * MAX_CONTEXT, counts):
            at = level.places
            keys.append(level.keys)
            entropies.append(_entropies(level.numbers, following[at], counts[at], len(level.keys)))
        return cls(tuple(keys), tuple(entropies))

    def at(self, text: JoinedText) -> Float64[np.ndarray, " characters"]:
        """Return the entropy of each character after the longest context before it that is known."""
        values = np.full(len(text.point), self.entropies[0][0])
        levels = look_up(text.point, np.arange(len(values)) - 1, text.place, self.keys)
        for (places, numbers), entropy in zip(levels, self.entropies[1:], strict=True):
            values[places] = entropy[numbers]
        return values


@dataclass(frozen=True)
class Pairs:
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
    def of(cls, text: JoinedText) -> Pairs:
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
    pairs: Pairs
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
        sample = Sample.of(training, max_bytes)
        if not sample.n_bytes:
            raise LRopeError("tables of the training text need text, and there is none; give its documents")
        text = JoinedText.of(sample.documents)
        raw, is_start = _raw_bytes(sample.documents)
        pairs = (raw[:-1].astype(np.int64) << 8 | raw[1:])[~is_start[1:]]
        return cls(
            sample=counted(sample.documents) + ("" if sample.is_all else ", taken in the order of hashes"),
            branching=Branching.of(text),
            pairs=Pairs.of(text),
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

    def read(table: Callable[[Sequence[Document]], np.ndarray]) -> Callable[[Captured], np.ndarray]:
        return lambda captured: table(captured.documents)

    return [
        Signal("branching_entropy", read(tables.branching_entropy), is_rule=True, is_per_character=True),
        Signal("pmi", read(tables.pmi), is_rule=True, is_per_character=True),
    ]


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
