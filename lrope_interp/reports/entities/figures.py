"""A figure a test: a row a layer, the increments with their interval, and the controls below them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.entities.frames import INCREMENTS, SIGNAL_NAMES, Test, place_name, test_frame
from lrope_interp.reports.entities.words import with_interval
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.results import Result

_ROW = 50  # pixels
_LOOKS: dict[str, dict[str, Any]] = {
    INCREMENTS: {"color": "#2f75b5", "symbol": "circle", "size": 10},
    "untrained": {"color": theme.CONTROL, "symbol": "square-open", "size": 7, "line": {"width": 1.5}},
    "random_head": {"color": theme.CONTROL, "symbol": "diamond-open", "size": 7, "line": {"width": 1.5}},
    "lexical": {
        "color": "#4a515b",
        "symbol": "x-thin",
        "size": 7,
        "line": {"width": 1.6, "color": "#4a515b"},
    },
}
_PLACES = {INCREMENTS: -0.22, "untrained": 0.04, "random_head": 0.2, "lexical": 0.36}
_AXIS = {
    "share": "share of names that are smaller in the real order",
    "coefficient": "names less others, in mean increments of the layer",
    "difference": "names less others, in mean increments of the layer",
}


def plot_test(result: Result, test: Test) -> go.Figure:
    """Draw `test_frame`: filled dots are increments, open marks controls, whiskers intervals or ranges."""
    frame = test_frame(result, test)
    own = frame[frame["signal"] == INCREMENTS].reset_index(drop=True)
    places = {(line.layer, line.head): at for at, line in enumerate(own.itertuples(index=False))}
    cells = [[_value(line), line.verdict] for line in own.itertuples(index=False)]
    columns, heading = aligned(cells, ["increments", "verdict"])
    names = [named(place_name(*place), is_strong=True) for place in places]
    figure = rows_figure(names, columns, heading, test.null, height=_ROW)
    frame = frame.assign(
        y=[places[key] for key in zip(frame["layer"], frame["head"], strict=True)], kind=frame["signal"]
    )
    for signal, look in _LOOKS.items():
        rows = frame[frame["signal"] == signal]
        rows = rows.assign(y=rows["y"] + _PLACES[signal])
        if len(rows):
            trace = dots(rows, SIGNAL_NAMES[signal], look, _hovers(rows))
            figure.add_trace(trace.update(error_x_color=look["color"]))
    least = (0.3, 0.7) if test.value == "share" else (-0.02, 0.02)
    figure.update_xaxes(
        range=reach(frame["value"], frame["low"], frame["high"], least=least), title_text=_AXIS[test.value]
    )
    return figure


def _value(line: Any) -> str:
    return with_interval(line.value, line.low, line.high)


def _hovers(rows: Frame) -> list[str]:
    return [
        f"{place_name(line.layer, line.head)}, {SIGNAL_NAMES[line.signal]}: "
        f"{with_interval(line.value, line.low, line.high)} ({line.spread})"
        for line in rows.itertuples(index=False)
    ]
