"""The control that is another program's opinion: where jieba begins a Chinese word."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document, character_starts
from lrope_interp.data.alignment import Kind, character_kinds
from lrope_interp.data.labels.words import quiet_jieba, silver_word_starts
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import Signal


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
                known[document.sha256] = _word_starts(document)
        parts = [known[document.sha256] for document in captured.documents]
        return np.concatenate([np.zeros(0, dtype=bool), *parts]).astype(np.int64)

    return Signal("jieba", starts, is_rule=True, is_per_character=True), []


def _word_starts(document: Document) -> Bool[np.ndarray, " n_bytes"]:
    is_start = np.zeros(document.n_bytes, dtype=bool)
    is_start[character_starts(document.text)] = silver_word_starts(document.text, _is_han(document.text))
    return is_start


def _is_han(text: str) -> Bool[np.ndarray, " n_characters"]:
    return (character_kinds(text) & Kind.HAN) != 0
