"""What names are compared with: pairs of English words, Chinese words, and how frequent they are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from lrope_interp.data import (
    Corpus,
    Document,
    assert_held_out,
    character_starts,
    load_corpus_for,
    shared_shingles,
)
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import languages_of, where
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.text_controls import text_sample
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.selection import Selection, describe, manifest_of, select_corpus
from lrope_interp.probes.studies.entities.pairs import LETTERS, MARKS, PAIRS, TESTED_BYTES, EntityPair

MAX_BYTES = 20_000_000
ADDED = 0.01
"""What is added to the count of every pair: an unseen one becomes possible, others hardly move."""

ENGLISH = ("en", "und")
"""Languages of documents that are read as English: a text of one's own often does not say."""

CHINESE = ("zh",)
NAME_TAGS = ("nr", "ns", "nt", "nz")
"""Of the People's Daily: persons (surname and given name are two words), places, organisations, others."""

PASSAGE = 1_000
"""Characters of a passage; the last of a document may be longer, by less than that."""

WORD = re.compile(rf"(?=[^\W\d_])(?<![\w{MARKS}'’-]){LETTERS}(?![\w{MARKS}'’-])")
"""A word of letters, marks with them, that is no part of a longer one with digits, hyphens or apostrophes."""

_ASCII_WORD = re.compile(r"(?<![\w'-])[A-Za-z]+(?![\w'-])")


def words_of(text: str) -> list[tuple[int, int]]:
    """Return the words of a text as half-open spans of characters."""
    pattern = _ASCII_WORD if text.isascii() else WORD  # the same there, and three times as fast
    return [match.span() for match in pattern.finditer(text)]


def neighbours(text: str) -> list[tuple[int, int, int, int]]:
    """Return the pairs of words with one space between: first start, first end, second start, second end."""
    return [
        (*first, *second)
        for first, second in pairwise(words_of(text))
        if second[0] == first[1] + 1 and text[first[1]] == " "
    ]


@dataclass(frozen=True)
class TextCounts:
    """Counts of a training text, in which capitals count.

    Attributes:
        single: Of words, or of characters.
        pairs: Of two words with one space between, or of strings of two and more characters.
    """

    single: Counter[str]
    pairs: Counter[str]

    @classmethod
    def of_words(cls, documents: Sequence[Document]) -> TextCounts:
        """Count words and pairs of words of the English documents, at most 20 MB of them."""
        counts = cls(Counter(), Counter())
        for document in _sample(documents, ENGLISH):
            text = document.text
            counts.single.update(text[start:stop] for start, stop in words_of(text))
            counts.pairs.update(text[row[0] : row[3]] for row in neighbours(text))
        return counts

    @classmethod
    def of_strings(cls, documents: Sequence[Document], wanted: Iterable[str]) -> TextCounts:
        """Count characters and the wanted strings in the Chinese documents, at most 20 MB of them.

        A string counts wherever it stands, also across the edges of words.
        """
        counts, strings = cls(Counter(), Counter()), set(wanted)
        for document in _sample(documents, CHINESE):
            text = document.text
            counts.single.update(text)
            for length in sorted({len(one) for one in strings}):
                stretches = (text[at : at + length] for at in range(len(text) - length + 1))
                counts.pairs.update(one for one in stretches if one in strings)
        return counts

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


def _sample(documents: Sequence[Document], languages: tuple[str, ...]) -> Sequence[Document]:
    own = where(documents, [one in languages for one in languages_of(documents)])
    return text_sample(own, MAX_BYTES)[0]


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
        texts: The different texts, sorted; each occurs.
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

    def kind_is_name(self) -> Bool[np.ndarray, " kinds"]:
        """Whether each text is a name; of Chinese words, whether most of its occurrences are."""
        return self.mean_of_kinds(self.is_name.astype(np.float64)) > 0.5

    def mean_of_kinds(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " kinds"]:
        """Average over the occurrences of each text, leaving NaN out; NaN where nothing is left."""
        known = ~np.isnan(values)
        n = np.bincount(self.kind[known], minlength=len(self.texts))
        sums = np.bincount(self.kind[known], weights=values[known], minlength=len(self.texts))
        return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)


# Characters of a unit (first, those that are read, past its last), its text, whether it is a name.
_Unit = tuple[tuple[int, ...], str, bool]


def word_pairs(captured: Captured, is_scored: Bool[np.ndarray, " n_bytes"], names: set[str]) -> EntityUnits:
    """Find every pair of words with one space between in the English documents.

    Args:
        captured: Its documents.
        is_scored: False at bytes that training text has too; a pair with one of them is left out.
        names: The pairs that are names.
    """

    def of_document(document: Document) -> Iterator[_Unit]:
        for first, gap, second, past in neighbours(document.text):
            text = document.text[first:past]
            yield (first, gap, second, past), text, text in names

    return _units(captured, is_scored, ENGLISH, of_document)


def chinese_words(captured: Captured, is_scored: Bool[np.ndarray, " n_bytes"]) -> EntityUnits:
    """Find the words of two and more Chinese characters in documents whose words have tags."""

    def of_document(document: Document) -> Iterator[_Unit]:
        is_han = (character_kinds(document.text) & Kind.HAN) != 0
        for (first, past), tag in zip(document.words or (), document.tags or (), strict=False):
            if past - first >= 2 and bool(is_han[first:past].all()):
                yield (first, *range(first + 1, past), past), document.text[first:past], tag in NAME_TAGS

    return _units(captured, is_scored, CHINESE, of_document)


def _units(
    captured: Captured,
    is_scored: Bool[np.ndarray, " n_bytes"],
    languages: tuple[str, ...],
    of_document: Callable[[Document], Iterator[_Unit]],
) -> EntityUnits:
    source = {one: at for at, one in enumerate(dict.fromkeys(d.source_sha256 for d in captured.documents))}
    unscored = np.append(0, np.cumsum(~is_scored))
    sources: list[int] = []
    places: list[list[int]] = []
    texts: list[str] = []
    names: list[bool] = []
    for number, document in enumerate(captured.documents):
        if document.language not in languages:
            continue
        edges = np.append(character_starts(document.text), document.n_bytes) + captured.offsets[number]
        for characters, text, is_name in of_document(document):
            own = edges[list(characters)]
            if unscored[own[-1]] == unscored[own[0]]:
                sources.append(source[document.source_sha256])
                places.append(own.tolist())
                texts.append(text)
                names.append(is_name)
    inner = np.full((len(places), max(map(len, places), default=2) - 2), -1, dtype=np.int64)
    for at, row in enumerate(places):
        inner[at, : len(row) - 2] = row[1:-1]
    known = sorted(set(texts))
    kind = {text: at for at, text in enumerate(known)}
    return EntityUnits(
        document=np.array(sources, dtype=np.int64),
        start=np.array([row[0] for row in places], dtype=np.int64),
        past=np.array([row[-1] for row in places], dtype=np.int64),
        inner=inner,
        is_name=np.array(names, dtype=bool),
        kind=np.array([kind[text] for text in texts], dtype=np.int64),
        texts=tuple(known),
    )


def select_names(
    model: LRopeTransformer | Mapping[str, Any],
    name: str | None = None,
    pairs: Sequence[EntityPair] = PAIRS,
    *,
    max_bytes: int = TESTED_BYTES,
    encoding_errors: str = "strict",
    text_column: str = "text",
) -> Selection:
    """Select held-out documents of a corpus, the English test text being its passages that hold a name.

    Args:
        model: The model, loaded from a run; or the run's `data.json`.
        name: A corpus, as in `--data`; by default the model's own.
        pairs: The names.
        max_bytes: The most bytes of each language in each split.
        encoding_errors: See `select_corpus`.
        text_column: See `select_corpus`.
    """
    manifest, how = manifest_of(model), {"encoding_errors": encoding_errors, "text_column": text_column}
    corpus = held_out_corpus(manifest, name, **how)
    limits: Any = {"max_bytes": max_bytes, **how}
    return select_passages(select_corpus(manifest, name, **limits), corpus, pairs, max_bytes)


def select_passages(
    selection: Selection, corpus: Corpus, pairs: Sequence[EntityPair], max_bytes: int
) -> Selection:
    """Return a selection whose English test text is the passages that hold one of the pairs.

    A test split read evenly holds too few names to say anything: 90 in 200 kB of presidents' addresses. Whole
    documents are cut into passages instead, and those with a listed name are taken. What a name is compared
    with then stands in the same passages, and is no sample of the language at large. The other languages, and
    the documents for means, stay as they are.

    Args:
        selection: Of the same corpus; its training text decides which bytes are not scored.
        corpus: As the model may be tested on it (`Corpus.held_out_from`).
        pairs: The names.
        max_bytes: The most bytes of passages, in the order of their own hashes, which mixes documents.
    """
    whole = corpus.documents("test")
    english = where(whole, [one in ENGLISH for one in languages_of(whole)])
    taken, left = [], max_bytes
    for passage in sorted(_holding(english, [pair.text for pair in pairs]), key=lambda one: one.sha256):
        if passage.n_bytes > left:
            break
        taken.append(passage)
        left -= passage.n_bytes
    if not taken:
        return selection
    others = [document for document in selection.test if document.language not in ENGLISH]
    test = tuple(sorted([*taken, *others], key=lambda one: (one.language, one.sha256)))
    masks = shared_shingles(test, () if selection.training is None else selection.training).masks
    return replace(
        selection,
        test=test,
        shared={**selection.shared, "test": masks},
        data=describe(str(selection.data["name"]), test),
    )


def held_out_corpus(manifest: Mapping[str, Any], name: str | None, **how: str) -> Corpus:
    """Load a corpus as the model of `manifest` may be tested on it, and assert that it may."""
    corpus = load_corpus_for(manifest, name, **how).held_out_from(manifest)
    assert_held_out(manifest, corpus.documents("test"))
    return corpus


def _holding(documents: Iterable[Document], names: Sequence[str]) -> Iterator[Document]:
    """Yield the passages with at least one of the names, document by document."""
    for document in documents:
        n = max(1, len(document.text) // PASSAGE)
        for first, last in pairwise([*(PASSAGE * k for k in range(n)), len(document.text)]):
            text = document.text[first:last]
            if any(name in text for name in names):
                yield replace(
                    document,
                    name=f"{document.name}[{first}:{last}]",
                    text=text,
                    words=None,
                    tags=None,
                    cut_from=document.source_sha256,
                )
