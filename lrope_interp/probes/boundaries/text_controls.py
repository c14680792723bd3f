"""What text alone says about a gap: branching entropy, nVBE, PMI, byte bigrams of training text, and jieba.

A model that knew nothing but which characters follow which would have the numbers of these tables. They
are counted on the text that the model was trained on, not on the small fit split, so that they are not
weaker than the model for lack of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from lrope_interp.data import Document, character_starts, in_hash_order, piece_of
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.labels.words import quiet_jieba, silver_word_starts
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.branching import Branching, JoinedText, nvbe_words
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import Signal
from lrope_interp.probes.statistics.suffixes import find, numbers_of, paired, runs_of, symbols_of

MAX_BYTES = 20_000_000
NVBE_WORDS = "nvbe_words"
_UNSEEN_PAIR = 0.5
_UNSEEN_CHARACTER = 1.0
_NOWHERE = -1e3  # below every value of a gap between characters


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
        branching: What follows strings of characters.
        backwards: The same of the text read backwards.
        pairs: Neighbouring characters.
        bigrams: How often each byte follows each other within a document.
        bytes_seen: How often each byte occurs.
    """

    sample: str
    branching: Branching
    backwards: Branching
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
            backwards=Branching.of(text.turned),
            pairs=CharacterPairs.of(text),
            bigrams=np.bincount(pairs, minlength=1 << 16).reshape(256, 256),
            bytes_seen=np.bincount(raw, minlength=256),
        )

    def branching_entropy(self, documents: Sequence[Document]) -> Float64[np.ndarray, " n_bytes"]:
        """Normalised branching entropy of both sides of each gap, at first bytes; -1,000 elsewhere.

        How uncertain the next character is after what stands before the gap, and the one before it given
        what follows, both as z scores among contexts of the same length (Harris 1955; Jin and Tanaka-Ishii
        2006; normalised as by Magistry and Sagot 2012). Without the normalisation ROC-AUC of Chinese words
        falls from 0.82 to 0.69. Contexts do not cross the ends of a document.
        """
        text = JoinedText.of(documents)
        before, after = self.branching.after(text), self.backwards.after(text.turned)[::-1]
        return self._at_gaps(text, np.append(0.0, before)[: len(before)] + np.append(0.0, after)[1:])

    def nvbe(self, documents: Sequence[Document]) -> Float64[np.ndarray, " n_bytes"]:
        """By how much the best segmentation with a word beginning at each character beats that without.

        See `nvbe_words`; at first bytes, -1,000 elsewhere.
        """
        text = JoinedText.of(documents)
        lattice, words = nvbe_words(self.branching, self.backwards, text)
        return self._at_gaps(text, np.append(0.0, lattice.margins(words))[: len(text.point)])

    def nvbe_starts(self, documents: Sequence[Document]) -> Int64[np.ndarray, " n_bytes"]:
        """Where words of the best segmentation begin: what nVBE calls without any label."""
        text = JoinedText.of(documents)
        lattice, words = nvbe_words(self.branching, self.backwards, text)
        ends = lattice.best_ends(words, np.zeros(len(text.point)))
        starts = np.append(True, ends)[: len(ends)].astype(np.float64)
        return text.at_first_bytes(starts, np.zeros(())).astype(np.int64)

    @staticmethod
    def _at_gaps(
        text: JoinedText, values: Float64[np.ndarray, " characters"]
    ) -> Float64[np.ndarray, " n_bytes"]:
        """Put values at the first bytes of characters that have a gap before them, `_NOWHERE` elsewhere."""
        return text.at_first_bytes(np.where(text.follows, values, _NOWHERE), np.array(_NOWHERE))

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
    found: dict[str, Callable[[Sequence[Document]], np.ndarray]] = {
        "branching_entropy": tables.branching_entropy,
        "pmi": tables.pmi,
        "nvbe": tables.nvbe,
        NVBE_WORDS: tables.nvbe_starts,
    }
    return [
        Signal(
            name,
            lambda read, table=table: table(read.documents),
            is_rule=True,
            is_per_character=True,
            is_segmentation=name == NVBE_WORDS,
        )
        for name, table in found.items()
    ]


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

    return Signal("jieba", starts, is_rule=True, is_per_character=True, is_segmentation=True), []


def _is_han(text: str) -> Bool[np.ndarray, " n_characters"]:
    return (character_kinds(text) & Kind.HAN) != 0
