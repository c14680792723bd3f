"""A text of loud and quiet words, and a model whose head steps further on letters of one kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import OTHER, Row, Spans
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.concepts.erasing import MarkedText

MakeModel = Callable[..., LRopeTransformer]

LOUD, QUIET = "ABCDE", "abcde"
LAYER, N_CTX, EOS = 1, 64, 256
OPTIONS = {"family": "voices", "layers": (LAYER,)}


def spoken(number: int, n_words: int) -> tuple[Document, list[Row]]:
    """Words in capitals and not, one after the other at random, and the spans of both."""
    rng = np.random.default_rng([3, number])
    words, rows, at = [], [], 0
    for _ in range(n_words):
        is_loud = rng.random() < 0.4
        word = "".join(rng.choice(list(LOUD if is_loud else QUIET), size=int(rng.integers(2, 6))))
        rows.append((number, at, at + len(word), "loud" if is_loud else OTHER))
        words.append(word)
        at += len(word) + 1
    return Document(f"d-{number}", " ".join(words), "made up", "en"), rows


def marked(first: int, n: int, n_words: int) -> MarkedText:
    texts = [spoken(number, n_words) for number in range(first, first + n)]
    rows = [(document - first, *row) for _, own in texts for document, *row in own]
    return MarkedText(tuple(document for document, _ in texts), Spans.of(rows, ("loud", OTHER)))


FIT, TEST = marked(0, 12, n_words=30), marked(100, 22, n_words=10)
IS_SCORED = np.ones(len(TEST.concept_at), dtype=bool)


def planted(make_model: MakeModel, letters: str) -> LRopeTransformer:
    """Three layers; in layer 1 the head steps further on letters: it reads one direction of embeddings."""
    made = make_model(n_layers=3, n_ctx=N_CTX)
    with torch.no_grad():
        made.embed.W_E[:, 0] *= 0.1
        made.embed.W_E[[ord(one) for one in letters], 0] += 3.0
        for name in ("attn.W_O", "mlp.W_out"):
            made.get_parameter(f"blocks.0.{name}").mul_(0.1)
        head = made.blocks[LAYER].increments
        head.ln.w.fill_(1.0)
        for parameter in (head.W_in, head.b_in, head.W_out):
            parameter.zero_()
        head.W_in[0, 0], head.W_out[0, 0] = 2.0, 0.5
        head.b_out.fill_(-2.0)
    return made


def row(frame: pd.DataFrame, arm: str, metric: str, concept: str = "loud") -> pd.Series:
    rows = frame[(frame["arm"] == arm) & (frame["metric"] == metric) & (frame["concept"] == concept)]
    assert len(rows) == 1
    return rows.iloc[0]


def value(frame: pd.DataFrame, arm: str, metric: str, concept: str = "loud") -> float:
    return float(row(frame, arm, metric, concept)["value"])


def assert_close(one: pd.DataFrame, other: pd.DataFrame, atol: float = 0.0) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=atol)
