"""What is read of spans and of the text around them, against loops written by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from concept_samples import spans_by, word_rows, words

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import lay_out
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.concepts.features import (
    PLACES,
    WINDOW,
    Sources,
    SpanTokens,
    byte_window,
    ngrams,
    position_features,
    static_position,
    token_window,
    window_features,
)
from lrope_interp.probes.concepts.reads import normalised, structure_signals

DOCUMENTS = (words(1), Document("mixed", "中国 is 😀 far", "made up", "und"), words(2))


@pytest.fixture(scope="module")
def captured(make_model: Callable[..., LRopeTransformer]) -> Captured:
    return lay_out(make_model(), DOCUMENTS, (0, 1), predictions=False)


@pytest.fixture(scope="module")
def spans() -> Spans:
    return spans_by(DOCUMENTS, lambda *_: 0, ("word",))


@pytest.fixture(scope="module")
def values(captured: Captured) -> np.ndarray:
    return np.random.default_rng(0).random((2, 1, captured.n_bytes)).astype(np.float32)


def by_hand(document: Document, start: int, end: int) -> tuple[int, int]:
    return len(document.text[:start].encode()), len(document.text[:end].encode())


def test_window_features_agree_with_a_loop(captured: Captured, spans: Spans, values: np.ndarray) -> None:
    found = window_features(values, SpanTokens.of(captured, spans))
    rows = [(number, *span) for number, one in enumerate(DOCUMENTS) for span in word_rows(one)]
    assert found.shape == (len(rows), 2, len(PLACES))
    for row, (number, start, end) in enumerate(rows):
        own = values[:, 0, captured.span(number)]
        first, past = by_hand(DOCUMENTS[number], start, end)
        places = [*range(first - WINDOW, first), first, None, past - 1, *range(past, past + WINDOW)]
        for column, place in enumerate(places):
            if place is None:
                wanted = own[:, first:past].mean(axis=1)
            elif 0 <= place < own.shape[1]:
                wanted = own[:, place]
            else:
                wanted = values[:, 0].mean(axis=1)
            np.testing.assert_allclose(found[row, :, column], wanted, rtol=1e-5)


def test_distances_across_are_sums_of_the_gaps_between_first_and_last_token(
    captured: Captured, spans: Spans, values: np.ndarray
) -> None:
    inv_freq = np.array([1.0, 0.1])
    found = position_features(values, SpanTokens.of(captured, spans), inv_freq)
    rows = [(number, *span) for number, one in enumerate(DOCUMENTS) for span in word_rows(one)]
    for row, (number, start, end) in enumerate(rows):
        own = values[1, 0, captured.span(number)].astype(np.float64)
        first, past = by_hand(DOCUMENTS[number], start, end)
        across = own[first + 1 : past].sum()
        before = own[max(first - WINDOW, 0) + 1 : first + 1].sum()
        after = own[past : min(past + WINDOW, len(own))].sum()
        wanted = [across, across / max(past - first - 1, 1), before, after, *np.cos(across * inv_freq)]
        np.testing.assert_allclose(found[row, 1], wanted, rtol=1e-5, atol=1e-6)


def test_the_byte_window_is_what_stands_in_and_around_a_span(captured: Captured, spans: Spans) -> None:
    at = SpanTokens.of(captured, spans)
    window = token_window(captured.tokens.astype(np.int64), at, nothing=257)
    emoji = spans.texts(DOCUMENTS).index("😀")
    assert window[emoji].tolist() == [*b"is ", *"😀😀".encode(), *b" fa"]
    short = spans.texts(DOCUMENTS).index("is")
    assert window[short, 3:11].tolist() == [*b"is", 257, 257, 257, 257, *b"is"]
    assert window[0, :3].tolist() == [257, 257, 257]
    one_hot = byte_window(captured.tokens.astype(np.int64), at, 257)
    assert one_hot.shape == (len(spans), 14 * 258)
    assert (np.asarray(one_hot.sum(axis=1)) == 14).all()


def test_ngrams_know_the_train_spans_alone_and_see_capitals() -> None:
    texts = ["ab", "abc", "xyz", "ab"]
    found = ngrams(texts, np.array([True, True, False, True])).toarray()
    assert found[2].sum() == 0
    assert (found[0] == found[3]).all()
    assert (found[0] != found[1]).any()
    capitals = ngrams(["Rose", "rose", "ROSE"], np.array([True, True, False])).toarray()
    assert (capitals[0] != capitals[1]).any() and (capitals[1] != capitals[2]).any()


def test_static_position_counts_from_the_document_and_the_line(captured: Captured) -> None:
    documents = (Document("a", "one\ntwo three", "made up", "en"),)
    found = static_position(documents, Spans.of([(0, 8, 13, "word")], ("word",)))
    t, _, share, in_line, _, n_bytes, *_ = found[0].tolist()
    assert (t, in_line, n_bytes) == (8, 4, 5)
    assert share == pytest.approx(8 / 13)


N_TRAIN = 4


@pytest.fixture(scope="module")
def sources(make_model: Callable[..., LRopeTransformer]) -> Sources:
    model = make_model()
    captured = lay_out(model, [words(n, 6) for n in range(6)], (), predictions=False)
    rng = np.random.default_rng(0)
    reads = {
        "increments": rng.random((2, 1, captured.n_bytes)).astype(np.float32),
        "predictions": rng.random((1, 3, captured.n_bytes)).astype(np.float32),
        "random_head": rng.random((2, 5, captured.n_bytes)).astype(np.float32),
    }
    untrained = ({"increments": reads["increments"][::-1].copy()},)
    return Sources(captured, (0, 1), reads, untrained, None, np.zeros(0, dtype=np.int64), model.cfg)


def test_signals_are_those_of_the_test_bytes_in_units_of_the_train_mean(sources: Sources) -> None:
    captured, read = sources.captured, sources.model["increments"]
    start = int(captured.offsets[N_TRAIN])
    test, signals = structure_signals(sources, N_TRAIN)
    assert [one.name for one in test.documents] == ["words-4", "words-5"]
    assert test.byte.tobytes() == b"".join(one.encoded for one in test.documents)
    wanted = read[..., start:] / read[..., :start].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(signals[""], wanted, rtol=1e-5)
    np.testing.assert_allclose(signals["surprisal"][0, 0], sources.model["predictions"][0, 1, start:])
    assert [one.shape for one in signals["random_head"]] == [wanted.shape] * 5


def test_tables_hold_the_means_of_the_train_text(sources: Sources) -> None:
    captured = sources.captured
    start = int(captured.offsets[N_TRAIN])
    own = normalised(sources, N_TRAIN)
    _, signals = structure_signals(sources, N_TRAIN)
    train, test = captured.byte[:start], captured.byte[start:]
    for at, byte in enumerate(test):
        alike = np.flatnonzero(train == byte)
        if len(alike):
            np.testing.assert_allclose(signals["lexical"][1, 0, at], own[1, 0, alike].mean(), rtol=1e-5)
    document, edge = captured.document, int(captured.offsets[N_TRAIN + 1]) - start
    found = {
        at: [
            t
            for t in range(2, start)
            if (train[t - 2 : t + 1] == test[at - 2 : at + 1]).all() and document[t - 2] == document[t]
        ]
        for at in range(2, edge)
    }
    known = {at: alike for at, alike in found.items() if len(alike) > 1}
    assert known
    for at, alike in known.items():
        np.testing.assert_allclose(signals["ngram_3"][0, 0, at], own[0, 0, alike].mean(), rtol=1e-5)
