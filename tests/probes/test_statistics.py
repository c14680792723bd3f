"""Estimators against scikit-learn and brute force; intervals against a naive bootstrap and the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from benchmarks.trust_statistics import coverage
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Histograms, Units, interval
from lrope_interp.probes.statistics.ranking import (
    MAX_ROC_POINTS,
    Confusion,
    Curve,
    Ranking,
    roc_auc,
)


def sample(seed: int, n: int = 500, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_boundary = rng.random(n) < 0.3
    values = rng.normal(size=n) + is_boundary
    return (np.round(values * levels) if levels else values).astype(np.float32), is_boundary


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed: int, levels: int | None) -> None:
    values, is_boundary = sample(seed, levels=levels)
    assert roc_auc(values, is_boundary) == pytest.approx(metrics.roc_auc_score(is_boundary, values))
    assert Curve.of(values, is_boundary).average_precision() == pytest.approx(
        metrics.average_precision_score(is_boundary, values)
    )
    for threshold in (-1.0, 0.0, 0.5, 2.0):
        called = values >= threshold
        assert Confusion.at(values, is_boundary, threshold).f1() == pytest.approx(
            metrics.f1_score(is_boundary, called)
        )
        assert Confusion.at(values, is_boundary, threshold).mcc() == pytest.approx(
            metrics.matthews_corrcoef(is_boundary, called)
        )


def test_a_tie_counts_one_half_by_brute_force() -> None:
    values, is_boundary = sample(3, n=60, levels=1)
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0 for a in values[is_boundary] for b in values[~is_boundary]
    ]
    assert roc_auc(values, is_boundary) == pytest.approx(np.mean(pairs))


def test_the_best_threshold_is_that_of_trying_every_value() -> None:
    values, is_boundary = sample(4, levels=3)
    tried = {float(v): metrics.f1_score(is_boundary, values >= v) for v in np.unique(values)}
    chosen = Curve.of(values, is_boundary).best_threshold()
    assert tried[chosen] == pytest.approx(max(tried.values()))
    assert Confusion.at(values, is_boundary, chosen).f1() == pytest.approx(max(tried.values()))


def test_the_curve_is_scikit_learns_and_has_few_points() -> None:
    values, is_boundary = sample(5, n=5000)
    false, true = Curve.of(values, is_boundary).roc()
    wanted = metrics.roc_curve(is_boundary, values, drop_intermediate=False)
    assert len(false) <= MAX_ROC_POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert set(zip(false, true, strict=True)) <= set(zip(*wanted[:2], strict=True))
    assert np.trapezoid(true, false) == pytest.approx(roc_auc(values, is_boundary), abs=2e-3)


def test_ranking_again_gives_the_same_curve() -> None:
    values, is_boundary = sample(6, levels=2)
    again = Curve.of(values, is_boundary, Ranking.of(values))
    assert again.roc_auc() == roc_auc(values, is_boundary)
    backwards = Curve.of(-values, is_boundary, Ranking.of(values).reversed())
    assert backwards.roc_auc() == pytest.approx(1 - again.roc_auc())
    assert backwards.average_precision() == Curve.of(-values, is_boundary).average_precision()
    assert backwards.best_threshold() == Curve.of(-values, is_boundary).best_threshold()
    assert (Ranking.of(values).group_of[values == values.max()] == 0).all()


@pytest.mark.parametrize("is_boundary", [np.zeros(9, dtype=bool), np.ones(9, dtype=bool)])
def test_gaps_of_one_kind_have_no_score(is_boundary: np.ndarray) -> None:
    values = np.arange(9.0)
    assert math.isnan(roc_auc(values, is_boundary))
    assert math.isnan(Curve.of(values, is_boundary).average_precision())
    assert math.isnan(Curve.of(values, is_boundary).best_threshold())
    assert len(Curve.of(values, is_boundary).roc()[0]) == 0


def test_nothing_at_all_has_no_score() -> None:
    assert math.isnan(roc_auc(np.zeros(0), np.zeros(0, dtype=bool)))


def test_a_label_scores_one_against_itself_and_a_shuffle_about_one_half() -> None:
    _, is_boundary = sample(7, n=20_000)
    own = is_boundary.astype(np.float32)
    assert roc_auc(own, is_boundary) == 1
    assert Curve.of(own, is_boundary).average_precision() == 1
    shuffled = np.random.default_rng(0).permutation(own)
    assert roc_auc(shuffled, is_boundary) == pytest.approx(0.5, abs=0.02)


def clustered(
    seed: int, n_documents: int = 60, n: int = 200, effect: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Values that shift with their document, and whose document shifts the effect too."""
    rng = np.random.default_rng([9, seed])
    document = np.repeat(np.arange(n_documents), n)
    is_boundary = rng.random(n_documents * n) < 0.25
    strength = effect + 0.6 * rng.normal(size=n_documents)[document]
    values = rng.normal(size=n_documents * n) + strength * is_boundary
    return values.astype(np.float32), is_boundary, document, np.tile(np.arange(n), n_documents)


def test_resampling_histograms_is_resampling_documents() -> None:
    values, is_boundary, document, t = clustered(0, n_documents=60, n=50)
    units = Units.of(document, t)
    boot = Bootstrap(seed=3, n_resamples=40)
    histograms = Histograms.of(Ranking.of(values), units)
    fast = boot.roc_auc(histograms, is_boundary), boot.average_precision(histograms, is_boundary)
    for row, weights in enumerate(boot.weights(60).astype(int)):
        drawn = np.concatenate([np.flatnonzero(document == u) for u in np.repeat(np.arange(60), weights)])
        assert fast[0][row] == pytest.approx(
            metrics.roc_auc_score(is_boundary[drawn], values[drawn]), abs=1e-6
        )
        assert fast[1][row] == pytest.approx(
            metrics.average_precision_score(is_boundary[drawn], values[drawn]), abs=1e-5
        )
        called = values >= 0.7
        f1 = boot.of_calls(units, called, is_boundary)["f1"][row]
        assert f1 == pytest.approx(metrics.f1_score(is_boundary[drawn], called[drawn]), abs=1e-6)


def test_coarse_bins_barely_change_the_interval() -> None:
    values, is_boundary, document, t = clustered(1)
    units, boot = Units.of(document, t), Bootstrap()
    fine = Histograms.of(Ranking.of(values), units, n_bins=10**6)
    coarse = Histograms.of(Ranking.of(values), units)
    assert fine.n_bins > coarse.n_bins <= 4096
    for statistic in (boot.roc_auc, boot.average_precision):
        assert interval(statistic(coarse, is_boundary)) == pytest.approx(
            interval(statistic(fine, is_boundary)), abs=1e-3
        )


def test_the_interval_is_that_of_a_naive_loop() -> None:
    values, is_boundary, document, t = clustered(2, n_documents=50, n=40)
    fast = Bootstrap(seed=1).roc_auc(Histograms.of(Ranking.of(values), Units.of(document, t)), is_boundary)
    rng = np.random.default_rng(5)
    naive = []
    for _ in range(600):
        drawn = np.concatenate([np.flatnonzero(document == u) for u in rng.integers(0, 50, size=50)])
        naive.append(roc_auc(values[drawn], is_boundary[drawn]))
    width = np.std(naive)
    # Quantiles of 600 draws err by about 0.1 of the width at the tails.
    assert interval(fast) == pytest.approx(interval(np.array(naive)), abs=0.35 * width)
    assert fast.std() == pytest.approx(width, rel=0.1)
    assert fast.mean() == pytest.approx(np.mean(naive), abs=0.2 * width)


@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_nineteen_of_twenty_intervals_hold_the_truth(effect: float) -> None:
    """100 data sets of 60 documents; a right 95 % interval covers fewer than 88 in 1 of 400 tries."""
    truth = roc_auc(*clustered(10**6, n_documents=20_000, n=20, effect=effect)[:2])
    covered = excluded = 0
    boot = Bootstrap(n_resamples=500)
    for seed in range(100):
        values, is_boundary, document, t = clustered(seed, n=100, effect=effect)
        resampled = boot.roc_auc(Histograms.of(Ranking.of(values), Units.of(document, t)), is_boundary)
        low, high = interval(resampled)
        covered += low <= truth <= high
        excluded += not low <= 0.5 <= high
    assert 88 <= covered <= 100
    # A planted effect is found, a null is not.
    assert excluded >= 95 if effect else excluded <= 12


def test_signals_that_share_units_share_resamples() -> None:
    values, is_boundary, document, t = clustered(4)
    units, boot = Units.of(document, t), Bootstrap()
    first = boot.roc_auc(Histograms.of(Ranking.of(values), units), is_boundary)
    noisy = values + np.random.default_rng(1).normal(scale=0.05, size=len(values)).astype(np.float32)
    second = boot.roc_auc(Histograms.of(Ranking.of(noisy), units), is_boundary)
    assert (first - second).std() < 0.15 * first.std()
    assert np.array_equal(first, Bootstrap().roc_auc(Histograms.of(Ranking.of(values), units), is_boundary))
    assert not np.array_equal(Bootstrap(seed=1).weights(60), boot.weights(60))


def test_units_are_documents_or_else_blocks() -> None:
    t = np.tile(np.arange(10_000), 60)
    many = Units.of(np.repeat(np.arange(60), 10_000), t)
    assert (many.count, many.is_document, many.has_interval, many.word) == (60, True, True, "document")
    few = Units.of(np.repeat(np.arange(7), 10_000), t[:70_000])
    assert (few.count, few.n_documents, few.is_document, few.has_interval) == (21, 7, False, True)
    assert few.word == "block of 4,096 bytes"
    assert (np.bincount(few.index)[:3] == [4096, 4096, 10_000 - 8192]).all()
    assert not Units.of(np.repeat(np.arange(6), 10_000), t[:60_000]).has_interval
    assert not Units.of(np.zeros(10**6, dtype=int), np.arange(10**6)).has_interval, "a single document"
    assert Units.of(np.arange(5000), np.zeros(5000, dtype=int)).count == 1024


def test_resamples_without_a_value_are_left_out_but_not_hidden() -> None:
    values = np.array([np.nan] + [0.4] * 50 + [0.6] * 50)
    assert interval(values) == pytest.approx((0.4, 0.6))
    assert all(map(math.isnan, interval(np.array([np.nan] * 10 + [0.5] * 90))))
    assert all(map(math.isnan, interval(np.full(5, np.nan))))


def test_resampled_ratios_are_those_of_the_drawn_documents() -> None:
    values, is_boundary, document, t = clustered(5, n_documents=60, n=30)
    units, boot, called = Units.of(document, t), Bootstrap(seed=2, n_resamples=25), values >= 0.7
    fast = boot.of_calls(units, called, is_boundary)
    means = boot.ratio(units, values, np.ones(len(values)))
    for row, weights in enumerate(boot.weights(60).astype(int)):
        drawn = np.concatenate([np.flatnonzero(document == u) for u in np.repeat(np.arange(60), weights)])
        truth, calls = is_boundary[drawn], called[drawn]
        assert fast["mcc"][row] == pytest.approx(metrics.matthews_corrcoef(truth, calls))
        assert fast["precision"][row] == pytest.approx(metrics.precision_score(truth, calls))
        assert fast["recall"][row] == pytest.approx(metrics.recall_score(truth, calls))
        assert fast["f1"][row] == pytest.approx(metrics.f1_score(truth, calls))
        assert means[row] == pytest.approx(values[drawn].mean(), abs=1e-6)


def test_a_ratio_over_nothing_is_unknown() -> None:
    _, is_boundary, document, t = clustered(5, n_documents=60, n=30)
    units, boot, none = Units.of(document, t), Bootstrap(n_resamples=5), np.zeros(1800, dtype=bool)
    assert np.isnan(boot.of_calls(units, none, is_boundary)["precision"]).all()
    assert np.isnan(boot.of_calls(units, is_boundary, none)["recall"]).all()
    assert np.isnan(boot.of_calls(units, none, is_boundary)["mcc"]).all()


def test_an_interval_holds_the_middle_95_of_100() -> None:
    resampled = np.arange(1001) / 1000
    assert interval(resampled) == (0.025, 0.975)


def test_the_interval_of_a_difference_is_paired() -> None:
    values, is_boundary, document, t = clustered(6)
    units, boot = Units.of(document, t), Bootstrap()
    one = boot.roc_auc(Histograms.of(Ranking.of(values), units), is_boundary)
    noisy = values + np.random.default_rng(2).normal(scale=0.3, size=len(values)).astype(np.float32)
    two = boot.roc_auc(Histograms.of(Ranking.of(noisy), units), is_boundary)
    low, high = interval(one - two)
    assert 0 < low < roc_auc(values, is_boundary) - roc_auc(noisy, is_boundary) < high
    assert high - low < 0.5 * np.subtract(*interval(one)[::-1])


@pytest.mark.parametrize("share", [0.0, 0.07, 0.3, 1.0])
def test_the_prevalence_threshold_calls_the_closest_share_that_ties_allow(share: float) -> None:
    values, is_boundary = sample(8, levels=2)
    shares = {float(v): float((values >= v).mean()) for v in np.unique(values)}
    chosen = Curve.of(values, is_boundary).prevalence_threshold(share)
    assert abs(shares[chosen] - share) == pytest.approx(min(abs(x - share) for x in shares.values()))
    assert math.isnan(Curve.of(np.zeros(0), np.zeros(0, dtype=bool)).prevalence_threshold(share))


def test_precision_and_recall_are_those_of_scikit_learn() -> None:
    values, is_boundary = sample(9)
    found = Confusion.at(values, is_boundary, 0.5)
    assert found.precision() == pytest.approx(metrics.precision_score(is_boundary, values >= 0.5))
    assert found.recall() == pytest.approx(metrics.recall_score(is_boundary, values >= 0.5))
    assert math.isnan(Confusion.at(values, is_boundary, math.inf).precision())
    assert math.isnan(Confusion.at(values, np.zeros_like(is_boundary), 0.5).recall())


def test_doubled_ranks_are_scipys() -> None:
    values, _ = sample(10, levels=2)
    assert Ranking.of(values).doubled == pytest.approx(2 * stats.rankdata(values) - len(values) - 1, abs=0)


def test_intervals_of_a_hundred_documents_hold_the_true_auc() -> None:
    """A right 95 % interval covers fewer than 88 of 100 in 1 of 400 tries."""
    assert coverage(100, n_resamples=500) >= 0.88
