"""The figures of the page on definitions and their uses."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.definitions.frames import (
    BEYOND,
    CONTROLS,
    NORMALISED,
    OVERALL,
    TRAINED,
    distance_frame,
    effects_frame,
    percent,
    with_bounds,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.results import Result

_LOOKS = {
    ("names", TRAINED): ("against two different names", {"color": theme.ACCENT}),
    ("roles", TRAINED): ("against another definition and use", {"color": "#2f75b5", "symbol": "square"}),
    ("same_name", TRAINED): ("against two uses of one name", {"color": "#092654", "symbol": "diamond"}),
    ("names", "untrained"): ("untrained model, two different names", {"color": theme.CONTROL, "symbol": "x"}),
}
_ROW = 62
_SPREAD = 0.2


def plot_effects(result: Result, kind: str, measure: str = NORMALISED) -> go.Figure:
    """Draw real less matched, a row a layer: each control beside the others, the untrained model grey."""
    frame = effects_frame(result, kind, measure)
    places = list(dict.fromkeys(frame["place"]))
    main = frame[(frame["control"] == "names") & (frame["model"] == TRAINED)]
    words = {row.place: with_bounds(row) for row in main.itertuples()}
    columns, heading = aligned([[words.get(place, "–")] for place in places], ["against different names"])
    names = [named(place, is_strong=place == OVERALL) for place in places]
    figure = rows_figure(names, columns, heading, 0.0, height=_ROW)
    for at, ((control, model), (name, marker)) in enumerate(_LOOKS.items()):
        own = frame[(frame["control"] == control) & (frame["model"] == model)]
        own = _in_percent(own.assign(y=own["y"] + (at - (len(_LOOKS) - 1) / 2) * _SPREAD))
        figure.add_trace(dots(own, name, marker, _hovers(own, name)))
    shown = _in_percent(frame[frame["model"] != BEYOND])
    figure.update_xaxes(
        title_text="definition to use, less pairs like it (%; below 0: drawn together)",
        range=reach(shown["value"], shown["low"], shown["high"], least=(-1.0, 1.0)),
    )
    figure.update_layout(margin={"t": 84})
    return figure


def plot_by_distance(result: Result, kind: str) -> go.Figure:
    """Draw the difference to two different names against token distance, a line a layer."""
    frame = _in_percent(
        distance_frame(result, kind).rename(
            columns={"difference": "value", "ci_low": "low", "ci_high": "high"}
        )
    )
    figure = theme.new_figure(height=380)
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    colours = theme.layer_colours([int(one) for one in frame.loc[frame["layer"] >= 0, "layer"]])
    for place, own in frame.groupby("place", sort=False):
        layer = int(own["layer"].iloc[0])
        colour, width = (colours[layer], 1.5) if layer >= 0 else (theme.ACCENT, 3)
        figure.add_trace(
            go.Scatter(
                x=(own["distance"] + own["distance_high"]) / 2, y=own["value"], name=str(place),
                mode="lines+markers", line={"color": colour, "width": width},
                error_y={
                    "type": "data", "symmetric": False, "array": own["high"] - own["value"],
                    "arrayminus": own["value"] - own["low"], "thickness": 1, "width": 2,
                    "visible": layer < 0,
                },
                text=_hovers(own, "against two different names"), hovertemplate="%{text}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="token distance")
    figure.update_yaxes(title_text="less pairs like it (%)")
    return figure


def table_frame(result: Result, kind: str, measure: str) -> Frame:
    """Return every row of one kind and measure as words."""
    frame = effects_frame(result, kind, measure)
    rows = [
        {
            "Row": row.place,
            "Held against": CONTROLS.get(str(row.control), str(row.control)),
            "Model": row.model,
            "Pairs": percent(pd.NA if row.model == BEYOND else _log(row.real)),
            "Controls": percent(pd.NA if row.model == BEYOND else _log(row.matched)),
            "Difference": with_bounds(row),
            "Shows": row.shows,
            "n": f"{row.n:,}",
            "Files": f"{row.n_documents:,}",
        }
        for row in frame.itertuples()
    ]
    return pd.DataFrame(rows)


def _log(ratio: float) -> float:
    import math

    return math.log(ratio) if ratio > 0 else math.nan


def _in_percent(frame: Frame) -> Frame:
    import numpy as np

    changed = {name: 100 * np.expm1(frame[name].astype(float)) for name in ("value", "low", "high")}
    return frame.assign(**changed)


def _hovers(frame: Frame, name: str) -> list[str]:
    return [
        f"<b>{row.place}</b>, {name}<br>{row.value:+.2f} % [{row.low:+.2f}, {row.high:+.2f}]"
        f"<br>{row.n:,} pairs of {row.n_documents:,} files"
        for row in frame.itertuples()
    ]
