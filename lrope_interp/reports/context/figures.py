"""The figures of context costs: ratios to fixed RoPE over context, and errors of angles."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.context.tables import PHASES, arm_word, contexts_of, learned_arms, phase_frame
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
_HEIGHT = 320


def plot_time(result: Result, phase: str = "forward") -> go.Figure:
    """Draw the time of a phase over that of fixed RoPE; bars are the quartiles of paired rounds.

    Beside a forward pass, what the increment path takes more by itself is dashed.
    """
    if phase not in PHASES:
        raise LRopeError(f"there is no phase {phase!r}: choose from {', '.join(PHASES)}")
    phases = ["forward", "increment_path"] if phase == "forward" else [phase]
    return _over_context(result, phases, "ratio_to_fixed", "time, of fixed RoPE's")


def plot_memory(result: Result) -> go.Figure:
    """Draw the peak of memory of each phase over that of fixed RoPE."""
    return _over_context(
        result, ["forward", "train_step", "decode"], "peak_ratio", "peak memory, of fixed RoPE's"
    )


def _over_context(result: Result, phases: list[str], column: str, title: str) -> go.Figure:
    figure = theme.new_figure(height=_HEIGHT)
    figure.add_hline(y=1, line={"color": theme.CONTROL, "width": 1})
    for phase, dash in zip(phases, theme.DASHES, strict=False):
        frame = phase_frame(result, phase, column)
        for arm in learned_arms(result):
            own = frame[frame["arm"] == arm]
            name = f"{arm_word(arm)}, {PHASES[phase]}" if len(phases) > 1 else arm_word(arm)
            if len(own):
                figure.add_scatter(
                    x=own["context"], y=own[column], name=name, mode="lines+markers", marker={"size": 7},
                    error_y=_bars(own) if column == "ratio_to_fixed" else None,
                    line={"color": _COLOURS.get(arm, theme.INK), "width": 2, "dash": dash},
                    hovertemplate=f"{name}, %{{x:,}} tokens: %{{y:.2%}}<extra></extra>",
                )  # fmt: skip
    _context_axis(figure, result)
    figure.update_yaxes(title_text=title, tickformat=".1%")
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


def _bars(rows: Any) -> dict[str, Any]:
    """Return the quartiles as bars around the median; none where there was one round."""
    above, below = rows["ratio_q3"] - rows["ratio_to_fixed"], rows["ratio_to_fixed"] - rows["ratio_q1"]
    return {"array": above.fillna(0), "arrayminus": below.fillna(0), "thickness": 1.2, "width": 3}


def _context_axis(figure: go.Figure, result: Result) -> None:
    contexts = contexts_of(result)
    figure.update_xaxes(
        title_text="context, tokens", type="log", tickvals=contexts, ticktext=[f"{n:,}" for n in contexts]
    )


def plot_angles(result: Result) -> go.Figure:
    """Draw the largest angle error of each running sum over context, with what was asked."""
    angles: Frame = result.tables["angles"]
    targets: Frame = result.tables["targets"]
    limit = float(targets.loc[targets["target"] == "angle", "limit"].iloc[0])
    figure = theme.new_figure(height=_HEIGHT)
    for method, colour in (("float64", theme.layer_colour(3, 5)), ("float32", theme.CONTROL)):
        own = angles[angles["method"] == method].sort_values("context")
        figure.add_scatter(
            x=own["context"], y=own["max_error"], mode="lines+markers", name=_METHODS[method],
            line={"color": colour, "width": 2}, marker={"size": 7},
            hovertemplate=f"{_METHODS[method]}, %{{x:,}} tokens: %{{y:.2e}} rad<extra></extra>",
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
