"""The decoder against trying every segmentation, and against what was planted."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrope_interp.probes.boundaries.words import Runs, best_token_threshold, token_counts, word_lengths
from lrope_interp.probes.statistics.decoding import Lattice, LogRatio, decode, log_lengths, weighted_lengths


def every_score(words: np.ndarray, boundaries: np.ndarray) -> dict[tuple[bool, ...], float]:
    """Score every segmentation of one run, by its gaps; words longer than any are left out."""
    n, found = len(boundaries), {}
    for cuts in itertools.product([False, True], repeat=n - 1):
        ends = [*np.flatnonzero(cuts).tolist(), n - 1]
        starts = [0, *(end + 1 for end in ends[:-1])]
        if all(end - start < len(words) for start, end in zip(starts, ends, strict=True)):
            found[cuts] = sum(
                words[end - start, end % words.shape[1]] + boundaries[end]
                for start, end in zip(starts, ends, strict=True)
            )
    return found


@pytest.mark.parametrize("seed", range(40))
def test_the_best_segmentation_is_that_of_trying_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lattice = Lattice(rng.integers(1, 8, rng.integers(1, 5)))
    n, is_alike = int(lattice.sizes.sum()), seed % 2
    words = rng.normal(size=(rng.integers(1, 6), 1 if is_alike else n))
    boundaries = rng.normal(size=n)
    scores, ends = lattice.best_scores(words, boundaries), lattice.best_ends(words, boundaries)
    margins = lattice.margins(np.broadcast_to(words, (len(words), n)))
    for stop in np.cumsum(lattice.sizes).tolist():
        own = slice(stop - lattice.sizes[np.cumsum(lattice.sizes) == stop][0], stop)
        part = words if is_alike else words[:, own]
        tried = every_score(part, boundaries[own])
        assert scores[stop - 1] == pytest.approx(max(tried.values()))
        assert tried[tuple(ends[own][:-1].tolist())] == pytest.approx(max(tried.values()))
        assert ends[stop - 1]
        plain = every_score(part, np.zeros(own.stop - own.start))
        for gap in range(own.stop - own.start - 1 if len(words) > 1 else 0):
            best = [max(score for cuts, score in plain.items() if cuts[gap] is has) for has in (True, False)]
            assert margins[own][gap] == pytest.approx(best[0] - best[1])


numbers = st.one_of(st.floats(-3, 3), st.sampled_from([-math.inf, math.inf, math.nan, 0.0]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(numbers, max_size=6), min_size=1, max_size=4), st.lists(numbers, min_size=1, max_size=4)
)
def test_no_other_decoding_is_better_whatever_is_certain_unknown_or_impossible(
    runs: list[list[float]], lengths: list[float]
) -> None:
    n_gaps = np.array([len(run) for run in runs])
    called = decode(n_gaps, np.array([one for run in runs for one in run], dtype=float), np.array(lengths))
    assert called.shape == (n_gaps.sum(),)

    def plain(numbers: list[float]) -> np.ndarray:
        return np.clip(np.nan_to_num(np.array(numbers), nan=0, posinf=1e6, neginf=-1e6), -1e6, 1e6)

    at = 0
    for run in runs:
        tried = every_score(plain(lengths)[:, None], np.append(plain(run), 0.0))
        best = max(tried.values())
        assert tried[tuple(called[at : at + len(run)].tolist())] == pytest.approx(best, abs=1e-6)
        at += len(run)


def test_what_cannot_be_a_boundary_is_none_and_what_must_be_is_one() -> None:
    lengths = np.log([0.5, 0.3, 0.2])
    ratio = np.array([-math.inf, 0.0, math.inf, math.nan, -math.inf])
    called = decode(np.array([5]), ratio, lengths)
    assert not called[0]
    assert called[2]
    assert not called[4]
    # Six characters do not fit into words of three without a boundary: then the least evil.
    assert decode(np.array([5]), np.full(5, -math.inf), lengths).sum() == 1
    assert decode(np.zeros(0, dtype=np.int64), np.zeros(0), lengths).shape == (0,)
    assert decode(np.zeros(3, dtype=np.int64), np.zeros(0), lengths).shape == (0,), "runs of one character"


def test_the_length_prior_alone_is_an_exact_dynamic_programme() -> None:
    lengths = np.log([0.1, 0.55, 0.25, 0.1])
    for n in range(1, 15):
        best = [0.0]
        for end in range(1, n + 1):
            best.append(max(best[end - k] + lengths[k - 1] for k in range(1, min(end, 4) + 1)))
        called = decode(np.array([n - 1]), np.zeros(n - 1), lengths)
        sizes = np.diff(np.flatnonzero(np.concatenate([[True], called, [True]])))
        assert lengths[sizes - 1].sum() == pytest.approx(best[n])


def test_log_ratios_leave_the_base_rate_out() -> None:
    values = np.repeat([0, 1], [600, 400])
    is_boundary = np.concatenate([np.arange(600) < 60, np.arange(400) < 240])
    ratio = LogRatio.of(values, is_boundary)
    wanted = [math.log((60 / 300) / (540 / 700)), math.log((240 / 300) / (160 / 700))]
    np.testing.assert_allclose(ratio.at(np.array([0, 1])), wanted, atol=0.02)
    rng = np.random.default_rng(0)
    truth = rng.random(40_000) < 0.3
    noisy = rng.normal(size=40_000) + 1.5 * truth
    at = np.linspace(-1, 2.5, 20)  # of two normal distributions it is a line
    np.testing.assert_allclose(LogRatio.of(noisy, truth).at(at), 1.5 * at - 1.5**2 / 2, atol=0.3)
    folded = LogRatio.of(np.abs(noisy - 0.75), truth)
    assert np.abs(folded.at(np.array([0.1, 1.0, 2.0]))).max() < 0.25, "as likely on either side"


@pytest.mark.parametrize("kind", [False, True])
def test_a_class_that_never_occurs_leaves_finite_ratios(kind: bool) -> None:
    for values in (np.zeros(0), np.zeros(7), np.arange(50.0)):
        ratio = LogRatio.of(values, np.full(len(values), kind))
        assert np.isfinite(ratio.at(np.array([-1e9, 3.0, 1e9]))).all()


def test_lengths_are_counted_smoothed_and_sum_to_one() -> None:
    found = log_lengths(np.array([1, 1, 2, 5]))
    assert np.exp(found).sum() == pytest.approx(1)
    assert (np.exp(found)[[0, 1, 4]] > 0.2).all()
    assert (np.exp(found)[[2, 3]] < 0.05).all()
    assert np.isfinite(found).all()
    assert len(log_lengths(np.array([100, 1]))) == 64
    assert np.exp(log_lengths(np.ones(5, dtype=np.int64))).tolist() == [1]


def test_without_weight_lengths_leave_each_gap_to_itself() -> None:
    lengths = log_lengths(np.array([1, 2, 2, 2, 3, 3, 2, 2, 1]))
    base = 1 / (np.arange(1, 4) * np.exp(lengths)).sum()
    ratio = np.random.default_rng(0).normal(scale=2, size=9)
    log_length = weighted_lengths(np.append(lengths, np.full(8, -50.0)), 0.0)
    alone = ratio + math.log(base / (1 - base)) > 0
    np.testing.assert_array_equal(decode(np.array([9]), ratio, log_length), alone)
    np.testing.assert_allclose(weighted_lengths(lengths, 1.0), lengths)
    assert np.isfinite(weighted_lengths(np.zeros(1), 0.0)).all()


def planted(seed: int, n_runs: int = 300) -> tuple[Runs, np.ndarray, np.ndarray]:
    """Runs of words of 1 to 3 characters, and a noisy sign of where they begin."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(4, 9, n_runs)  # words
    lengths = rng.choice([1, 2, 3], p=[0.1, 0.7, 0.2], size=int(sizes.sum()))
    is_end = np.zeros(int(lengths.sum()), dtype=bool)
    is_end[np.cumsum(lengths) - 1] = True
    run = np.repeat(np.repeat(np.arange(n_runs), sizes), lengths)
    is_inside = np.append(run[1:] == run[:-1], False)
    truth, document = is_end[is_inside], run[is_inside]
    return Runs.of(document, np.flatnonzero(is_inside)), truth, truth + rng.normal(scale=0.6, size=len(truth))


def f1(runs: Runs, called: np.ndarray, truth: np.ndarray) -> float:
    hits, n_called, n_true = (int(one.sum()) for one in token_counts(runs, called, truth))
    return 2 * hits / (n_called + n_true)


def test_a_noisy_indicator_is_decoded_better_than_it_is_cut() -> None:
    dev, dev_truth, dev_signal = planted(1)
    test, truth, signal = planted(2)
    cut = signal >= best_token_threshold(dev, dev_signal, dev_truth)
    lengths = log_lengths(word_lengths(dev, dev_truth))
    decoded = decode(test.sizes, LogRatio.of(dev_signal, dev_truth).at(signal), lengths)
    prior = decode(test.sizes, np.zeros(len(signal)), lengths)
    assert f1(test, decoded, truth) > f1(test, cut, truth) + 0.1 > f1(test, prior, truth) + 0.1


@pytest.mark.parametrize("seed", range(6))
def test_the_token_threshold_is_the_best_of_trying_all(seed: int) -> None:
    runs, truth, signal = planted(seed, n_runs=12)
    signal = np.round(signal, 1) if seed % 2 else signal
    tried = {cut: f1(runs, signal >= cut, truth) for cut in [*np.unique(signal).tolist(), math.inf]}
    found = best_token_threshold(runs, signal, truth)
    assert tried[found] == max(tried.values())


def test_no_signal_calls_nothing_where_nothing_is_a_boundary() -> None:
    runs = Runs.of(np.zeros(4, dtype=int), np.arange(1, 5))
    assert best_token_threshold(runs, np.arange(4.0), np.zeros(4, dtype=bool)) == math.inf
    assert word_lengths(runs, np.array([False, True, False, False])).tolist() == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("n_runs", [1, 50, 150_000])
def test_a_million_gaps_are_decoded_in_ten_seconds(n_runs: int) -> None:
    rng = np.random.default_rng(0)
    n_gaps = np.bincount(rng.integers(0, n_runs, 1_000_000), minlength=n_runs)
    lengths = log_lengths(np.minimum(rng.geometric(0.3, 10_000), 20))
    start = time.process_time()
    decode(n_gaps, rng.normal(size=1_000_000), lengths)
    assert time.process_time() - start < 10
