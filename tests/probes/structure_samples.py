"""Made-up text with units that nothing in it marks, and signals with or without an effect planted there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.concepts.units import StructuredText
from lrope_interp.probes.statistics.bootstrap import Bootstrap


def captured_of(documents: Sequence[Document], n_layers: int = 1) -> Captured:
    """Lay documents out as bytes that were read by no model."""
    byte = np.frombuffer(b"".join(one.encoded for one in documents), dtype=np.uint8)
    offsets = np.cumsum([0, *(one.n_bytes for one in documents)]).astype(np.int64)
    nothing = np.zeros(0, dtype=np.float32)
    return Captured(
        tuple(documents),
        offsets,
        byte,
        tuple(range(n_layers)),
        np.ones((n_layers, 1, len(byte)), dtype=np.float32),
        nothing,
        nothing,
        nothing,
        byte.astype(np.uint16),
        np.arange(len(byte), dtype=np.int64),
    )


def text_of(
    documents: Sequence[Document],
    units: Mapping[str, Sequence[tuple[int, int, int]]],
    signals: Mapping[str, np.ndarray | Sequence[np.ndarray]],
    n_resamples: int = 50,
) -> StructuredText:
    """Put text, spans (document, first character, past the last one) and signals together."""
    captured = captured_of(documents)
    spans = {name: Spans.of([(*one, name) for one in rows], [name]) for name, rows in units.items()}
    is_scored = np.ones(captured.n_bytes, dtype=bool)
    return StructuredText(captured, signals, spans, is_scored, Bootstrap(0, n_resamples))


def signal(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Shape one number a byte as a signal of one layer and head."""
    return np.asarray(values, dtype=np.float32)[None, None]


def unmarked(
    n_documents: int, seed: int = 0, language: str = "en"
) -> tuple[list[Document], dict[str, list[tuple[int, int, int]]]]:
    """Make words of two or three letters in phrases of two to four words, sentences of three phrases.

    No mark shows where a phrase ends. In "zh" the letters are Chinese and no spaces stand between words.
    """
    rng = np.random.default_rng([seed, len(language), ord(language[0])])
    letters, space = ("abcdefgh", " ") if language == "en" else ("中国人民银行今天", "")
    documents, units = [], {"word": [], "phrase": [], "sentence": []}
    for number in range(n_documents):
        text = ""
        for _ in range(5):
            sentence = len(text)
            for _ in range(3):
                phrase = len(text)
                for _ in range(int(rng.integers(2, 5))):
                    word = "".join(rng.choice(list(letters), size=int(rng.integers(2, 4))))
                    units["word"].append((number, len(text), len(text) + len(word)))
                    text += word + space
                units["phrase"].append((number, phrase, len(text) - len(space)))
            units["sentence"].append((number, sentence, len(text) - len(space)))
        documents.append(Document(f"{language}-{number}", text, "made up", language))
    return documents, units


def planted(
    documents: Sequence[Document],
    starts: Sequence[tuple[int, int, int]],
    extra: float,
    seed: int = 0,
) -> np.ndarray:
    """Return noise around 1 with `extra` added where spans begin."""
    captured = captured_of(documents)
    values = np.random.default_rng(seed).uniform(0.5, 1.5, captured.n_bytes)
    first, _ = Spans.of([(*one, "x") for one in starts], ["x"]).bytes_of(documents)
    values[first] += extra
    return signal(values)


def both_languages(
    n_documents: int, seed: int = 0
) -> tuple[list[Document], dict[str, list[tuple[int, int, int]]]]:
    """Put the English and the Chinese kind of `unmarked` one after the other."""
    documents, units = unmarked(n_documents, seed)
    more, their_units = unmarked(n_documents, seed, "zh")
    shifted = {k: [(d + n_documents, a, b) for d, a, b in rows] for k, rows in their_units.items()}
    return [*documents, *more], {name: units[name] + shifted[name] for name in units}
