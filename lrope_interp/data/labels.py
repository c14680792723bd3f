"""Reference labels (is there a boundary before byte t?) and strata (which gaps are compared)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.alignment import Kind, character_kinds, character_starts
from lrope_interp.data.documents import Document
from lrope_interp.data.segmentation import silver_word_starts
from lrope_interp.errors import unknown

Grade = Literal["rule", "gold", "silver"]
STRATA = ("bytes", "characters", "nondelimiter", "han")


@dataclass(frozen=True)
class GapLabels:
    """One label of one document.

    Attributes:
        is_boundary: For every byte t, whether the label holds for what starts there. Only first
            bytes of characters can hold. Byte 0 may, but the gap before it is never scored.
        grade: "rule" follows from the text, "gold" was checked by hand, "silver" is another
            program's opinion.
    """

    is_boundary: Bool[np.ndarray, " n_bytes"]
    grade: Grade


def label_gaps(document: Document, label: str) -> GapLabels:
    """Label every gap of a document.

    Args:
        document: Any text, gold words optional.
        label: "punctuation": the character is in a Unicode category P*. "whitespace": it has the
            property White_Space. "words": a word starts there, whatever precedes it. A word is a
            gold word that has a letter, mark or number; without gold a maximal run of letters,
            marks and numbers, in which the runs of Chinese characters are cut by jieba (not in
            documents in English or code).
    """
    if label not in _RULES:
        raise unknown("label", label, LABELS)
    is_boundary, grade = _RULES[label](document)
    return GapLabels(_at_bytes(document.text, is_boundary, document.n_bytes), grade)


def stratum_masks(document: Document) -> dict[str, Bool[np.ndarray, " n_bytes"]]:
    """Return which gaps belong to each stratum; the gap before byte 0 belongs to none.

    "bytes" has every gap; "characters" those before a character; "nondelimiter" those before a
    character that is neither punctuation nor white space; "han" those between two Chinese
    characters. Base rates differ between them, so scores must not be compared across strata.
    """
    kinds = character_kinds(document.text)
    is_han = (kinds & Kind.HAN) != 0
    follows_han = np.concatenate([[False], is_han[:-1]])[: len(is_han)]
    at_characters = {
        "characters": np.ones(len(kinds), dtype=bool),
        "nondelimiter": (kinds & (Kind.PUNCTUATION | Kind.SPACE)) == 0,
        "han": is_han & follows_han,
    }
    n_bytes = document.n_bytes
    masks = {"bytes": np.ones(n_bytes, dtype=bool)}
    masks |= {name: _at_bytes(document.text, mask, n_bytes) for name, mask in at_characters.items()}
    for mask in masks.values():
        mask[:1] = False
    return masks


Rule = Callable[[Document], tuple[Bool[np.ndarray, " n_characters"], Grade]]


def _punctuation(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark characters of the categories P*."""
    return (character_kinds(document.text) & Kind.PUNCTUATION) != 0, "rule"


def _whitespace(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark characters with the property White_Space."""
    return (character_kinds(document.text) & Kind.SPACE) != 0, "rule"


def _words(document: Document) -> tuple[Bool[np.ndarray, " n_characters"], Grade]:
    """Mark the first character of every word, by the best reference that the document has."""
    kinds = character_kinds(document.text)
    is_word = (kinds & Kind.WORD) != 0
    if document.words is not None:
        return _gold_starts(document.words, is_word), "gold"
    is_han = (kinds & Kind.HAN) != 0
    if not is_han.any() or document.language in ("en", "code"):
        return _run_starts(is_word), "rule"
    return _run_starts(is_word & ~is_han) | silver_word_starts(document.text, is_han), "silver"


_RULES: Mapping[str, Rule] = {"punctuation": _punctuation, "whitespace": _whitespace, "words": _words}
LABELS = tuple(_RULES)


def _gold_starts(
    words: tuple[tuple[int, int], ...], is_word: Bool[np.ndarray, " n_characters"]
) -> Bool[np.ndarray, " n_characters"]:
    """Mark where a gold word begins that has at least one letter, mark or number."""
    spans = np.array(words, dtype=np.int64).reshape(-1, 2)
    counts = np.concatenate([[0], np.cumsum(is_word)])
    has_word = counts[spans[:, 1]] > counts[spans[:, 0]]
    is_start = np.zeros(len(is_word), dtype=bool)
    is_start[spans[has_word, 0]] = True
    return is_start


def _run_starts(mask: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Mark the first element of every maximal run of True."""
    previous = np.concatenate([[False], mask[:-1]])[: len(mask)]
    return mask & ~previous


def _at_bytes(
    text: str, mask: Bool[np.ndarray, " n_characters"], n_bytes: int
) -> Bool[np.ndarray, " n_bytes"]:
    """Put a mark on a character onto its first byte."""
    out = np.zeros(n_bytes, dtype=bool)
    out[character_starts(text)] = mask
    return out
