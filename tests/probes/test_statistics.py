"""Estimators against scikit-learn and brute force; intervals against a naive bootstrap and the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Ranked, Units, interval
from lrope_interp.probes.statistics.estimates import Estimate, Scoring, over_seeds
from lrope_interp.probes.statistics.ranking import MAX_ROC_POINTS, Curve, Ranking, roc_auc

SCORES = {
    "f1": metrics.f1_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "mcc": metrics.matthews_corrcoef,
}


def sample(seed: int, n: int = 500, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_boundary = rng.random(n) < 0.3
    values = rng.normal(size=n) + is_boundary
    return (np.round(values * levels) if levels else values).astype(np.float32), is_boundary


def curve_of(values: np.ndarray, is_boundary: np.ndarray) -> Curve:
    return Curve.of(Ranking.of(values), is_boundary)


def plain(n: int) -> Scoring:
    """Score without resamples."""
    return Scoring(Units(np.zeros(n, dtype=np.int64), 1, 1, True), None)


def called(values: np.ndarray, is_boundary: np.ndarray, threshold: float) -> dict[str, float]:
    found = plain(len(values)).calls(values >= threshold, is_boundary)
    return {name: one.value for name, one in found.items()}


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn_and_ties_count_one_half(seed: int, levels: int | None) -> None:
    values, is_boundary = sample(seed, n=200, levels=levels)
    curve = curve_of(values, is_boundary)
    assert curve.roc_auc() == pytest.approx(metrics.roc_auc_score(is_boundary, values))
    assert curve.average_precision() == pytest.approx(metrics.average_precision_score(is_boundary, values))
    doubled = 2 * stats.rankdata(values) - len(values) - 1
    assert Ranking.of(values).doubled == pytest.approx(doubled, abs=0)
    for threshold in (-1.0, 0.5, 2.0):
        found = called(values, is_boundary, threshold)
        for name, score in SCORES.items():
            assert found[name] == pytest.approx(score(is_boundary, values >= threshold)), name
    tried = {float(v): metrics.f1_score(is_boundary, values >= v) for v in np.unique(values)}
    assert tried[curve.best_threshold()] == pytest.approx(max(tried.values()))


def test_what_has_nothing_to_divide_by_has_no_score() -> None:
    values, is_boundary = sample(9)
    nothing = called(values, is_boundary, math.inf)
    assert math.isnan(nothing["precision"]) and math.isnan(nothing["mcc"]) and nothing["f1"] == 0
    assert math.isnan(called(values, np.zeros_like(is_boundary), 0.5)["recall"])
    assert math.isnan(plain(len(values)).ratio(values, np.zeros(len(values))).value)
    assert math.isnan(plain(0).mean(values[:0]).value)


def test_the_curve_is_scikit_learns_and_has_few_points() -> None:
    values, is_boundary = sample(5, n=5000)
    false, true = curve_of(values, is_boundary).roc()
    wanted = metrics.roc_curve(is_boundary, values, drop_intermediate=False)
    assert len(false) <= MAX_ROC_POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert set(zip(false, true, strict=True)) <= set(zip(*wanted[:2], strict=True))
    assert np.trapezoid(true, false) == pytest.approx(roc_auc(values, is_boundary), abs=2e-3)
    recall, precision = curve_of(values, is_boundary).precision_recall()
    points = metrics.precision_recall_curve(is_boundary, values)
    assert set(zip(precision, recall, strict=True)) <= set(zip(*points[:2], strict=True))
    assert len(recall) <= MAX_ROC_POINTS and recall[-1] == 1


def test_a_ranking_turned_round_is_that_of_the_negated_values() -> None:
    values, is_boundary = sample(6, levels=2)
    backwards, wanted = Curve.of(Ranking.of(values).reversed(), is_boundary), curve_of(-values, is_boundary)
    assert backwards.roc_auc() == pytest.approx(1 - roc_auc(values, is_boundary))
    assert backwards.average_precision() == wanted.average_precision()
    assert backwards.best_threshold() == wanted.best_threshold()
    assert (Ranking.of(values).group_of[values == values.max()] == 0).all()


@pytest.mark.parametrize("is_boundary", [np.zeros(9, dtype=bool), np.ones(9, dtype=bool), np.zeros(0, bool)])
def test_gaps_of_one_kind_have_no_score(is_boundary: np.ndarray) -> None:
    curve = curve_of(np.arange(float(len(is_boundary))), is_boundary)
    assert all(map(math.isnan, (curve.roc_auc(), curve.average_precision(), curve.best_threshold())))
    assert len(curve.roc()[0]) == len(curve.precision_recall()[0]) == 0


@pytest.mark.parametrize("share", [0.0, 0.07, 0.3, 1.0])
def test_the_prevalence_threshold_calls_the_closest_share_that_ties_allow(share: float) -> None:
    values, is_boundary = sample(8, levels=2)
    shares = {float(v): float((values >= v).mean()) for v in np.unique(values)}
    chosen = curve_of(values, is_boundary).prevalence_threshold(share)
    assert abs(shares[chosen] - share) == pytest.approx(min(abs(x - share) for x in shares.values()))
    assert math.isnan(curve_of(np.zeros(0), np.zeros(0, dtype=bool)).prevalence_threshold(share))


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


def areas_of(values: np.ndarray, is_boundary: np.ndarray, units: Units, boot: Bootstrap) -> np.ndarray:
    return boot.roc_auc(Ranked(Ranking.of(values), units), is_boundary)


def test_a_resample_scores_what_the_drawn_documents_do() -> None:
    values, is_boundary, document, t = clustered(0, n_documents=60, n=50)
    scoring = Scoring(Units.of(document, t), Bootstrap(seed=3, n_resamples=30))
    ranked, calls = scoring.rank(values), values >= 0.7
    found = scoring.calls(calls, is_boundary) | {"roc_auc": scoring.roc_auc(ranked, is_boundary)}
    found |= {"average_precision": scoring.average_precision(ranked, is_boundary)}
    found |= {"mean": scoring.mean(values), "ratio": scoring.ratio(values, is_boundary)}
    wanted = {
        **{name: lambda at, score=score: score(is_boundary[at], calls[at]) for name, score in SCORES.items()},
        "roc_auc": lambda at: metrics.roc_auc_score(is_boundary[at], values[at]),
        "average_precision": lambda at: metrics.average_precision_score(is_boundary[at], values[at]),
        "mean": lambda at: values[at].mean(dtype=float),
        "ratio": lambda at: values[at].sum(dtype=float) / is_boundary[at].sum(),
    }
    every = np.arange(len(values))
    for name, score in wanted.items():
        assert found[name].value == pytest.approx(score(every), abs=1e-6), name
        resampled = found[name].resampled
        assert resampled is not None
        for row, weights in enumerate(Bootstrap(seed=3, n_resamples=30).weights(60).astype(int)):
            drawn = np.concatenate([np.flatnonzero(document == u) for u in np.repeat(np.arange(60), weights)])
            assert resampled[row] == pytest.approx(score(drawn), abs=1e-5), name


def test_coarse_bins_barely_change_the_interval() -> None:
    values, is_boundary, document, t = clustered(1)
    units, boot = Units.of(document, t), Bootstrap()
    fine = Ranked(Ranking.of(values), units, most_bins=10**6)
    coarse = Ranked(Ranking.of(values), units)
    assert fine.n_bins > coarse.n_bins <= 4096
    for statistic in (boot.roc_auc, boot.average_precision):
        assert interval(statistic(coarse, is_boundary)) == pytest.approx(
            interval(statistic(fine, is_boundary)), abs=1e-3
        )


def test_the_interval_is_that_of_a_naive_loop() -> None:
    values, is_boundary, document, t = clustered(2, n_documents=50, n=40)
    fast = areas_of(values, is_boundary, Units.of(document, t), Bootstrap(seed=1))
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
        low, high = interval(areas_of(values, is_boundary, Units.of(document, t), boot))
        covered += low <= truth <= high
        excluded += not low <= 0.5 <= high
    assert 88 <= covered <= 100
    # A planted effect is found, a null is not.
    assert excluded >= 95 if effect else excluded <= 12


def test_signals_that_share_units_share_resamples_so_that_differences_are_paired() -> None:
    values, is_boundary, document, t = clustered(6)
    units, boot = Units.of(document, t), Bootstrap()
    noisy = values + np.random.default_rng(2).normal(scale=0.3, size=len(values)).astype(np.float32)
    scoring = Scoring(units, boot)
    one, two = (scoring.roc_auc(scoring.rank(x), is_boundary) for x in (values, noisy))
    low, high = (one - two).interval
    assert 0 < low < roc_auc(values, is_boundary) - roc_auc(noisy, is_boundary) < high
    assert high - low < 0.5 * np.subtract(*one.interval[::-1])
    assert np.array_equal(one.resampled, areas_of(values, is_boundary, units, Bootstrap()))
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


def test_an_interval_holds_the_middle_95_of_100_resamples_that_have_a_value() -> None:
    assert interval(np.arange(1001) / 1000) == (0.025, 0.975)
    assert interval(np.array([np.nan] + [0.4] * 50 + [0.6] * 50)) == pytest.approx((0.4, 0.6))
    assert all(map(math.isnan, interval(np.array([np.nan] * 10 + [0.5] * 90))))
    assert all(map(math.isnan, interval(np.full(5, np.nan))))


def test_an_estimate_without_a_value_or_resamples_has_no_interval_and_gives_none_to_others() -> None:
    known = Estimate(0.5, np.linspace(0, 1, 1001))
    assert known.row() == {"value": 0.5, "ci_low": 0.025, "ci_high": pytest.approx(0.975)}
    assert known.row("gain") == {"gain": 0.5, "gain_low": 0.025, "gain_high": pytest.approx(0.975)}
    for other in (Estimate(0.2), known - Estimate(0.2), Estimate.mean([known, Estimate(0.2)])):
        assert not math.isnan(other.value) and all(map(math.isnan, other.interval))
    assert all(map(math.isnan, Estimate(math.nan, np.ones(9)).interval))
    two = [known, Estimate(0.2, np.linspace(0, 0.4, 1001))]
    assert Estimate.mean(two).interval == pytest.approx((0.0175, 0.6825))
    redrawn = Estimate.mean(two, is_redrawn=True)
    assert redrawn.value == 0.35 and set(np.unique(redrawn.resampled > 0.7)) == {False, True}


def test_several_seeds_are_given_by_their_mean_and_range_and_one_by_its_interval() -> None:
    seeds = [Estimate(value, np.full(100, 9.0)) for value in (0.1, 0.6, 0.2)]
    assert over_seeds(seeds) == {"value": pytest.approx(0.3), "ci_low": 0.1, "ci_high": 0.6}
    assert over_seeds(seeds[:1]) == {"value": 0.1, "ci_low": 9.0, "ci_high": 9.0}
