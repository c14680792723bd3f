"""How far the increments step by the kind of byte: a table of colours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.boundaries.frames import CLASS_ORDER, classes_frame, in_order
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.results import Result

_SCALE = [[0, "#b5651d"], [0.25, "#ecc9a5"], [0.5, "#ffffff"], [0.75, "#9fc3e2"], [1, "#1c5f9e"]]


def plot_classes(result: Result, language: str | None = None) -> go.Figure:
    """Draw the mean increment of each byte class over the layer's mean, as a table of colours.

    The numbers are `mean_normalised` of `classes_frame`; colours are even in the ratio, white is the
    layer's mean.
    """
    frame = classes_frame(result, language)
    classes = in_order(frame["byte_class"].astype(str), CLASS_ORDER)[::-1]
    places = list(dict.fromkeys(frame.sort_values(["layer", "head"])["place"]))
    grid = frame.pivot_table(index="byte_class", columns="place", values="mean_normalised", dropna=False)
    grid = grid.reindex(index=classes, columns=places)
    values = grid.to_numpy(dtype=float)
    is_narrow = len(places) > 14
    counts = frame.groupby("byte_class")["n"].max()
    figure = theme.new_figure(height=90 + 26 * max(len(classes), 1))
    figure.add_trace(_cells(values, [plain(name) for name in classes], places, is_narrow))
    ticks = [
        f"{plain(name)}  <span style='color:#8b95a1'>{int(counts.get(name, 0)):,}</span>" for name in classes
    ]
    figure.update_layout(margin={"l": 190, "r": 12, "t": 8, "b": 40})
    figure.update_xaxes(showline=False, ticks="", side="bottom", tickangle=-90 if is_narrow else 0)
    figure.update_yaxes(
        showline=False,
        ticks="",
        automargin=False,
        tickmode="array",
        tickvals=[plain(n) for n in classes],
        ticktext=ticks,
    )
    return figure


def _cells(values: Any, classes: list[str], places: list[str], is_narrow: bool) -> go.Heatmap:
    """Colour ratios evenly in their logarithm, and write them out where there is room."""
    logs = np.log2(np.where(values > 0, values, np.nan))
    reach = max(1.0, float(np.nanmax(np.abs(logs), initial=1.0)))
    return go.Heatmap(
        z=logs,
        x=places,
        y=classes,
        customdata=values,
        text=[["" if is_narrow or math.isnan(v) else f"{v:.2f}" for v in row] for row in values],
        texttemplate="%{text}",
        textfont={"size": 12},
        colorscale=_SCALE,
        zmin=-reach,
        zmax=reach,
        xgap=2,
        ygap=2,
        showscale=False,
        hovertemplate="%{y}, %{x}: %{customdata:.3f} times the mean<extra></extra>",
    )
