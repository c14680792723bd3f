"""The figures of `ablate`, each from one frame of `tables`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrope_interp.errors import LRopeError
from lrope_interp.reports.ablations.tables import (
    BETTER,
    CHANGE,
    FLIPS,
    KL,
    MAIN,
    METRICS,
    OPEN,
    UNKNOWN,
    WORSE,
    attention_frame,
    cumulative_frame,
    distance_labels,
    groups_frame,
    heat_map_frame,
    interventions,
    rows_of,
    scale_frame,
    short,
    untouched,
    waterfall_frame,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.changes import (
    bounds,
    change,
    digits_of,
    squeezed,
    squeezed_ticks,
    with_bounds,
)
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import is_number, number
from lrope_interp.results import Result

UNITS = {CHANGE: "nats per byte", KL: "nats a prediction", FLIPS: "share of predictions"}
ATTENTION = {"look_back": ("tokens", 1), "within_word": ("share of attention", 2)}
COLOURS = {WORSE: theme.ACCENT, BETTER: "#2f75b5", OPEN: "#b7bdc6", UNKNOWN: "#d9a68f"}
LEFT, CELL = 92, 98  # pixels of a heat map: its names, and a column
_GREY: dict[str, Any] = {
    "colorscale": [[0, "#eef0f3"], [1, "#eef0f3"]], "showscale": False, "name": OPEN,
    "textfont": {"size": 11, "color": theme.MUTED},
}  # fmt: skip
_BLUES = [[0, "#f4f8fc"], [0.5, "#93bbdd"], [1, "#1d5a94"]]
_BARE: dict[str, Any] = {
    "showline": False, "ticks": "", "showgrid": False, "tickmode": "array", "fixedrange": True,
}  # fmt: skip
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_MARKS = {OPEN: "· ", UNKNOWN: "? "}


def _listed(names: list[Any]) -> list[int]:
    return list(range(len(names)))


def _whiskers(frame: Frame, **look: Any) -> dict[str, Any]:
    """Return the bars of error that reach from values to their bounds."""
    ends = {"array": frame["high"] - frame["value"], "arrayminus": frame["value"] - frame["low"]}
    return (
        {"type": "data", "symmetric": False, "color": theme.INK, "thickness": 1.2, "width": 3} | ends | look
    )


def plot_heat_map(result: Result, metric: str = CHANGE, is_heads: bool = False) -> go.Figure:
    """Draw `heat_map_frame`: the value in the cell, its interval below, colour by `squeezed`.

    Cells whose interval holds 0 are grey with a dot; a question mark says that there is no interval.

    Args:
        result: A result of kind "ablate".
        metric: "nats_per_byte", "kl" or "flips".
        is_heads: Whether single heads are shown, not whole layers.
    """
    if metric not in METRICS:
        raise LRopeError(f"unknown metric {metric!r}: choose from {', '.join(METRICS)}")
    frame = heat_map_frame(result, metric, is_heads=is_heads)
    rows, columns = list(dict.fromkeys(frame["place"])), list(dict.fromkeys(frame["column"]))
    heads = [_wrapped(plain(name)) for name in columns]
    top = 24 + 15 * max((head.count("<br>") for head in heads), default=0)
    figure = theme.new_figure(height=top + 14 + (26 if is_heads else 40) * max(len(rows), 1))
    reach = float(np.abs(squeezed(frame["value"])).max(initial=float(squeezed(_PALE))))
    coloured = {
        "colorscale": theme.DIVERGING, "zmin": -reach, "zmax": reach, "showscale": False,
        "name": "coloured", "textfont": {"size": 11},
    }  # fmt: skip
    base = untouched(result)
    loss = float(base["nats_per_byte"]) if base is not None and metric == CHANGE else 0.0
    text = [_cell_text(row, is_small=is_heads) for _, row in frame.iterrows()]
    hover = [_hover(row, loss) for _, row in frame.iterrows()]
    frame = frame.assign(z=squeezed(frame["value"]), text=text, hover=hover)
    for own, look in ((frame["shows"] == OPEN, _GREY), (frame["shows"] != OPEN, coloured)):
        figure.add_trace(_cells(frame[own], (rows, columns), ("place", "column"), look))
    width = LEFT + CELL * len(columns)
    figure.update_layout(margin={"l": LEFT, "r": 12, "t": top, "b": 14})
    if len(columns) <= _FEW:
        figure.update_layout(width=max(width + 60, 340))
    figure.update_xaxes(
        _BARE, side="top", tickangle=0, tickvals=_listed(columns), ticktext=heads, automargin=False,
        range=[-0.5, len(columns) - 0.5], tickfont={"size": 11, "color": theme.INK},
    )  # fmt: skip
    figure.update_yaxes(
        _BARE, tickvals=_listed(rows), ticktext=[f"{plain(name)} " for name in rows], automargin=False,
        range=[len(rows) - 0.5, -0.5], tickfont={"size": 12, "color": theme.INK},
    )  # fmt: skip
    return figure


_PALE = 0.01  # nats per byte that have the deepest colour where nothing changes more
_FEW = 3  # columns of a heat map that is not stretched over the page


def _cells(
    frame: Frame, axes: tuple[list[Any], list[Any]], names: tuple[str, str], look: dict[str, Any]
) -> go.Heatmap:
    """Return the cells of a frame (`value`, `z`, `text`, `hover`) in their places; others stay empty."""
    rows, columns = axes
    shape = (len(rows), len(columns))
    z, values = np.full(shape, np.nan), np.full(shape, np.nan)
    text, hover = np.full(shape, "", object), np.full(shape, "", object)
    for row, column, *cell in rows_of(frame, *names, "z", "value", "text", "hover"):
        at = rows.index(row), columns.index(column)
        z[at], values[at], text[at], hover[at] = cell
    return go.Heatmap(
        z=z, x=_listed(columns), y=_listed(rows), customdata=values, text=text, texttemplate="%{text}",
        hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", hoverongaps=False, xgap=2, ygap=2,
        **look,
    )  # fmt: skip


def _cell_text(row: Row, is_small: bool) -> str:
    """Write a cell: its value, a dot where the interval holds 0, and the interval below."""
    mark, (value, spread) = _MARKS.get(str(row["shows"]), ""), _told(row, digits_of(row["value"]))
    # a cell has little room: no 0 before a decimal point and no plus
    short_spread = re.sub(r"(?<!\d)0\.", ".", spread).replace("+", "")
    spread = "" if is_small or row["shows"] == UNKNOWN else f"<br>{short_spread}"
    return f"{mark}{value}{spread}"


def _told(row: Row, digits: int) -> tuple[str, str]:
    """Return a change and its interval in words."""
    if row["metric"] == FLIPS:
        value, low, high = (number(100 * row[name], 1) for name in ("value", "low", "high"))
        return f"{value} %", f"{low} … {high}"
    value, low, high = (change(row[name], digits) for name in ("value", "low", "high"))
    return value, f"{low} … {high}"


def _hover(row: Row, loss: float) -> str:
    value, spread = _told(row, max(digits_of(row["value"]), 4))
    share = f", {change(100 * row['value'] / loss, 1)} % of the untouched loss" if loss > 0 else ""
    said = "no interval could be had" if row["shows"] == UNKNOWN else f"95 % interval {spread}"
    lines = [f"<b>{plain(row['place'])}, {plain(row['column'])}</b>"]
    lines += [f"{value} {UNITS[row['metric']] if row['metric'] != FLIPS else 'of predictions'}{share}", said]
    return "<br>".join(lines + ([f"{int(row['n']):,} predictions"] if is_number(row["n"]) else []))


def _wrapped(name: str, width: int = 13) -> str:
    """Break a name over lines, at spaces, for the head of a narrow column."""
    lines = [""]
    for word in name.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


_END = {"split_contextual": "to byte's<br>mean", "split_lexical": "to layer's<br>mean", "split_scale": "to 1"}


def plot_split(result: Result, is_whole: bool = True) -> go.Figure:
    """Draw `waterfall_frame`: each part stands on the one before; whiskers are its own 95 % interval.

    Args:
        result: A result of kind "ablate".
        is_whole: Whether the scale, which may dwarf the rest, and the total are shown.
    """
    frame = waterfall_frame(result, is_whole=is_whole)
    names = [
        f"{'' if part == 'split_total' else '+ '}{short(part)}<br>{_END.get(part, 'untouched<br>to 1')}"
        for part in frame["intervention"]
    ]
    figure = theme.new_figure(height=340)
    figure.add_bar(
        x=names, y=frame["value"], base=frame["start"], width=0.58, name="parts",
        marker={"color": [COLOURS[shows] for shows in frame["shows"]]},
        customdata=[
            bounds(low, high, digits_of(value)) for value, low, high in rows_of(frame, "value", "low", "high")
        ],
        hovertemplate="%{x}: %{y:+.4f} %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=names, y=frame["end"], mode="markers", marker={"size": 1, "color": theme.INK},
        error_y=_whiskers(frame, width=5), hoverinfo="skip", name="95 % interval",
    )  # fmt: skip
    ends = [frame["start"], frame["end"]] + [frame["start"] + frame[name] for name in ("low", "high")]
    heights = np.stack([*(np.asarray(end, dtype=float) for end in ends), np.zeros(len(frame))])
    low, high = float(np.nanmin(heights, initial=0.0)), float(np.nanmax(heights, initial=1e-6))
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    for name, value, top in zip(names, frame["value"], np.nanmax(heights, axis=0, initial=0.0), strict=True):
        figure.add_annotation(
            x=name, y=float(top), yanchor="bottom", yshift=4, showarrow=False, text=f"<b>{change(value)}</b>",
            font={"size": 12},
        )  # fmt: skip
    figure.update_layout(showlegend=False, margin={"t": 24, "b": 62})
    figure.update_xaxes(ticks="", tickfont={"color": theme.INK, "size": 11}, tickangle=0)
    reach = [low - 0.06 * (high - low), high + 0.14 * (high - low)]
    figure.update_yaxes(title_text="nats per byte over the untouched model", range=reach, exponentformat="e")
    return figure


def plot_scale(result: Result) -> go.Figure:
    """Draw `scale_frame`: a line a layer and one for all, with interval bands, on squeezed axes.

    `customdata` of a line holds the changes as they are.
    """
    frame = scale_frame(result)
    figure = theme.new_figure(height=380)
    colours = theme.layer_colours(frame.loc[frame["design"] == "single", "layer"].tolist())
    for place, own in frame.groupby("place", sort=False):
        name, is_layer = plain(place), own["design"].iloc[0] == "single"
        colour = colours[int(own["layer"].iloc[0])] if is_layer else theme.ACCENT
        known = own[own["low"].notna() & own["high"].notna()]
        if len(known):
            figure.add_scatter(
                x=[*known["parameter"], *known["parameter"][::-1]],
                y=[*squeezed(known["high"]), *squeezed(known["low"])[::-1]],
                fill="toself", fillcolor=theme.faded(colour, 0.16), line={"width": 0}, mode="lines",
                hoverinfo="skip", showlegend=False, name=f"{name}, 95 %", legendgroup=name,
            )  # fmt: skip
        said = [
            f"{name} × {factor:g}: {with_bounds(*row)}"
            for factor, *row in rows_of(own, "parameter", "value", "low", "high")
        ]
        figure.add_scatter(
            x=own["parameter"], y=squeezed(own["value"]), customdata=own["value"], mode="lines+markers",
            line={"color": colour, "width": 1.8 if is_layer else 2.6}, marker={"size": 6, "color": colour},
            name=name, legendgroup=name, text=said, hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    factors = sorted(set(frame["parameter"]))
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    figure.add_vline(x=1.0, line={"color": theme.RULE, "width": 2})
    figure.update_xaxes(
        type="log", title_text="every increment times", tickmode="array", tickvals=factors,
        ticktext=[f"{factor:.2g}" for factor in factors],
    )  # fmt: skip
    ends = frame[["value", "low", "high"]].to_numpy(dtype=float)
    places, words = squeezed_ticks(np.nanmin(ends, initial=0.0), np.nanmax(ends, initial=0.0))
    figure.update_yaxes(
        tickmode="array", tickvals=places, ticktext=words, title_text="change, nats per byte (squeezed axis)"
    )
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


_DESIGNS = {
    "up": ("layers 0 to this one", "#2f75b5", "solid", "circle"),
    "down": ("this layer to the last", "#c4501b", "solid", "square"),
    "restore": ("all layers but this one", "#4a515b", "dash", "diamond"),
    "single": ("this layer alone", "#7d8590", "dot", "circle-open"),
}


def plot_cumulative(result: Result, intervention: str | None = None) -> go.Figure:
    """Draw `cumulative_frame`: a line a design over layers, with 95 % intervals as whiskers.

    Args:
        result: A result of kind "ablate".
        intervention: The first that has such a curve if None.
    """
    frame = _chosen(result, cumulative_frame, intervention, "was made on sets of layers")
    figure = theme.new_figure(height=380)
    for k, (design, (name, colour, dash, symbol)) in enumerate(_DESIGNS.items()):
        own = frame[frame["design"] == design]
        if len(own):
            said = rows_of(own, "place", "value", "low", "high")
            figure.add_scatter(
                x=own["layer"] + 0.06 * (k - 1), y=own["value"], mode="lines+markers", name=name,
                error_y=_whiskers(own, color=colour), line={"color": colour, "dash": dash, "width": 2},
                marker={"size": 7, "symbol": symbol, "color": colour},
                text=[f"{plain(place)}: {with_bounds(*row)}" for place, *row in said],
                hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    layers = sorted(set(frame["layer"]))
    figure.update_xaxes(title_text="this layer", tickmode="array", tickvals=layers, ticks="")
    figure.update_yaxes(title_text="change, nats per byte", exponentformat="e")
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


def _chosen(result: Result, of: Callable[[Result, str], Frame], asked: str | None, what: str) -> Frame:
    """Return the frame of an intervention, or the first that has any row."""
    for name in interventions(result) if asked is None else [asked]:
        if len(frame := of(result, name)):
            return frame
    known = [name for name in interventions(result) if len(of(result, name))]
    raise LRopeError(f"{asked or 'nothing'} {what}; known are {', '.join(known) or 'none'}")


_GROUPS = {"byte_class": "class, and how many", "language": "language, and how many"}


def plot_groups(result: Result, of: str = "byte_class") -> go.Figure:
    """Draw `groups_frame`: a row a group, a panel an intervention, each with its own axis.

    Bars are changes in nats per byte with 95 % intervals; grey where the interval holds 0. Numbers beside
    the names count predictions.

    Args:
        result: A result of kind "ablate".
        of: "byte_class", "language" or a label from whose boundaries distances were measured.
    """
    frame, title = groups_frame(result, of), _GROUPS.get(of, "bytes since, and how many")
    if frame.empty:
        known = ", ".join([*_GROUPS, *distance_labels(result)])
        raise LRopeError(f"no change by {of} was measured; choose from {known}")
    names = list(dict.fromkeys(frame["intervention"]))
    names = [name for name in MAIN if name in names] or names
    groups = list(dict.fromkeys(frame.sort_values("at")["group"]))
    figure = make_subplots(
        1, max(len(names), 1), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[short(name) for name in names],
        figure=theme.new_figure(height=86 + 24 * max(len(groups), 2)),
    )  # fmt: skip
    for column, name in enumerate(names, 1):
        own = frame[frame["intervention"] == name]
        said = rows_of(own, "group", "value", "low", "high")
        bars = go.Bar(
            orientation="h", y=own["at"], x=own["value"], name=short(name), textposition="none",
            text=[f"{plain(group)}: {with_bounds(*row)} nats per byte" for group, *row in said],
            marker={"color": [COLOURS[shows] for shows in own["shows"]]}, error_x=_whiskers(own),
            hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
        figure.add_trace(bars, row=1, col=column)
        figure.add_vline(x=0, line={"color": theme.INK, "width": 1}, row=1, col=column)  # pyright: ignore[reportArgumentType]
    counts = frame.groupby("group")["n"].max()
    ticks = [
        f"{plain(name)}  {int(counts[name]):,}" if is_number(counts[name]) else plain(name) for name in groups
    ]
    longest = max([len(title), *(len(name) + 8 for name in groups)])
    figure.update_layout(
        showlegend=False, bargap=0.3, margin={"l": round(24 + 6.2 * longest), "r": 16, "t": 40, "b": 46}
    )
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.add_annotation(
        text=title, x=0, xref="paper", xanchor="right", xshift=-8, y=1, yref="paper", yanchor="bottom",
        showarrow=False, font={"size": 11, "color": theme.MUTED},
    )  # fmt: skip
    figure.update_xaxes(title_text="nats per byte", nticks=5, exponentformat="e")
    figure.update_yaxes(
        range=[len(groups) - 0.5, -0.5], tickmode="array", tickvals=_listed(groups), ticktext=ticks, ticks="",
        automargin=False, fixedrange=True,
    )  # fmt: skip
    return figure


_MOST_HEADS = 8  # beyond these, numbers stand in the hover alone


def plot_attention(result: Result, intervention: str | None = None, metric: str = "look_back") -> go.Figure:
    """Draw `attention_frame`: layers by heads before, after, and the change with its own colours.

    Cells of the change whose interval holds 0 are grey.

    Args:
        result: A result of kind "ablate".
        intervention: The first whose attention was measured if None.
        metric: "look_back" (tokens) or "within_word" (share of attention).
    """
    if metric not in ATTENTION:
        raise LRopeError(f"unknown metric {metric!r}: choose from {', '.join(ATTENTION)}")
    frame = _chosen(
        result, partial(attention_frame, metric=metric), intervention, "had its attention measured"
    )
    intervention, (unit, digits) = str(frame["intervention"].iloc[0]), ATTENTION[metric]
    layers, heads = sorted(set(frame["layer"])), sorted(set(frame["head"]))
    figure = make_subplots(
        1, 3, shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=["untouched", short(intervention), "change"],
        figure=theme.new_figure(height=92 + 30 * max(len(layers), 1)),
    )  # fmt: skip
    top = float(np.nanmax(frame[["before", "value"]].to_numpy(dtype=float), initial=0.0)) or 1.0
    reach = float(np.nanmax(np.abs(frame["change"].to_numpy(dtype=float)), initial=5 * 0.1**digits))
    plain_look = {"showscale": False, "textfont": {"size": 11}}
    level = plain_look | {"colorscale": _BLUES, "zmin": 0, "zmax": top}
    moved = plain_look | {"colorscale": theme.DIVERGING, "zmin": -reach, "zmax": reach, "name": "change"}
    is_open = frame["shows"] == OPEN
    for column, name, own, look in (
        (1, "before", frame, level | {"name": "before"}), (2, "value", frame, level | {"name": "value"}),
        (3, "change", frame[is_open], _GREY), (3, "change", frame[~is_open], moved),
    ):  # fmt: skip
        said = [_attention_text(row, name, unit, digits) for _, row in own.iterrows()]
        text = [cell if len(heads) <= _MOST_HEADS else "" for cell, _ in said]
        shown = own.assign(z=own[name], value=own[name], text=text, hover=[hover for _, hover in said])
        figure.add_trace(_cells(shown, (layers, heads), ("layer", "head"), look), row=1, col=column)
    figure.update_layout(margin={"l": 70, "r": 12, "t": 34, "b": 46})
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.update_xaxes(
        _BARE, title_text="head", tickvals=_listed(heads), ticktext=[str(head) for head in heads],
        range=[-0.5, len(heads) - 0.5],
    )  # fmt: skip
    figure.update_yaxes(
        _BARE, tickvals=_listed(layers), ticktext=[f"layer {layer}" for layer in layers],
        range=[len(layers) - 0.5, -0.5],
    )  # fmt: skip
    return figure


def _attention_text(row: Row, name: str, unit: str, digits: int) -> tuple[str, str]:
    """Return what a cell says, and what it says to the pointer."""
    start = f"<b>head {int(row['layer'])}.{int(row['head'])}</b>"
    if name != "change":
        return number(row[name], digits), f"{start}<br>{number(row[name], 3)} {unit}"
    spread = f"95 % interval {change(row['low'], 3)} to {change(row['high'], 3)}"
    spread = "no interval could be had" if row["shows"] == UNKNOWN else spread
    cell = f"{_MARKS.get(row['shows'], '').strip()}{change(row['change'], digits)}"
    return cell, f"{start}<br>{change(row['change'], 3)} {unit}<br>{spread}"
