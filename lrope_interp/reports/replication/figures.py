"""The figures of a paired experiment: differences with their margins, and learning curves."""

from __future__ import annotations

import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import is_number
from lrope_interp.reports.replication.frames import (
    arm_name,
    comparisons,
    curve_frame,
    gap_frame,
    margins,
    mean_over_seeds,
    pair_name,
    pairs_frame,
    verdict_frame,
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

    The numbers are those of `verdict_frame` and `pairs_frame`.
    """
    pairs = comparisons(result)
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
    for line in verdict_frame(result).itertuples(index=False):
        for trace in _interval_traces(line, places[line.arm, line.reference]):
            figure.add_trace(trace)
    figure.add_trace(_seed_dots(pairs_frame(result), places))
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[pair_name(*pair).replace(" − ", " −<br>") for pair in places],
        range=[-0.6, len(pairs) - 0.4],
        showgrid=False,
        ticks="",
    )
    figure.update_xaxes(title_text="nats per byte; left of 0 is better", zeroline=False, nticks=7)
    figure.update_layout(showlegend=False, margin={"l": 120, "t": 30})
    return figure


def _interval_traces(line: object, place: int) -> list[go.Scatter]:
    arm, mean = str(getattr(line, "arm", "")), getattr(line, "mean", None)
    colour = arm_colour(arm)
    traces = []
    for share, width in ((95, 2), (90, 7)):
        low, high = getattr(line, f"ci{share}_low", None), getattr(line, f"ci{share}_high", None)
        if is_number(low) and is_number(high):
            traces.append(
                go.Scatter(
                    x=[low, high], y=[place, place], mode="lines", line={"color": colour, "width": width},
                    name=f"{share} % interval",
                    hovertemplate=f"{share} % interval: %{{x:.5f}}<extra></extra>",
                )
            )  # fmt: skip
    marker = {"color": theme.PAPER, "size": 9, "line": {"color": colour, "width": 2.5}}
    traces.append(
        go.Scatter(
            x=[mean], y=[place], mode="markers", marker=marker, name="mean",
            hovertemplate=f"{arm_name(arm)}: mean %{{x:.5f}}<extra></extra>",
        )
    )  # fmt: skip
    return traces


def _seed_dots(frame: Frame, places: dict[tuple[str, str], int]) -> go.Scatter:
    """Return the differences of single seeds, under their interval."""
    heights = [places[pair] - 0.3 for pair in zip(frame["arm"], frame["reference"], strict=True)]
    return go.Scatter(
        x=frame["difference"], y=heights, customdata=frame["seed"], mode="markers", name="seeds",
        marker={"color": [arm_colour(arm) for arm in frame["arm"]], "size": 6, "opacity": 0.75},
        hovertemplate="seed %{customdata}: %{x:.5f}<extra></extra>",
    )  # fmt: skip


def plot_curves(result: Result) -> go.Figure:
    """Draw validation loss over training: a thin line a run, a thick one the mean of an arm's seeds."""
    frame = curve_frame(result)
    figure = theme.new_figure(height=400)
    for trace in _lines(frame, "loss", "%{y:.4f} nats"):
        figure.add_trace(trace)
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    figure.update_xaxes(title_text="step", rangemode="tozero")
    figure.update_yaxes(title_text="validation, nats per byte")
    return figure


def plot_gaps(result: Result) -> go.Figure:
    """Draw each arm's validation loss minus the reference's of the same seed, over training."""
    frame = gap_frame(result)
    reference, margin = str(result.provenance["reference"]), float(result.provenance["margin"])
    figure = theme.new_figure(height=400)
    figure.add_hrect(
        y0=-margin, y1=margin, line_width=0, fillcolor=theme.faded("#2f75b5", 0.14), layer="below"
    )
    figure.add_hline(y=0, line={"color": theme.CONTROL, "width": 1})
    for trace in _lines(frame, "difference", "%{y:+.4f} nats"):
        figure.add_trace(trace)
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    figure.update_xaxes(title_text="step", rangemode="tozero")
    figure.update_yaxes(title_text=f"difference from {arm_name(reference)}, nats")
    return figure


_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


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
