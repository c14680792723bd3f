"""Signals of structure: aligned with the test documents, and tables that know the train text alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from concept_samples import words

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import lay_out
from lrope_interp.probes.concepts.features import Sources
from lrope_interp.probes.concepts.reads import normalised, structure_signals

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
