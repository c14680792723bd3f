"""Spans and words for the tests of concept probes: made up, seeded, in documents of a few words."""

from __future__ import annotations

import hashlib

import numpy as np

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.concepts.spans import SpanSample

SYLLABLES = ("ba", "de", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu")


def words(number: int, n_words: int = 12, n_types: int = 60) -> Document:
    """Return a document of words that are drawn from `n_types`, each of two or three syllables."""
    rng = np.random.default_rng([5, number])
    vocabulary = np.random.default_rng(0)
    known = ["".join(vocabulary.choice(SYLLABLES, size=2 + at % 2)) for at in range(n_types)]
    return Document(f"words-{number}", " ".join(rng.choice(known, size=n_words)), "made up", "en")


def word_rows(document: Document) -> list[tuple[int, int]]:
    """Return where the words of a document are."""
    found, at = [], 0
    for word in document.text.split(" "):
        found.append((at, at + len(word)))
        at += len(word) + 1
    return found


def random_by_type(text: str, n: int = 2, seed: int = 0) -> int:
    """Return a label that is random, but one for each lexical type."""
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()[0] % n


def spans_by(documents: list[Document] | tuple[Document, ...], label, concepts: tuple[str, ...]) -> Spans:
    """Return every word as a span of the concept that `label(document number, text)` counts."""
    return Spans.of(
        [
            (number, start, end, concepts[label(number, document.text[start:end])])
            for number, document in enumerate(documents)
            for start, end in word_rows(document)
        ],
        concepts,
    )


def sample_of(n_documents: int = 60, label=None, concepts: tuple[str, ...] = ("blue", "other")) -> SpanSample:
    """Return all words of some documents; the last third is test."""
    documents = tuple(words(number) for number in range(n_documents))
    spans = spans_by(documents, label or (lambda _, text: random_by_type(text)), concepts)
    return SpanSample("colours", documents, spans, spans.document >= 2 * n_documents // 3)
