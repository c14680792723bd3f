"""The figures of `lrope-interp distance`: a pair of places layer by layer, and all pairs of words."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.ablations.heat_map import DIVERGING
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import plain, visible
from lrope_interp.reports.kit.rows_figure import aligned, bands, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import is_number, number, shortened
from lrope_interp.results import Result

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
_CELL, _LEFT, _TOP, _RIGHT, _BOTTOM = 22, 100, 100, 70, 8  # pixels
_LONGEST = 12
_LEAST_REACH = 0.1


def row_name(layer: int, head: int) -> str:
    """Return `layer 3`, or `layer 3 · head 1`."""
    return f"layer {layer}" if head < 0 else f"layer {layer} · head {head}"


def pair_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a layer and head of the places asked for: `row_label`, `y` and the numbers.

    Empty where no places were asked for.
    """
    frame = table_of(result, "distances")
    if frame.empty:
        return frame
    frame = frame[frame["measure"] == measure].reset_index(drop=True)
    return frame.assign(row_label=_labels(frame), y=np.arange(len(frame)))


def plot_pair(result: Result, measure: str = NORMALISED) -> go.Figure:
    """Draw the pair asked for: a dot a layer, on the range of pairs of the same token distance."""
    frame = pair_frame(result, measure)
    n_tokens = float(frame["n_tokens"].iloc[0])
    digits = 2 if measure == NORMALISED else 3
    cells = [
        [number(row.value, digits), number(row.expected, digits), _ratio_words(row.value, row.expected)]
        for row in frame.itertuples()
    ]
    columns, heading = aligned(cells, ["found", "expected", "change"])
    names = [named(row.row_label, is_strong=_is_outside(row)) for row in frame.itertuples()]
    figure = rows_figure(names, columns, heading, n_tokens if measure == NORMALISED else 0.0)
    figure.add_trace(
        bands(frame, "low", "high", "central 95 % at this token distance", (theme.CONTROL_BAND, 0.6))
    )
    figure.add_trace(
        go.Scatter(
            x=frame["expected"], y=frame["y"], mode="markers", name="their mean", hoverinfo="skip",
            marker={"symbol": "line-ns-open", "size": 12, "color": theme.CONTROL, "line": {"width": 2}},
        )
    )  # fmt: skip
    alone = frame.assign(low=frame["value"], high=frame["value"])
    figure.add_trace(dots(alone, "this pair", {"color": theme.ACCENT}, _pair_hovers(frame)))
    least = (n_tokens, n_tokens) if measure == NORMALISED else (0.0, 0.0)
    title = (
        "normalised distance (mean increments)" if measure == NORMALISED else "effective distance (0 to 2)"
    )
    figure.update_xaxes(
        title_text=title, range=reach(frame["value"], frame["low"], frame["high"], least=least)
    )
    return figure


def matrix_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a pair of words, layer and head, with `ratio`: the distance over what is expected."""
    frame = table_of(result, "matrix")
    frame = frame[frame["measure"] == measure].reset_index(drop=True)
    expected = numbers(frame["expected"])
    ratio = numbers(frame["value"]) / expected.where(expected > 0)
    return frame.assign(row_label=_labels(frame), ratio=ratio)


def plot_matrix(result: Result, measure: str = NORMALISED) -> go.Figure:
    """Draw all pairs of words, one layer at a time, chosen in a menu.

    The colour is the distance over the mean of this text's tokens that are as far apart; a dot marks
    what lies outside their central 95 %. `customdata` holds the distances.
    """
    frame = matrix_frame(result, measure)
    words = table_of(result, "words")["word"].tolist()
    labels = [f"{plain(shortened(_shown(word), _LONGEST))} " for word in words]
    figure = theme.new_figure(height=_TOP + _BOTTOM + _CELL * len(words))
    limit = _limit(frame)
    rows = list(dict.fromkeys(frame["row_label"]))
    for number_, name in enumerate(rows):
        own = frame[frame["row_label"] == name]
        figure.add_trace(_heat_map(own, len(words), words, limit, is_shown=number_ == 0))
    figure.update_layout(
        margin={"l": _LEFT, "r": _RIGHT, "t": _TOP, "b": _BOTTOM},
        updatemenus=[_menu(rows)] if len(rows) > 1 else [],
        plot_bgcolor="#f6f7f9",
    )
    axis: dict[str, Any] = {
        "tickmode": "array", "tickvals": list(range(len(words))), "ticktext": labels, "ticks": "",
        "showline": False, "showgrid": False, "automargin": False, "fixedrange": True,
        "tickfont": {"size": 11, "color": theme.INK},
    }  # fmt: skip
    figure.update_xaxes(axis, side="top", tickangle=-60, range=[-0.5, len(words) - 0.5])
    figure.update_yaxes(axis, range=[len(words) - 0.5, -0.5])
    return figure


def matrix_width(result: Result) -> int:
    """Return the least width of `plot_matrix` at which its words can be read, in pixels."""
    return _LEFT + _RIGHT + 18 * len(table_of(result, "words"))


def _heat_map(own: Frame, n: int, words: list[str], limit: float, *, is_shown: bool) -> go.Heatmap:
    z, values = np.full((n, n), np.nan), np.full((n, n), np.nan)
    text, hover = np.full((n, n), "", object), np.full((n, n), "", object)
    for row in own.itertuples():
        at = int(row.index_b), int(row.index_a)
        z[at] = np.log2(row.ratio) if is_number(row.ratio) and row.ratio > 0 else np.nan
        values[at], text[at] = row.value, "•" if _is_outside(row) else ""
        hover[at] = _matrix_hover(row, words)
    ticks = [-limit, -limit / 2, 0, limit / 2, limit]
    return go.Heatmap(
        z=z, x=list(range(n)), y=list(range(n)), customdata=values, text=text, texttemplate="%{text}",
        hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", hoverongaps=False, xgap=1, ygap=1,
        visible=is_shown, colorscale=DIVERGING, zmin=-limit, zmax=limit, name=str(own["row_label"].iloc[0]),
        textfont={"size": 11},
        colorbar={
            "tickmode": "array", "tickvals": ticks, "ticktext": [f"{2**one - 1:+.0%}" for one in ticks],
            "thickness": 10, "outlinewidth": 0, "tickfont": {"size": 10, "color": theme.MUTED}, "x": 1.01,
            "xpad": 4, "lenmode": "pixels", "len": min(200, _CELL * max(n, 4)), "y": 1, "yanchor": "top",
        },
    )  # fmt: skip


def _menu(rows: list[str]) -> dict[str, Any]:
    return {
        "type": "dropdown", "x": 0, "xanchor": "right", "y": 1, "yanchor": "bottom", "showactive": True,
        "bgcolor": theme.PAPER, "font": {"size": 12}, "pad": {"b": 30, "r": 6},
        "buttons": [
            {"label": name, "method": "restyle", "args": ["visible", [one == name for one in rows]]}
            for name in rows
        ],
    }  # fmt: skip


def _limit(frame: Frame) -> float:
    """Return where the colours end, as log2 of a ratio: at the 98th of a hundred pairs."""
    ratio = frame["ratio"][frame["ratio"] > 0]
    if ratio.empty:
        return _LEAST_REACH
    return max(float(np.quantile(np.abs(np.log2(ratio)), 0.98)), _LEAST_REACH)


def _labels(frame: Frame) -> list[str]:
    return [row_name(int(row.layer), int(row.head)) for row in frame.itertuples()]


def _is_outside(row: Any) -> bool:
    return str(row.is_outside) == "True"


def _shown(word: str) -> str:
    return "".join(visible(character) for character in word)


def _ratio_words(value: float, expected: float) -> str:
    return f"{value / expected - 1:+.0%}" if is_number(expected) and expected > 0 else "–"


def _numbers(row: Any) -> list[str]:
    lines = [
        f"distance {number(row.value, 3)}, {int(row.n_tokens)} tokens",
        f"expected {number(row.expected, 3)} ({_ratio_words(row.value, row.expected)})",
    ]
    if is_number(row.low):
        lines.append(f"95 % of pairs {number(row.low, 3)} to {number(row.high, 3)}")
    return lines


def _pair_hovers(frame: Frame) -> list[str]:
    return ["<br>".join([f"<b>{row.row_label}</b>", *_numbers(row)]) for row in frame.itertuples()]


def _matrix_hover(row: Any, words: list[str]) -> str:
    a, b = (plain(shortened(_shown(words[int(one)]), 40)) for one in (row.index_a, row.index_b))
    return "<br>".join([f"<b>{a} … {b}</b>, {row.row_label}", *_numbers(row)])
