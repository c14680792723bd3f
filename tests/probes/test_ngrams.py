"""Means by n-gram against slow, obvious counting; and the control that jieba is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from probe_samples import chinese, english
from text_samples import ODD, held_out, made_up, training

from lrope_interp.data import Document, label_gaps
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries import text_controls as jieba_control
from lrope_interp.probes.boundaries.text_controls import jieba_signal
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import byte_mean, ngram_means

N_LAYERS = 3


def pretend(documents: Sequence[Document], seed: int = 0, width: int = 1, n_heads: int = 2) -> Captured:
    """Make up increments; layer 0 follows the byte. Tokens are `width` bytes, fewer at a document's end."""
    raw = np.frombuffer(b"".join(one.encoded for one in documents), dtype=np.uint8)
    offsets = np.cumsum([0] + [one.n_bytes for one in documents]).astype(np.int64)
    starts = [np.arange(a, b, width) for a, b in pairwise(offsets.tolist())]
    token_starts = np.concatenate([np.zeros(0, dtype=np.int64), *starts])
    increments = np.random.default_rng(seed).random((N_LAYERS, n_heads, len(raw)), dtype=np.float32)
    increments[0] = np.linspace(1, 2, 256, dtype=np.float32)[raw]
    none = np.zeros(0, dtype=np.float32)
    tokens = raw[token_starts].astype(np.uint16) * (1 if width == 1 else 200)
    layers = tuple(range(N_LAYERS))
    return Captured(
        tuple(documents), offsets, raw, layers, increments, none, none, none, tokens, token_starts
    )


def by_hand(fit: Sequence[Captured], at: Captured, length: int, layer: int, head: int) -> np.ndarray:
    seen: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for one in fit:
        for grams, place in grams_of(one, 5):
            for gram in grams:
                seen[gram].append(float(one.increments[layer, head, place]))
    out = []
    for grams, _ in grams_of(at, length):
        known = [gram for gram in grams if len(seen.get(gram, ())) >= (2 if len(gram) > 1 else 1)]
        out.append(np.mean(seen[known[-1]] if known else [x for v in singles(seen) for x in v]))
    return np.repeat(out, np.diff(at.token_starts, append=at.n_bytes))


def singles(seen: dict[tuple[int, ...], list[float]]) -> list[list[float]]:
    return [values for gram, values in seen.items() if len(gram) == 1]


def grams_of(one: Captured, longest: int) -> list[tuple[list[tuple[int, ...]], int]]:
    """Return for each token the strings that end there, short ones first, and its first byte."""
    found, offsets, tokens = [], one.token_offsets, one.tokens.tolist()
    for first, stop in pairwise(offsets.tolist()):
        for t in range(first, stop):
            sizes = range(1, min(longest, t - first + 1) + 1)
            grams = [tuple(tokens[t + 1 - size : t + 1]) for size in sizes]
            found.append((grams, int(one.token_starts[t])))
    return found


@pytest.mark.parametrize("width", [1, 3])
def test_means_are_those_of_counting_by_hand(width: int) -> None:
    fit = [pretend(training(3), 1, width), pretend([english(7), *ODD], 2, width)]
    at = pretend(held_out(), 3, width)
    signals = ngram_means(fit, is_shared=False)
    assert not np.array_equal(signals[0].function(at)[1:], signals[1].function(at)[1:])
    assert [signal.name for signal in signals] == ["ngram_2", "ngram_3", "ngram_4", "ngram_5"]
    for length, signal in enumerate(signals, start=2):
        values = signal.function(at)
        assert values.shape == at.increments.shape
        assert values.dtype == np.float32
        for layer, head in ((1, 0), (2, 1)):
            np.testing.assert_allclose(values[layer, head], by_hand(fit, at, length, layer, head), rtol=1e-5)


def test_a_string_seen_once_gives_way_to_a_shorter_one() -> None:
    fit = pretend([made_up(0, "abxab"), made_up(1, "cb")])
    values = ngram_means([fit], is_shared=False)[0].function(pretend([made_up(2, "cbab")], 9))
    step = fit.increments[1, 0]
    np.testing.assert_allclose(values[1, 0, 1], step[[1, 4, 6]].mean(), rtol=1e-6)
    np.testing.assert_allclose(values[1, 0, 3], step[[1, 4]].mean(), rtol=1e-6)


@pytest.mark.parametrize("is_shared", [False, True])
def test_layer_0_is_exactly_the_byte_mean(is_shared: bool) -> None:
    fit, at = pretend([english(0)]), pretend(held_out(), 4)
    expected = np.asarray(byte_mean(fit, is_shared).function(at))
    assert not np.isin(at.byte, fit.byte).all(), "some bytes must be unseen"
    for signal in ngram_means([fit, pretend([english(1)], 8)], is_shared):
        values = signal.function(at)
        assert np.array_equal(values[0], expected[0])
        assert np.array_equal(values, expected) == is_shared


def test_the_order_of_documents_changes_only_rounding() -> None:
    documents = training(3)
    one = pretend(documents)
    turned = pretend(documents[::-1])
    spans = [one.span(k) for k in range(len(documents))][::-1]
    turned.increments[:] = np.concatenate([one.increments[..., span] for span in spans], axis=-1)
    at = pretend(held_out(), 5)
    for first, second in zip(ngram_means([one], False), ngram_means([turned], False), strict=True):
        np.testing.assert_allclose(first.function(at), second.function(at), rtol=1e-6)


def test_no_text_is_refused_and_nothing_gives_nothing() -> None:
    assert ngram_means([], is_shared=False) == []
    with pytest.raises(LRopeError, match="need captured text"):
        ngram_means([pretend([])], is_shared=False)


def test_jieba_marks_its_silver_words() -> None:
    documents = [chinese(0, is_gold=False), *ODD]
    signal, notes = jieba_signal(documents)
    assert signal is not None
    assert not notes
    assert signal.is_rule
    captured = pretend(documents)
    values, characters = signal.function(captured), "".join(one.text for one in documents)
    words = np.concatenate([label_gaps(one, "words").is_boundary for one in documents])
    is_han = np.repeat(["一" <= one <= "鿿" for one in characters], [len(one.encode()) for one in characters])
    assert np.array_equal(values, words & is_han)


def test_jieba_reads_each_document_once_and_is_no_signal_without_chinese_or_the_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> None:
        raise LRopeError("jieba is not installed")

    signal, _ = jieba_signal([chinese(0)])
    assert signal is not None
    first = signal.function(pretend([chinese(0), english(0)]))
    monkeypatch.setattr(jieba_control, "silver_word_starts", None)
    again = signal.function(pretend([english(0), chinese(0)]))
    assert np.array_equal(again[english(0).n_bytes :], first[: chinese(0).n_bytes])
    assert jieba_signal([english(0)]) == (None, [])
    monkeypatch.setattr(jieba_control, "quiet_jieba", missing)
    signal, notes = jieba_signal([chinese(0)])
    assert signal is None
    assert "not installed" in notes[0]
