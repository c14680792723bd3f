"""Where words begin, by the best reference that a document has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.labels.segmentation import silver_word_starts
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
            "this text has its white space; the label despaced is for models of train --despaced, whose text "
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
