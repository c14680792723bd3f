"""The figures of the boundary report: scores by layer, and ROC curves."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports import theme
from lrope_interp.reports.boundary_frames import (
    auc_frame,
    roc_frame,
    signal_name,
)
from lrope_interp.reports.frames import Frame, Row
from lrope_interp.reports.glyphs import plain
from lrope_interp.reports.wording import number, shortened
from lrope_interp.results import Result

CHANCE = "chance"
_HEIGHT = 380
_SLOT = 0.8  # share of a layer's place that its bars and bands fill
_BAND, _BAND_GAP = 0.14, 0.03  # a band beside a bar


def plot_auc(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw each layer's ROC-AUC as a bar from chance, with its interval, and the controls as grey lines.

    The numbers are those of `auc_frame`. A bar below 0.5 means that the sign chosen on dev was wrong on test.
    """
    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna()].reset_index(drop=True)
    layers = sorted(scores.loc[scores["layer"] >= 0, "layer"].unique().tolist())
    scores["x"], scores["width"] = _places(scores, layers)
    figure = theme.new_figure(height=_HEIGHT)
    figure.add_traces(_bars(scores[scores["kind"] == "layer"], layers))
    in_layers = scores[(scores["kind"] != "layer") & (scores["layer"] >= 0)]
    for i, (signal, lines) in enumerate(in_layers.groupby("signal")):
        figure.add_traces(_layer_controls(str(signal), lines, i))
    floor = min(0.45, _lowest(scores) - 0.03)
    free = scores[(scores["kind"] != "layer") & (scores["layer"] < 0)]
    margin = 1.0 if len(layers) < 2 else 0.5
    edges = (-margin, max(len(layers), 1) - 1 + margin)
    figure.add_traces([_free_control(line, edges) for _, line in free.iterrows()])
    names = [*free["name"], CHANCE]
    values = [*free["value"], 0.5]
    figure.update_layout(
        annotations=_end_labels(names, values, floor), margin={"l": 54, "r": 168, "t": 44, "b": 52}
    )
    figure.add_hline(y=0.5, line={"color": theme.INK, "width": 1})
    figure.update_layout(
        barmode="overlay", legend={"orientation": "h", "x": -0.02, "y": 1.02, "yanchor": "bottom"}
    )
    figure.update_xaxes(
        range=edges,
        tickmode="array",
        tickvals=list(range(len(layers))),
        ticktext=_ticks(scores, layers),
        ticks="",
    )
    figure.update_yaxes(range=[floor, 1.01], title_text="ROC-AUC", dtick=0.1, tickformat=".1f")
    return figure


def _places(scores: Frame, layers: list[int]) -> tuple[list[float], list[float]]:
    """Return where each line stands on the x axis and how wide it is drawn.

    A layer's bar shares its place with one band for each control that has seeds; where increments are
    per head there is no room for that, and bands lie over the bars.
    """
    heads = sorted(scores.loc[scores["head"] >= 0, "head"].unique().tolist())
    in_layers = scores[scores["layer"] >= 0]
    ranged = [] if heads else in_layers.loc[in_layers["spread"] == "range", "signal"].unique().tolist()
    bar = _SLOT - len(ranged) * (_BAND + _BAND_GAP)
    at = {layer: i for i, layer in enumerate(layers)} | {-1: -1}
    places: list[tuple[float, float]] = []
    for signal, layer, head in zip(scores["signal"], scores["layer"], scores["head"], strict=True):
        if head >= 0:
            width = _SLOT / len(heads)
            places.append((at[layer] + (heads.index(head) - (len(heads) - 1) / 2) * width, 0.86 * width))
        elif signal in ranged:
            left = bar + _BAND_GAP + ranged.index(signal) * (_BAND + _BAND_GAP)
            places.append((at[layer] - _SLOT / 2 + left + _BAND / 2, _BAND))
        else:
            places.append((at[layer] - _SLOT / 2 + bar / 2, bar))
    return [x for x, _ in places], [width for _, width in places]


def _ticks(scores: Frame, layers: list[int]) -> list[str]:
    """Name the layers; each with its score where there is one a layer."""
    bars = scores[(scores["signal"] == "increments") & (scores["head"] < 0)].set_index("layer")["value"]
    return [
        f"layer {layer}<br><b>{number(bars.get(layer), 3)}</b>" if layer in bars else f"layer {layer}"
        for layer in layers
    ]


def _bars(bars: Frame, layers: list[int]) -> list[go.Bar]:
    colours = theme.layer_colours(layers)
    return [
        go.Bar(
            x=own["x"],
            y=own["value"] - 0.5,
            base=0.5,
            width=own["width"],
            marker={"color": [colours[layer] for layer in own["layer"]], "line": {"width": 0}},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": own["high"] - own["value"],
                "arrayminus": own["value"] - own["low"],
                "color": theme.INK,
                "thickness": 1.4,
                "width": 4 if own["width"].iloc[0] > 0.3 else 0,
            },
            name="increments (bar), 95 % interval"
            if signal == "increments"
            else plain(signal_name(str(signal))),
            showlegend=signal != "increments",
            customdata=_hover(own),
            hovertemplate=_HOVER,
        )
        for signal, own in bars.groupby("signal", sort=False)
    ]


_HOVER = (
    "<b>%{customdata[0]}</b><br>ROC-AUC %{customdata[1]} %{customdata[2]}<br>sign %{customdata[3]}, "
    "alignment %{customdata[4]}<extra></extra>"
)


def _hover(lines: Frame) -> np.ndarray:
    rows = [
        [
            plain(line["name"]),
            number(line["value"], 3),
            plain(
                f"({line['spread']} {number(line['low'], 3)} to {number(line['high'], 3)})"
                if line["spread"]
                else ""
            ),
            "+" if line["sign"] > 0 else "−" if line["sign"] < 0 else "differs",
            plain(line["align"]),
        ]
        for _, line in lines.iterrows()
    ]
    return np.array(rows, dtype=object).reshape(len(rows), 5)


def _layer_controls(signal: str, lines: Frame, index: int) -> list[go.Scatter | go.Bar]:
    """Draw a control with a value a layer: a line across each bar; over seeds, mean and range beside it."""
    half = lines["width"] / 2
    gap = np.full(len(lines), np.nan)
    xs = np.stack([lines["x"] - half, lines["x"] + half, gap], axis=1).ravel()
    ys = np.stack([lines["value"], lines["value"], gap], axis=1).ravel()
    name = plain(signal_name(signal))
    ranged = lines[lines["spread"] == "range"]
    is_ceiling = lines["kind"].iloc[0] == "ceiling"
    line = go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={
            "color": theme.ACCENT if is_ceiling else "#3d444d",
            "width": 2,
            "dash": "solid" if len(ranged) else theme.DASHES[(index + 2) % len(theme.DASHES)],
        },
        name=f"{name}, {int(lines['n_seeds'].max())} seeds" if len(ranged) else name,
        customdata=np.repeat(_hover(lines), 3, axis=0),
        hovertemplate=_HOVER,
    )
    if ranged.empty:
        return [line]
    band = go.Bar(
        x=ranged["x"],
        y=ranged["high"] - ranged["low"],
        base=ranged["low"],
        width=ranged["width"],
        marker={"color": theme.CONTROL_BAND, "line": {"width": 0}},
        name=name,
        showlegend=False,
        hoverinfo="skip",
    )
    return [band, line]


def _free_control(line: Row, edges: tuple[float, float]) -> go.Scatter:
    hover = np.repeat(_hover(line.to_frame().T), 2, axis=0)
    return go.Scatter(
        x=list(edges),
        y=[line["value"], line["value"]],
        mode="lines",
        line={"color": theme.CONTROL, "width": 1.5, "dash": "dash"},
        name=plain(shortened(line["name"])),
        showlegend=False,
        customdata=hover,
        hovertemplate=_HOVER,
    )


def _lowest(scores: Frame) -> float:
    lows = [value for column in ("value", "low") for value in scores[column] if value == value]
    return float(min(lows, default=0.5))


def _end_labels(names: list[str], values: list[float], floor: float) -> list[dict[str, object]]:
    """Label lines at their right end, pushed apart where they would cover each other."""
    pixel = (1.01 - floor) / (_HEIGHT - 96)
    order = np.argsort(values)
    heights = _apart([values[i] for i in order], 14.5 * pixel, floor, 1.01)
    return [
        {
            "x": 1,
            "xref": "paper",
            "xanchor": "left",
            "xshift": 6,
            "y": height,
            "yanchor": "middle",
            "showarrow": False,
            "align": "left",
            "text": f"{plain(shortened(names[i], 25))} {number(values[i], 3 if names[i] != 'chance' else 1)}",
            "font": {"size": 11, "color": theme.MUTED},
        }
        for i, height in zip(order, heights, strict=True)
    ]


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


def plot_roc(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the ROC curves of `roc_frame`: layers in blue, controls in grey, chance as the diagonal."""
    curves = roc_frame(result, label, stratum)
    colours = theme.layer_colours(curves.loc[curves["signal"] == "increments", "layer"].tolist())
    figure = theme.new_figure(height=_HEIGHT)
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            line={"color": theme.RULE, "width": 1.5},
            hoverinfo="skip",
            name=CHANCE,
            showlegend=False,
        )
    )
    dash = 0
    for (signal, layer, _, name), curve in curves.groupby(["signal", "layer", "head", "name"], sort=False):
        is_layer = signal == "increments"
        dash += not is_layer
        line = {"color": colours[layer], "width": 2} if is_layer else {
            "color": theme.CONTROL, "width": 1.5, "dash": theme.DASHES[dash % len(theme.DASHES)]
        }  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=curve["fpr"],
                y=curve["tpr"],
                mode="lines",
                line=line,
                name=plain(shortened(str(name))),
                hovertemplate="%{x:.3f} of the others, %{y:.3f} of the boundaries",
            )
        )
    figure.update_layout(
        legend={"x": 1.02, "y": 1, "xanchor": "left", "yanchor": "top"},
        margin={"l": 54, "r": 176, "t": 44, "b": 52},
    )
    figure.update_xaxes(range=[-0.01, 1.01], title_text="false positive rate", dtick=0.2)
    figure.update_yaxes(range=[-0.01, 1.01], title_text="true positive rate", dtick=0.2)
    return figure
