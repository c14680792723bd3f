"""What the page on definitions and their uses draws: the tables of the result, chosen and named."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.wording import is_number
from lrope_interp.results import Result

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
TRAINED, BEYOND = "trained", "trained - untrained"
KINDS = {
    "call": "functions and classes, and where they are called",
    "method": "methods, and where they are called on self or cls",
    "variable": "variables, and where they are read",
}
CONTROLS = {
    "names": "two different names",
    "same_name": "two uses of one definition",
    "roles": "a definition and the use of another name",
    "stratified": "two different names, by strata",
}
OVERALL = "all layers"
DRAWN, APART, OPEN, UNKNOWN = "drawn together", "pushed apart", "no difference shown", "not measured"
LEAST_PAIRS = 20


def effects_frame(result: Result, kind: str, measure: str = NORMALISED) -> Frame:
    """Return the differences of one kind and measure: `place`, `y`, `value`, `low`, `high`, `shows`.

    Rows are layers (and heads) with their mean last; every control and model has all of them.
    """
    frame = table_of(result, "definitions")
    frame = frame[(frame["kind"] == kind) & (frame["measure"] == measure)].reset_index(drop=True)
    places = [_place(row) for row in frame.itertuples()]
    order = {name: at for at, name in enumerate(dict.fromkeys(places))}
    return frame.assign(
        place=places,
        y=[order[one] for one in places],
        value=numbers(frame["difference"]),
        low=numbers(frame["ci_low"]),
        high=numbers(frame["ci_high"]),
        shows=[shows(low, high) for low, high in zip(frame["ci_low"], frame["ci_high"], strict=True)],
    )


def kinds_of(result: Result) -> list[str]:
    """Return the kinds of which enough pairs were measured to draw, in the order of `KINDS`."""
    counts = table_of(result, "counts")
    found = set(counts.loc[counts["n_measured"] >= LEAST_PAIRS, "kind"])
    return [kind for kind in KINDS if kind in found]


def distance_frame(result: Result, kind: str) -> Frame:
    """Return the difference by token distance, with `place` as in `effects_frame`."""
    frame = table_of(result, "by_distance")
    frame = frame[frame["kind"] == kind].reset_index(drop=True)
    return frame.assign(place=[_place(row) for row in frame.itertuples()])


def shows(low: object, high: object) -> str:
    """Say what an interval of a difference shows."""
    if not (is_number(low) and is_number(high)):
        return UNKNOWN
    return DRAWN if float(high) < 0 else APART if float(low) > 0 else OPEN  # pyright: ignore[reportArgumentType]


def percent(value: object, digits: int = 1) -> str:
    """Write a difference of logarithms as a change in per cent."""
    if not is_number(value):
        return "–"
    found = 100 * math.expm1(float(value))  # pyright: ignore[reportArgumentType]
    return f"{found:+.{digits}f} %"


def with_bounds(row: Any) -> str:
    """Write a difference with its interval, in per cent."""
    if not (is_number(row.low) and is_number(row.high)):
        return percent(row.value)
    return f"{percent(row.value)} [{percent(row.low)}, {percent(row.high)}]".replace(" %,", ",").replace(
        " %]", "]"
    )


def overall(result: Result, kind: str, control: str, model: str = TRAINED) -> Any:
    """Return the row of the mean over all layers, or None where it was not measured."""
    frame = effects_frame(result, kind)
    own = frame[(frame["control"] == control) & (frame["model"] == model) & (frame["place"] == OVERALL)]
    return next(own.itertuples(), None) if len(own) else None


def n_layers(result: Result, kind: str, control: str, what: str) -> tuple[int, int]:
    """Return how many rows of the trained model show something, and how many there are."""
    frame = effects_frame(result, kind)
    own = frame[(frame["control"] == control) & (frame["model"] == TRAINED) & (frame["place"] != OVERALL)]
    return int(np.sum(own["shows"] == what)), len(own)


def _place(row: Any) -> str:
    if row.layer < 0:
        return OVERALL
    return f"layer {row.layer}" if row.head < 0 else f"layer {row.layer} · head {row.head}"
