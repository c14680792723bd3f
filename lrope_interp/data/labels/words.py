"""Where words begin, by the best reference that a document has, and text without its white space.

Where nobody checked the words of Chinese by hand, jieba is a silver reference: against the gold words of
People's Daily its boundaries reach an F1 of about 0.92, so a score against it measures agreement with jieba
and not with readers.

What is de-spaced remembers where its words were. A character goes if it has the Unicode property White_Space;
nothing else changes. The words are those of a gold segmentation where there is one, and else the maximal runs
of letters, marks and numbers of the text as it was. In a script that puts no space between words, Chinese
above all, such a run is a whole clause: without gold words it says nothing of words there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.alignment import Kind, character_kinds, code_points
from lrope_interp.data.documents import CorpusPart, Document, Grade, unique_documents
from lrope_interp.errors import LRopeError

Words = tuple[tuple[int, int], ...]
_PERSON = "nr"
_LONGEST_SURNAME = 2


def word_starts(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark the first character of every word: gold, or runs of letters, marks and numbers, or jieba's."""
    is_word = _is_word(document)
    if document.words is not None and document.word_grade == "gold":
        return _starts(document.words, is_word), "gold"
    if document.is_despaced:
        raise LRopeError(
            "this text was de-spaced and has no gold words: take the label despaced, the words that its "
            "white space marked"
        )
    is_han = (character_kinds(document.text) & Kind.HAN) != 0
    if not is_han.any() or document.language in ("en", "code"):
        return run_starts(is_word), "rule"
    return run_starts(is_word & ~is_han) | silver_word_starts(document.text, is_han), "silver"


def merged_word_starts(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark gold words, a surname and the given name after it being one word.

    The PKU segmentation cuts a Chinese person's name in two (``江/nr 泽民/nr``), as not every
    standard does. Of adjoining words tagged nr, each second one is taken for the given name of the
    one before, unless that is too long for a surname (more than two characters: a foreign name).
    """
    if document.words is None or document.tags is None:
        raise LRopeError(
            "this text has no part-of-speech tags to tell names by; take the label words, or the corpus "
            "chinese"
        )
    is_start = _starts(document.words, _is_word(document))
    is_start[given_names(document.words, document.tags)] = False
    return is_start, document.word_grade


def despaced_word_starts(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark where words began before the white space was removed."""
    if not document.is_despaced or document.words is None:
        raise LRopeError(
            "this text has its white space; the label despaced is for models of de-spaced text, which "
            "is de-spaced whenever it is read"
        )
    return _starts(document.words, _is_word(document)), document.word_grade


def run_starts(mask: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the first element of every maximal run of True."""
    previous = np.concatenate([[False], mask[:-1]])[: len(mask)]
    return mask & ~previous


def _is_word(document: Document) -> Bool[np.ndarray, " n_characters"]:
    return (character_kinds(document.text) & Kind.WORD) != 0


def _starts(words: Words, is_word: Bool[np.ndarray, " n_characters"]) -> Bool[np.ndarray, " n_characters"]:
    """Mark where a word begins that has at least one letter, mark or number."""
    spans = np.array(words, dtype=np.int64).reshape(-1, 2)
    counts = np.concatenate([[0], np.cumsum(is_word)])
    has_word = counts[spans[:, 1]] > counts[spans[:, 0]]
    is_start = np.zeros(len(is_word), dtype=bool)
    is_start[spans[has_word, 0]] = True
    return is_start


def given_names(words: Words, tags: tuple[str, ...]) -> list[int]:
    """Return where the given names begin that follow a surname."""
    found: list[int] = []
    is_given = False
    for (before, tag_before), (word, tag) in pairwise(zip(words, tags, strict=True)):
        is_pair = tag_before == tag == _PERSON and before[1] == word[0]
        is_given = is_pair and not is_given and before[1] - before[0] <= _LONGEST_SURNAME
        if is_given:
            found.append(word[0])
    return found


@lru_cache(maxsize=1)
def quiet_jieba() -> Any:
    """Return a jieba tokenizer that logs nothing and writes no cache file.

    jieba's own first cut logs to stderr and loads a marshalled cache from the shared temporary
    folder; building its table here (half a second) avoids both.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import jieba
        except ImportError:
            raise LRopeError(
                "words of Chinese text without gold words need the package jieba, which is not "
                'installed: pip install jieba (or: pip install "lrope-interp[corpora]")'
            ) from None
        tokenizer = jieba.Tokenizer()
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


def silver_word_starts(
    text: str, is_han: Bool[np.ndarray, " n_characters"]
) -> Bool[np.ndarray, " n_characters"]:
    """Mark where jieba begins a word, within maximal runs of Chinese characters.

    Args:
        text: Any text.
        is_han: Which of its characters are Chinese; the others are never marked, nor what extends one.
    """
    is_start = np.zeros(len(text), dtype=bool)
    extends = (character_kinds(text) & Kind.EXTENDS) != 0
    for first, stop in runs(is_han):
        # jieba knows no variation selectors and would cut at each.
        characters = first + np.flatnonzero(~extends[first:stop])
        at = 0
        for word in quiet_jieba().cut("".join([text[place] for place in characters.tolist()])):
            is_start[characters[at]] = True
            at += len(word)
        assert at == len(characters), "jieba must return the text that it was given"
    return is_start


def runs(mask: Bool[np.ndarray, " n"]) -> Iterator[tuple[int, int]]:
    """Yield the half-open spans of the maximal runs of True."""
    padded = np.concatenate([[False], mask, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    yield from zip(edges[::2], edges[1::2], strict=True)


def without_space(text: str) -> str:
    """Return a text without its white space."""
    is_kept = (character_kinds(text) & Kind.SPACE) == 0
    return code_points(text)[is_kept].tobytes().decode("utf-32-le")


def despaced(document: Document) -> Document:
    """Return a whole document without its white space; its text may be empty then.

    Gold words move along (those of white space alone go, with their tags); without gold, the runs
    of letters, marks and numbers become its words, with the grade "rule".
    """
    if document.is_despaced:
        return document
    assert document.cut_from is None, "what is cut from a document must be cut after de-spacing"
    kinds = character_kinds(document.text)
    is_kept = (kinds & Kind.SPACE) == 0
    place = np.concatenate([[0], np.cumsum(is_kept)])
    words = document.words if document.words is not None else tuple(runs((kinds & Kind.WORD) != 0))
    spans = place[np.array(words, dtype=np.int64).reshape(-1, 2)]
    is_word = spans[:, 1] > spans[:, 0]
    tags = document.tags
    return replace(
        document,
        text=code_points(document.text)[is_kept].tobytes().decode("utf-32-le"),
        words=tuple(zip(spans[is_word, 0].tolist(), spans[is_word, 1].tolist(), strict=True)),
        tags=None if tags is None else tuple(np.array(tags, dtype=object)[is_word].tolist()),
        is_despaced=True,
        whole=None,
        word_grade="rule" if document.words is None else document.word_grade,
    )


def despaced_part(part: CorpusPart) -> CorpusPart:
    """De-space every document of a part in memory; the empty ones go, and those that are now equal."""
    found = (despaced(document) for document in part.documents)
    documents, n_same = unique_documents(document for document in found if document.text)
    n_removed = part.source.get("n_duplicates_removed", 0) + n_same
    return replace(part, documents=documents, source={**part.source, "n_duplicates_removed": n_removed})
