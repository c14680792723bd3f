"""The figures of a training run: loss, increments over time, and the course of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import number, place
from lrope_interp.reports.training.tables import course_frame, increments_frame, loss_frame


def plot_loss(run_folder: Path) -> go.Figure:
    """Draw train and validation loss in nats per byte, with bits on the right, from `loss_frame`."""
    frame = loss_frame(run_folder)
    train, validation = (frame[frame["split"] == split] for split in ("train", "validation"))
    figure = theme.new_figure(height=360)
    hover = "step %{x:,}: %{y:.3f} nats, %{customdata:.3f} bits"
    figure.add_trace(
        go.Scatter(
            x=train["step"], y=train["nats_per_byte"], customdata=train["bits_per_byte"], mode="lines",
            line={"color": theme.layer_colour(2, 6), "width": 1.5}, name="train",
            hovertemplate=hover + " per token<extra>train</extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=validation["step"], y=validation["nats_per_byte"], customdata=validation["bits_per_byte"],
            mode="lines+markers", line={"color": theme.ACCENT, "width": 2}, marker={"size": 6},
            name="validation",
            hovertemplate=hover + " per byte<extra>validation</extra>",
        )
    )  # fmt: skip
    _bits_axis(figure, _loss_range(frame))
    figure.update_layout(
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, margin={"r": 58}
    )
    figure.update_xaxes(title_text="step", rangemode="tozero")
    return figure


def _loss_range(frame: Frame) -> tuple[float, float]:
    """Return the range of nats: from just below the best to just above the worst."""
    values = frame["nats_per_byte"].dropna()
    if values.empty:
        return 0.0, 6.0
    low, high = float(values.min()), float(values.max())
    pad = max(0.05 * (high - low), 0.05)
    return max(low - pad, 0.0), high + pad


def _bits_axis(figure: go.Figure, nats: tuple[float, float]) -> None:
    """Put bits on the right of an axis in nats; both stay fixed, so that they cannot drift apart."""
    bits = [value / np.log(2) for value in nats]
    figure.add_trace(go.Scatter(x=[None], y=[None], yaxis="y2", showlegend=False, hoverinfo="skip"))
    figure.update_layout(
        yaxis={"title": {"text": "nats per byte"}, "range": list(nats), "fixedrange": True},
        yaxis2={
            "title": {"text": "bits per byte"},
            "range": bits,
            "overlaying": "y",
            "side": "right",
            "tickmode": "auto",
            "nticks": 6,
            "showgrid": False,
            "fixedrange": True,
        },
    )


def plot_increments(run_folder: Path) -> go.Figure:
    """Draw each layer's mean increment over time with a band of one s.d. over tokens, a panel a layer.

    The numbers are those of `increments_frame`. Of increments per head, each head's mean is a line,
    without a band.
    """
    frame = increments_frame(run_folder)
    layers = sorted(frame["layer"].unique().tolist())
    n_columns = min(max(len(layers), 1), 6)
    n_rows = -(-max(len(layers), 1) // n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.016,
        vertical_spacing=0.12,
        subplot_titles=[_panel_title(frame, layer) for layer in layers] or ["no increments logged"],
    )
    figure.update_layout(
        template=theme.template(), height=70 + 210 * n_rows, showlegend=False, margin={"t": 46}
    )
    colours = theme.layer_colours(layers)
    for i, layer in enumerate(layers):
        at: dict[str, Any] = {"row": i // n_columns + 1, "col": i % n_columns + 1}
        for trace in _increment_traces(frame[frame["layer"] == layer], colours[layer]):
            figure.add_trace(trace, **at)
        figure.add_hline(y=1, line={"color": theme.CONTROL, "width": 1, "dash": "dash"}, **at)
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.update_yaxes(range=_increment_range(frame))
    figure.update_yaxes(title_text="increment", col=1)
    figure.update_xaxes(nticks=4, title_text="step", row=n_rows)
    return figure


def _panel_title(frame: Frame, layer: int) -> str:
    last = frame[(frame["layer"] == layer) & (frame["step"] == frame["step"].max())]
    return f"layer {layer}  <b>{number(last['mean'].mean())}</b> ± {number(last['sd'].mean())}"


def _increment_range(frame: Frame) -> list[float]:
    """Return a range that holds nearly all of every band, and the end of training for certain.

    One unstable moment must not flatten the rest; the axis can be zoomed out to it.
    """
    if frame.empty:
        return [0.0, 2.0]
    tops = frame["mean"] + (frame["sd"] if (frame["head"] < 0).all() else 0.0)
    last = tops[frame["step"] == frame["step"].max()]
    return [0.0, max(1.3 * float(tops.quantile(0.97)), 1.05 * float(last.max()), 1.2)]


def _increment_traces(frame: Frame, colour: str) -> list[go.Scatter]:
    traces = []
    for head, own in frame.groupby("head"):
        if head == -1:
            around = [own["mean"] - own["sd"], own["mean"] + own["sd"]]
            for i, edge in enumerate(around):
                traces.append(
                    go.Scatter(
                        x=own["step"], y=edge, mode="lines", line={"width": 0}, hoverinfo="skip",
                        fill="tonexty" if i else None, fillcolor=theme.faded(colour, 0.28),
                        name="mean + s.d." if i else "mean − s.d.",
                    )
                )  # fmt: skip
        name = place(int(own["layer"].iloc[0]), int(head))
        traces.append(
            go.Scatter(
                x=own["step"], y=own["mean"], customdata=own["sd"], mode="lines", name=name,
                line={"color": colour, "width": 1.6 if head == -1 else 1.2},
                hovertemplate="step %{x:,}: %{y:.3f} ± %{customdata:.3f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    return traces


_COURSE = {
    "lr": "learning rate",
    "grad_norm": "gradient norm before clipping",
    "bytes_per_second": "bytes per second",
}


def plot_course(run_folder: Path) -> go.Figure:
    """Draw learning rate, gradient norm and speed, small; the numbers of `course_frame`."""
    frame = course_frame(run_folder)
    figure = make_subplots(rows=1, cols=3, subplot_titles=list(_COURSE.values()), horizontal_spacing=0.07)
    figure.update_layout(template=theme.template(), height=210, showlegend=False, margin={"t": 34, "b": 40})
    for i, (column, name) in enumerate(_COURSE.items(), start=1):
        trace = go.Scatter(
            x=frame["step"],
            y=frame[column],
            mode="lines",
            line={"color": theme.CONTROL, "width": 1.5},
            name=name,
            hovertemplate="step %{x:,}: %{y:.4g}<extra></extra>",
        )
        figure.add_trace(trace, row=1, col=i)
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.update_xaxes(title_text="step", nticks=5)
    figure.update_yaxes(rangemode="tozero", nticks=4)
    figure.update_yaxes(type="log", dtick=1, col=2)
    return figure
