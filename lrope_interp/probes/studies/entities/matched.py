"""A stricter test of names in either language: each against a text as frequent, as expected and as long."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64
from scipy.optimize import linear_sum_assignment

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units, interval
from lrope_interp.probes.studies.entities.regression import RAW, curves, entropy_before_second
from lrope_interp.probes.studies.entities.signals import EntitySignal, Row, each_place
from lrope_interp.probes.studies.entities.text import EntityUnits, TextCounts

MATCHED = "matched"
CALIPERS = (0.35, 0.7, 1.05)
"""How far log frequency and log probability may lie apart, tried in this order until enough are matched."""

_FORBIDDEN = 1e6
_GROUPS = 1_024


@dataclass(frozen=True)
class NamedTexts:
    """Different texts, some of which are names, and what is held equal between the two kinds.

    Attributes:
        is_name: Which are names.
        names: Of the columns.
        values: One row a text.
        tolerance: How far each column may lie apart; NaN stands for the caliper, infinity for a column that
            is watched and not matched.
        exact: What must be the same.
    """

    is_name: Bool[np.ndarray, " kinds"]
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
        texts: What was matched.
    """

    name: Int64[np.ndarray, " pairs"]
    other: Int64[np.ndarray, " pairs"]
    caliper: float
    texts: NamedTexts

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.name)


def english_texts(
    units: EntityUnits, captured: Captured, facts: Mapping[str, Float[np.ndarray, " kinds"]]
) -> NamedTexts:
    """Return pairs of words to match: as frequent, as expected and about as long, with the same capitals.

    Frequency in training text and log P(second | first) lie within the caliper, lengths within two letters.
    The frequency of the first word and the model's entropy are watched, not matched.
    """
    names = ("log_count", "log_p", "length_first", "length_second", "log_first")
    capitals = zip(facts["capital_first"], facts["capital_second"], strict=True)
    entropy = units.mean_of_kinds(entropy_before_second(units, captured))
    return NamedTexts(
        units.kind_is_name(),
        (*names, "entropy"),
        np.stack([*(facts[name] for name in names), entropy], axis=1),
        np.array([np.nan, np.nan, 2.0, 2.0, np.inf, np.inf]),
        tuple(f"{first:.0f}{second:.0f}" for first, second in capitals),
    )


def chinese_texts(units: EntityUnits, captured: Captured, counts: TextCounts) -> NamedTexts:
    """Return words to match: of as many characters, as frequent and as expected.

    How often the string stands in training text and log P(second character | first) lie within the caliper.
    The model's entropy before the second character is watched, not matched.
    """
    log_count = np.array([counts.log_count(text) for text in units.texts])
    log_p = np.array([counts.log_p(text[0], text[:2]) for text in units.texts])
    entropy = units.mean_of_kinds(captured.entropy[units.inner[:, 0]].astype(np.float64))
    return NamedTexts(
        units.kind_is_name(),
        ("log_count", "log_p", "entropy"),
        np.stack([log_count, log_p, entropy], axis=1),
        np.array([np.nan, np.nan, np.inf]),
        tuple(str(len(text)) for text in units.texts),
    )


# No other matcher gives these pairs: `statistics.strata` holds all equal exactly and pairs nothing, and
# `definitions` takes the nearest few, each as often as it likes.
def match(texts: NamedTexts) -> Matches:
    """Match as many names as the narrowest sufficient caliper allows, at the least total distance.

    Every name goes to at most one other text and the other way round (optimal pair matching without
    replacement). A caliper is sufficient with 20 pairs; responses play no part in the choice.
    """
    names, others = np.flatnonzero(texts.is_name), np.flatnonzero(~texts.is_name)
    exact = np.array(texts.exact, dtype=object)
    found = Matches(names[:0], others[:0], CALIPERS[0], texts)
    for caliper in CALIPERS:
        tolerance = np.where(np.isnan(texts.tolerance), caliper, texts.tolerance)
        left, right = [names[:0]], [others[:0]]
        for key in sorted(set(exact[names].tolist())):
            a, b = names[exact[names] == key], others[exact[others] == key]
            if not len(b):
                continue
            apart = np.abs(texts.values[a, None, :] - texts.values[None, b, :]) / tolerance
            cost = np.where((apart <= 1 + 1e-9).all(axis=-1), apart.sum(axis=-1), _FORBIDDEN)
            rows, columns = linear_sum_assignment(cost)
            kept = cost[rows, columns] < _FORBIDDEN
            left.append(a[rows[kept]])
            right.append(b[columns[kept]])
        found = Matches(np.concatenate(left), np.concatenate(right), caliper, texts)
        if len(found) >= MIN_UNITS:
            break
    return found


def balance(matches: Matches) -> list[Row]:
    """Return standardised differences of means, names less others, before and after matching.

    The unit is the pooled standard deviation before matching, both times. Under 0.1 counts as balanced.
    """
    texts = matches.texts
    names, others = texts.values[texts.is_name], texts.values[~texts.is_name]
    rows: list[Row] = []
    for at, name in enumerate(texts.names):
        sd = np.sqrt((_variance(names[:, at]) + _variance(others[:, at])) / 2)
        before = _mean(names[:, at]) - _mean(others[:, at])
        after = _mean(texts.values[matches.name, at] - texts.values[matches.other, at])
        unit = sd if sd > 0 else np.nan
        sizes = {"n_names": len(names), "n_others": len(others), "n_matched": len(matches)}
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
    for place, numbers in each_place(signals):
        for response, of_units in responses.items():
            values = units.mean_of_kinds(of_units(numbers))
            for design, caliper, found in (
                (RAW, np.nan, plain_difference(values, matches.texts.is_name, bootstrap)),
                (
                    MATCHED,
                    matches.caliper,
                    paired_difference(adjusted(values, matches.texts), matches, bootstrap),
                ),
            ):
                numbers_of = zip(("difference", "ci_low", "ci_high", "n"), found, strict=True)
                yield place | {"response": response, "design": design, "caliper": caliper, **dict(numbers_of)}


def adjusted(response: Float[np.ndarray, " kinds"], texts: NamedTexts) -> Float[np.ndarray, " kinds"]:
    """Take what matched covariates explain among the others out of every response.

    Pairs within a caliper still lie a little apart, on one side more often than not: where the response
    follows a covariate closely, that alone would show as a difference (Abadie and Imbens 2011).
    """
    columns = curves(*texts.values[:, ~np.isinf(texts.tolerance)].T)
    columns = np.concatenate([np.ones((len(columns), 1)), columns], axis=1)
    others = ~texts.is_name & ~np.isnan(response)
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
    response: Float[np.ndarray, " kinds"], is_name: Bool[np.ndarray, " kinds"], bootstrap: Bootstrap
) -> tuple[float, float, float, int]:
    """Return the difference of means of all names and all other texts, unmatched; texts are drawn again."""
    parts = [response[own & ~np.isnan(response)] for own in (is_name, ~is_name)]
    value = _mean(parts[0]) - _mean(parts[1])
    if min(map(len, parts)) < MIN_UNITS:
        return value, np.nan, np.nan, len(parts[0])
    drawn = []
    for part in parts:
        index = np.arange(len(part)) % min(len(part), _GROUPS)  # many texts are drawn in groups
        units = Units(index, int(index.max()) + 1, len(part), is_document=False)
        drawn.append(bootstrap.ratio(units, part, np.ones(len(part))))
    return value, *interval(drawn[0] - drawn[1]), len(parts[0])


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _variance(values: Float[np.ndarray, " n"]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0
