"""Planted extras are found beyond surprisal, functions of entropy are not, and odd data are survived."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from benchmarks import trust
from benchmarks.planted import Planted, plant
from lrope_interp.probes.boundaries import beyond
from lrope_interp.probes.boundaries.beyond import BEYOND_COLUMNS, LEAST_BINNED, BeyondTest, LabelledGaps
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, draw_gaps, hold_out
from lrope_interp.probes.statistics.curves import (
    CLASS_RIDGE,
    SHARED_RIDGE,
    Axis,
    Grouped,
    Spline,
    fit_logit,
    log_likelihood,
)
from lrope_interp.probes.statistics.ranking import Ranking, ranks_within, roc_auc
from lrope_interp.probes.statistics.strata import WithinBins, joint_bins

BOOT = Bootstrap(n_resamples=500)


@pytest.fixture(autouse=True)
def _bins_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small samples keep these tests fast; what is too small in earnest has a test of its own."""
    monkeypatch.setattr(beyond, "LEAST_BINNED", 0)


def make_test(fit: LabelledGaps, test: LabelledGaps) -> BeyondTest:
    return BeyondTest(fit, test, Units.of(test.document), BOOT)


def planted_pair(form: str = "tanh", **kwargs: Any) -> tuple[Planted, Planted]:
    return plant(0, form, n_documents=50, length=80, **kwargs), plant(
        1, form, n_documents=60, length=80, **kwargs
    )


def with_curves(sample: LabelledGaps, **curves: np.ndarray) -> LabelledGaps:
    return replace(sample, curves={**sample.curves, **curves})


def by_baseline(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["baseline"]: row for row in rows}


def test_an_extra_is_found_beyond_every_baseline_and_a_function_of_what_they_hold_beyond_none() -> None:
    """A run of each form: three of entropy, and a joint one of entropy and surprisal."""
    lines = [trust.beyond(seed) for seed in range(4)]
    for baseline in ("M0", "M0_lexical", "bins"):
        assert sum(line[f"extra {baseline}"] for line in lines) >= 3
        assert sum(line[f"shaped {baseline}"] for line in lines) <= 1
        assert sum(line[f"noisy {baseline}"] for line in lines) <= 1


def test_rows_have_the_columns_of_the_table_and_numbers_that_fit_together() -> None:
    fit, test = planted_pair(auc=0.75)
    rows = make_test(fit.sample, test.sample).of_signal(fit.extra, test.extra)
    assert [row["baseline"] for row in rows] == ["M0", "M0_lexical", "bins"]
    for row in rows[:2]:
        assert tuple(row) == BEYOND_COLUMNS
        assert row["delta_auc"] == pytest.approx(row["full_auc"] - row["base_auc"])
        assert 0 < row["auc_low"] < row["delta_auc"] < row["auc_high"]
        assert 0 < row["bits_low"] < row["bits"] < row["bits_high"]
        assert (row["n"], row["n_documents"]) == (4800, 60)
        assert math.isnan(row["p"])
        assert row["is_beyond"] is True
    assert rows[2]["p"] == pytest.approx(1 / 1001)
    assert rows[2]["delta_auc"] > 0.15
    assert math.isnan(rows[2]["bits"])


def test_what_is_held_fixed_is_what_was_given() -> None:
    fit, test = planted_pair(auc=0.75)
    bare = [replace(one.sample, log_odds=None) for one in (fit, test)]
    rows = make_test(*bare).of_signal(fit.extra, test.extra)
    assert [row["baseline"] for row in rows] == ["M0", "bins"], "without log-odds there is no lexical row"
    knowing = [with_curves(one.sample, extra=one.extra) for one in (fit, test)]
    rows = make_test(*knowing).of_signal(fit.extra, test.extra)
    assert not any(row["is_beyond"] for row in rows[:2])


def test_the_rank_test_looks_the_way_that_the_signal_points_within_the_bins_of_fit() -> None:
    fit, test = planted_pair(auc=0.75)
    tests = make_test(fit.sample, test.sample)
    up, down = (tests.of_signal(sign * fit.extra, sign * test.extra) for sign in (1, -1))
    for a, b in zip(up, down, strict=True):
        assert a["delta_auc"] == pytest.approx(b["delta_auc"], abs=1e-3)
    wrong = by_baseline(tests.of_signal(-fit.extra, test.extra))["bins"]
    assert wrong["p"] > 0.99
    assert wrong["delta_auc"] == pytest.approx(-up[2]["delta_auc"], abs=1e-9)
    assert roc_auc(test.reversed, test.sample.is_boundary) > 0.55
    turned = by_baseline(tests.of_signal(fit.reversed, test.reversed))["bins"]
    assert turned["p"] < 0.01 and turned["delta_auc"] > 0.05


def test_the_label_itself_is_beyond_and_a_constant_is_not() -> None:
    fit, test = planted_pair()
    tests = make_test(fit.sample, test.sample)
    itself = tests.of_signal(fit.sample.is_boundary * 1.0, test.sample.is_boundary * 1.0)
    assert all(row["is_beyond"] for row in itself)
    assert itself[0]["full_auc"] == pytest.approx(1.0)
    constant = by_baseline(tests.of_signal(np.ones(4000), np.ones(4800)))
    assert constant["M0"]["delta_auc"] == constant["M0"]["bits"] == 0
    assert constant["bins"]["p"] == 1
    assert not any(row["is_beyond"] for row in constant.values())


def test_a_label_that_the_byte_class_decides_leaves_nothing_beyond() -> None:
    fit, test = planted_pair()
    pure = [replace(one.sample, is_boundary=one.sample.byte_class == 2) for one in (fit, test)]
    row = by_baseline(make_test(*pure).of_signal(fit.extra, test.extra))["M0"]
    assert row["base_auc"] == pytest.approx(1.0)
    assert (row["delta_auc"], row["bits"]) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-3))
    assert row["is_beyond"] is False


@pytest.mark.parametrize("which", ["fit", "test"])
def test_a_label_of_one_kind_is_not_tested(which: str) -> None:
    pair = dict(zip(("fit", "test"), planted_pair(), strict=True))
    samples = {name: one.sample for name, one in pair.items()}
    samples[which] = replace(samples[which], is_boundary=np.zeros(len(samples[which].document), dtype=bool))
    rows = make_test(**samples).of_signal(pair["fit"].extra, pair["test"].extra)
    assert [row["baseline"] for row in rows] == ["M0", "M0_lexical", "bins"]
    assert all(math.isnan(row["delta_auc"]) and row["is_beyond"] is None for row in rows)


def test_too_few_documents_or_gaps_get_estimates_without_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, test = plant(0, "tanh", n_documents=10), plant(1, "tanh", n_documents=4)
    rows = make_test(fit.sample, test.sample).of_signal(fit.extra, test.extra)
    assert all(not math.isnan(row["delta_auc"]) and row["is_beyond"] is None for row in rows)
    assert all(math.isnan(rows[0][name]) for name in ("auc_low", "auc_high", "bits_low", "bits_high"))
    fit, test = planted_pair(auc=0.75)
    assert len(test.extra) < LEAST_BINNED
    monkeypatch.setattr(beyond, "LEAST_BINNED", LEAST_BINNED)
    bins = by_baseline(make_test(fit.sample, test.sample).of_signal(fit.extra, test.extra))["bins"]
    assert (bins["is_beyond"], math.isnan(bins["p"])) == (None, True), "200 bins of few gaps say nothing"


def test_ties_constants_and_classes_that_fit_lacks_are_survived() -> None:
    fit, test = planted_pair(auc=0.75)
    odd = []
    for one in (fit, test):
        entropy, surprisal = (one.sample.curves[name] for name in ("entropy", "surprisal"))
        surprisal = np.where(np.arange(len(surprisal)) % 2, 0.0, surprisal)
        changed = {"rise": np.zeros_like(entropy), "surprisal": surprisal, "entropy": np.round(entropy)}
        odd.append(with_curves(one.sample, **changed))
    unseen = np.where(np.arange(len(test.extra)) < 50, 99, odd[1].byte_class)
    odd[1] = replace(odd[1], byte_class=unseen)
    rows = make_test(*odd).of_signal(1.0 * (fit.extra > 0.5), 1.0 * (test.extra > 0.5))
    assert all(row["is_beyond"] for row in rows)
    assert all(np.isfinite(row["bits"]) for row in rows[:2])


def test_the_order_of_documents_and_rounding_change_nothing() -> None:
    fit, test = planted_pair()
    turned = []
    for one in (fit, test):
        at = np.argsort(-one.sample.document, kind="stable")
        number = one.sample.document.max() - one.sample.document[at]
        sample = replace(one.sample.taken(at), document=number)
        rounded = with_curves(sample, entropy=sample.curves["entropy"] * (1 + 1e-9))
        turned.append((rounded, one.extra[at]))
    once = make_test(fit.sample, test.sample).of_signal(fit.extra, test.extra)
    again = make_test(turned[0][0], turned[1][0]).of_signal(turned[0][1], turned[1][1])
    for a, b in zip(once, again, strict=True):
        for name in ("delta_auc", "bits"):
            assert a[name] == pytest.approx(b[name], abs=1e-5, nan_ok=True)


def test_the_block_fit_is_that_of_a_general_solver() -> None:
    rng = np.random.default_rng(0)
    n, curves, shared = 600, rng.random((600, 3)), rng.random((600, 2))
    code = rng.integers(0, 3, n)
    is_boundary = rng.random(n) < 1 / (1 + np.exp(-2 * curves[:, 0] + code - 3 * shared[:, 1] + 1))
    grouped = Grouped.of(code, 3, curves).with_shared(shared)
    model = fit_logit(grouped, is_boundary)
    ones = np.column_stack([np.ones(n), curves])
    own = np.hstack([ones * (code == c)[:, None] for c in range(3)]) / math.sqrt(CLASS_RIDGE)
    everything = np.hstack([own, np.hstack([curves, shared]) / math.sqrt(SHARED_RIDGE)])

    def loss(log_odds: np.ndarray, squares: float) -> float:
        return float(squares / 2 - log_likelihood(log_odds, is_boundary).sum())

    ours = loss(
        model.log_odds(grouped), CLASS_RIDGE * (model.own**2).sum() + SHARED_RIDGE * (model.shared**2).sum()
    )
    # Class rates enter ours as fixed offsets, so the reference gets them as an unpenalised column would not.
    assert np.allclose(
        model.log_odds(grouped), _by_gradient(everything, model.offset[code], is_boundary), atol=2e-3
    )
    assert ours < loss(model.offset[code], 0.0)
    plain = LogisticRegression(C=1e6, solver="newton-cholesky").fit(everything, is_boundary)
    assert ours > loss(plain.decision_function(everything), 0.0)


def _by_gradient(x: np.ndarray, offset: np.ndarray, is_boundary: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    def loss(v: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = offset + x @ v
        missed = 1 / (1 + np.exp(-log_odds)) - is_boundary
        return v @ v / 2 - log_likelihood(log_odds, is_boundary).sum(), v + x.T @ missed

    found = minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "gtol": 1e-7}
    )
    return offset + x @ found.x


def test_a_spline_has_knots_at_quantiles_and_is_flat_outside() -> None:
    values = np.random.default_rng(0).exponential(size=1000)
    spline = Spline.of(values)
    assert spline.knots == pytest.approx(np.quantile(values, np.linspace(0, 1, 12)))
    columns = spline.columns(np.array([values.max(), values.max() + 100]))
    assert columns.shape == (2, spline.n_columns) == (2, 13)
    assert columns[0] == pytest.approx(columns[1])
    for few, n_knots in ((np.zeros(9), 1), (np.tile([0.0, 1.0], 5), 2)):
        assert len(Spline.of(few).knots) == n_knots
        assert Spline.of(few).columns(few).shape == (len(few), Spline.of(few).n_columns)
    tied = np.concatenate([np.zeros(500), np.random.default_rng(0).random(500)])
    assert len(Spline.of(tied).knots) >= 10, "a tie of half the values leaves all knots to the rest"


def test_a_jump_is_found_where_it_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.exponential(size=2000)
    for y in ((x > 0.7) * 1.0, (x > 0.7) + np.tanh(x) + 0.1 * rng.normal(size=2000)):
        assert Axis.of(x).step(y) == pytest.approx(0.7, abs=0.01)


def test_ranks_within_are_those_of_scipy_in_each_group() -> None:
    rng = np.random.default_rng(0)
    code, values = rng.integers(0, 4, 200), rng.integers(0, 9, 200).astype(float)
    ranks = ranks_within(code, Ranking.of(values))
    for c in range(4):
        wanted = stats.rankdata(values[code == c])
        assert ranks[code == c] == pytest.approx((wanted - wanted.mean()) / (len(wanted) + 1))


def test_joint_bins_are_of_equal_size_and_keep_ties_together() -> None:
    rng = np.random.default_rng(0)
    sizes = np.bincount(joint_bins(rng.random(20_000), rng.random(20_000)))
    assert len(sizes) == 200
    assert sizes.min() >= 98
    assert sizes.max() <= 102
    tied = joint_bins(np.repeat([0.0, 1.0], 500), np.zeros(1000))
    assert len(np.unique(tied)) == 2


@pytest.mark.parametrize("form", ["tanh", "log", "step"])
def test_a_function_of_entropy_leaves_nothing_within_bins(form: str) -> None:
    test = plant(3, form)
    entropy, surprisal = (test.sample.curves[name] for name in ("entropy", "surprisal"))
    bins = WithinBins(entropy, surprisal, test.sample.is_boundary, Units.of(test.sample.document))
    assert np.abs(bins.left_of(test.shaped)).max() < 1e-6
    assert bins.p(bins.left_of(test.shaped)) == 1


def test_the_draw_of_gaps_follows_what_documents_hold_and_not_their_numbers() -> None:
    rng = np.random.default_rng(0)
    document, code = np.repeat(np.arange(30), 100), rng.integers(0, 5, 3000)
    kept = draw_gaps(document, code, seed=0, most=1000)
    assert len(kept) == 1000
    at = np.concatenate([np.flatnonzero(document == k) for k in rng.permutation(30)])
    again = draw_gaps(np.repeat(np.arange(30), 100), code[at], seed=0, most=1000)
    assert set(at[again].tolist()) == set(kept.tolist())
    assert set(draw_gaps(document, code, seed=1, most=1000).tolist()) != set(kept.tolist())
    assert np.bincount(document[kept]).max() < 60
    is_held = hold_out(document, code, seed=0)
    assert is_held.sum() == 600
    assert all(len(set(is_held[document == k].tolist())) == 1 for k in range(30))


@pytest.mark.slow
def test_a_hundred_runs_are_calibrated() -> None:
    lines = [trust.beyond(seed) for seed in range(100)]
    for baseline in ("M0", "M0_lexical", "bins"):
        assert sum(line[f"shaped {baseline}"] for line in lines) <= 12
        assert sum(line[f"noisy {baseline}"] for line in lines) <= 12
        assert sum(line[f"extra {baseline}"] for line in lines) >= 90
