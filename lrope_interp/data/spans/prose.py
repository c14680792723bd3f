"""Spans of prose that its marks tell: entities by tags, titles, topics, clauses and sentences.

Every function takes one document and returns (first character, character past the last, concept).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import Document
from lrope_interp.data.labels.kinds import paragraph_starts, sentence_starts
from lrope_interp.data.labels.words import given_names, runs
from lrope_interp.data.sources import installed
from lrope_interp.data.spans.typed import (
    OTHER,
    Span,
    inner_marks,
    is_whole,
    matched_stretches,
    punctuation,
    word_spans,
)

Typed = tuple[int, int, str]
TAGS = {
    "nr": "person",
    "ns": "place",
    "nt": "organisation",
    "nz": "proper_noun",
    "t": "time",
    "m": "number",
    "i": "idiom",
}
"""What tags of the PKU standard stand for."""

CLAUSE, TITLE = "clause", "title"
_CLAUSE_ENDS = ",.;:!?…，．。；：！？｡､"
_LEAST_CLAUSE_WORDS = 2
_LEAST_HAN_CHARACTERS = 4
_MOST_CLAUSE_CHARACTERS = 60
_WORDS_PER_TOPIC_DOCUMENT = 20
_LEAST_LETTERS = 4
_FIRST_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"(?:\[\d+:\d+\])+\Z")
_DISAMBIGUATION = re.compile(r" \([^()]*\)\Z")


def entities(document: Document) -> list[Typed]:
    """Return all tagged words that have a letter, mark or number, a surname and its given name as one."""
    assert document.words is not None
    assert document.tags is not None
    is_word = (character_kinds(document.text) & Kind.WORD) != 0
    given = set(given_names(document.words, document.tags))
    found: list[Typed] = []
    for (start, end), tag in zip(document.words, document.tags, strict=True):
        if start in given:
            start = found.pop()[0]
        if is_word[start:end].any():
            found.append((start, end, TAGS.get(tag, OTHER)))
    return [row for row in found if is_whole(document, *row[:2])]


def titles(document: Document) -> list[Typed]:
    """Return the titles of other articles in a text, the longest of those that begin at a place.

    An article mostly begins with its own title, which its place alone would tell from other words.
    """
    own = _DISAMBIGUATION.sub("", _PIECE.sub("", document.name))
    found = list(_titles_in(document.text))
    ends = [(0, 1), (len(document.text) - 1, len(document.text))]
    kept = [
        (start, end)
        for start, end in found
        if start > 0 and is_whole(document, start, end) and document.text[start:end] != own
    ]
    others = matched_stretches(document, kept, avoided=[*found, *ends])
    return [(*span, TITLE) for span in kept] + [(*span, OTHER) for span in others]


def topics(document: Document) -> list[Typed]:
    """Return up to 20 words of at least four letters, chosen by the hash of the document."""
    assert document.topic is not None
    words = [
        (start, end)
        for start, end in word_spans(document).tolist()
        if end - start >= _LEAST_LETTERS
        and document.text[start:end].isalpha()
        and is_whole(document, start, end)
    ]
    random = np.random.default_rng(int(document.sha256[:16], 16))
    chosen = random.permutation(len(words))[:_WORDS_PER_TOPIC_DOCUMENT]
    return [(*words[at], document.topic) for at in sorted(chosen.tolist())]


def clauses(document: Document) -> list[Typed]:
    """Return clauses, and each moved by about half its length, so that it crosses a punctuation mark."""
    words = word_spans(document)
    is_inner = np.concatenate([[False], inner_marks(document.text), [False]])
    starts, ends = (words[~is_inner[words[:, side] + side], side] for side in (0, 1))
    is_han = (character_kinds(document.text) & Kind.HAN) != 0
    is_mark, is_paragraph = punctuation(document.text), _paragraph_ends(document.text)
    counts = [np.concatenate([[0], np.cumsum(one)]) for one in (is_mark, is_paragraph)]
    found: dict[Span, Span] = {}
    for start, end in _stretches(document, is_mark | is_paragraph):
        if _is_clause(start, end, words, bool(is_han[start:end].any())):
            for first, past in _moved((start, end), starts, ends):
                n_marks, n_paragraphs = (int(one[past] - one[first]) for one in counts)
                if (
                    n_marks
                    and not n_paragraphs
                    and found.setdefault((first, past), (start, end)) == (start, end)
                ):
                    break
    return [(*span, CLAUSE) for span in found.values()] + [(*span, OTHER) for span in found]


def phrases(document: Document) -> list[Span]:
    """Return the stretches between any punctuation marks: commas, brackets, quotes and dashes as well."""
    return _stretches(document, punctuation(document.text) | _paragraph_ends(document.text))


def clause_units(document: Document) -> list[Span]:
    """Return the stretches between commas and stronger marks; brackets, quotes and 、 part nothing."""
    is_end = np.array([character in _CLAUSE_ENDS for character in document.text], dtype=bool)
    return _stretches(document, (is_end & punctuation(document.text)) | _paragraph_ends(document.text))


def sentences(document: Document) -> list[Span]:
    """Return sentences (see `sentences`), without the white space behind them."""
    starts = np.flatnonzero(sentence_starts(document)[0]).tolist()
    spans = [(a, a + len(document.text[a:b].rstrip())) for a, b in pairwise([*starts, len(document.text)])]
    is_cut = document.cut_from is not None
    return [(start, end) for start, end in (spans[:-1] if is_cut else spans) if end > start]


def _titles_in(text: str) -> Iterator[Span]:
    """Yield the titles in a text from left to right; none overlaps another."""
    known = _title_index()
    past = 0
    for word in _FIRST_WORD.finditer(text):
        for title in known.get(word.group(), ()) if word.start() >= past else ():
            end = word.start() + len(title)
            if text.startswith(title, word.start()) and not _is_word(text[end : end + 1]):
                yield word.start(), end
                past = end
                break


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


@lru_cache(maxsize=1)
def _title_index() -> dict[str, list[str]]:
    """Return the titles of two words or more by their first word, the longest first."""
    index: defaultdict[str, list[str]] = defaultdict(list)
    for title in {_DISAMBIGUATION.sub("", title) for title in installed.wiki_titles()}:
        first = _FIRST_WORD.match(title)
        if first and len(title.split()) > 1:
            index[first.group()].append(title)
    return {word: sorted(found, key=lambda title: (-len(title), title)) for word, found in index.items()}


def _paragraph_ends(text: str) -> Bool[np.ndarray, " n_characters"]:
    """Mark the white space right before a paragraph."""
    is_end = np.zeros(len(text), dtype=bool)
    is_end[[start - 1 for start in paragraph_starts(text, is_whole=False)]] = True
    return is_end


def _stretches(document: Document, is_border: Bool[np.ndarray, " n_characters"]) -> list[Span]:
    """Return what lies between borders, from its first to its last letter, mark or number."""
    at_words = np.flatnonzero(character_kinds(document.text) & Kind.WORD)
    between = np.array(
        [span for span in runs(~is_border) if is_whole(document, *span)], dtype=np.int64
    ).reshape(-1, 2)
    first, past = np.searchsorted(at_words, between).T
    has_word = past > first
    ends = zip(at_words[first[has_word]].tolist(), at_words[past[has_word] - 1].tolist(), strict=True)
    return [(start, last + 1) for start, last in ends]


def _is_clause(start: int, end: int, words: Int64[np.ndarray, "n 2"], has_han: bool) -> bool:
    """Return whether a stretch is long enough, and not too long, for a clause."""
    n_words = int(np.searchsorted(words[:, 1], end, side="right") - np.searchsorted(words[:, 0], start))
    is_enough = end - start >= _LEAST_HAN_CHARACTERS if has_han else n_words >= _LEAST_CLAUSE_WORDS
    return is_enough and end - start <= _MOST_CLAUSE_CHARACTERS


def _moved(
    span: Span, starts: Int64[np.ndarray, " n_starts"], ends: Int64[np.ndarray, " n_ends"]
) -> Iterator[Span]:
    """Yield a stretch moved by about half to the right, then to the left, where it holds part of itself."""
    start, end = span
    half = (end - start) / 2
    for by in (half, -half):
        first, past = _nearest(starts, start + by), _nearest(ends, end + by)
        if (start < first < end < past) if by > 0 else (first < start < past < end):
            yield first, past


def _nearest(places: Int64[np.ndarray, " n"], place: float) -> int:
    """Return the one of some rising places that is nearest, the first of two."""
    at = int(np.searchsorted(places, place))
    around = places[max(0, at - 1) : at + 1].tolist()
    return min(around, key=lambda one: abs(one - place))
