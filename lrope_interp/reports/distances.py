"""The page of `lrope-interp distance`: how far apart each layer takes the words of a text to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import plain, visible, width_in_em
from lrope_interp.reports.kit.rows_figure import aligned, bands, dots, named, reach, rows_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import (
    NOTHING,
    is_number,
    listed,
    number,
    place,
    plural,
    shortened,
    signed,
)
from lrope_interp.results import Result

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
CLOSER, FARTHER, USUAL = "closer", "farther", "as usual"
_LOOKS = {CLOSER: ("◂", "won"), FARTHER: ("▸", "won"), USUAL: ("=", "open")}
_BY_CONSTRUCTION = 5.0  # % of all pairs lie outside their central 95 %
_NAMED = 3  # layers that a headline names


def pair_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a layer and head of the places asked for; none where no places were asked for.

    Returns:
        The rows of `distances`, and `row_label`, `y` (from 0) and `verdict`: closer or farther than 95 % of
        the pairs of this text that are as many tokens apart, as usual, or "" where there are too few.
    """
    frame = table_of(result, "distances")
    if frame.empty:
        return frame
    frame = _judged(frame[frame["measure"] == measure].reset_index(drop=True))
    return frame.assign(y=np.arange(len(frame)))


def matrix_frame(result: Result, measure: str = NORMALISED) -> Frame:
    """Return one row a pair of words, layer and head, as `pair_frame` does.

    Returns:
        The rows of `matrix`, and `row_label`, `verdict` and `ratio`: the distance over what is expected.
    """
    frame = table_of(result, "matrix")
    frame = _judged(frame[frame["measure"] == measure].reset_index(drop=True))
    expected = numbers(frame["expected"])
    return frame.assign(ratio=numbers(frame["value"]) / expected.where(expected > 0))


def _judged(frame: Frame) -> Frame:
    is_closer = numbers(frame["value"]) < numbers(frame["expected"])
    told = frame["is_outside"].astype(str)
    verdict = np.select(
        [told == "False", (told == "True") & is_closer, told == "True"], [USUAL, CLOSER, FARTHER], ""
    )
    places = zip(frame["layer"], frame["head"], strict=True)
    return frame.assign(verdict=verdict, row_label=[place(int(layer), int(head)) for layer, head in places])


def word(text: str, length: int) -> str:
    """Return words of the user so that they can be seen, cut to a length."""
    return shortened("".join(visible(character) for character in text), length)


def change(value: Any, expected: Any) -> str:
    """Say by how many per cent a distance differs from what is expected; what rounds to zero has no sign."""
    known = is_number(value) and is_number(expected) and expected > 0
    return f"{signed(100 * (value / expected - 1), 0)} %" if known else NOTHING


def verdicts(result: Result) -> Verdicts:
    """Return a row a layer and head: of the places asked for, or of all pairs of words."""
    pair = pair_frame(result)
    return of_words(result) if pair.empty else _of_pair(result, pair)


def _of_pair(result: Result, pair: Frame) -> Verdicts:
    frame = pair.rename(columns={"row_label": "what"})
    frame = frame.assign(where=[number(value) for value in pair["expected"]])
    a, b = (f"“{word(text, 24)}”" for text in table_of(result, "asked")["text"].tolist())
    n = int(pair["n_tokens"].iloc[0])
    return Verdicts(
        headline=f"{a} and {b} are {plural(n, 'token')} apart: {_found(pair)}.",
        frame=frame.reindex(columns=[*COLUMNS, "expected", "n_tokens"]),
        names={"what": "Row", "where": "Expected", "value": "Distance [usual]"},
        digits=2,
        reference=float(n),
        marks=_LOOKS,
        caption="In mean increments of the text. Usual: 95 % of its pairs that are as many tokens apart. "
        "Ordinary RoPE's distance is that of the tokens. One text, no test.",
    )


def _found(pair: Frame) -> str:
    if (pair["verdict"] == "").all():
        return "too few pairs of this text are as far apart to say what is usual"
    parts = []
    for verdict in (CLOSER, FARTHER):
        rows = pair.loc[pair["verdict"] == verdict, "row_label"].tolist()
        where = listed(rows) if len(rows) <= _NAMED else f"{len(rows)} of {len(pair)} rows"
        parts += [f"{verdict} than usual in {where}"] if rows else []
    return ", ".join(parts) or "as usual for this text in every row"


def of_words(result: Result) -> Verdicts:
    """Return a row a layer and head: how many pairs of words are unusual, and which most."""
    matrix, rows = matrix_frame(result), []
    for name, own in matrix.groupby("row_label", sort=False):
        judged, outside = own[own["verdict"] != ""], own[own["verdict"].isin([CLOSER, FARTHER])]
        share = 100 * len(outside) / len(judged) if len(judged) else np.nan
        row = {"what": name, "value": share, "where": ""}
        if len(outside):
            top = outside.loc[np.log2(outside["ratio"]).abs().idxmax()]
            words = f"{word(top['word_a'], 12)} … {word(top['word_b'], 12)}"
            row["where"] = f"{words} {change(top['value'], top['expected'])}"
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=[*COLUMNS])
    return Verdicts(
        headline=_headline(frame, matrix, len(table_of(result, "words"))),
        frame=frame,
        names={"what": "Row", "where": "Most unusual pair", "value": "Unusual pairs, %"},
        digits=0,
        reference=_BY_CONSTRUCTION,
        caption="Unusual: outside the central 95 % of this text's tokens that are as many tokens apart, "
        "where 5 % of all pairs lie by construction. One text, no test.",
    )


def _headline(frame: Frame, matrix: Frame, n_words: int) -> str:
    judged = matrix[matrix["verdict"] != ""]
    if judged.empty:
        return f"{plural(n_words, 'word')}; too few pairs of this text are as far apart to say what is usual."
    share = number(100 * (judged["verdict"] != USUAL).mean(), 0)
    top = frame.loc[frame["value"].idxmax(), "what"]
    most = f"; most in {top}" if len(frame) > 1 else ""
    return f"{share} % of the pairs of {n_words} words are unusually close or far (5 % in any text){most}."


def pair_table(result: Result) -> Frame:
    """Return every number of the places asked for as strings, a row a layer, head and measure."""
    frame = pd.concat([pair_frame(result, measure) for measure in MEASURES], ignore_index=True)
    bounds = zip(frame["low"], frame["high"], strict=True)
    return pd.DataFrame(
        {
            "Row": frame["row_label"],
            "Measure": frame["measure"],
            "Distance": [number(value, 3) for value in frame["value"]],
            "Expected": [number(value, 3) for value in frame["expected"]],
            "95 % of pairs": [
                f"{number(low, 3)} to {number(high, 3)}" if is_number(low) else "too few"
                for low, high in bounds
            ],
            "So it is": [verdict or NOTHING for verdict in frame["verdict"]],
        }
    )


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


_MOST_CELLS = 60_000  # of all matrices; beyond, that of the effective distance stays in the table

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "distance": plot_distance,
    "pair": plot_pair,
    "matrix": plot_matrix,
}


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides: what can be picked, and the words of the matrices."""
    matrix = matrix_frame(result)
    places = matrix[["row_label", "layer", "head"]].drop_duplicates().to_numpy().tolist()
    measures = MEASURES if len(table_of(result, "matrix")) <= _MOST_CELLS else MEASURES[:1]
    return {
        "has_pair": not pair_frame(result).empty,
        "cells": [(name, measure, (layer, head)) for measure in measures for name, layer, head in places],
        "words": table_of(result, "words")["word"].tolist(),
    }
