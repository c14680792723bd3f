"""The heat map of an ablation study: every place against every intervention."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.ablations.frames import (
    CHANGE,
    FLIPS,
    KL,
    LOCAL,
    OPEN,
    ORDER,
    UNKNOWN,
    main_where,
    whole_frame,
)
from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.ablations.numbers import change, digits_of, squeezed, squeezed_ticks
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row, numbers
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import is_number, number
from lrope_interp.results import Result

DIVERGING = theme.DIVERGING
GREY = "#eef0f3"
GREY_LOOK: dict[str, object] = {
    "colorscale": [[0, GREY], [1, GREY]], "showscale": False, "textfont": {"size": 11, "color": theme.MUTED},
}  # fmt: skip
UNITS = {CHANGE: "nats per byte", KL: "nats a prediction", FLIPS: "share of predictions"}
_SHOWN_SCALE = 2.0
_LEFT, _TOP, _LINE, _BOTTOM = 92, 24, 15, 14  # pixels
_ROWS_FOR_A_BAR = 5
_ROW = {False: 44, True: 24}  # pixels, with an interval in the cell and without


def heat_map_frame(result: Result, metric: str = CHANGE, *, is_heads: bool = False) -> Frame:
    """Return one row a cell: single layers and all layers, against every intervention.

    Of a scale curve the factor 2 alone, or the largest where 2 is missing; what a suite froze at some gaps
    only is left to `places_frame`.

    Args:
        result: A result of kind "ablate".
        metric: "nats_per_byte", "kl" or "flips".
        is_heads: Whether to return single heads instead of whole layers.

    Returns:
        The columns of `changes_frame`, with `column`, the name of the intervention; in the order of the
        figure, rows from layer 0 to all layers.
    """
    frame = whole_frame(result, metric)
    kept = frame["design"].isin(("single", "all")) & frame["intervention"].isin(ORDER)
    kept &= (frame["where"] == main_where(frame)) | frame["intervention"].isin(LOCAL)
    frame = frame[kept & ((frame["head"] >= 0) == is_heads)]
    scales = numbers(frame.loc[frame["intervention"] == "scale", "parameter"])
    factor = _SHOWN_SCALE if (scales == _SHOWN_SCALE).any() else scales.max()
    frame = frame[(frame["intervention"] != "scale") | (numbers(frame["parameter"]) == factor)]
    names = zip(*(frame[name].tolist() for name in ("intervention", "parameter", "where")), strict=True)
    frame = frame.assign(
        column=pd.Series([short(*key) for key in names], index=frame.index, dtype=object),
        order=frame["intervention"].map({name: i for i, name in enumerate(ORDER)}),
        depth=frame["layer"].where(frame["design"] == "single", np.inf),
    )
    return frame.sort_values(["depth", "head", "order", "where"], kind="stable").reset_index(drop=True)


def plot_heat_map(result: Result, metric: str = CHANGE, *, is_heads: bool = False) -> go.Figure:
    """Draw `heat_map_frame`: the value in the cell, its interval below, colour by `squeezed`.

    Cells whose interval holds 0 are grey; a question mark says that there is no interval.
    """
    frame = heat_map_frame(result, metric, is_heads=is_heads)
    rows, columns = list(dict.fromkeys(frame["place"])), list(dict.fromkeys(frame["column"]))
    heads = [_wrapped(plain(name)) for name in columns]
    top = _TOP + _LINE * max((head.count("<br>") for head in heads), default=0)
    figure = theme.new_figure(height=top + _BOTTOM + _ROW[is_heads] * max(len(rows), 1))
    is_grey = frame["shows"] == OPEN
    reach = float(np.abs(squeezed(frame["value"])).max(initial=0.0)) or 1.0
    colours = {
        "colorscale": DIVERGING, "zmin": -reach, "zmax": reach, "showscale": len(rows) >= _ROWS_FOR_A_BAR,
        "colorbar": _colour_bar(reach, metric), "name": "coloured", "textfont": {"size": 11},
    }  # fmt: skip
    figure.add_traces(
        [
            _cells(frame[is_grey], rows, columns, is_heads, GREY_LOOK | {"name": OPEN}),
            _cells(frame[~is_grey], rows, columns, is_heads, colours),
        ]
    )
    figure.update_layout(margin={"l": _LEFT, "r": 76, "t": top, "b": _BOTTOM})
    axis = {"showline": False, "ticks": "", "showgrid": False, "automargin": False, "fixedrange": True}
    figure.update_xaxes(
        axis, side="top", tickangle=0, tickvals=list(range(len(columns))), tickmode="array",
        ticktext=heads, range=[-0.5, len(columns) - 0.5],
        tickfont={"size": 11, "color": theme.INK},
    )  # fmt: skip
    figure.update_yaxes(
        axis, tickvals=list(range(len(rows))), tickmode="array",
        ticktext=[f"{plain(name)} " for name in rows],
        range=[len(rows) - 0.5, -0.5], tickfont={"size": 12, "color": theme.INK},
    )  # fmt: skip
    return figure


def _cells(
    frame: Frame, rows: list[str], columns: list[str], is_small: bool, look: dict[str, object]
) -> go.Heatmap:
    """Return the cells of some rows of the frame in their places; `customdata` holds the values."""
    shape = (len(rows), len(columns))
    values, text, hover = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, "", object)
    for _, row in frame.iterrows():
        at = rows.index(row["place"]), columns.index(row["column"])
        values[at], text[at], hover[at] = row["value"], cell_text(row, is_small), _hover(row)
    return go.Heatmap(
        z=squeezed(values),
        x=list(range(len(columns))),
        y=list(range(len(rows))),
        customdata=values,
        text=text,
        texttemplate="%{text}",
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        xgap=2,
        ygap=2,
        **look,
    )


def cell_text(row: Row, is_small: bool = False) -> str:
    """Write a cell: its value, a dot where the interval holds 0, and the interval below."""
    mark = {OPEN: "· ", UNKNOWN: "? "}.get(str(row["shows"]), "")
    if row["metric"] == FLIPS:
        value = f"{_percent(row['value'])} %"
        spread = f"{_percent(row['low'])} … {_percent(row['high'])}"
    else:
        digits = digits_of(row["value"])
        value = change(row["value"], digits)
        spread = _narrow(f"{change(row['low'], digits)} … {change(row['high'], digits)}")
    if is_small or row["shows"] == UNKNOWN:
        return f"{mark}{value}"
    return f"{mark}{value}<br><span style='font-size:9px'>{spread}</span>"


def _narrow(text: str) -> str:
    """Drop the 0 before a decimal point: a cell has little room."""
    return re.sub(r"(?<!\d)0\.", ".", text)


def _percent(share: object) -> str:
    return number(100 * float(share), 1) if is_number(share) else "–"  # pyright: ignore[reportArgumentType]


def _hover(row: Row) -> str:
    digits = max(digits_of(row["value"]), 4)
    interval = (
        f"95 % interval {change(row['low'], digits)} to {change(row['high'], digits)}"
        if row["shows"] != UNKNOWN
        else "no interval could be had"
    )
    lines = [
        f"<b>{plain(row['place'])}, {plain(row['column'])}</b>",
        f"{change(row['value'], digits)} {UNITS.get(row['metric'], '')}",
        interval,
    ]
    if is_number(row["n"]):
        lines.append(f"{int(row['n']):,} predictions")
    return "<br>".join(lines)


def _wrapped(name: str, width: int = 12) -> str:
    """Break a name over lines, at spaces, for the head of a narrow column."""
    lines = [""]
    for word in name.split(" "):
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)


def _colour_bar(reach: float, metric: str) -> dict[str, object]:
    shown = float(np.sinh(reach)) * 0.005
    places, words = squeezed_ticks(-shown, shown, least=0.01)
    return {
        "tickmode": "array", "tickvals": places, "ticktext": words, "thickness": 10, "outlinewidth": 0,
        "tickfont": {"size": 10, "color": theme.MUTED}, "x": 1.01, "xpad": 4, "len": 1, "ypad": 0,
        "title": {"text": UNITS.get(metric, "").replace(" ", "<br>", 1), "side": "top",
                  "font": {"size": 10, "color": theme.MUTED}},
    }  # fmt: skip
