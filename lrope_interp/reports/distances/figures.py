"""The figures of `distance`: a pair of places layer by layer, and all pairs of words of one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.distances.tables import (
    CLOSER,
    FARTHER,
    NORMALISED,
    change,
    matrix_frame,
    pair_frame,
    word,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.glyphs import plain, width_in_em
from lrope_interp.reports.kit.rows_figure import aligned, bands, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import is_number, number
from lrope_interp.results import Result

_EDGE, _RIGHT, _BOTTOM, _LETTER = 16, 84, 8, 7  # pixels
_CELLS = (32, 22)  # pixels of few and of many words
_FEW = 20
_LONGEST = 12
_LEAST_REACH = 0.1


def plot_distance(result: Result) -> go.Figure:
    """Draw the places asked for, or all pairs of words in the first layer."""
    return plot_matrix(result) if pair_frame(result).empty else plot_pair(result)


def plot_pair(result: Result, measure: str = NORMALISED) -> go.Figure:
    """Draw the pair asked for: a dot a layer, on the range of pairs of the same token distance."""
    frame = pair_frame(result, measure)
    if frame.empty:
        raise LRopeError("no pair of places was asked for: give `distance` two of them, or draw the matrix")
    n_tokens, is_normalised = float(frame["n_tokens"].iloc[0]), measure == NORMALISED
    digits = 2 if is_normalised else 3
    cells = [
        [number(row.value, digits), number(row.expected, digits), change(row.value, row.expected)]
        for row in frame.itertuples()
    ]
    columns, heading = aligned(cells, ["found", "expected", "change"])
    names = [named(row.row_label, is_strong=row.verdict in (CLOSER, FARTHER)) for row in frame.itertuples()]
    figure = rows_figure(names, columns, heading, n_tokens if is_normalised else 0.0, height=26)
    figure.add_trace(bands(frame, "low", "high", "95 % of pairs as far apart", (theme.CONTROL_BAND, 0.6)))
    figure.add_trace(
        go.Scatter(
            x=frame["expected"], y=frame["y"], mode="markers", name="their mean", hoverinfo="skip",
            marker={"symbol": "line-ns-open", "size": 12, "color": theme.CONTROL, "line": {"width": 2}},
        )
    )  # fmt: skip
    alone = frame.assign(low=frame["value"], high=frame["value"])
    hover = ["<br>".join([f"<b>{row.row_label}</b>", *_numbers(row)]) for row in frame.itertuples()]
    figure.add_trace(dots(alone, "this pair", {"color": theme.ACCENT}, hover))
    least = (n_tokens, n_tokens) if is_normalised else (0.0, 0.0)
    figure.update_xaxes(
        title_text="mean increments" if is_normalised else "effective distance (0 to 2)",
        range=reach(frame["value"], frame["low"], frame["high"], least=least),
    )
    return figure


def plot_matrix(
    result: Result, layer: int | None = None, head: int | None = None, measure: str = NORMALISED
) -> go.Figure:
    """Draw all pairs of words of one layer and head, the first if none is named.

    The colour is the distance over the mean of this text's tokens that are as far apart; a dot marks
    what lies outside their central 95 %. `customdata` holds the distances.
    """
    frame = matrix_frame(result, measure)
    first = frame.iloc[0]
    layer, head = first["layer"] if layer is None else layer, first["head"] if head is None else head
    own = frame[(frame["layer"] == layer) & (frame["head"] == head)]
    if own.empty:
        raise LRopeError(f"there is no layer {layer} with head {head}: draw one of those measured")
    words = table_of(result, "words")["word"].tolist()
    cell, labels = _CELLS[len(words) > _FEW], [word(one, _LONGEST) for one in words]
    left = _EDGE + round(_LETTER / 0.6 * max(width_in_em(one) for one in labels))
    figure = theme.new_figure(height=left + _BOTTOM + cell * len(words))
    figure.add_trace(_heat_map(own, words, _limit(frame), cell))
    figure.update_layout(
        width=left + _RIGHT + cell * len(words),
        margin={"l": left, "r": _RIGHT, "t": left, "b": _BOTTOM},
        plot_bgcolor="#f6f7f9",
    )
    axis: dict[str, Any] = {
        "tickmode": "array", "tickvals": list(range(len(words))), "ticks": "", "showline": False,
        "ticktext": [f"{plain(one)} " for one in labels], "showgrid": False,
        "automargin": False, "fixedrange": True, "tickfont": {"size": 11, "color": theme.INK},
    }  # fmt: skip
    figure.update_xaxes(axis, side="top", tickangle=-60, range=[-0.5, len(words) - 0.5])
    figure.update_yaxes(axis, range=[len(words) - 0.5, -0.5])
    return figure


def _heat_map(own: Frame, words: list[str], limit: float, cell: int) -> go.Heatmap:
    n = len(words)
    z, values = np.full((n, n), np.nan), np.full((n, n), np.nan)
    text, hover = np.full((n, n), "", object), np.full((n, n), "", object)
    shown = [plain(word(one, 40)) for one in words]
    for row in own.itertuples():
        at = int(row.index_b), int(row.index_a)
        z[at] = np.log2(row.ratio) if is_number(row.ratio) and row.ratio > 0 else np.nan
        values[at], text[at] = row.value, "•" if row.verdict in (CLOSER, FARTHER) else ""
        hover[at] = "<br>".join([f"<b>{shown[at[1]]} … {shown[at[0]]}</b>, {row.row_label}", *_numbers(row)])
    ticks = [-limit, -limit / 2, 0, limit / 2, limit]
    return go.Heatmap(
        z=z.round(4), x=list(range(n)), y=list(range(n)), customdata=values, text=text,
        texttemplate="%{text}", hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False, xgap=1, ygap=1, colorscale=theme.DIVERGING, zmin=-limit, zmax=limit,
        name=str(own["row_label"].iloc[0]), textfont={"size": 12},
        colorbar={
            "tickmode": "array", "tickvals": ticks, "ticktext": [change(2**one, 1) for one in ticks],
            "thickness": 10, "outlinewidth": 0, "tickfont": {"size": 11, "color": theme.MUTED}, "x": 1.01,
            "xpad": 4, "lenmode": "pixels", "len": min(200, cell * max(n, 4)), "y": 1, "yanchor": "top",
        },
    )  # fmt: skip


def _limit(frame: Frame) -> float:
    """Return where the colours end, as log2 of a ratio: at the 98th of a hundred pairs."""
    ratio = frame["ratio"][frame["ratio"] > 0]
    if ratio.empty:
        return _LEAST_REACH
    return max(float(np.quantile(np.abs(np.log2(ratio)), 0.98)), _LEAST_REACH)


def _numbers(row: Any) -> list[str]:
    lines = [
        f"distance {number(row.value, 3)}, {int(row.n_tokens)} tokens",
        f"expected {number(row.expected, 3)} ({change(row.value, row.expected)})",
    ]
    if is_number(row.low):
        lines.append(f"95 % of pairs {number(row.low, 3)} to {number(row.high, 3)}")
    return lines
