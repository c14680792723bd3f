"""Documents and selections for the probes: small, seeded, in two languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lrope_interp.data import Document
from lrope_interp.probes.capture.selection import Selection

WORDS = ("the", "peace", "of", "nations", "Congress", "is", "a", "treaty", "1824", "and", "über")
HAN = "中国人民银行今天发布新闻报道经济发展"


def english(number: int, n_words: int = 60) -> Document:
    rng = np.random.default_rng([1, number])
    ends = rng.choice([" ", ", ", ". ", "\n"], p=[0.8, 0.1, 0.08, 0.02], size=n_words)
    words = rng.choice(WORDS, size=n_words)
    return Document(f"en-{number}", "".join(w + e for w, e in zip(words, ends, strict=True)), "made up", "en")


def chinese(number: int, n_words: int = 40, *, is_gold: bool = True) -> Document:
    rng = np.random.default_rng([2, number])
    words, spans, at = [], [], 0
    for _ in range(n_words):
        length = int(rng.integers(1, 4))
        word = "".join(rng.choice(list(HAN), size=length)) if rng.random() < 0.85 else "，"
        words.append(word)
        spans.append((at, at + len(word)))
        at += len(word)
    gold = tuple(spans) if is_gold else None
    return Document(f"zh-{number}", "".join(words), "made up", "zh", gold)


def select(
    documents: Callable[[int], Sequence[Document]], n: int = 14, training: Sequence[Document] = ()
) -> Selection:
    """Give fit, dev and test `n` documents of each kind that `documents` makes of a number."""
    splits = {
        split: [one for number in range(n) for one in documents(number + 1000 * place)]
        for place, split in enumerate(("fit", "dev", "test"))
    }
    return Selection.of("made up", splits, training=training)
