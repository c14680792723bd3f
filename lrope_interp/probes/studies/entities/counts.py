"""How often words, pairs of words and characters stand in the training text."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lrope_interp.data import Document
from lrope_interp.data.documents import languages_of, where
from lrope_interp.data.spans.entity_pairs import LETTERS, MARKS
from lrope_interp.probes.boundaries.text_controls import text_sample

MAX_BYTES = 20_000_000
ADDED = 0.01
"""What is added to the count of every pair: an unseen one becomes possible, others hardly move."""

ENGLISH = ("en", "und")
"""Languages of documents that are read as English: a text of one's own often does not say."""

CHINESE = ("zh",)

WORD = re.compile(rf"(?=[^\W\d_])(?<![\w{MARKS}'’-]){LETTERS}(?![\w{MARKS}'’-])")
"""A word of letters, marks with them, that is no part of a longer one with digits, hyphens or apostrophes."""

_ASCII_WORD = re.compile(r"(?<![\w'-])[A-Za-z]+(?![\w'-])")


def words_of(text: str) -> list[tuple[int, int]]:
    """Return the words of a text as half-open spans of characters."""
    pattern = _ASCII_WORD if text.isascii() else WORD  # the same there, and three times as fast
    return [match.span() for match in pattern.finditer(text)]


def neighbours(text: str) -> list[tuple[int, int, int, int]]:
    """Return the pairs of words with one space between: first start, first end, second start, second end."""
    found = words_of(text)
    return [
        (*first, *second)
        for first, second in pairwise(found)
        if second[0] == first[1] + 1 and text[first[1]] == " "
    ]


@dataclass(frozen=True)
class TextCounts:
    """Counts of a training text, in which capitals count.

    Attributes:
        single: Of words, or of characters.
        pairs: Of two words with one space between, or of strings of two and more characters.
        n_bytes: Size of the text.
        is_all: Whether nothing of the training text was left out.
    """

    single: Counter[str]
    pairs: Counter[str]
    n_bytes: int
    is_all: bool

    @classmethod
    def of_words(cls, documents: Sequence[Document]) -> TextCounts:
        """Count words and pairs of words of the English documents, at most 20 MB of them."""
        read, is_all = _sample(documents, ENGLISH)
        single: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for document in read:
            text = document.text
            single.update(text[start:stop] for start, stop in words_of(text))
            pairs.update(text[row[0] : row[3]] for row in neighbours(text))
        return cls(single, pairs, sum(document.n_bytes for document in read), is_all)

    @classmethod
    def of_strings(cls, documents: Sequence[Document], wanted: Iterable[str]) -> TextCounts:
        """Count characters and the wanted strings in the Chinese documents, at most 20 MB of them.

        A string counts wherever it stands, also across the edges of words.
        """
        read, is_all = _sample(documents, CHINESE)
        strings = set(wanted)
        single: Counter[str] = Counter()
        pairs: Counter[str] = Counter()
        for document in read:
            text = document.text
            single.update(text)
            for length in sorted({len(one) for one in strings}):
                stretches = (text[at : at + length] for at in range(len(text) - length + 1))
                pairs.update(one for one in stretches if one in strings)
        return cls(single, pairs, sum(document.n_bytes for document in read), is_all)

    def log_count(self, text: str) -> float:
        """Return ln(1 + count) of a pair or a string."""
        return math.log1p(self.pairs[text])

    def log_single(self, text: str) -> float:
        """Return ln(1 + count) of a word or a character."""
        return math.log1p(self.single[text])

    def log_p(self, first: str, pair: str) -> float:
        """Return ln P(second | first), every continuation counted 0.01 times more than it occurs."""
        many = ADDED * max(len(self.single), 1)
        return math.log((self.pairs[pair] + ADDED) / (self.single[first] + many))


def _sample(documents: Sequence[Document], languages: tuple[str, ...]) -> tuple[tuple[Document, ...], bool]:
    own = where(documents, [one in languages for one in languages_of(documents)])
    return text_sample(own, MAX_BYTES)
