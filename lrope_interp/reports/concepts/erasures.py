"""Whether increments use a concept: what happens when it is erased from what a layer's head reads."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lrope_interp.reports.ablations.numbers import with_bounds
from lrope_interp.reports.concepts.names import tick
from lrope_interp.reports.concepts.panels import BLUE, COLUMNS, Look, Panels, empty_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.wording import listed
from lrope_interp.results import Result

_RANDOM = Look("random directions erased, as many", theme.CONTROL, "diamond")
_SHUFFLED = Look("the same spans, concepts shuffled", "#8c6d31", "square")


@dataclass(frozen=True)
class Erasure:
    """One figure: series of (arm, metric), each with its look.

    Attributes:
        title: Its heading.
        y_title: What is measured.
        series: By name, arm and metric.
        looks: By name.
    """

    title: str
    y_title: str
    series: dict[str, tuple[str, str]]
    looks: dict[str, Look]


CHANGE = Erasure(
    "How far increments move",
    "mean |change|",
    {
        "leace": ("leace", "increment_change"),
        "elsewhere": ("leace", "increment_change_elsewhere"),
        "shuffled": ("shuffled", "increment_change"),
        "random": ("random", "increment_change"),
    },
    {
        "leace": Look("concept erased, at its bytes", BLUE),
        "elsewhere": Look("concept erased, at other bytes", "#5b9bd0", "circle-open"),
        "shuffled": _SHUFFLED,
        "random": _RANDOM,
    },
)
CONTRAST = Erasure(
    "How far increments tell the concept, before and after",
    "own less other spans",
    {
        "before": ("leace", "contrast_before"),
        "after": ("leace", "contrast_after"),
        "shuffled": ("shuffled", "contrast_after"),
        "random": ("random", "contrast_after"),
    },
    {
        "before": Look("before", theme.INK, "circle-open"),
        "after": Look("concept erased", BLUE),
        "shuffled": _SHUFFLED,
        "random": _RANDOM,
    },
)
_LOOKS = {"leace": Look("concept erased", BLUE), "shuffled": _SHUFFLED, "random": _RANDOM}
LOSS = Erasure(
    "What the loss becomes, at the concept's bytes",
    "nats per byte more",
    {
        "leace": ("leace", "nats_per_byte_concept"),
        "shuffled": ("shuffled", "nats_per_byte_concept"),
        "random": ("random", "nats_per_byte_concept"),
    },
    _LOOKS,
)
WHOLE_LOSS = Erasure(
    "What the loss becomes, over all bytes",
    "nats per byte more",
    {
        "leace": ("leace", "nats_per_byte"),
        "shuffled": ("shuffled", "nats_per_byte"),
        "random": ("random", "nats_per_byte"),
    },
    _LOOKS,
)
ERASURES = (CHANGE, CONTRAST, LOSS, WHOLE_LOSS)


def erased_families(result: Result) -> list[str]:
    """Return the families that were erased."""
    table = table_of(result, "erasures")
    return [] if table.empty else list(dict.fromkeys(table["family"].astype(str)))


def erasure_frame(result: Result, erasure: Erasure, family: str) -> Frame:
    """Return the numbers of one figure, a panel a concept, layers along the axis.

    Returns:
        The columns of `concept_panels.Panels`, with `layer`.
    """
    table = table_of(result, "erasures")
    if table.empty:
        return empty_frame().assign(layer=-1)
    table = table[table["family"] == family]
    parts = []
    for name, (arm, metric) in erasure.series.items():
        own = table[(table["arm"] == arm) & (table["metric"] == metric)]
        parts.append(
            own.assign(
                panel=own["concept"].astype(str), series=name, x=[tick(layer) for layer in own["layer"]],
                value=numbers(own["value"]), low=numbers(own["ci_low"]), high=numbers(own["ci_high"]),
                spread="interval",
            )
        )  # fmt: skip
    found = pd.concat(parts, ignore_index=True)
    found = found[found["value"].notna()]
    order = {name: i for i, name in enumerate(dict.fromkeys(table["concept"].astype(str)))}
    found = found.assign(order=[order[name] for name in found["panel"]])
    ordered = found.sort_values(["order", "layer"], kind="stable").reset_index(drop=True)
    return ordered[[*COLUMNS, "layer"]]


def erasure_panels(result: Result, erasure: Erasure, family: str) -> Panels:
    """Return `erasure_frame` ready to be drawn."""
    return Panels(erasure_frame(result, erasure, family), erasure.looks, erasure.y_title, reference=0.0)


def erasure_sentence(result: Result) -> str:
    """Say where increments tell a concept less, and where more is lost, than with the concepts shuffled.

    How far increments move decides nothing: the directions of a shuffle move them too, as it happens.
    """
    table = table_of(result, "erasures")
    if table.empty:
        return ""
    table = table.assign(**{name: numbers(table[name]) for name in ("value", "ci_low", "ci_high")})
    own = table[table["arm"] == "beyond_shuffled"]
    if own.empty or own["ci_low"].isna().all():
        return "Concepts were erased from what heads read; without intervals that is no verdict."
    taken = _told(_taken(table), "increments tell a concept less")
    lost = _told(own[own["metric"] == "nats_per_byte_concept"], "more is lost at its bytes")
    return (
        f"When a concept is erased from what a head reads: {taken}; {lost} (each against erasing shuffled "
        "concepts of the same spans)."
    )


def _taken(table: Frame) -> Frame:
    """Return how much of a contrast an erasure took beyond the shuffled one, positive where it did."""
    keys = ["family", "concept", "layer"]
    before = table[(table["arm"] == "leace") & (table["metric"] == "contrast_before")]
    after = table[(table["arm"] == "beyond_shuffled") & (table["metric"] == "contrast_after")]
    both = after.merge(before[[*keys, "value"]], on=keys, suffixes=("", "_before"))
    is_turned = both["value_before"] > 0
    low, high = both["ci_low"].copy(), both["ci_high"].copy()
    return both.assign(
        value=both["value"].where(~is_turned, -both["value"]),
        ci_low=low.where(~is_turned, -high),
        ci_high=high.where(~is_turned, -low),
    )


def _told(rows: Frame, verb: str) -> str:
    above = rows[rows["ci_low"] > 0].sort_values("value", ascending=False, kind="stable")
    if above.empty:
        return f"nowhere is it shown that {verb}"
    names = [
        f"{row['concept']}, layer {row['layer']} ({with_bounds(row['value'], row['ci_low'], row['ci_high'])})"
        for _, row in above.head(2).iterrows()
    ]
    return f"{verb} in {len(above)} of {len(rows)} places, most for {listed(names)}"
