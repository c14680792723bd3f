"""Estimators against scikit-learn and brute force; intervals against a naive bootstrap and the truth."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from lrope_interp.probes.statistics.bootstrap import Bootstrap, Ranked, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring, holm, over_seeds, simultaneous
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
    return Scoring(Units(np.zeros(n, dtype=np.int64), 1, 1), None)


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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values that shift with their document, and whose document shifts the effect too."""
    rng = np.random.default_rng([9, seed])
    document = np.repeat(np.arange(n_documents), n)
    is_boundary = rng.random(n_documents * n) < 0.25
    strength = effect + 0.6 * rng.normal(size=n_documents)[document]
    values = rng.normal(size=n_documents * n) + strength * is_boundary
    return values.astype(np.float32), is_boundary, document


def interval(resampled: np.ndarray, n_units: int = 60) -> tuple[float, float]:
    """Return the interval of the middle of some resamples."""
    return Estimate(float(np.nanmean(resampled)), resampled, n_units).interval


def areas_of(values: np.ndarray, is_boundary: np.ndarray, units: Units, boot: Bootstrap) -> np.ndarray:
    return boot.roc_auc(Ranked(Ranking.of(values), units), is_boundary)


def test_a_resample_scores_what_the_drawn_documents_do() -> None:
    values, is_boundary, document = clustered(0, n_documents=60, n=50)
    scoring = Scoring(Units.of(document), Bootstrap(seed=3, n_resamples=30))
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
    values, is_boundary, document = clustered(1)
    units, boot = Units.of(document), Bootstrap()
    fine = Ranked(Ranking.of(values), units, most_bins=10**6)
    coarse = Ranked(Ranking.of(values), units)
    assert fine.n_bins > coarse.n_bins <= 4096
    for statistic in (boot.roc_auc, boot.average_precision):
        assert interval(statistic(coarse, is_boundary)) == pytest.approx(
            interval(statistic(fine, is_boundary)), abs=1e-3
        )


def test_the_interval_is_that_of_a_naive_loop() -> None:
    values, is_boundary, document = clustered(2, n_documents=50, n=40)
    fast = areas_of(values, is_boundary, Units.of(document), Bootstrap(seed=1))
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
        values, is_boundary, document = clustered(seed, n=100, effect=effect)
        scoring = Scoring(Units.of(document), boot)
        low, high = scoring.roc_auc(scoring.rank(values), is_boundary).interval
        covered += low <= truth <= high
        excluded += not low <= 0.5 <= high
    assert 88 <= covered <= 100
    # A planted effect is found, a null is not.
    assert excluded >= 95 if effect else excluded <= 12


def test_signals_that_share_units_share_resamples_so_that_differences_are_paired() -> None:
    values, is_boundary, document = clustered(6)
    units, boot = Units.of(document), Bootstrap()
    noisy = values + np.random.default_rng(2).normal(scale=0.3, size=len(values)).astype(np.float32)
    scoring = Scoring(units, boot)
    one, two = (scoring.roc_auc(scoring.rank(x), is_boundary) for x in (values, noisy))
    low, high = (one - two).interval
    assert 0 < low < roc_auc(values, is_boundary) - roc_auc(noisy, is_boundary) < high
    assert high - low < 0.5 * np.subtract(*one.interval[::-1])
    assert np.array_equal(one.resampled, areas_of(values, is_boundary, units, Bootstrap()))
    assert not np.array_equal(Bootstrap(seed=1).weights(60), boot.weights(60))


def test_units_are_documents_and_fewer_than_five_have_no_interval() -> None:
    assert (Units.of(np.repeat([7, 9], 10)).count, Units.of(np.repeat([7, 9], 10)).n_documents) == (2, 2)
    has_interval = [Units.of(np.repeat(np.arange(n), 1_000)).has_interval for n in (1, 2, 4, 5, 60)]
    assert has_interval == [False, False, False, True, True]
    assert Units.of(np.arange(5000)).count == 1024


@pytest.mark.parametrize("n_documents", [5, 10])
def test_intervals_of_few_documents_hold_the_truth_where_percentiles_do_not(n_documents: int) -> None:
    """400 data sets; an interval that covers 95 % covers fewer than 370 in 1 of 2,000 tries."""
    truth = roc_auc(*clustered(10**6, n_documents=20_000, n=20, effect=0.5)[:2])
    boot, covered, by_percentile = Bootstrap(n_resamples=500), 0, 0
    for seed in range(400):
        values, is_boundary, document = clustered(seed, n_documents=n_documents, n=100, effect=0.5)
        scoring = Scoring(Units.of(document), boot)
        found = scoring.roc_auc(scoring.rank(values), is_boundary)
        low, high = found.interval
        covered += low <= truth <= high
        low, high = np.nanquantile(found.resampled, [0.025, 0.975])
        by_percentile += low <= truth <= high
    assert 370 <= covered <= 392
    assert by_percentile < covered


def test_an_interval_is_that_of_students_t_within_what_the_number_can_be() -> None:
    drawn = np.random.default_rng(0).normal(0.9, 0.04, size=2_000)
    half = stats.t.ppf(0.975, 9) * drawn.std() * math.sqrt(10 / 9)
    assert Estimate(0.9, drawn, 10).interval == pytest.approx((0.9 - half, 0.9 + half))
    assert Estimate(0.95, drawn, 10, within=(0.0, 1.0)).interval == pytest.approx((0.95 - half, 1))
    assert Estimate(0.9, np.full(9, 0.9), 10).interval == (0.9, 0.9)
    assert Estimate(half, drawn, 10).p == pytest.approx(0.05)
    seeded = Estimate(0.0, drawn, 10, ((0.001, 2),))
    assert replace(seeded, value=seeded.interval[1]).p == pytest.approx(0.05)
    assert (Estimate(0.0, drawn, 10).p, Estimate(1e9, drawn, 10).p) == (1, 0)
    assert interval(np.append(np.nan, drawn)) == pytest.approx(interval(drawn))
    for unknown in (np.append(np.full(200, np.nan), drawn), np.full(5, np.nan)):
        assert all(map(math.isnan, Estimate(0.9, unknown, 10).interval))
        assert math.isnan(Estimate(0.9, unknown, 10).p)


def test_an_estimate_without_a_value_or_resamples_has_no_interval_and_gives_none_to_others() -> None:
    known = Estimate(0.5, np.linspace(0, 1, 1001), 100)
    low, high = known.interval
    assert known.row() == {"value": 0.5, "ci_low": low, "ci_high": high}
    assert known.row("gain") == {"gain": 0.5, "gain_low": low, "gain_high": high}
    for other in (Estimate(0.2), known - Estimate(0.2), Estimate.mean([known, Estimate(0.2)])):
        assert not math.isnan(other.value) and all(map(math.isnan, other.interval))
    assert all(map(math.isnan, Estimate(math.nan, np.ones(9), 9).interval))


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_seeds_of_a_control_widen_the_interval_of_a_difference(n_seeds: int) -> None:
    """Of 500 draws of documents and seeds 95 in 100 intervals hold the truth; without seeds half miss it."""
    rng, covered, alone, new = np.random.default_rng(1), 0, 0, 0
    for _ in range(500):
        noise = 0.006 * rng.normal(size=(400, 2))
        layer = Estimate(0.006 * rng.normal(), noise[:, 0], 200)
        *heads, next_head = rng.normal(0, 0.02 * math.sqrt(n_seeds), size=n_seeds + 1).tolist()
        seeds = [Estimate(value, noise[:, 1], 200) for value in heads]
        found = layer - Estimate.mean(seeds)
        low, high = found.interval
        covered += low <= 0 <= high
        low, high = found.interval_of_one_seed
        new += low <= layer.value - next_head <= high
        low, high = replace(found, seeds=()).interval
        alone += low <= 0 <= high
    assert 460 <= covered <= 493
    assert 460 <= new <= 493
    assert alone < 350


@pytest.mark.parametrize(
    ("correlation", "n_documents", "n_members", "least", "widest"),
    [(0.0, 12, 6, 460, 1.6), (0.9, 12, 6, 460, 1.4), (0.5, 5, 24, 435, 3.0)],
)
def test_bands_hold_a_whole_family_in_19_of_20_cases_and_are_no_wider_than_they_must(
    correlation: float, n_documents: int, n_members: int, least: int, widest: float
) -> None:
    """500 families; single intervals would miss one of six in every fifth. 24 of 5 documents: .90."""
    rng, held, alone, widths = np.random.default_rng(2), 0, 0, []
    for _ in range(500):
        shared, own = (rng.normal(size=(n_documents, n)) for n in (1, n_members))
        values = math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own
        weights = Bootstrap(n_resamples=400).weights(n_documents) / n_documents
        family = [Estimate(float(one.mean()), weights @ one, n_documents) for one in values.T]
        bands = simultaneous(family)
        held += all(low <= 0 <= high for low, high in bands)
        alone += all(low <= 0 <= high for low, high in (one.interval for one in family))
        widths.append(np.subtract(*bands[0][::-1]) / np.subtract(*family[0].interval[::-1]))
    assert least <= held <= 490
    assert alone < held
    assert np.mean(widths) < widest
    constant = [Estimate(0.5, np.full(9, 0.5), 12), Estimate(0.5)]
    assert simultaneous(constant)[0] == (0.5, 0.5) and math.isnan(simultaneous(constant)[1][0])


def test_holm_counts_the_tests_and_keeps_their_order() -> None:
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_power_says_how_often_nothing_is_found_within_the_margin() -> None:
    rng, found = np.random.default_rng(3), 0
    for _ in range(500):
        values = rng.normal(0, 0.03, size=20)
        one = Estimate(float(values.mean()), Bootstrap(n_resamples=300).weights(20) / 20 @ values, 20)
        found += one.interval[0] > -0.02
    told = Estimate(0.0, rng.normal(0, 0.03 / math.sqrt(20), size=4_000), 20).power(0.02)
    assert found / 500 == pytest.approx(told, abs=0.06)
    assert math.isnan(Estimate(0.0).power(0.02))


def test_several_seeds_are_given_by_their_mean_and_range_and_one_by_its_interval() -> None:
    seeds = [Estimate(value, np.full(100, 9.0), 30) for value in (0.1, 0.6, 0.2)]
    assert over_seeds(seeds) == {"value": pytest.approx(0.3), "ci_low": 0.1, "ci_high": 0.6}
    assert over_seeds(seeds[:1]) == {"value": 0.1, "ci_low": 0.1, "ci_high": 0.1}
