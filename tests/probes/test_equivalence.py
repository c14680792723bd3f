"""The equivalence test is right about planted sameness, planted difference, and the margin itself."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.equivalence import (
    DIFFERENT,
    EQUIVALENT,
    INCONCLUSIVE,
    MOST_PAIRS,
    NO_VERDICT,
    paired,
    pairs_for_power,
    tost_power,
    verdict,
)

N_RUNS = 1000


def draws(mean: float, sd: float, n: int, n_runs: int = N_RUNS, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, sd, size=(n_runs, n))


def share(word: str, differences: np.ndarray, margin: float = 0.003) -> float:
    """The share of experiments that end in a verdict; by the tests alone, which are fast."""
    return float(np.mean([_word(row, margin) == word for row in differences]))


def _word(row: np.ndarray, margin: float) -> str:
    observed = paired(row)
    if -margin < observed["ci90_low"] and observed["ci90_high"] < margin:
        return EQUIVALENT
    return DIFFERENT if observed["is_nonzero"] else INCONCLUSIVE


def test_an_example_worked_out_by_hand() -> None:
    """Differences 1, 2, 3: mean 2, s.d. 1, standard error 1/sqrt(3), t(0.95; 2) = 2.919986."""
    observed = paired([1.0, 2.0, 3.0])
    assert (observed["n_seeds"], observed["mean"], observed["sd"]) == (3, 2.0, pytest.approx(1.0))
    half = 2.919986 / math.sqrt(3)
    assert (observed["ci90_low"], observed["ci90_high"]) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    half = 4.302653 / math.sqrt(3)
    assert (observed["ci95_low"], observed["ci95_high"]) == pytest.approx((2 - half, 2 + half), abs=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_both_p_are_those_of_two_one_sided_t_tests_and_the_interval_decides(seed: int) -> None:
    differences = draws(0.001, 0.002, 3 + seed % 7, 1, seed)[0]
    observed = paired(differences)
    found = verdict(observed, 0.003)
    lower = stats.ttest_1samp(differences, -0.003, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, 0.003, alternative="less").pvalue
    assert (found["p_lower"], found["p_upper"]) == pytest.approx((lower, upper), rel=1e-9)
    is_inside = observed["ci90_low"] > -0.003 and observed["ci90_high"] < 0.003
    assert (found["verdict"] == EQUIVALENT) == is_inside


def test_statsmodels_says_the_same() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from statsmodels.stats import weightstats
    arm, reference = draws(1.8, 0.01, 2, 6)[:, :2].T
    p, lower, upper = weightstats.ttost_paired(arm, reference, -0.02, 0.02)
    found = verdict(paired(arm - reference), 0.02)
    assert (found["p_lower"], found["p_upper"]) == pytest.approx((lower[1], upper[1]), rel=1e-9)
    assert max(found["p_lower"], found["p_upper"]) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(
    ("differences", "word", "is_nonzero"),
    [
        ([0.0004, -0.0003, 0.0002, -0.0001, 0.0001], EQUIVALENT, False),
        ([0.0010, 0.0011, 0.0009, 0.0010, 0.0012], EQUIVALENT, True),
        ([0.0100, 0.0110, 0.0090, 0.0100, 0.0120], DIFFERENT, True),
        ([0.0100, -0.0110, 0.0090, -0.0100, 0.0020], INCONCLUSIVE, False),
        ([0.0025, 0.0028, 0.0031, 0.0029, 0.0033], DIFFERENT, True),
    ],
)
def test_all_verdicts_can_be_reached(differences: list[float], word: str, is_nonzero: bool) -> None:
    observed = paired(differences)
    assert (verdict(observed, 0.003)["verdict"], observed["is_nonzero"]) == (word, is_nonzero)


def test_a_single_pair_gets_no_verdict() -> None:
    observed = paired([0.0])
    found = verdict(observed, 0.003)
    assert (found["verdict"], found["n_seeds_for_power"], observed["is_nonzero"]) == (NO_VERDICT, None, False)
    assert all(map(math.isnan, (found["p_lower"], found["power"], observed["sd"])))


@pytest.mark.parametrize(
    ("value", "word"), [(0.0, EQUIVALENT), (0.001, EQUIVALENT), (0.003, DIFFERENT), (-0.1, DIFFERENT)]
)
def test_without_spread_the_mean_decides(value: float, word: str) -> None:
    found = verdict(paired([value] * 3), 0.003)
    assert found["verdict"] == word
    assert (found["power"], found["n_seeds_for_power"]) == (1.0, 2)


def test_what_cannot_be_tested_is_refused() -> None:
    for margin in (0.0, -0.003, math.nan, math.inf):
        with pytest.raises(LRopeError, match="above 0 nats"):
            verdict(paired([0.0, 0.1]), margin)
    for differences in ([], [0.0, math.nan], [math.inf]):
        with pytest.raises(LRopeError, match="finite"):
            paired(differences)


@pytest.mark.parametrize("n", [5, 20])
def test_a_true_difference_at_the_margin_is_called_equivalent_in_5_percent(n: int) -> None:
    """With an s.d. well below the margin; with a larger one TOST says it less often."""
    found = share(EQUIVALENT, draws(0.003, 0.001, n))
    assert abs(found - 0.05) < 3 * math.sqrt(0.05 * 0.95 / N_RUNS)
    assert share(EQUIVALENT, draws(0.003, 0.02, n)) < 0.02


def test_no_true_difference_is_called_different_in_at_most_5_percent() -> None:
    wide = share(DIFFERENT, draws(0.0, 0.02, 5))
    assert abs(wide - 0.05) < 3 * math.sqrt(0.05 * 0.95 / N_RUNS)
    assert share(DIFFERENT, draws(0.0, 0.0005, 5)) == 0.0


def test_a_planted_difference_is_found_and_a_planted_sameness_too() -> None:
    assert share(DIFFERENT, draws(0.02, 0.002, 5)) > 0.99
    assert share(EQUIVALENT, draws(0.0, 0.0005, 5)) > 0.99


@pytest.mark.parametrize(
    ("n", "sd", "true_mean"),
    [(2, 0.0004, 0.0), (3, 0.0015, 0.001), (5, 0.0004, 0.001), (5, 0.003, 0.0), (12, 0.0015, 0.0)],
)
def test_the_power_is_what_simulation_finds(n: int, sd: float, true_mean: float) -> None:
    n_runs = 40_000
    differences = draws(true_mean, sd, n, n_runs)
    half = stats.t.ppf(0.95, n - 1) * differences.std(axis=1, ddof=1) / math.sqrt(n)
    simulated = np.mean(np.abs(differences.mean(axis=1)) + half < 0.003)
    found = tost_power(n, sd, 0.003, true_mean)
    assert abs(found - simulated) < 4 * math.sqrt(max(found * (1 - found), 1e-5) / n_runs)


@pytest.mark.parametrize("sd", [0.0005, 0.0015, 0.02, 0.5])
def test_the_number_of_seeds_is_the_least_that_reaches_the_power(sd: float) -> None:
    n = pairs_for_power(sd, 0.003)
    if sd == 0.5:  # a thousand pairs are too few
        assert tost_power(MOST_PAIRS, sd, 0.003) < 0.8 and n is None
        return
    assert n is not None and n > 2
    assert tost_power(200, 0.003, 0.003, 0.003) == pytest.approx(0.05, abs=1e-4), "at the margin"
    assert tost_power(n, sd, 0.003) >= 0.8 > tost_power(n - 1, sd, 0.003)
