"""The spacing figure: a text as each layer spaces it, one row a layer, characters followed by lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Column, Frame
from lrope_interp.reports.kit.glyphs import described, plain, width_in_em
from lrope_interp.reports.kit.wording import number, place, shortened
from lrope_interp.reports.spacing.tables import (
    ORDINARY,
    attention_frame,
    spacing_frame,
    unit_of,
    words_frame,
)
from lrope_interp.results import Result

_LEFT, _RIGHT, _TOP, _BOTTOM = 112, 16, 16, 12
_LEGEND = 24
_LANE_ROWS = 2.4  # height of an attention lane, in rows
_GAP_ROWS = 0.9  # between blocks
_WIDEST = 26.0  # pixels a unit, where a short text leaves room
_DELIMITER = "#b4531f"
_FOLLOW = "#c9d1da"
_FOLLOW_DELIMITER = "#e8b797"


def plot_spacing(
    result: Result,
    layer: int | None = None,
    *,
    ordinary: bool = True,
    width: int = 1000,
    row_height: int = 36,
) -> go.Figure:
    """Draw each character at its cumulative position, one row a layer.

    Every row is scaled to its own mean increment; a character of several bytes stands at its last
    byte. The text wraps into blocks as wide as `width` pixels allow. The numbers are those of
    `spacing_frame`, and the ticks at word starts those of `words_frame`.

    Args:
        result: A result of kind "show".
        layer: Only this layer; all layers if None.
        ordinary: Put a row of ordinary RoPE (+1 a byte, or token) on top, as the control.
        width: Pixels to fill before the text wraps.
        row_height: Pixels between rows.

    Returns:
        A figure of fixed width and of the height it needs.
    """
    font_size = 14 if row_height >= 30 else 11
    pixels = _units_to_pixels(spacing_frame(result, layer, ordinary=ordinary), font_size)
    frame = _wrapped(result, layer, ordinary, (width - _LEFT - _RIGHT) / pixels - 1.6)
    attention = attention_frame(result, frame)
    extent = max(frame["x_left"].max(), 1.0) + 0.8
    pixels = max(pixels, min((width - _LEFT - _RIGHT) / (extent + 0.8), _WIDEST))
    canvas = _Canvas(frame, attention, pixels, font_size, unit_of(result))
    words = words_frame(result, frame)
    top = _TOP + _LEGEND * (len(words) > 0)
    figure = theme.new_figure(height=round(canvas.n_units * row_height) + top + _BOTTOM)
    figure.add_traces(_following(frame, canvas))
    figure.add_traces([_row(row, canvas) for _, row in frame.groupby("row")])
    for lane, (_, bars) in enumerate(attention.groupby(_ATTENTION_ROW)):
        figure.add_traces(_lane(bars, lane, canvas))
    if len(words):
        figure.add_trace(_word_ticks(words, canvas, _source(result)))
    figure.update_layout(
        width=round((extent + 0.8) * pixels) + _LEFT + _RIGHT,
        margin={"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM},
        showlegend=len(words) > 0,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "itemclick": False,
        },
        barmode="overlay",
    )
    figure.update_xaxes(visible=False, range=[-0.8, extent], fixedrange=False)
    figure.update_yaxes(**canvas.axis())
    return figure


def _units_to_pixels(frame: Frame, font_size: int) -> float:
    """Choose how many pixels a unit gets, so that most neighbours do not touch.

    In each row, the scale at which nine of ten neighbours stay apart; of the rows, the median; at
    least 11 and at most 30 pixels (a token 110), because one tight row may not blow the page up.
    """
    needed = []
    for _, row in frame[frame["layer"] >= 0].groupby("row"):
        width = np.array([width_in_em(text) for text in row["text"]]) * font_size
        steps = np.maximum(np.diff(row["x"].to_numpy()), 1e-6)
        needed += [np.quantile((width[1:] + width[:-1]) / 2 / steps, 0.9)] if len(steps) else []
    most = 110.0 if frame["text"].str.len().max() > 1 else 30.0
    return float(np.clip(np.median(needed), 11.0, most)) if needed else 24.0


def _wrapped(result: Result, layer: int | None, ordinary: bool, room: float) -> Frame:
    """Wrap so that the widest row of the widest block fits into `room` units, or nearly so."""
    frame, width = spacing_frame(result, layer, ordinary=ordinary, block_width=room), room
    for _ in range(3):
        extent = frame["x_left"].max()
        if extent <= room:
            break
        width *= 0.95 * room / extent
        frame = spacing_frame(result, layer, ordinary=ordinary, block_width=width)
    return frame


_ATTENTION_ROW = ["layer", "head", "query_character"]


class _Canvas:
    """The vertical arrangement: blocks from top to bottom, in each its rows and then its attention lanes."""

    def __init__(self, frame: Frame, attention: Frame, pixels: float, font_size: int, unit: str):
        self.pixels = pixels
        self.font_size = font_size
        self.n_rows = int(frame["row"].max()) + 1
        self.n_blocks = int(frame["block"].max()) + 1
        lanes = [bars for _, bars in attention.groupby(_ATTENTION_ROW)]
        self.lanes, self.has_bars = [_lane_label(bars) for bars in lanes], set(attention["block"])
        self.block_height = self.n_rows + _LANE_ROWS * len(self.lanes) + _GAP_ROWS
        self.n_units = self.n_blocks * self.block_height - _GAP_ROWS
        first = frame.drop_duplicates("row")
        names, means = first["row_label"], first["mean_per_byte"]
        self.labels = [
            _label(name, mean, font_size >= 13, unit) for name, mean in zip(names, means, strict=True)
        ]

    def row_y(self, block: Column, row: Column) -> np.ndarray:
        """Return the height of rows in their blocks."""
        return (block * self.block_height + row + 0.5).to_numpy(dtype=float)

    def lane_y(self, block: Column, lane: int) -> np.ndarray:
        """Return the height on which the bars of a lane stand."""
        return (block * self.block_height + self.n_rows + (lane + 0.72) * _LANE_ROWS).to_numpy(dtype=float)

    def axis(self) -> dict[str, Any]:
        """Return the y axis: rows named on the left, the first row on top."""
        blocks = pd.Series(range(self.n_blocks))
        places: list[float] = []
        texts: list[str] = []
        for block in range(self.n_blocks):
            here = blocks[blocks == block]
            places += [float(self.row_y(here, here * 0 + row)[0]) for row in range(self.n_rows)]
            lanes = self.lanes if block in self.has_bars else []
            places += [float(self.lane_y(here, lane)[0]) - 0.5 for lane in range(len(lanes))]
            texts += [*self.labels, *lanes]
        return {
            "range": [self.n_units, 0],
            "tickmode": "array",
            "tickvals": places,
            "ticktext": texts,
            "tickfont": {"size": 12 if self.font_size >= 13 else 11, "color": theme.INK},
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "automargin": False,
            "fixedrange": True,
        }


def _label(name: str, mean_per_unit: float, is_roomy: bool, unit: str) -> str:
    if not is_roomy:
        return plain(name)
    return _two_lines(name, f"1 per {unit}" if name == ORDINARY else f"{number(mean_per_unit)} per {unit}")


def _two_lines(name: str, note: str) -> str:
    return f"{plain(name)}<br><span style='font-size:11px'>{note}</span>"


def _lane_label(bars: Frame) -> str:
    name = f"attention {int(bars['layer'].iloc[0])}.{int(bars['head'].iloc[0])}"
    eos, elsewhere = bars["weight_eos"].iloc[0], bars["weight_elsewhere"].iloc[0]
    shares = [
        f"{share:.0%} {where}" for share, where in ((eos, "eos"), (elsewhere, "others")) if share >= 0.005
    ]
    return _two_lines(name, ", ".join(shares) or "all shown")


def _following(frame: Frame, canvas: _Canvas) -> list[go.Scatter]:
    """Return the thin lines that follow each character from row to row, delimiters apart."""
    frame = frame.assign(y=canvas.row_y(frame["block"], frame["row"])).sort_values(["character", "row"])
    below = frame.groupby("character")[["x_left", "y"]].shift(-1)
    pairs = frame[below["y"].notna()]
    below = below.loc[pairs.index]
    clear = 0.3
    xs = np.stack([pairs["x_left"], below["x_left"], np.full(len(pairs), np.nan)], axis=1)
    ys = np.stack([pairs["y"] + clear, below["y"] - clear, np.full(len(pairs), np.nan)], axis=1)
    is_delimiter = pairs["is_delimiter"].to_numpy(dtype=bool)
    return [
        go.Scatter(
            x=xs[chosen].ravel(),
            y=ys[chosen].ravel(),
            mode="lines",
            line={"color": colour, "width": 1},
            hoverinfo="skip",
            name=name,
            showlegend=False,
        )
        for chosen, colour, name in (
            (~is_delimiter, _FOLLOW, "characters followed"),
            (is_delimiter, _FOLLOW_DELIMITER, "delimiters followed"),
        )
    ]


def _source(result: Result) -> str:
    """Return the name of what was shown: a gold file's, where there is one."""
    data = result.provenance.get("data") or {}
    return str(data.get("name") or "") if isinstance(data, dict) else str(data)


def _word_ticks(words: Frame, canvas: _Canvas, source: str) -> go.Scatter:
    """Return the small ticks above the topmost row, one at each word start of the reference."""
    y = canvas.row_y(words["block"], words["block"] * 0)
    gap = np.full(len(words), np.nan)
    grade = str(words["grade"].iloc[0])
    told = {"gold": f"gold: {shortened(source)}", "silver": "silver: jieba"}.get(grade, grade)
    return go.Scatter(
        x=np.stack([words["x_left"], words["x_left"], gap], axis=1).ravel(),
        y=np.stack([y - 0.5, y - 0.3, gap], axis=1).ravel(),
        mode="lines",
        line={"color": theme.INK, "width": 2},
        hoverinfo="skip",
        name=plain(f"word starts ({told})"),
        showlegend=True,
    )


def _row(row: Frame, canvas: _Canvas) -> go.Scatter:
    """Return the characters of one row; the frame's numbers, unrounded."""
    is_control = row["layer"].iloc[0] < 0
    letters = theme.MUTED if is_control else theme.INK
    label = row["row_label"].iloc[0]
    return go.Scatter(
        x=row["x_left"],
        y=canvas.row_y(row["block"], row["row"]),
        mode="text",
        text=[plain(text) for text in row["shown"]],
        textfont={
            "family": theme.MONO,
            "size": canvas.font_size,
            "color": [_DELIMITER if delimiter else letters for delimiter in row["is_delimiter"]],
        },
        name=label,
        showlegend=False,
        customdata=np.stack(
            [
                np.array([plain(described(text)) for text in row["text"]], dtype=object),
                row["bytes_hex"].to_numpy(dtype=object),
                row["increment"].to_numpy(dtype=object),
                np.array([_times(value) for value in row["relative"]], dtype=object),
                row["position"].to_numpy(dtype=object),
                row["character"].to_numpy(dtype=object),
            ],
            axis=1,
        ),
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>" + plain(label) + " · character %{customdata[5]}<br>"
            "bytes %{customdata[1]}<br>increment %{customdata[2]:.3f} (%{customdata[3]})<br>"
            "position %{customdata[4]:.2f}<extra></extra>"
        ),
    )


def _times(relative: float) -> str:
    return "the row begins here" if np.isnan(relative) else f"{relative:.2f} times the row's mean"


def _lane(bars: Frame, lane: int, canvas: _Canvas) -> list[go.Bar | go.Scatter]:
    """Return one attention row: a bar at each key, the keys under the bars, the query marked."""
    y = canvas.lane_y(bars["block"], lane)
    query = int(bars["query_character"].iloc[0])
    is_query = (bars["key_character"] == query).to_numpy()
    tallest = max(float(bars["weight"].max()), 1e-9)
    label = f"attention of {place(int(bars['layer'].iloc[0]), int(bars['head'].iloc[0]))}"
    weights = go.Bar(
        x=bars["x_left"],
        y=-bars["weight"] / tallest * 1.3,
        base=y - 0.05,
        width=min(7 / canvas.pixels, 0.5),
        marker={"color": theme.layer_colour(0, 1), "line": {"width": 0}},
        name=label,
        showlegend=False,
        customdata=np.stack(
            [[plain(described(t)) for t in bars["text"]], bars["weight"], bars["key_character"]], axis=1
        ),
        hovertemplate=(
            "key <b>%{customdata[0]}</b> · character %{customdata[2]}<br>"
            "weight %{customdata[1]:.4f}<extra></extra>"
        ),
    )
    keys = go.Scatter(
        x=bars["x_left"],
        y=y + 0.3,
        mode="text",
        text=[plain(text) for text in bars["shown"]],
        textfont={
            "family": theme.MONO,
            "size": canvas.font_size - 2,
            "color": [theme.ACCENT if q else theme.MUTED for q in is_query],
        },
        hoverinfo="skip",
        name=f"{label}: keys",
        showlegend=False,
    )
    return [weights, keys, _query_mark(bars[is_query], y[is_query])]


def _query_mark(query: Frame, y: np.ndarray) -> go.Scatter:
    return go.Scatter(
        x=query["x_left"],
        y=y + 0.62,
        mode="markers",
        marker={"symbol": "triangle-up", "size": 9, "color": theme.ACCENT},
        hovertemplate="the query looks from here<extra></extra>",
        name="query",
        showlegend=False,
    )
