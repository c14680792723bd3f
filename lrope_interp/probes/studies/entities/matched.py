"""A stricter test of names in either language: each against a text as frequent, as expected and as long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Int64
from scipy.optimize import linear_sum_assignment

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring
from lrope_interp.probes.studies.entities.regression import RAW, curves, entropy_before_second
from lrope_interp.probes.studies.entities.signals import EntitySignal, Row
from lrope_interp.probes.studies.entities.text import EntityUnits, TextCounts

MATCHED = "matched"
CALIPERS = (0.35, 0.7, 1.05)
"""How far log frequency and log probability may lie apart, tried in this order until enough are matched."""

LEAST_PAIRS = 20  # that a caliper must match, or the next one is tried
_FORBIDDEN = 1e6
_GROUPS = 1_024


@dataclass(frozen=True)
class Matches:
    """Names and what each is compared with; nothing comes twice.

    Attributes:
        is_name: Which of all texts are names.
        covariates: One row a text.
        matched: Which of their columns are held equal; the others are watched.
        name: Numbers of the names' texts.
        other: Number of the other text of each.
        caliper: What was used.
    """

    is_name: Bool[np.ndarray, " kinds"]
    covariates: pd.DataFrame
    matched: tuple[str, ...]
    name: Int64[np.ndarray, " pairs"]
    other: Int64[np.ndarray, " pairs"]
    caliper: float


def english_matches(
    units: EntityUnits, captured: Captured, facts: Mapping[str, Float[np.ndarray, " kinds"]]
) -> Matches:
    """Match pairs of words: as frequent, as expected and about as long, with the same capitals.

    Frequency in training text and log P(second | first) lie within the caliper, lengths within two letters.
    The frequency of the first word and the model's entropy are watched, not matched.
    """
    names = ("log_count", "log_p", "length_first", "length_second", "log_first")
    entropy = units.mean_of_kinds(entropy_before_second(units, captured))
    covariates = pd.DataFrame({name: facts[name] for name in names} | {"entropy": entropy})
    tolerance = {"log_count": None, "log_p": None, "length_first": 2.0, "length_second": 2.0}
    capitals = zip(facts["capital_first"], facts["capital_second"], strict=True)
    exact = [f"{first:.0f}{second:.0f}" for first, second in capitals]
    return match(units.kind_is_name(), covariates, tolerance, exact)


def chinese_matches(units: EntityUnits, captured: Captured, counts: TextCounts) -> Matches:
    """Match words: of as many characters, as frequent and as expected.

    How often the string stands in training text and log P(second character | first) lie within the caliper.
    The model's entropy before the second character is watched, not matched.
    """
    covariates = {
        "log_count": np.array([counts.log_count(text) for text in units.texts]),
        "log_p": np.array([counts.log_p(text[0], text[:2]) for text in units.texts]),
        "entropy": units.mean_of_kinds(captured.entropy[units.inner[:, 0]].astype(np.float64)),
    }
    exact = [str(len(text)) for text in units.texts]
    tolerance = {"log_count": None, "log_p": None}
    return match(units.kind_is_name(), pd.DataFrame(covariates), tolerance, exact)


# No other matcher gives these pairs: `statistics.strata` holds all equal exactly and pairs nothing, and
# `definitions` takes the nearest few, each as often as it likes.
def match(
    is_name: Bool[np.ndarray, " kinds"],
    covariates: pd.DataFrame,
    tolerance: Mapping[str, float | None],
    exact: Sequence[str],
) -> Matches:
    """Match as many names as the narrowest sufficient caliper allows, at the least total distance.

    Every name goes to at most one other text and the other way round (optimal pair matching without
    replacement). A caliper is sufficient with 20 pairs; responses play no part in the choice.

    Args:
        is_name: Which texts are names.
        covariates: One row a text.
        tolerance: How far their columns may lie apart; None stands for the caliper. The others are watched.
        exact: What must be the same.
    """
    names, others = np.flatnonzero(is_name), np.flatnonzero(~is_name)
    values, key_of = covariates[[*tolerance]].to_numpy(), np.array(exact, dtype=object)
    left, right, caliper = [names[:0]], [others[:0]], CALIPERS[0]
    for caliper in CALIPERS:
        within = np.array([caliper if width is None else width for width in tolerance.values()])
        left, right = [names[:0]], [others[:0]]
        for key in sorted(set(key_of[names].tolist())):
            a, b = names[key_of[names] == key], others[key_of[others] == key]
            if not len(b):
                continue
            apart = np.abs(values[a, None, :] - values[None, b, :]) / within
            cost = np.where((apart <= 1 + 1e-9).all(axis=-1), apart.sum(axis=-1), _FORBIDDEN)
            rows, columns = linear_sum_assignment(cost)
            kept = cost[rows, columns] < _FORBIDDEN
            left.append(a[rows[kept]])
            right.append(b[columns[kept]])
        if sum(map(len, left)) >= LEAST_PAIRS:
            break
    return Matches(
        is_name, covariates, tuple(tolerance), np.concatenate(left), np.concatenate(right), caliper
    )


def balance(matches: Matches) -> list[Row]:
    """Return standardised differences of means, names less others, before and after matching.

    The unit is the pooled standard deviation before matching, both times. Under 0.1 counts as balanced.
    """
    own = matches.is_name
    sizes = {"n_names": int(own.sum()), "n_others": int((~own).sum()), "n_matched": len(matches.name)}
    rows: list[Row] = []
    for name, column in matches.covariates.items():
        values = column.to_numpy()
        sd = np.sqrt((_variance(values[own]) + _variance(values[~own])) / 2)
        before = _mean(values[own]) - _mean(values[~own])
        after = _mean(values[matches.name] - values[matches.other])
        unit = sd if sd > 0 else np.nan
        rows.append({"covariate": name, "before": before / unit, "after": after / unit, **sizes})
    return rows


def difference_rows(
    units: EntityUnits,
    signals: Sequence[EntitySignal],
    responses: Mapping[str, Callable[[Float32[np.ndarray, " n_bytes"]], Float[np.ndarray, " n"]]],
    matches: Matches,
    bootstrap: Bootstrap,
) -> Iterator[Row]:
    """Yield names less others, in means of the layer: of all (`raw`) and of matched ones (`matched`).

    Every text counts once.

    Args:
        units: Where the texts stand.
        signals: Increments and controls.
        responses: By name, what a signal's values are at each unit.
        matches: Names and others.
        bootstrap: Draws pairs or texts again.
    """
    for place, numbers in signals:
        for response, of_units in responses.items():
            values = units.mean_of_kinds(of_units(numbers))
            rest = adjusted(values, matches)
            for design, caliper, (found, n) in (
                (RAW, np.nan, plain_difference(values, matches.is_name, bootstrap)),
                (MATCHED, matches.caliper, paired_difference(rest, matches, bootstrap)),
            ):
                said = {"response": response, "design": design, "caliper": caliper, "n": n}
                yield place | said | found.row() | {"difference": found.value}


def adjusted(response: Float[np.ndarray, " kinds"], matches: Matches) -> Float[np.ndarray, " kinds"]:
    """Take what matched covariates explain among the others out of every response.

    Pairs within a caliper still lie a little apart, on one side more often than not: where the response
    follows a covariate closely, that alone would show as a difference (Abadie and Imbens 2011).
    """
    columns = curves(*matches.covariates[[*matches.matched]].to_numpy().T)
    columns = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    others = ~matches.is_name & ~np.isnan(response)
    if not others.any():
        return response
    weights, *_ = np.linalg.lstsq(columns[others], response[others], rcond=1e-9)
    return response - columns @ weights


def paired_difference(
    response: Float[np.ndarray, " kinds"], matches: Matches, bootstrap: Bootstrap
) -> tuple[Estimate, int]:
    """Return the mean difference of names less their matches, and how many pairs it has.

    Pairs are drawn again. Below 5 there is no interval.
    """
    apart = response[matches.name] - response[matches.other]
    apart = apart[~np.isnan(apart)]
    return Scoring(_drawn(len(apart), len(apart)), bootstrap).mean(apart), len(apart)


def plain_difference(
    response: Float[np.ndarray, " kinds"], is_name: Bool[np.ndarray, " kinds"], bootstrap: Bootstrap
) -> tuple[Estimate, int]:
    """Return the difference of means of all names and all other texts, unmatched; texts are drawn again."""
    parts = [response[own & ~np.isnan(response)] for own in (is_name, ~is_name)]
    # Many texts are drawn in groups.
    names, others = (Scoring(_drawn(len(part), _GROUPS), bootstrap).mean(part) for part in parts)
    return names - others, len(parts[0])


def _drawn(n: int, most: int) -> Units:
    """Return what is drawn again: each of n things, or at most so many groups of them."""
    return Units(np.arange(n) % max(most, 1), min(n, most), n)


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _variance(values: Float[np.ndarray, " n"]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
