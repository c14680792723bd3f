"""A figure a test: a row a layer, the increments with their interval, and the controls below them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.entities.tables import (
    CONTROL,
    INCREMENTS,
    MARKS,
    SIGNALS,
    frame_of,
    test_of,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import worded
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import place
from lrope_interp.results import Result

_DARK = "#4a515b"
_LOOKS: dict[str, dict[str, Any]] = {
    INCREMENTS: {"color": "#2f75b5", "symbol": "circle", "size": 9},
    "untrained": {"color": theme.CONTROL, "symbol": "square-open", "size": 7, "line": {"width": 1.5}},
    "random_head": {"color": theme.CONTROL, "symbol": "diamond-open", "size": 7, "line": {"width": 1.5}},
    "lexical": {"color": _DARK, "symbol": "x-thin", "size": 7, "line": {"width": 1.6, "color": _DARK}},
}
_PLACES = {INCREMENTS: -0.24, "untrained": 0.04, "random_head": 0.2, "lexical": 0.36}  # of a row
_ROW, _MANY = 38, 12  # pixels; rows that get less


def plot_test(result: Result, test: str = "regression") -> go.Figure:
    """Draw `frame_of` a test: filled dots are increments, open marks controls, bars intervals or ranges."""
    frame, asked = frame_of(result, test), test_of(test)
    own = frame[frame["signal"] == INCREMENTS]
    places = {key: at for at, key in enumerate(zip(own["layer"], own["head"], strict=True))}
    words = [f"{MARKS.get(one, ('', ''))[0]} {one.replace(CONTROL, 'control too')}" for one in own["verdict"]]
    columns, heading = aligned([[word.strip()] for word in words], ["verdict"])
    names = [named(place(*key), is_strong=True) for key in places]
    height = _ROW if len(places) <= _MANY else 26
    figure = rows_figure(names, columns, heading, asked.null, height=height)
    heights = [places[key] for key in zip(frame["layer"], frame["head"], strict=True)]
    for signal, look in _LOOKS.items():
        rows = frame.assign(y=heights)[frame["signal"] == signal]
        if len(rows):
            numbers = worded(rows, {"shown": ("value", "low", "high")}, digits=4)["shown"]
            hover = [
                f"{place(line.layer, line.head)}, {SIGNALS[signal]}: {shown} ({line.spread})"
                for line, shown in zip(rows.itertuples(index=False), numbers, strict=True)
            ]
            trace = dots(rows.assign(y=rows["y"] + _PLACES[signal]), SIGNALS[signal], look, hover)
            figure.add_trace(trace.update(error_x_color=look["color"]))
    is_share = asked.value == "share"
    least = (0.3, 0.7) if is_share else (-0.02, 0.02)
    title = (
        "share of names smaller in their own order" if is_share else "names less others, in mean increments"
    )
    figure.update_xaxes(
        range=reach(frame["value"], frame["low"], frame["high"], least=least), title_text=title, nticks=7
    )
    return figure
