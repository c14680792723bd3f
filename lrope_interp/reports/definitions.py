"""The page of `lrope-interp study definitions`: are definitions and their uses drawn together?"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of, worded
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import is_number, listed
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
DRAWN, APART, OPEN, UNKNOWN = "drawn together", "pushed apart", "not shown", "not measured"
MARKS = {DRAWN: ("▲", "won"), APART: ("▼", "lost"), OPEN: ("=", "open")}
_PAIRED = ("names", "same_name", "roles")
_LEAST_PAIRS = 20


def shows(low: Any, high: Any) -> str:
    """Say what an interval of a difference shows."""
    if not (is_number(low) and is_number(high)):
        return UNKNOWN
    return DRAWN if float(high) < 0 else APART if float(low) > 0 else OPEN


def _places(frame: Frame) -> list[str]:
    keys = zip(frame["layer"], frame["head"], strict=True)
    return [
        OVERALL if layer < 0 else f"layer {layer}" if head < 0 else f"layer {layer} · head {head}"
        for layer, head in keys
    ]


def effects_frame(result: Result, kind: str, measure: str = NORMALISED) -> Frame:
    """Return the differences of one kind and measure, as changes in per cent.

    Rows are layers (and heads) with their mean last; every control and model has all of them.

    Returns:
        The columns of the table `definitions`, and `place`, `y`, `value`, `low`, `high`, `shows`.
    """
    frame = table_of(result, "definitions")
    frame = frame[(frame["kind"] == kind) & (frame["measure"] == measure)].reset_index(drop=True)
    places = _places(frame)
    order = {name: at for at, name in enumerate(dict.fromkeys(places))}
    said = [shows(low, high) for low, high in zip(frame["ci_low"], frame["ci_high"], strict=True)]
    return _in_percent(frame.assign(place=places, y=[order[one] for one in places], shows=said))


def distance_frame(result: Result, kind: str) -> Frame:
    """Return the difference by token distance, as `effects_frame` does."""
    frame = table_of(result, "by_distance")
    frame = frame[frame["kind"] == kind].reset_index(drop=True)
    return _in_percent(frame.assign(place=_places(frame)))


def _in_percent(frame: Frame) -> Frame:
    """Turn differences of logarithms into changes in per cent."""
    columns = {"value": "difference", "low": "ci_low", "high": "ci_high"}
    return frame.assign(**{name: 100 * np.expm1(numbers(frame[column])) for name, column in columns.items()})


def kinds_of(result: Result) -> list[str]:
    """Return the kinds of which enough pairs were measured to draw, in the order of `KINDS`."""
    counts = table_of(result, "counts")
    found = set(counts.loc[counts["n_measured"] >= _LEAST_PAIRS, "kind"])
    return [kind for kind in KINDS if kind in found]


def verdicts(result: Result) -> Verdicts:
    """Return one row a kind, of the mean of all layers: the least clear comparison, and what all show."""
    counts = table_of(result, "counts").set_index("kind")["n_measured"]
    rows = [_verdict(result, kind, int(counts[kind])) for kind in KINDS if kind in counts.index]
    frame = pd.DataFrame(rows, columns=[*COLUMNS])
    return Verdicts(
        headline=_headline(frame),
        frame=frame,
        names={
            "what": "Kind", "where": "Pairs", "value": "Against other names, %",
            "control": "Least clear against", "difference": "Against that, %",
        },
        digits=2,
        caption="Normalised distance, mean of all layers; below 0: closer than matched pairs. Brackets: 95 % "
        "over files. A verdict takes every comparison, an untrained model's among them.",
        marks=MARKS,
    )  # fmt: skip


def _verdict(result: Result, kind: str, n: int) -> dict[str, Any]:
    """Drawn together only where every matched control and the untrained model say so."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    row |= {"what": f"{kind}s", "where": f"{n:,}", "control": "", "verdict": UNKNOWN}
    frame = effects_frame(result, kind)
    frame = frame[frame["place"] == OVERALL]
    asked = {name: (name, TRAINED) for name in _PAIRED} | {"untrained model": ("names", BEYOND)}
    lines: dict[str, dict[str, Any]] = {}
    for name, (control, model) in asked.items():
        own = frame[(frame["control"] == control) & (frame["model"] == model)]
        found = own[["value", "low", "high", "shows"]].to_dict("records")
        # What was not measured, the untrained model first of all, is not beaten.
        lines[CONTROLS.get(name, name)] = found[0] if found else {"value": np.nan, "shows": UNKNOWN}
    said = {line["shows"] for line in lines.values()}
    main = lines[CONTROLS["names"]]
    if n < _LEAST_PAIRS or said == {UNKNOWN} or not is_number(main["value"]):
        return row
    side = 1 if main["value"] < 0 else -1  # which bound is the one to beat

    def left(name: str) -> float:
        line = lines[name]
        return math.inf if line["shows"] == UNKNOWN else line["high"] if side > 0 else -line["low"]

    least = max(lines, key=left)
    row |= {"control": least, "verdict": said.pop() if len(said) == 1 else OPEN}
    row |= {name: main.get(name, np.nan) for name in ("value", "low", "high")}
    line = lines[least]
    return row | {
        "difference": line["value"], "difference_low": line.get("low"), "difference_high": line.get("high")
    }  # fmt: skip


_FOUND = {
    DRAWN: "{} and definitions are drawn together beyond every comparison",
    APART: "{} and definitions are pushed apart beyond every comparison",
    OPEN: "no difference beyond every comparison is shown for {}",
    UNKNOWN: "{} are not measured",
}


def _headline(frame: Frame) -> str:
    parts = []
    for verdict, words in _FOUND.items():
        kinds = frame.loc[frame["verdict"] == verdict, "what"].tolist()
        parts += [words.format(listed(kinds))] if kinds else []
    said = "; ".join(parts) or "no definition was found"
    return f"{said[0].upper()}{said[1:]}."


def n_layers(result: Result, kind: str, what: str) -> tuple[int, int]:
    """Return how many layers show something against other names, and how many there are."""
    frame = effects_frame(result, kind)
    is_layer = (frame["model"] == TRAINED) & (frame["place"] != OVERALL) & (frame["control"] == "names")
    return int((frame.loc[is_layer, "shows"] == what).sum()), int(is_layer.sum())


def effects_table(result: Result, kind: str, measure: str) -> Frame:
    """Return every row of one kind and measure as text."""
    frame = effects_frame(result, kind, measure)
    is_own = frame["model"] != BEYOND
    ratios = {name: (100 * (frame[name] - 1)).where(is_own) for name in ("real", "matched")}
    return worded(frame.assign(control=frame["control"].replace(CONTROLS), **ratios), {
        "Row": "place", "Held against": "control", "Model": "model", "Pairs, %": "real",
        "Controls, %": "matched", "Difference, %": ("value", "low", "high"), "Shows": "shows", "n": "n",
        "Files": "n_documents",
    })  # fmt: skip


def counts_table(result: Result) -> Frame:
    """Return how many pairs the text has, and how many of them are measured."""
    return worded(table_of(result, "counts").replace({"kind": KINDS}), {
        "Kind": "kind", "Found": "n_found", "Too far apart": "n_far", "Shared with training": "n_shared",
        "Measured": "n_measured",
    })  # fmt: skip


def matches_table(result: Result) -> Frame:
    """Return how well the controls match, on average."""
    table = table_of(result, "matches")
    return worded(table[table["n"] > 0].replace({"control": CONTROLS}), {
        "Kind": "kind", "Held against": "control", "Pairs with a match": "n", "Matches": "n_controls",
        "Off by tokens": "apart_tokens", "Off by line ends": "apart_lines",
    })  # fmt: skip


_LOOKS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("names", TRAINED): ("against two different names", {"color": theme.ACCENT}),
    ("roles", TRAINED): ("against another definition and use", {"color": "#2f75b5", "symbol": "square"}),
    ("same_name", TRAINED): ("against two uses of one name", {"color": "#092654", "symbol": "diamond"}),
    ("names", "untrained"): ("untrained model, two different names", {"color": theme.CONTROL, "symbol": "x"}),
}
_ROW, _MANY = 48, 12  # pixels; rows that get less
_SPREAD = 0.2


def chosen(result: Result, kind: str | None, measure: str = NORMALISED) -> str:
    """Return the kind that is drawn, the first if none is named."""
    known = kinds_of(result)
    found = next(iter(known), None) if kind is None else kind
    if found is None or found not in known or measure not in MEASURES:
        raise LRopeError(
            f"{kind} in {measure} distance is not measured; measured are {', '.join(known) or 'none'} in "
            f"{' and '.join(MEASURES)} distance"
        )
    return found


def plot_effects(result: Result, kind: str | None = None, measure: str = NORMALISED) -> go.Figure:
    """Draw real less matched, a row a layer: each control beside the others, the untrained model grey."""
    frame = effects_frame(result, chosen(result, kind, measure), measure)
    places = list(dict.fromkeys(frame["place"]))
    main = frame[(frame["control"] == "names") & (frame["model"] == TRAINED)]
    words = dict(zip(main["place"], worded(main, {"": ("value", "low", "high")})[""], strict=True))
    columns, heading = aligned([[words.get(place, "–")] for place in places], ["against different names, %"])
    names = [named(place, is_strong=place == OVERALL) for place in places]
    height = _ROW if len(places) <= _MANY else 36
    figure = rows_figure(names, columns, heading, 0.0, height=height)
    for at, ((control, model), (name, marker)) in enumerate(_LOOKS.items()):
        own = frame[(frame["control"] == control) & (frame["model"] == model)]
        if len(own):
            shifted = own.assign(y=own["y"] + (at - (len(_LOOKS) - 1) / 2) * _SPREAD)
            figure.add_trace(dots(shifted, name, {"size": 8} | marker, _hovers(own, name)))
    shown = frame[frame["model"] != BEYOND]
    figure.update_xaxes(
        title_text="definition to use, less pairs like it (%; below 0: drawn together)",
        range=reach(shown["value"], shown["low"], shown["high"], least=(-1.0, 1.0)),
    )
    layout: Any = figure.layout
    figure.update_layout(margin={"t": 84}, height=layout.height + 26)
    return figure


def plot_by_distance(result: Result, kind: str | None = None) -> go.Figure:
    """Draw the difference to two different names against token distance, a line a layer."""
    frame = distance_frame(result, chosen(result, kind))
    figure = theme.new_figure(height=380)
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    colours = theme.layer_colours([int(one) for one in frame.loc[frame["layer"] >= 0, "layer"]])
    for place, own in frame.groupby("place", sort=False):
        layer = int(own["layer"].iloc[0])
        colour, width = (colours[layer], 1.5) if layer >= 0 else (theme.ACCENT, 3)
        figure.add_scatter(
            x=(own["distance"] + own["distance_high"]) / 2, y=own["value"], name=str(place),
            mode="lines+markers", line={"color": colour, "width": width},
            error_y={
                "type": "data", "symmetric": False, "array": own["high"] - own["value"],
                "arrayminus": own["value"] - own["low"], "thickness": 1, "width": 2, "visible": layer < 0,
            },
            text=_hovers(own, "against two different names"), hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="token distance")
    figure.update_yaxes(title_text="less pairs like it (%)")
    return figure


def _hovers(frame: Frame, name: str) -> list[str]:
    return [
        f"<b>{row.place}</b>, {name}<br>{row.value:+.2f} % [{row.low:+.2f}, {row.high:+.2f}]"
        f"<br>{row.n:,} pairs of {row.n_documents:,} files"
        for row in frame.itertuples()
    ]


FIGURES: dict[str, Callable[..., go.Figure]] = {
    "effects": plot_effects,
    "by_distance": plot_by_distance,
}


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides: the kinds that are drawn, and what can be picked."""
    kinds = kinds_of(result)
    return {"kinds": kinds, "cells": [(kind, measure, None) for kind in kinds for measure in MEASURES]}
