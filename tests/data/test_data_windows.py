"""Training windows and scoring windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import (
    Corpus,
    CorpusPart,
    Document,
    WindowSampler,
    scoring_windows,
    training_stream,
    training_streams,
)
from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import EOS_ID, ByteTokenizer

STREAMS = [("low", np.arange(0, 100, dtype=np.uint16)), ("high", np.arange(1000, 5000, dtype=np.uint16))]


def test_documents_are_joined_and_enclosed_by_eos_in_any_order() -> None:
    documents = [Document(str(k), text, "toy", "en") for k, text in enumerate(["ab", "中", "xyz"])]
    stream = training_stream(documents, ByteTokenizer())
    assert np.array_equal(stream, training_stream(documents[::-1], ByteTokenizer()))
    assert stream[0] == stream[-1] == EOS_ID
    inner = b"".join(
        bytes(piece[1:].astype(np.uint8)) for piece in np.split(stream, np.flatnonzero(stream == 256))
    )
    assert sorted(inner) == sorted("ab中xyz".encode())
    assert np.count_nonzero(stream == EOS_ID) == 4


def test_a_stream_holds_training_documents_only() -> None:
    documents = tuple(Document(str(k), f"<{k}>", "toy", "en") for k in range(400))
    corpus = Corpus("toy", (CorpusPart("toy", "en", documents, 0.5),))
    [(name, stream)] = training_streams(corpus, ByteTokenizer())
    text = ByteTokenizer().decode(stream.tolist())
    assert name == "toy"
    assert all(one.text in text for one in corpus.documents("train"))
    assert not any(one.text in text for split in ("fit", "dev", "test") for one in corpus.documents(split))


def test_a_batch_is_a_pure_function_of_seed_and_step() -> None:
    first, second = (WindowSampler(STREAMS, 8, 4, seed=3) for _ in range(2))
    late = second.batch(7)
    for step in range(7):
        first.batch(step)
    assert np.array_equal(first.batch(7), late)
    assert not np.array_equal(first.batch(7), first.batch(8))
    assert not np.array_equal(late, WindowSampler(STREAMS, 8, 4, seed=4).batch(7))


def test_the_first_batch_is_pinned() -> None:
    """A run that is resumed with another NumPy must see the same windows."""
    assert WindowSampler(STREAMS, 4, 3, seed=0).batch(0)[:, 0].tolist() == PINNED


PINNED = [4324, 3, 1885]


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_every_window_is_a_stretch_of_one_part(seed: int, step: int) -> None:
    batch = WindowSampler(STREAMS, 8, 4, seed).batch(step)
    assert batch.dtype == np.int64
    assert batch.shape == (4, 9)
    assert (np.diff(batch, axis=1) == 1).all()
    assert (((batch < 100) | (batch >= 1000)).all(axis=1)).all()


def test_parts_are_drawn_equally_and_offsets_reach_both_ends() -> None:
    sampler = WindowSampler([("low", np.arange(10)), ("high", np.arange(100, 1100))], 8, 100, seed=0)
    firsts = np.concatenate([sampler.batch(step)[:, 0] for step in range(100)])
    assert np.mean(firsts < 100) == pytest.approx(0.5, abs=0.02)
    assert set(firsts[firsts < 100].tolist()) == {0, 1}
    assert firsts.max() >= 1085


def test_epochs_count_what_is_read_of_each_part() -> None:
    epochs = WindowSampler(STREAMS, 10, 4, seed=0).epochs(50)
    assert epochs == {"low": 10.0, "high": 0.25}


def test_a_part_shorter_than_a_window_is_refused_with_the_numbers() -> None:
    with pytest.raises(LRopeError, match=r"low has 100 tokens.*n_ctx \+ 1 = 101"):
        WindowSampler(STREAMS, 100, 4, seed=0)
    WindowSampler(STREAMS, 99, 4, seed=0).batch(0)


@pytest.mark.parametrize(
    "wrong", [{"n_ctx": 0}, {"batch_size": 0}, {"seed": -1}, {"seed": 2**64}, {"streams": []}]
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    good = {"streams": STREAMS, "n_ctx": 8, "batch_size": 4, "seed": 0}
    with pytest.raises(LRopeError):
        WindowSampler(**(good | wrong))  # pyright: ignore[reportArgumentType]
    for least in ({"n_ctx": 1}, {"batch_size": 1}, {"seed": 2**64 - 1}):
        sampler = WindowSampler(**(good | least))  # pyright: ignore[reportArgumentType]
        assert sampler.batch(0).shape == (least.get("batch_size", 4), least.get("n_ctx", 8) + 1)


@given(st.integers(0, 70), st.integers(2, 13))
def test_every_byte_is_scored_once_with_the_most_left_context(n_tokens: int, n_ctx: int) -> None:
    windows = scoring_windows(n_tokens, n_ctx)
    starts = range(0, n_tokens, n_ctx // 2)
    scored: dict[int, int] = {}
    for window in windows:
        assert window.start in starts
        assert window.stop == min(window.start + n_ctx, n_tokens)
        assert window.start < window.first_scored  # its prediction is read one index earlier
        for index in range(window.first_scored, window.stop):
            assert index not in scored
            scored[index] = index - window.start
    best = {
        index: max(index - start for start in starts if start <= index < start + n_ctx)
        for index in range(1, n_tokens)
    }
    assert scored == best


def test_scoring_needs_two_tokens_of_context() -> None:
    with pytest.raises(LRopeError, match="at least 2"):
        scoring_windows(10, 1)
