"""The figures of context costs: ratios to fixed RoPE over context, and errors of angles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.context.frames import PHASES, arm_word, contexts_of, learned_arms, phase_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

_COLOURS = {
    "shared": theme.layer_colour(1, 5),
    "shared_per_head": theme.layer_colour(2, 5),
    "per_layer": theme.layer_colour(3, 5),
    "per_layer_per_head": theme.layer_colour(4, 5),
}
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_METHODS = {"float64": "the model's path", "float32": "a sum in float32"}


def plot_time(result: Result, phases: Sequence[str]) -> go.Figure:
    """Draw the time of some phases over that of fixed RoPE; bars are the quartiles of paired rounds."""
    figure = _over_context(result, "time, of fixed RoPE's")
    for k, phase in enumerate(phases):
        _add_lines(figure, result, phase, "ratio_to_fixed", theme.DASHES[k], has_names=len(phases) > 1)
    return figure


def plot_memory(result: Result, phases: Sequence[str]) -> go.Figure:
    """Draw the peak of memory of some phases over that of fixed RoPE."""
    figure = _over_context(result, "peak memory, of fixed RoPE's")
    for k, phase in enumerate(phases):
        _add_lines(figure, result, phase, "peak_ratio", theme.DASHES[k], has_names=True)
    return figure


def plot_angles(result: Result) -> go.Figure:
    """Draw the largest angle error of each method over context, with the limit."""
    angles: Frame = result.tables["angles"]
    targets: Frame = result.tables["targets"]
    limit = float(targets.loc[targets["target"] == "angle", "limit"].iloc[0])
    figure = theme.new_figure(height=340)
    for method, colour in (("float64", theme.layer_colour(3, 5)), ("float32", theme.CONTROL)):
        own = angles[angles["method"] == method].sort_values("context")
        figure.add_trace(
            go.Scatter(
                x=own["context"], y=own["max_error"], mode="lines+markers", name=_METHODS[method],
                line={"color": colour, "width": 2}, marker={"size": 7},
                hovertemplate=f"{_METHODS[method]}, %{{x:,}} tokens: %{{y:.2e}} rad<extra></extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=limit, line={"color": theme.ACCENT, "width": 1, "dash": "dash"})
    figure.add_annotation(  # on a logarithmic axis an annotation's y is the exponent
        x=0, xref="paper", xanchor="left", y=math.log10(limit), yanchor="bottom", showarrow=False,
        text=f"asked: {limit:g}", font={"size": 11, "color": theme.ACCENT},
    )  # fmt: skip
    _context_axis(figure, result)
    figure.update_yaxes(title_text="largest error, radians", type="log", exponentformat="power", dtick=1)
    figure.update_layout(legend=_LEGEND, margin={"t": 52})
    return figure


def _over_context(result: Result, title: str) -> go.Figure:
    figure = theme.new_figure(height=340)
    figure.add_hline(y=1, line={"color": theme.CONTROL, "width": 1})
    _context_axis(figure, result)
    figure.update_yaxes(title_text=title, tickformat=".1%")
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


def _context_axis(figure: go.Figure, result: Result) -> None:
    contexts = contexts_of(result)
    figure.update_xaxes(
        title_text="context, tokens", type="log", tickvals=contexts, ticktext=[f"{n:,}" for n in contexts]
    )


def _add_lines(
    figure: go.Figure, result: Result, phase: str, column: str, dash: str, *, has_names: bool
) -> None:
    frame = phase_frame(result, phase)
    for arm in learned_arms(result):
        own = frame[(frame["arm"] == arm) & frame[column].notna()]
        if own.empty:
            continue
        name = f"{arm_word(arm)}, {PHASES[phase]}" if has_names else arm_word(arm)
        figure.add_trace(
            go.Scatter(
                x=own["context"], y=own[column], name=name, mode="lines+markers",
                error_y=_bars(own) if column == "ratio_to_fixed" else None,
                line={"color": _COLOURS.get(arm, theme.INK), "width": 2, "dash": dash}, marker={"size": 7},
                hovertemplate=f"{name}, %{{x:,}} tokens: %{{y:.2%}}<extra></extra>",
            )
        )  # fmt: skip


def _bars(rows: Any) -> dict[str, Any]:
    """Return the quartiles as bars around the median; none where there was one round."""
    above, below = rows["ratio_q3"] - rows["ratio_to_fixed"], rows["ratio_to_fixed"] - rows["ratio_q1"]
    return {"array": above.fillna(0), "arrayminus": below.fillna(0), "thickness": 1.2, "width": 3}
