"""Reference labels (is there a boundary before byte t?) and strata (which gaps are compared)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from lrope_interp.data.alignment import Kind, character_kinds, character_starts
from lrope_interp.data.documents import Document, Grade
from lrope_interp.data.labels.code import code_label
from lrope_interp.data.labels.sentences import sentence_starts
from lrope_interp.data.labels.words import despaced_word_starts, merged_word_starts, word_starts
from lrope_interp.errors import unknown

CODE_LABELS = ("lines", "tokens", "brackets_open", "brackets_close", "scopes")
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
        label: One of `LABELS`. "punctuation": the character is in a Unicode category P*.
            "whitespace": it has the property White_Space. "words": a word starts there, whatever
            precedes it. A word is a gold word that has a letter, mark or number; without gold a
            maximal run of letters, marks and numbers, in which the runs of Chinese characters are
            cut by jieba (not in documents in English or code). Marks, joiners and format characters
            belong to the character before them (UAX 29, WB4). "words_merged": the same gold words
            with Chinese names merged. "despaced": a word started there before the white space was
            removed. "sentences": see `sentences`. "lines", "tokens", "brackets_open",
            "brackets_close", "scopes": see `code_labels`.

    Raises:
        LRopeError: There is no such label, or it cannot be known of this document.
    """
    if label not in _RULES:
        raise unknown("label", label, LABELS)
    is_boundary, grade = _RULES[label](document)
    return GapLabels(_at_bytes(document.text, is_boundary, document.n_bytes), grade)


def default_labels(documents: Iterable[Document]) -> tuple[str, ...]:
    """Return the labels that can be known of at least one of the documents, in the order of `LABELS`.

    No document is labelled: code that does not parse, or a missing jieba, shows only later.
    """
    documents = tuple(documents)
    spaced = [document for document in documents if not document.is_despaced]
    has_code = any(document.language == "code" for document in spaced)
    is_known = {
        "punctuation": True,
        "whitespace": bool(spaced),
        "words": bool(spaced) or any(document.word_grade == "gold" for document in documents),
        "words_merged": any(document.tags is not None for document in documents),
        "despaced": len(spaced) < len(documents),
        "sentences": any(document.language != "code" for document in spaced),
        **dict.fromkeys(CODE_LABELS, has_code),
    }
    return tuple(label for label in LABELS if is_known[label])


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
        "han": is_han & follows_han & ((kinds & Kind.EXTENDS) == 0),
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


_RULES: Mapping[str, Rule] = {
    "punctuation": _punctuation,
    "whitespace": _whitespace,
    "words": word_starts,
    "words_merged": merged_word_starts,
    "despaced": despaced_word_starts,
    "sentences": sentence_starts,
    **{name: code_label(name) for name in CODE_LABELS},
}
LABELS = tuple(_RULES)


def _at_bytes(
    text: str, mask: Bool[np.ndarray, " n_characters"], n_bytes: int
) -> Bool[np.ndarray, " n_bytes"]:
    """Put a mark on a character onto its first byte."""
    out = np.zeros(n_bytes, dtype=bool)
    out[character_starts(text)] = mask
    return out
