"""Nulls against brute force; uniform p without an effect, small p with a planted one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lrope_interp.probes.statistics.bootstrap import Units
from lrope_interp.probes.statistics.nulls import SameByte, Shifts, family_wise, p_value
from lrope_interp.probes.statistics.ranking import Ranking, roc_auc


def sample(seed: int, levels: float = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tied values, labels and documents of 1, 2, 3, 7, 50, 97 and 300 gaps."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(7), [7, 1, 300, 2, 97, 3, 50])
    is_boundary = rng.random(len(document)) < 0.3
    return np.round(levels * (rng.normal(size=len(document)) + is_boundary)), is_boundary, document


@pytest.mark.parametrize("levels", [1, 3, 1e6])
def test_shifts_by_fft_are_those_of_rolling_labels(levels: float) -> None:
    values, is_boundary, document = sample(0, levels)
    shifts = Shifts.of(document, seed=4, n_shifts=60)
    fast = shifts.turn(is_boundary).null_auc(Ranking.of(values))
    for draw in range(60):
        parts = [is_boundary[document == one] for one in range(7)]
        rolled = [np.roll(part, shifts.offsets[one, draw]) for one, part in enumerate(parts)]
        assert abs(fast[draw] - roc_auc(values, np.concatenate(rolled))) < 1e-9


def test_short_documents_keep_their_levels_and_flip_what_each_says_within_itself() -> None:
    rng = np.random.default_rng(0)
    document = np.repeat(np.arange(6), [20, 30, 1, 100, 50, 40])
    is_boundary = rng.random(len(document)) < 0.3
    values = np.round(3 * (rng.normal(size=len(document)) + is_boundary + document))
    shifts = Shifts.of(document, n_shifts=40)
    fast, flips = shifts.turn(is_boundary).null_auc(Ranking.of(values)), shifts.flips
    assert flips is not None and set(flips.ravel()) == {-1.0, 1.0}
    ranks, n = stats.rankdata(values), int(is_boundary.sum())
    for draw in range(40):
        total = -n * (n + 1) / 2
        for one in range(6):
            own = document == one
            level = ranks[own].mean() * is_boundary[own].sum()
            total += level + flips[one, draw] * (ranks[own & is_boundary].sum() - level)
        assert fast[draw] == pytest.approx(total / (n * (len(document) - n)))
    assert Shifts.of(np.repeat([0, 1], [200, 50])).flips is None


def test_offsets_keep_away_from_the_labels_own_place() -> None:
    offsets = Shifts.of(sample(0)[2], n_shifts=4000).offsets
    assert [(row.min(), row.max()) for row in offsets] == [
        *((2, 5), (0, 0), (32, 268), (1, 1), (25, 72), (1, 2), (13, 37))
    ]
    counts = np.bincount(offsets[4])[25:]
    assert stats.chisquare(counts).pvalue > 0.001


def test_signals_and_a_repeated_call_share_the_offsets_and_labels_of_one_kind_have_no_null() -> None:
    values, is_boundary, document = sample(1)
    one, two = Shifts.of(document, seed=1), Shifts.of(document, seed=1)
    null = one.turn(is_boundary).null_auc(Ranking.of(values))
    assert np.array_equal(null, two.turn(is_boundary).null_auc(Ranking.of(values)))
    assert np.allclose(null, 1 - one.turn(is_boundary).null_auc(Ranking.of(values).reversed()), atol=1e-12)
    assert not np.array_equal(one.offsets, Shifts.of(document, seed=2).offsets)
    nothing = one.turn(np.zeros_like(is_boundary)).null_auc(Ranking.of(values))
    assert np.isnan(nothing).all()
    assert math.isnan(p_value(0.5, nothing))
    with pytest.raises(AssertionError, match="side by side"):
        Shifts.of(np.array([0, 1, 0]))


def lettered(seed: int, n_units: int = 25, n: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray, Units]:
    rng = np.random.default_rng(seed)
    strata = rng.choice([3, 7, 200, 70_000], p=[0.5, 0.3, 0.19, 0.01], size=n_units * n)
    is_boundary = rng.random(len(strata)) < 0.3
    document = np.repeat(np.arange(n_units), n)
    units = Units(document, n_units, n_units)
    return np.round(2 * rng.normal(size=len(strata)) + is_boundary), is_boundary, strata, units


def test_the_statistic_is_van_elterens_sum_and_flips_are_by_unit() -> None:
    values, is_boundary, strata, units = lettered(1)
    same = SameByte.of(strata, units, seed=2, n_flips=30)
    observed, null = same.draw(Ranking.of(values), is_boundary)
    wilcoxon = 0.0
    by_unit = np.zeros(units.count)
    for byte in np.unique(strata):
        own = strata == byte
        ranks = stats.rankdata(values[own])
        wilcoxon += (ranks[is_boundary[own]] - ranks.mean()).sum() / (own.sum() + 1)
        amounts = (is_boundary[own] - is_boundary[own].mean()) * (ranks - ranks.mean()) / (own.sum() + 1)
        np.add.at(by_unit, units.index[own], amounts)
    assert observed == pytest.approx(wilcoxon, abs=1e-9)
    assert null == pytest.approx((same.flips * by_unit).sum(axis=1), abs=1e-9)
    assert set(same.flips.ravel()) == {-1.0, 1.0}


def test_a_signal_that_is_a_function_of_the_byte_has_p_one_and_few_units_have_none() -> None:
    _, is_boundary, strata, units = lettered(2)
    same = SameByte.of(strata, units)
    observed, null = same.draw(Ranking.of(np.sin(strata)), is_boundary)
    assert (observed, p_value(observed, null)) == (0, 1)
    label = same.draw(Ranking.of(np.arange(500.0)), strata == 7)
    assert p_value(*label) == 1, "nor can a signal tell a label that is a function of the byte"
    values, is_boundary, strata, units = lettered(3, n_units=4)
    few = SameByte.of(strata, units)
    assert math.isnan(p_value(*few.draw(Ranking.of(values), is_boundary))), "too few units"


def test_p_counts_draws_that_reach_the_observed_value_and_forgives_float_noise() -> None:
    null = np.array([0.1, 0.2, 0.3, 0.4])
    assert p_value(0.3, null) == 3 / 5
    assert p_value(0.1 + 0.2, null) == 3 / 5, "0.1 + 0.2 is a little more than 0.3"
    assert p_value(9.0, null) == 1 / 5
    assert p_value(-9.0, null) == 1
    assert math.isnan(p_value(math.nan, null))


def test_the_familys_p_is_that_of_its_largest_by_hand() -> None:
    rng = np.random.default_rng(0)
    null = rng.normal(size=(4, 99)) * np.array([[1], [10], [0.1], [1]]) + np.array([[0], [5], [0.5], [0]])
    null[2] = 0.5  # never moves
    null[3, 0] = math.nan
    observed = np.array([2.0, 30.0, 0.9, 9.0])
    scores = (null[:2] - null[:2].mean(axis=1, keepdims=True)) / null[:2].std(axis=1, keepdims=True)
    largest = scores.max(axis=0)
    wanted = [(1 + (largest >= (observed[i] - null[i].mean()) / null[i].std()).sum()) / 100 for i in range(2)]
    p = family_wise(observed, null)
    assert p[:3] == pytest.approx([*wanted, 1.0])
    assert math.isnan(p[3])
    assert p[0] >= p_value(observed[0], null[0])


def test_the_largest_of_ten_is_rarely_small_by_chance() -> None:
    """The smallest of ten family-wise p is uniform; of ten single ones it is not."""
    rng = np.random.default_rng(1)
    together, alone = [], []
    for _ in range(200):
        draws = rng.normal(size=(10, 200)) + rng.normal(size=200)
        together.append(family_wise(draws[:, 0], draws[:, 1:]).min())
        alone.append(min(p_value(row[0], row[1:]) for row in draws))
    assert np.mean(np.array(together) <= 0.05) < 0.1
    assert np.mean(np.array(alone) <= 0.05) > 0.15
