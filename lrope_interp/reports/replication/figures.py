"""The figures of a paired experiment: differences with their margins, and learning curves."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.rows_figure import reach
from lrope_interp.reports.kit.wording import is_number
from lrope_interp.reports.replication.tables import (
    arm_name,
    comparisons,
    curve_frame,
    differences_frame,
    gap_frame,
    margin_of,
    margins,
    mean_over_seeds,
    pair_name,
    pairs_frame,
)
from lrope_interp.results import Result

_COLOURS = {
    "fixed": theme.CONTROL,
    "fixed_wide": "#b09a6b",
    "shared": theme.layer_colour(1, 5),
    "shared_per_head": theme.layer_colour(2, 5),
    "per_layer": theme.layer_colour(3, 5),
    "per_layer_per_head": theme.layer_colour(4, 5),
}
_ROW = 56  # pixels


def arm_colour(arm: str) -> str:
    """Return an arm's colour, the same in every figure: grey and sand are fixed RoPE."""
    return _COLOURS.get(arm, theme.INK)


def plot_differences(result: Result) -> go.Figure:
    """Draw every comparison in a row: seeds as dots, the mean, its 90 % and 95 % intervals, the margins.

    The numbers are those of `differences_frame` and `pairs_frame`.
    """
    pairs, lines, seeds = comparisons(result), differences_frame(result), pairs_frame(result)
    places = {pair: len(pairs) - 1 - i for i, pair in enumerate(pairs)}
    figure = theme.new_figure(height=_ROW * len(pairs) + 110)
    for margin in reversed(margins(result)):
        figure.add_vrect(
            x0=-margin, x1=margin, line_width=0, fillcolor=theme.faded("#2f75b5", 0.09), layer="below"
        )
    figure.add_annotation(
        x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom", showarrow=False,
        text="shaded: " + ", ".join(f"±{margin:g}" for margin in margins(result)),
        font={"size": 11, "color": theme.MUTED},
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": theme.CONTROL, "width": 1})
    for line in lines.itertuples(index=False):
        for trace in _interval_traces(line, places[line.arm, line.reference]):
            figure.add_trace(trace)
    figure.add_trace(_seed_dots(seeds, places))
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[pair_name(*pair).replace(" − ", " −<br>") for pair in places],
        range=[-0.6, len(pairs) - 0.4],
        showgrid=False,
        ticks="",
    )
    shown = reach(seeds["difference"], lines["ci95_low"], lines["ci95_high"], least=(0.0, 0.0))
    figure.update_xaxes(title_text="nats per byte; left of 0 is better", range=shown, nticks=7)
    figure.update_layout(showlegend=False, margin={"l": 120, "t": 30})
    return figure


def _interval_traces(line: Any, place: int) -> list[go.Scatter]:
    """Return the intervals of a comparison, the wide one thin, and its mean above them."""
    colour = arm_colour(line.arm)
    marker = {"color": theme.PAPER, "size": 9, "line": {"color": colour, "width": 2.5}}
    bounds = {95: (line.ci95_low, line.ci95_high, 2), 90: (line.ci90_low, line.ci90_high, 7)}
    return [
        *(
            go.Scatter(
                x=[low, high], y=[place, place], mode="lines", line={"color": colour, "width": width},
                orientation="h", name=f"{share} % interval",
                hovertemplate=f"{share} % interval: %{{x:.5f}}<extra></extra>",
            )
            for share, (low, high, width) in bounds.items()
            if is_number(low)
        ),
        go.Scatter(
            x=[line.mean], y=[place], mode="markers", marker=marker, orientation="h", name="mean",
            hovertemplate=f"{arm_name(line.arm)}: mean %{{x:.5f}}<extra></extra>",
        ),
    ]  # fmt: skip


def _seed_dots(frame: Frame, places: dict[tuple[str, str], int]) -> go.Scatter:
    """Return the differences of single seeds, under their interval."""
    heights = [places[pair] - 0.3 for pair in zip(frame["arm"], frame["reference"], strict=True)]
    return go.Scatter(
        x=frame["difference"], y=heights, customdata=frame["seed"], mode="markers", name="seeds",
        orientation="h",
        marker={"color": [arm_colour(arm) for arm in frame["arm"]], "size": 6, "opacity": 0.75},
        hovertemplate="seed %{customdata}: %{x:.5f}<extra></extra>",
    )  # fmt: skip


def plot_curves(result: Result) -> go.Figure:
    """Draw validation loss over training: a thin line a run, a thick one the mean of an arm's seeds."""
    return _over_steps(curve_frame(result), "loss", "%{y:.4f} nats", "validation, nats per byte")


def plot_gaps(result: Result) -> go.Figure:
    """Draw each arm's validation loss minus the reference's of the same seed, over training."""
    reference, margin = arm_name(str(result.provenance["reference"])), margin_of(result)
    title = f"difference from {reference}, nats"
    figure = _over_steps(gap_frame(result), "difference", "%{y:+.4f} nats", title)
    shade = theme.faded("#2f75b5", 0.14)
    figure.add_hrect(y0=-margin, y1=margin, line_width=0, fillcolor=shade, layer="below")
    figure.add_hline(y=0, line={"color": theme.CONTROL, "width": 1})
    return figure


def _over_steps(frame: Frame, column: str, figures: str, title: str) -> go.Figure:
    figure = theme.new_figure(height=400)
    figure.add_traces(_lines(frame, column, figures))
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(legend=legend, margin={"t": 64})
    figure.update_xaxes(title_text="step", rangemode="tozero")
    figure.update_yaxes(title_text=title)
    return figure


def _lines(frame: Frame, column: str, figures: str) -> list[go.Scatter]:
    traces = []
    for (arm, seed), own in frame.groupby(["arm", "seed"], sort=False):
        hover = f"{arm_name(arm)}, seed {seed}, step %{{x:,}}: {figures}<extra></extra>"
        traces.append(
            go.Scatter(
                x=own["step"], y=own[column], mode="lines", name=f"{arm_name(arm)}, seed {seed}",
                legendgroup=arm, showlegend=False, hovertemplate=hover,
                line={"color": theme.faded(arm_colour(arm), 0.35), "width": 1},
            )
        )  # fmt: skip
    for arm, own in mean_over_seeds(frame, column).groupby("arm", sort=False):
        hover = f"{arm_name(arm)}, mean of seeds, step %{{x:,}}: {figures}<extra></extra>"
        traces.append(
            go.Scatter(
                x=own["step"], y=own[column], mode="lines", name=arm_name(arm), legendgroup=arm,
                hovertemplate=hover, line={"color": arm_colour(arm), "width": 2.5},
            )
        )  # fmt: skip
    return traces
