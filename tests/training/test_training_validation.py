from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lrope_interp.data import Corpus, CorpusPart, Document, load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.tokenizers import ByteTokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.metrics import nats_per_byte, validation_documents, validation_windows

N_CTX = 16


def document(text: str) -> Document:
    return Document(name="a", text=text, corpus="test", language="und")


def slow_nats(model: LRopeTransformer, text: str) -> float:
    """Score one byte at a time, each in the window that gives it most left context."""
    sequence, stride, total = [256, *text.encode()], N_CTX // 2, 0.0
    for index in range(1, len(sequence)):
        start = 0
        while start + N_CTX <= index:
            start += stride
        with torch.no_grad():
            logits = model(torch.tensor([sequence[start:index]]))
        total -= float(torch.log_softmax(logits[0, -1].double(), -1)[sequence[index]])
    return total


@pytest.mark.parametrize(
    "text", ["a", "fifteen bytes ..", "a longer text, 中文 too, that needs several windows"]
)
def test_nats_per_byte_equals_a_byte_at_a_time(
    make_model: Callable[..., LRopeTransformer], text: str
) -> None:
    model = make_model(n_ctx=N_CTX)
    windows = validation_windows([document(text)], ByteTokenizer(), N_CTX)
    assert windows.n_bytes == len(text.encode())
    expected = slow_nats(model, text) / len(text.encode())
    assert nats_per_byte(model, windows, batch_size=2) == pytest.approx(expected, rel=1e-5)


def test_the_result_is_that_of_all_bytes_together(make_model: Callable[..., LRopeTransformer]) -> None:
    model, texts = make_model(n_ctx=N_CTX), ["short", "and a text of more than one window"]
    windows = validation_windows([document(text) for text in texts], ByteTokenizer(), N_CTX)
    total = sum(slow_nats(model, text) for text in texts)
    expected = total / sum(map(len, texts))
    assert nats_per_byte(model, windows) == pytest.approx(expected, rel=1e-5)


def test_validation_leaves_the_model_in_its_mode(make_model: Callable[..., LRopeTransformer]) -> None:
    model = make_model(n_ctx=N_CTX).train()
    nats_per_byte(model, validation_windows([document("text")], ByteTokenizer(), N_CTX))
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_byte_is_scored_once() -> None:
    windows = validation_windows([document("x" * 100)], ByteTokenizer(), N_CTX)
    assert windows.n_bytes == 100
    assert windows.tokens.shape[1] == N_CTX
    assert windows.is_scored.shape == (len(windows.tokens), N_CTX - 1)
    assert np.all(windows.tokens[-1][1:][windows.is_scored[-1]] == ord("x"))


def test_the_validation_text_is_dev_text_of_the_size_asked_for(
    make_config: Callable[..., TrainConfig],
) -> None:
    corpus = load_corpus(make_config().data)
    documents = validation_documents(corpus, 1500)
    assert documents == validation_documents(corpus, 1500)
    assert 500 <= sum(one.n_bytes for one in documents) <= 1500
    assert {corpus.split_of(one) for one in documents} == {"dev"}


def test_languages_share_the_size_asked_for() -> None:
    parts = tuple(
        CorpusPart(
            one, one, tuple(Document(f"{k}", f"{one} {k} " + "word " * 40, one, one) for k in range(60)), 0.5
        )
        for one in ("en", "zh")
    )
    documents = validation_documents(Corpus("two", parts), 2_000)
    for one in ("en", "zh"):
        assert 500 <= sum(document.n_bytes for document in documents if document.language == one) <= 1_000


def test_without_text_there_is_nothing_to_validate_on() -> None:
    with pytest.raises(LRopeError, match="no held-out text"):
        validation_windows([], ByteTokenizer(), N_CTX)
