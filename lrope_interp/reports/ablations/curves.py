"""Curves of an ablation study: loss against the factor of all increments, and layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.ablations.frames import (
    MAIN,
    at_main_where,
    empty_frame,
    find,
    interventions_of,
    whole_frame,
)
from lrope_interp.reports.ablations.numbers import squeezed, squeezed_ticks, with_bounds
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Column, Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.results import Result

_HEIGHT = 380
NEUTRAL = 1.0
_DESIGNS = {
    "up": ("layers 0 to this one", "#2f75b5", "solid", "circle"),
    "down": ("this layer to the last", "#c4501b", "solid", "square"),
    "restore": ("all layers but this one", "#4a515b", "dash", "diamond"),
    "single": ("this layer alone", "#7d8590", "dot", "circle-open"),
}


def scale_frame(result: Result) -> Frame:
    """Return the change against the factor, whole layers and all layers, layer 0 first.

    Factor 1 changes nothing by definition; it is there with 0 where the result leaves it out.

    Returns:
        The columns of `changes_frame`; empty where fewer than two factors were tried anywhere.
    """
    frame = at_main_where(whole_frame(result))
    frame = find(frame, "scale")
    frame = frame[frame["design"].isin(("single", "all")) & (frame["head"] < 0)]
    n_factors = frame.groupby("place")["parameter"].transform("nunique")
    frame = frame[n_factors > 1]
    if frame.empty:
        return empty_frame()
    neutral = frame[~frame["place"].isin(frame.loc[frame["parameter"] == NEUTRAL, "place"])]
    neutral = neutral.drop_duplicates("place").assign(parameter=NEUTRAL, value=0.0, low=0.0, high=0.0)
    frame = pd.concat([frame, neutral], ignore_index=True)
    depth = frame["layer"].where(frame["design"] == "single", np.inf)
    return frame.assign(depth=depth).sort_values(["depth", "parameter"]).reset_index(drop=True)


def plot_scale(result: Result) -> go.Figure:
    """Draw `scale_frame`: a line a layer and one for all, with interval bands, on squeezed axes.

    `customdata` of a line holds the changes as they are.
    """
    frame = scale_frame(result)
    figure = theme.new_figure(height=_HEIGHT)
    colours = theme.layer_colours(frame.loc[frame["design"] == "single", "layer"].tolist())
    for place, own in frame.groupby("place", sort=False):
        layer = int(own["layer"].iloc[0])
        colour, width = (colours[layer], 1.8) if own["design"].iloc[0] == "single" else (theme.ACCENT, 2.6)
        figure.add_traces(_banded(own, str(place), colour, width))
    factors = sorted(set(frame["parameter"]))
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    figure.add_vline(x=NEUTRAL, line={"color": theme.RULE, "width": 2})
    figure.update_xaxes(
        type="log", title_text="every increment times", tickmode="array", tickvals=factors,
        ticktext=[f"{factor:.2g}" for factor in factors],
    )  # fmt: skip
    _squeeze_axis(figure, frame)
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def _banded(own: Frame, name: str, colour: str, width: float) -> list[go.Scatter]:
    known = own[own["low"].notna() & own["high"].notna()]
    band = go.Scatter(
        x=[*known["parameter"], *known["parameter"][::-1]],
        y=[*squeezed(known["high"]), *squeezed(known["low"])[::-1]],
        fill="toself", fillcolor=theme.faded(colour, 0.16), line={"width": 0}, mode="lines",
        hoverinfo="skip", showlegend=False, name=f"{name}, 95 %", legendgroup=name,
    )  # fmt: skip
    line = go.Scatter(
        x=own["parameter"], y=squeezed(own["value"]), customdata=own["value"], mode="lines+markers",
        line={"color": colour, "width": width}, marker={"size": 6, "color": colour}, name=plain(name),
        legendgroup=name, text=_spoken(own), hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
    return [band, line] if len(known) else [line]


def _spoken(own: Frame) -> list[str]:
    return [
        f"{plain(row.place)} × {row.parameter:g}: {with_bounds(row.value, row.low, row.high)}"
        for row in own.itertuples()
    ]


def _squeeze_axis(figure: go.Figure, frame: Frame) -> None:
    low, high = _extent(frame["value"], frame["low"], frame["high"])
    places, words = squeezed_ticks(low, high)
    figure.update_yaxes(
        tickmode="array", tickvals=places, ticktext=words, title_text="change, nats per byte (squeezed axis)"
    )


def _extent(*columns: Column) -> tuple[float, float]:
    values = np.concatenate([np.asarray(column, dtype=float) for column in columns])
    values = np.append(values[np.isfinite(values)], 0.0)
    return float(values.min()), float(values.max())


def cumulative_interventions(result: Result) -> list[str]:
    """Return the interventions that were made on growing sets of layers, or on all layers but one."""
    frame = at_main_where(whole_frame(result))
    names = interventions_of(frame[frame["design"].isin(("up", "down", "restore"))])
    return sorted(names, key=lambda name: MAIN.index(name) if name in MAIN else len(MAIN))


def cumulative_frame(result: Result, intervention: str) -> Frame:
    """Return the change by layer for layers 0 to it, it to the last, all but it, and it alone.

    Returns:
        The columns of `changes_frame`, by `design` and `layer`; empty where the result has none.
    """
    frame = find(at_main_where(whole_frame(result)), intervention)
    frame = frame[frame["design"].isin(_DESIGNS) & (frame["head"] < 0)]
    return frame.sort_values(["design", "layer"]).reset_index(drop=True)


def plot_cumulative(result: Result, intervention: str) -> go.Figure:
    """Draw `cumulative_frame`: a line a design over layers, with 95 % intervals as whiskers."""
    frame = cumulative_frame(result, intervention)
    figure = theme.new_figure(height=_HEIGHT)
    for k, (design, (name, colour, dash, symbol)) in enumerate(_DESIGNS.items()):
        own = frame[frame["design"] == design]
        if len(own):
            figure.add_trace(_over_layers(own, 0.06 * (k - 1), (name, colour, dash, symbol)))
    layers = sorted(set(frame["layer"]))
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    figure.update_xaxes(title_text="this layer", tickmode="array", tickvals=layers, ticks="")
    figure.update_yaxes(title_text="change, nats per byte")
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


def _over_layers(own: Frame, nudge: float, look: tuple[str, str, str, str]) -> go.Scatter:
    name, colour, dash, symbol = look
    error: dict[str, Any] = {
        "type": "data", "symmetric": False, "array": own["high"] - own["value"],
        "arrayminus": own["value"] - own["low"], "color": colour, "thickness": 1.2, "width": 3,
    }  # fmt: skip
    words = [f"{plain(row.place)}: {with_bounds(row.value, row.low, row.high)}" for row in own.itertuples()]
    return go.Scatter(
        x=own["layer"] + nudge, y=own["value"], mode="lines+markers", error_y=error, name=name,
        line={"color": colour, "dash": dash, "width": 2},
        marker={"size": 7, "symbol": symbol, "color": colour},
        text=words, hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
