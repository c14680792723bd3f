"""The figures of the boundary report that compare layers with their controls, and curves."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.boundaries.curves import precision_recall_frame, prevalence, roc_frame
from lrope_interp.reports.boundaries.frames import signal_name
from lrope_interp.reports.boundaries.leaderboard import by_layer_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import reach
from lrope_interp.reports.kit.wording import number, shortened
from lrope_interp.results import Result

CHANCE, PREVALENCE = "chance", "prevalence"
_HEIGHT = 400
_DARK = "#4a515b"


def plot_by_layer(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw ROC-AUC over layers: the increments with their intervals, and each control of the same layer.

    The numbers are those of `by_layer_frame`; a control with seeds has its range as a band.
    """
    frame = by_layer_frame(result, label, stratum)
    layers = sorted(frame["layer"].unique().tolist())
    figure = theme.new_figure(height=_HEIGHT)
    ends: list[tuple[str, float, str]] = []
    last = frame["signal"] == "increments"
    groups = [*frame[~last].groupby("signal"), *frame[last].groupby("signal")]
    for index, (signal, lines) in enumerate(groups):
        name = plain(shortened(signal_name(str(signal)) if signal != "increments" else "increments", 30))
        look = _look(str(signal), str(lines["kind"].iloc[0]), index)
        if (lines["spread"] == "range").any():
            figure.add_trace(_band(lines, name))
        figure.add_trace(_over_layers(lines, name, look))
        ends.append((name, float(lines["value"].iloc[-1]), str(look["color"])))
    shown = reach(frame["value"], frame["low"], frame["high"], least=(0.45, 1.0))
    figure.add_hline(y=0.5, line={"color": theme.INK, "width": 1})
    figure.update_layout(
        showlegend=False, annotations=_end_labels(ends, shown), margin={"l": 54, "r": 236, "t": 16, "b": 48}
    )
    edge = max(0.15, 0.04 * len(layers))
    low, high = min(layers, default=0), max(layers, default=0)
    figure.update_xaxes(
        title_text="layer", range=[low - edge, high + edge], tickmode="array", tickvals=layers, ticks=""
    )
    figure.update_yaxes(range=shown, title_text="ROC-AUC", dtick=0.1, tickformat=".1f")
    return figure


def _look(signal: str, kind: str, index: int) -> dict[str, object]:
    if signal == "increments":
        return {"color": theme.layer_colour(0, 1), "width": 3}
    if kind == "ceiling":
        return {"color": theme.ACCENT, "width": 2}
    return {"color": _DARK, "width": 1.4, "dash": theme.DASHES[index % len(theme.DASHES)]}


def _over_layers(lines: Frame, name: str, look: dict[str, object]) -> go.Scatter:
    """Draw a signal over layers; intervals of the increments alone, or the figure would be all whiskers."""
    is_layer = (lines["signal"] == "increments").all()
    bounds = {
        "type": "data", "symmetric": False, "array": lines["high"] - lines["value"],
        "arrayminus": lines["value"] - lines["low"], "color": theme.INK, "thickness": 1.3, "width": 4,
    }  # fmt: skip
    return go.Scatter(
        x=lines["layer"],
        y=lines["value"],
        mode="lines+markers",
        line=look,
        marker={"size": 8 if is_layer else 4, "color": look["color"]},
        error_y=bounds if is_layer else None,
        name=name,
        hovertemplate=f"{name}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _band(lines: Frame, name: str) -> go.Scatter:
    """Shade the range over seeds."""
    return go.Scatter(
        x=[*lines["layer"], *lines["layer"][::-1]],
        y=[*lines["high"], *lines["low"][::-1]],
        fill="toself",
        fillcolor="rgba(140, 147, 157, 0.16)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        name=f"{name}, range over seeds",
    )


def _end_labels(ends: list[tuple[str, float, str]], shown: list[float]) -> list[dict[str, object]]:
    """Label lines at their right end, pushed apart where they would cover each other."""
    pixel = (shown[1] - shown[0]) / (_HEIGHT - 64)
    ordered = sorted(ends, key=lambda end: end[1])
    heights = _apart([value for _, value, _ in ordered], 14.5 * pixel, *shown)
    return [
        {
            "x": 1, "xref": "paper", "xanchor": "left", "xshift": 6, "y": height, "yanchor": "middle",
            "showarrow": False, "align": "left", "text": f"{name} {number(value, 3)}",
            "font": {"size": 11, "color": colour},
        }
        for (name, value, colour), height in zip(ordered, heights, strict=True)
    ]  # fmt: skip


def _apart(ordered: list[float], least: float, low: float, high: float) -> list[float]:
    """Move ascending heights up, then down from the top, until neighbours are `least` apart."""
    heights = list(ordered)
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + least)
    ceiling = high
    for i in reversed(range(len(heights))):
        heights[i] = max(min(heights[i], ceiling), low)
        ceiling = heights[i] - least
    return heights


def plot_curves(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the curves of `roc_frame` and, beside them, of `precision_recall_frame` where there are any.

    The diagonal is chance; the horizontal line of the second plot is the prevalence, which is chance there.
    """
    roc, precision = roc_frame(result, label, stratum), precision_recall_frame(result, label, stratum)
    figure = theme.new_figure(height=_HEIGHT)
    figure.add_traces(
        [_reference([0.0, 1.0], [0.0, 1.0], CHANCE, "x", "y"), *_lines(roc, ("fpr", "tpr"), "x", "y", True)]
    )
    right = {"l": 54, "r": 20, "t": 16, "b": 52}
    figure.update_layout(
        margin=right,
        legend={"x": 0.80 if len(precision) else 0.41, "y": 1, "xanchor": "left", "yanchor": "top"},
        xaxis=_axis("false positive rate") | {"domain": [0, 0.37]},
        yaxis=_axis("true positive rate"),
    )
    if len(precision):
        share = prevalence(result, label, stratum)
        figure.add_trace(_reference([0.0, 1.0], [share, share], PREVALENCE, "x2", "y2"))
        figure.add_traces(_lines(precision, ("recall", "precision"), "x2", "y2", roc.empty))
        figure.update_layout(
            xaxis2=_axis("recall") | {"domain": [0.43, 0.79], "anchor": "y2"},
            yaxis2=_axis("precision") | {"anchor": "x2"},
            annotations=[_prevalence_label(share)],
        )
    return figure


def _axis(title: str) -> dict[str, object]:
    return {"range": [-0.01, 1.01], "title": {"text": title}, "dtick": 0.2}


def _reference(x: list[float], y: list[float], name: str, xaxis: str, yaxis: str) -> go.Scatter:
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": theme.INK, "width": 1}, hoverinfo="skip", name=name,
        showlegend=False, xaxis=xaxis, yaxis=yaxis,
    )  # fmt: skip


def _prevalence_label(share: float) -> dict[str, object]:
    return {
        "text": f"prevalence {number(share, 3)}", "x": 0.01, "xref": "x2", "y": share, "yref": "y2",
        "xanchor": "left", "yanchor": "bottom" if share < 0.8 else "top", "showarrow": False,
        "font": {"size": 11, "color": theme.MUTED}, "bgcolor": "rgba(255, 255, 255, 0.8)",
    }  # fmt: skip


def _lines(curves: Frame, axes: tuple[str, str], xaxis: str, yaxis: str, is_named: bool) -> list[go.Scatter]:
    """Return a line a signal, in the same look in both plots, named in one of them."""
    lines = []
    groups = curves.groupby(["signal", "layer", "head", "name"], sort=False)
    for index, ((signal, _, _, name), curve) in enumerate(groups):
        text = plain(shortened(str(name)))
        lines.append(
            go.Scatter(
                x=curve[axes[0]].to_numpy(dtype=np.float32),
                y=curve[axes[1]].to_numpy(dtype=np.float32),
                mode="lines",
                line=_curve_look(str(signal), index),
                name=text,
                legendgroup=text,
                showlegend=is_named,
                xaxis=xaxis,
                yaxis=yaxis,
                hovertemplate=f"{text}<br>{axes[0]} %{{x:.3f}}, {axes[1]} %{{y:.3f}}<extra></extra>",
            )
        )
    return lines


def _curve_look(signal: str, index: int) -> dict[str, object]:
    if signal in ("increments", "ceiling"):
        return _look(signal, "ceiling", 0)
    return {"color": theme.CONTROL, "width": 1.6, "dash": theme.DASHES[(index - 1) % len(theme.DASHES)]}
