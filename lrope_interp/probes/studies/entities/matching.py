"""Pairs of a name and another stretch of text that is as frequent, as expected and as long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.optimize import linear_sum_assignment

from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units, interval
from lrope_interp.probes.studies.entities.regression import curves

CALIPERS = (0.35, 0.7, 1.05)
"""How far log frequency and log probability may lie apart, tried in this order until enough are matched."""

_FORBIDDEN = 1e6


@dataclass(frozen=True)
class Covariates:
    """What is held equal, for every text.

    Attributes:
        names: Of the columns.
        values: One row a text.
        tolerance: How far each column may lie apart; NaN stands for the caliper.
        exact: What must be the same.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "kinds columns"]
    tolerance: Float[np.ndarray, " columns"]
    exact: tuple[str, ...]


@dataclass(frozen=True)
class Matches:
    """Names and what each is compared with; nothing comes twice.

    Attributes:
        name: Numbers of the names' texts.
        other: Number of the other text of each.
        caliper: What was used.
        covariates: What was held equal.
    """

    name: Int64[np.ndarray, " pairs"]
    other: Int64[np.ndarray, " pairs"]
    caliper: float
    covariates: Covariates

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.name)


def match(
    covariates: Covariates, is_name: Bool[np.ndarray, " kinds"], usable: Bool[np.ndarray, " kinds"]
) -> Matches:
    """Match as many names as the narrowest sufficient caliper allows, at the least total distance.

    Every name goes to at most one other text and the other way round (optimal pair matching without
    replacement). A caliper is sufficient with 20 pairs; responses play no part in the choice.

    Args:
        covariates: Of all texts.
        is_name: Which are names.
        usable: Which occur in what is tested.
    """
    names, others = np.flatnonzero(is_name & usable), np.flatnonzero(~is_name & usable)
    found = Matches(names[:0], others[:0], CALIPERS[0], covariates)
    for caliper in CALIPERS:
        found = _match_within(covariates, names, others, caliper)
        if len(found) >= MIN_UNITS:
            break
    return found


def _match_within(
    covariates: Covariates,
    names: Int64[np.ndarray, " names"],
    others: Int64[np.ndarray, " others"],
    caliper: float,
) -> Matches:
    tolerance = np.where(np.isnan(covariates.tolerance), caliper, covariates.tolerance)
    exact = np.array(covariates.exact, dtype=object)
    left, right = [], []
    for key in sorted(set(exact[names].tolist())):
        a, b = names[exact[names] == key], others[exact[others] == key]
        if not len(b):
            continue
        apart = np.abs(covariates.values[a, None, :] - covariates.values[None, b, :]) / tolerance
        cost = np.where((apart <= 1 + 1e-9).all(axis=-1), apart.sum(axis=-1), _FORBIDDEN)
        rows, columns = linear_sum_assignment(cost)
        kept = cost[rows, columns] < _FORBIDDEN
        left.append(a[rows[kept]])
        right.append(b[columns[kept]])
    empty = np.zeros(0, dtype=np.int64)
    return Matches(np.concatenate([empty, *left]), np.concatenate([empty, *right]), caliper, covariates)


def balance(
    covariates: Covariates,
    is_name: Bool[np.ndarray, " kinds"],
    usable: Bool[np.ndarray, " kinds"],
    matches: Matches,
) -> list[dict[str, float | int | str]]:
    """Return standardised differences of means, names less others, before and after matching.

    The unit is the pooled standard deviation before matching, both times. Under 0.1 counts as balanced.
    """
    names, others = covariates.values[is_name & usable], covariates.values[~is_name & usable]
    rows: list[dict[str, float | int | str]] = []
    for at, name in enumerate(covariates.names):
        sd = np.sqrt((_variance(names[:, at]) + _variance(others[:, at])) / 2)
        before = _mean(names[:, at]) - _mean(others[:, at])
        paired = covariates.values[matches.name, at] - covariates.values[matches.other, at]
        sizes = {"n_names": len(names), "n_others": len(others), "n_matched": len(matches)}
        scaled = {
            "before": before / sd if sd > 0 else np.nan,
            "after": _mean(paired) / sd if sd > 0 else np.nan,
        }
        rows.append({"covariate": name, **scaled, **sizes})
    return rows


def adjusted(
    response: Float[np.ndarray, " kinds"],
    covariates: Covariates,
    is_name: Bool[np.ndarray, " kinds"],
    usable: Bool[np.ndarray, " kinds"],
) -> Float[np.ndarray, " kinds"]:
    """Take what matched covariates explain among the others out of every response.

    Pairs within a caliper still lie a little apart, on one side more often than not: where the response
    follows a covariate closely, that alone would show as a difference (Abadie and Imbens 2011).
    """
    is_matched = np.isfinite(covariates.tolerance) | np.isnan(covariates.tolerance)
    columns = curves(*covariates.values[:, is_matched].T)
    columns = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    others = ~is_name & usable & ~np.isnan(response)
    if not others.any():
        return response
    weights, *_ = np.linalg.lstsq(columns[others], response[others], rcond=1e-9)
    return response - columns @ weights


def paired_difference(
    response: Float[np.ndarray, " kinds"], matches: Matches, bootstrap: Bootstrap
) -> tuple[float, float, float, int]:
    """Return the mean difference of names less their matches, its 95 % interval, and how many pairs it has.

    Pairs are drawn again. Below 20 there is no interval.
    """
    apart = response[matches.name] - response[matches.other]
    apart = apart[~np.isnan(apart)]
    if not len(apart):
        return np.nan, np.nan, np.nan, 0
    if len(apart) < MIN_UNITS:
        return float(apart.mean()), np.nan, np.nan, len(apart)
    units = Units(np.arange(len(apart)), len(apart), len(apart), is_document=False)
    return float(apart.mean()), *interval(bootstrap.ratio(units, apart, np.ones(len(apart)))), len(apart)


def plain_difference(
    response: Float[np.ndarray, " kinds"],
    is_name: Bool[np.ndarray, " kinds"],
    usable: Bool[np.ndarray, " kinds"],
    bootstrap: Bootstrap,
) -> tuple[float, float, float, int]:
    """Return the difference of means of all names and all other texts, unmatched; texts are drawn again."""
    parts = [response[own & usable & ~np.isnan(response)] for own in (is_name, ~is_name)]
    n = len(parts[0])
    value = _mean(parts[0]) - _mean(parts[1])
    if min(map(len, parts)) < MIN_UNITS:
        return value, np.nan, np.nan, n
    drawn = [_resampled_mean(part, bootstrap) for part in parts]
    return value, *interval(drawn[0] - drawn[1]), n


def _resampled_mean(values: Float[np.ndarray, " n"], bootstrap: Bootstrap) -> Float[np.ndarray, " resamples"]:
    """Draw values again, in at most 1,024 groups where there are many."""
    index = np.arange(len(values)) % min(len(values), _GROUPS)
    units = Units(index, int(index.max()) + 1, len(values), is_document=False)
    return bootstrap.ratio(units, values, np.ones(len(values)))


_GROUPS = 1_024


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _variance(values: np.ndarray) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
