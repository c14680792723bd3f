"""The figures of `boundaries`, each from one frame of `tables`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.boundaries.tables import (
    auc_frame,
    best_layer,
    beyond_frame,
    by_layer_frame,
    classes_frame,
    controls_beside,
    curves_frame,
    differences_frame,
    labels_and_strata,
    leaderboard_frame,
    sign_of,
    signal_name,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import aligned, bands, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import (
    CLASS_ORDER,
    in_order,
    interval,
    is_number,
    number,
    shortened,
    signed,
    signed_interval,
)
from lrope_interp.results import LOSES, TIES, WINS, Result

CHANCE, PREVALENCE = "chance", "prevalence"
NULL, SEEDS, PROBE = "null, 95 %", "range over seeds", "probe of that layer"
WIDE = 820  # pixels of a figure with columns of text on both sides
_HEIGHT = 400
_DARK = "#4a515b"
_NULL_LOOK = ("rgba(140, 147, 157, 0.30)", 0.84)
_SEEDS_LOOK = ("rgba(110, 118, 129, 0.55)", 0.30)
_OPEN = {"symbol": "diamond-open", "size": 10, "color": theme.ACCENT, "line": {"width": 2}}
_BLUE = theme.layer_colour(0, 1)
_UNBOUNDED = {"low": np.nan, "high": np.nan}
_OFFSET = 0.18  # of a row, between two dots that share it


def plot_labels(result: Result) -> go.Figure:
    """Draw a row a label, in its widest stratum: the best layer, every control beside it, and the probe."""
    found = [(label, strata[0]) for label, strata in labels_and_strata(result) if strata]
    names, cells, rows = (
        [],
        [],
        {"control": [], "untrained model": [], "probe (ceiling)": [], "best layer": []},
    )
    for y, (label, stratum) in enumerate(found):
        scores = auc_frame(result, label, stratum)
        best, controls = best_layer(scores), controls_beside(scores)
        names.append(named(label.replace("_", " "), is_strong=True))
        cells.append([number(None if best is None else best["value"], 3)])
        if best is None:
            continue
        is_untrained = controls["signal"] == "untrained"
        probes = scores[(scores["kind"] == "ceiling") & (scores["layer"] == best["layer"])]
        is_interval = best["spread"] == "interval"
        bounds = {"low": best["low"], "high": best["high"]} if is_interval else _UNBOUNDED
        rows["best layer"].append({"y": y, "name": best["name"], "value": best["value"], **bounds})
        for name, lines in (
            ("control", controls[~is_untrained]), ("untrained model", controls[is_untrained]),
            ("probe (ceiling)", probes),
        ):  # fmt: skip
            rows[name] += [
                {"y": y, "name": signal_name(line["signal"]), "value": line["value"]} | _UNBOUNDED
                for _, line in lines.iterrows()
            ]  # fmt: skip
    columns, heading = aligned(cells, ["AUC"])
    figure = rows_figure(names, columns, heading, vertical=0.5, height=34)
    looks: dict[str, dict[str, Any]] = {
        "control": {"color": theme.CONTROL, "size": 7, "opacity": 0.75},
        "untrained model": {"color": _DARK, "symbol": "line-ns-open", "size": 13, "line": {"width": 2}},
        "probe (ceiling)": _OPEN,
        "best layer": {"color": _BLUE, "size": 11},
    }
    shown = []
    for name, marker in looks.items():
        if rows[name]:
            frame = pd.DataFrame(rows[name])
            hover = [f"{plain(row['name'])}: {number(row['value'], 3)}" for _, row in frame.iterrows()]
            figure.add_trace(dots(frame, name, marker, hover))
            shown += [frame["value"], frame["low"], frame["high"]]
    figure.update_xaxes(
        range=reach(*shown, least=(0.45, 1.0)), title_text="ROC-AUC", dtick=0.1, tickformat=".1f"
    )
    return figure


def plot_leaderboard(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the rows of `leaderboard_frame`, best first, against chance.

    Layers are blue by depth, controls grey, the supervised probe open and vermilion: a row of its own
    for its best layer, and a mark in each layer's row. Whiskers are 95 % intervals.
    """
    frame = leaderboard_frame(result, label, stratum)
    frame = frame.assign(y=range(len(frame)))
    shown = {"value": "AUC", "p_shift": "p shift", "p_same_byte": "p byte"}
    kept = [name for name in shown if name == "value" or frame[name].notna().any()]
    cells = [[number(row[name], 3) for name in kept] for _, row in frame.iterrows()]
    columns, heading = aligned(cells, [shown[name] for name in kept])
    names = [
        named(row["name"], f"{sign_of(row['sign'])} {row['align'] or '–':<4}", row["signal"] == "increments")
        for _, row in frame.iterrows()
    ]
    figure = rows_figure(names, columns, heading, vertical=0.5)
    nulls, seeds = frame[frame["null_low"].notna()], frame[frame["spread"] == "range"]
    if len(nulls):
        figure.add_trace(bands(nulls, "null_low", "null_high", NULL, _NULL_LOOK))
    if len(seeds):
        figure.add_trace(bands(seeds, "low", "high", SEEDS, _SEEDS_LOOK))
    is_layer, is_ceiling = frame["signal"] == "increments", frame["kind"] == "ceiling"
    colours = theme.layer_colours(frame.loc[is_layer, "layer"].tolist())
    blue = {"color": [colours[layer] for layer in frame.loc[is_layer, "layer"]]}
    is_interval = frame["spread"] == "interval"
    dotted = frame.assign(low=frame["low"].where(is_interval), high=frame["high"].where(is_interval))
    for chosen, name, marker in (
        (is_layer, "layer, by depth", blue),
        (~is_layer & ~is_ceiling, "control", {"color": theme.CONTROL}),
        (is_ceiling, "probe (ceiling)", _OPEN),
    ):
        if chosen.any():
            hover = [_signal_hover(row) for _, row in frame[chosen].iterrows()]
            figure.add_trace(dots(dotted[chosen], name, marker, hover))
    probed = frame[frame["probe"].notna()]
    if len(probed):
        figure.add_scatter(
            x=probed["probe"], y=probed["y"], mode="markers", name=PROBE,
            marker=_OPEN | {"size": 7, "line": {"width": 1.2}},
            hovertemplate="supervised probe on this layer's hidden state: %{x:.3f}<extra></extra>",
        )  # fmt: skip
    ends = [frame[name] for name in ("value", "low", "high", "null_low", "null_high", "probe")]
    figure.update_xaxes(
        range=reach(*ends, least=(0.45, 1.0)), title_text="ROC-AUC, sign chosen on dev", dtick=0.1,
        tickformat=".1f",
    )  # fmt: skip
    return figure


def _signal_hover(row: Row) -> str:
    bounds = interval(row["low"], row["high"])
    bounds = f"{bounds} over {int(row['n_seeds'])} seeds" if row["spread"] == "range" else bounds
    lines = [f"<b>{plain(row['name'])}</b>", f"ROC-AUC {number(row['value'], 3)} {bounds}"]
    lines.append(f"sign {sign_of(row['sign'])}, alignment {plain(row['align']) or 'none'}")
    if is_number(row["null_low"]):
        lines.append(f"null {interval(row['null_low'], row['null_high'])}")
    if is_number(row["p_shift"]) or is_number(row["p_same_byte"]):
        lines.append(f"p (shift) {number(row['p_shift'], 3)}, p (same byte) {number(row['p_same_byte'], 3)}")
    if row["n_places"] > 1:
        lines.append(f"the best of {int(row['n_places'])} layers or heads")
    return "<br>".join(lines)


def plot_differences(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the rows of `differences_frame` about zero; left of it the control is better."""
    frame = differences_frame(result, label, stratum)
    frame = frame.assign(y=range(len(frame)))
    cells = [[signed(row["value"]), signed_interval(row["low"], row["high"])] for _, row in frame.iterrows()]
    columns, heading = aligned(cells, ["difference", "95 % interval"])
    figure = rows_figure([named(name) for name in frame["name"]], columns, heading, vertical=0.0)
    for verdict, colour in ((LOSES, theme.ACCENT), (TIES, theme.CONTROL), (WINS, _BLUE), ("", theme.CONTROL)):
        rows = frame[frame["verdict"] == verdict]
        if len(rows):
            words = verdict or "without an interval"
            hover = [f"{plain(row['name'])}: {signed(row['value'])}, {words}" for _, row in rows.iterrows()]
            figure.add_trace(dots(rows, words, {"color": colour}, hover))
    shown = reach(frame["value"], frame["low"], frame["high"], least=(-0.02, 0.02))
    figure.update_xaxes(range=shown, title_text="ROC-AUC of the layer minus that of the control")
    return figure


def plot_beyond(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the bits a gap that each layer adds to a model of surprisal, from `beyond_frame`.

    Filled over M0, open over M0 with lexical log-odds; the rank test's p stands at the right.
    """
    frame = beyond_frame(result, label, stratum)
    names = list(dict.fromkeys(frame["name"]))
    at = {name: i for i, name in enumerate(names)}
    p = frame[frame["baseline"] == "bins"].set_index("name")["p"]
    columns, heading = aligned([[number(p.get(name), 3)] for name in names], ["p (rank test)"])
    figure = rows_figure([named(name) for name in names], columns, heading, vertical=0.0, height=30)
    for baseline, words, offset, marker in (
        ("M0", "over M0", -_OFFSET, {"color": _BLUE}),
        ("M0_lexical", "over M0 and lexical log-odds", _OFFSET, {"color": _BLUE, "symbol": "circle-open"}),
    ):
        rows = frame[(frame["baseline"] == baseline) & frame["bits"].notna()]
        if len(rows):
            bits = {"value": rows["bits"], "low": rows["bits_low"], "high": rows["bits_high"]}
            rows = rows.assign(y=[at[name] + offset for name in rows["name"]], **bits)
            figure.add_trace(dots(rows, words, marker, [_beyond_hover(row) for _, row in rows.iterrows()]))
    nested = frame[frame["baseline"] != "bins"]
    shown = reach(nested["bits"], nested["bits_low"], nested["bits_high"], least=(-0.0005, 0.0005))
    figure.update_xaxes(range=shown, title_text="bits a gap gained", nticks=7, exponentformat="none")
    return figure


def _beyond_hover(row: Row) -> str:
    bits = f"{number(row['bits'], 5)} bits a gap {interval(row['bits_low'], row['bits_high'], 5)}"
    auc = f"ROC-AUC {number(row['base_auc'], 4)} to {number(row['full_auc'], 4)}"
    return f"<b>{plain(row['name'])}</b><br>{bits}<br>{auc}"


def plot_by_layer(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw ROC-AUC over layers: the increments with their intervals, and each control of the same layer.

    The numbers are those of `by_layer_frame`; a control with seeds has its range as a band.
    """
    frame = by_layer_frame(result, label, stratum)
    layers = sorted(frame["layer"].unique().tolist())
    traces: list[dict[str, Any]] = []
    ends: list[tuple[str, float, str]] = []
    last = frame["signal"] == "increments"
    groups = [*frame[~last].groupby("signal"), *frame[last].groupby("signal")]
    for index, (signal, lines) in enumerate(groups):
        name = plain(shortened(signal_name(str(signal)) if signal != "increments" else "increments", 30))
        look = _look(str(signal), str(lines["kind"].iloc[0]), index)
        if (lines["spread"] == "range").any():
            traces.append(_band(lines, name))
        traces.append(_over_layers(lines, name, look))
        ends.append((name, float(lines["value"].iloc[-1]), str(look["color"])))
    shown = reach(frame["value"], frame["low"], frame["high"], least=(0.45, 1.0))
    edge = max(0.15, 0.04 * len(layers))
    low, high = min(layers, default=0), max(layers, default=0)
    figure = theme.new_figure(
        height=_HEIGHT,
        showlegend=False, annotations=_end_labels(ends, shown), margin={"l": 54, "r": 236, "t": 16, "b": 48},
        xaxis={
            "title": {"text": "layer"}, "range": [low - edge, high + edge], "tickmode": "array",
            "tickvals": layers, "ticks": "",
        },
        yaxis={"range": shown, "title": {"text": "ROC-AUC"}, "dtick": 0.1, "tickformat": ".1f"},
    )  # fmt: skip
    figure.add_traces(traces)
    figure.add_hline(y=0.5, line={"color": theme.INK, "width": 1})
    return figure


def _look(signal: str, kind: str, index: int) -> dict[str, object]:
    if signal == "increments":
        return {"color": _BLUE, "width": 3}
    if kind == "ceiling":
        return {"color": theme.ACCENT, "width": 2}
    return {"color": _DARK, "width": 1.4, "dash": theme.DASHES[index % len(theme.DASHES)]}


def _over_layers(lines: Frame, name: str, look: dict[str, object]) -> dict[str, Any]:
    """Draw a signal over layers; intervals of the increments alone, or the figure would be all whiskers."""
    is_layer = (lines["signal"] == "increments").all()
    bounds = {
        "type": "data", "symmetric": False, "array": lines["high"] - lines["value"],
        "arrayminus": lines["value"] - lines["low"], "color": theme.INK, "thickness": 1.3, "width": 4,
    }  # fmt: skip
    return dict(
        type="scatter",
        x=lines["layer"],
        y=lines["value"],
        mode="lines+markers",
        line=look,
        marker={"size": 8 if is_layer else 4, "color": look["color"]},
        error_y=bounds if is_layer else None,
        name=name,
        hovertemplate=f"{name}, layer %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _band(lines: Frame, name: str) -> dict[str, Any]:
    """Shade the range over seeds."""
    return dict(
        type="scatter",
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
    """Draw the curves of `curves_frame`, and beside them those of precision and recall where there are any.

    The diagonal is chance; the horizontal line of the second plot is the prevalence, which is chance there.
    """
    roc, precision = (curves_frame(result, name, label, stratum) for name in ("roc", "precision_recall"))
    traces = [
        _reference([0.0, 1.0], [0.0, 1.0], CHANCE, "x", "y"),
        *_lines(roc, ("fpr", "tpr"), "x", "y", True),
    ]
    layout: dict[str, Any] = {
        "margin": {"l": 54, "r": 20, "t": 16, "b": 52},
        "legend": {"x": 0.80 if len(precision) else 0.41, "y": 1, "xanchor": "left", "yanchor": "top"},
        "xaxis": _axis("false positive rate") | {"domain": [0, 0.37]},
        "yaxis": _axis("true positive rate"),
    }
    if len(precision):
        counted = auc_frame(result, label, stratum).iloc[0]
        share = float(counted["n_positive"]) / max(float(counted["n"]), 1.0)
        traces.append(_reference([0.0, 1.0], [share, share], PREVALENCE, "x2", "y2"))
        traces += _lines(precision, ("recall", "precision"), "x2", "y2", roc.empty)
        layout |= {
            "xaxis2": _axis("recall") | {"domain": [0.43, 0.79], "anchor": "y2"},
            "yaxis2": _axis("precision") | {"anchor": "x2"},
            "annotations": [_prevalence_label(share)],
        }
    figure = theme.new_figure(height=_HEIGHT, **layout)
    figure.add_traces(traces)
    return figure


def _axis(title: str) -> dict[str, object]:
    return {"range": [-0.01, 1.01], "title": {"text": title}, "dtick": 0.2}


def _reference(x: list[float], y: list[float], name: str, xaxis: str, yaxis: str) -> dict[str, Any]:
    return dict(
        type="scatter",
        x=x, y=y, mode="lines", line={"color": theme.INK, "width": 1}, hoverinfo="skip", name=name,
        showlegend=False, xaxis=xaxis, yaxis=yaxis,
    )  # fmt: skip


def _prevalence_label(share: float) -> dict[str, object]:
    return {
        "text": f"prevalence {number(share, 3)}", "x": 0.01, "xref": "x2", "y": share, "yref": "y2",
        "xanchor": "left", "yanchor": "bottom" if share < 0.8 else "top", "showarrow": False,
        "font": {"size": 11, "color": theme.MUTED}, "bgcolor": "rgba(255, 255, 255, 0.8)",
    }  # fmt: skip


def _lines(
    curves: Frame, axes: tuple[str, str], xaxis: str, yaxis: str, is_named: bool
) -> list[dict[str, Any]]:
    """Return a line a signal, in the same look in both plots, named in one of them."""
    lines = []
    groups = curves.groupby(["signal", "layer", "head", "name"], sort=False)
    for index, ((signal, _, _, name), curve) in enumerate(groups):
        text = plain(shortened(str(name)))
        lines.append(
            dict(
                type="scatter",
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
    ticks = [f"{plain(name)}  {int(counts.get(name, 0)):,}" for name in classes]
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
