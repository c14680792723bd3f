"""The spacing figure: a text as each layer spaces it, one row a layer, characters followed by lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

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

_LEFT, _RIGHT, _TOP, _BOTTOM = 112, 16, 16, 12  # pixels
_LEGEND, _ROW, _FONT = 24, 36, 14
_LANE, _GAP = 2.4, 0.9  # rows: of the attention, between blocks
_WIDEST = 26.0  # pixels a unit, where a short text leaves room
_DELIMITER, _FOLLOW, _FOLLOW_DELIMITER = "#b4531f", "#c9d1da", "#e8b797"


def plot_spacing(
    result: Result, layer: int | None = None, *, ordinary: bool = True, width: int = 1000
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

    Returns:
        A figure of fixed width and of the height it needs.
    """
    pixels = _units_to_pixels(spacing_frame(result, layer, ordinary=ordinary))
    frame = _wrapped(result, layer, ordinary, (width - _LEFT - _RIGHT) / pixels - 1.6)
    bars, words = attention_frame(result, frame), words_frame(result, frame)
    extent = max(frame["x_left"].max(), 1.0) + 0.8
    pixels = max(pixels, min((width - _LEFT - _RIGHT) / (extent + 0.8), _WIDEST))
    n_rows, n_blocks = int(frame["row"].max()) + 1, int(frame["block"].max()) + 1
    n_lanes = int(bars["block"].max()) + 1 if len(bars) else 0  # the query looks back: in the first blocks

    def above(block: Any) -> Any:
        """Return how many rows high everything above a block is."""
        return block * (n_rows + _GAP) + np.minimum(block, n_lanes) * _LANE

    height = above(n_blocks) - _GAP
    frame = frame.assign(y=above(frame["block"]) + frame["row"] + 0.5)
    bars = bars.assign(y=above(bars["block"].astype(float)) + n_rows + 0.72 * _LANE)
    top = _TOP + _LEGEND * (len(words) > 0)
    figure = theme.new_figure(height=round(height * _ROW) + top + _BOTTOM)
    figure.add_traces(_following(frame))
    figure.add_traces([_row(row) for _, row in frame.groupby("row")])
    if len(bars):
        figure.add_traces(_lane(bars, min(7 / pixels, 0.5)))
    if len(words):
        figure.add_trace(_word_ticks(words, above(words["block"]) + 0.5, result))
    figure.update_layout(
        width=round((extent + 0.8) * pixels) + _LEFT + _RIGHT,
        margin={"l": _LEFT, "r": _RIGHT, "t": top, "b": _BOTTOM},
        showlegend=len(words) > 0,
        legend={
            "orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top", "itemclick": False,
        },
        barmode="overlay",
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.8, extent], fixedrange=False)
    labels = _labels(frame, bars, unit_of(result))
    figure.update_yaxes(
        range=[height, 0], tickmode="array", tickvals=[*labels], ticktext=[*labels.values()],
        tickfont={"size": 12, "color": theme.INK}, showgrid=False, showline=False, ticks="", automargin=False,
        fixedrange=True,
    )  # fmt: skip
    return figure


def _units_to_pixels(frame: Frame) -> float:
    """Choose how many pixels a unit gets, so that most neighbours do not touch.

    In each row, the scale at which nine of ten neighbours stay apart; of the rows, the median; at
    least 11 and at most 30 pixels (a token 110), because one tight row may not blow the page up.
    """
    needed = []
    for _, row in frame[frame["layer"] >= 0].groupby("row"):
        width = np.array([width_in_em(text) for text in row["text"]]) * _FONT
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


def _labels(frame: Frame, bars: Frame, unit: str) -> dict[float, str]:
    """Return what stands at the left of each row and of the attention, by its height."""

    def named(name: str, note: str) -> str:
        return f"{plain(name)}<br><span style='font-size:11px'>{note}</span>"

    found = {}
    for row in frame.drop_duplicates("y").itertuples():
        mean = "1" if row.row_label == ORDINARY else number(row.mean_per_byte)
        found[row.y] = named(row.row_label, f"{mean} per {unit}")
    for lane in bars.drop_duplicates("y").itertuples():
        shares = ((lane.weight_eos, "eos"), (lane.weight_elsewhere, "others"))
        told = [f"{share:.0%} {where}" for share, where in shares if share >= 0.005]
        found[lane.y - 0.5] = named(f"attention {lane.layer}.{lane.head}", ", ".join(told) or "all shown")
    return found


def _broken(start: Column, stop: Column) -> Float[np.ndarray, " points"]:
    """Return lines from start to stop as one trace takes them, with gaps between."""
    return np.stack([start, stop, np.full(len(start), np.nan)], axis=1).ravel()


def _following(frame: Frame) -> list[go.Scatter]:
    """Return the thin lines that follow each character from row to row, delimiters apart."""
    frame = frame.sort_values(["character", "row"])
    below = frame.groupby("character")[["x_left", "y"]].shift(-1)
    pairs = frame.assign(x_below=below["x_left"], y_below=below["y"])[below["y"].notna()]
    return [
        go.Scatter(
            x=_broken(own["x_left"], own["x_below"]), y=_broken(own["y"] + 0.3, own["y_below"] - 0.3),
            mode="lines", line={"color": colour, "width": 1}, hoverinfo="skip", showlegend=False,
            name="delimiters followed" if is_delimiter else "characters followed",
        )
        for is_delimiter, colour in ((False, _FOLLOW), (True, _FOLLOW_DELIMITER))
        for own in [pairs[pairs["is_delimiter"] == is_delimiter]]
    ]  # fmt: skip


def _word_ticks(words: Frame, y: Column, result: Result) -> go.Scatter:
    """Return the small ticks above the topmost row, one at each word start of the reference."""
    data: Any = result.provenance.get("data") or {}
    source = str(data.get("name") or "") if isinstance(data, dict) else str(data)
    grade = str(words["grade"].iloc[0])
    told = {"gold": f"gold: {shortened(source)}", "silver": "silver: jieba"}.get(grade, grade)
    return go.Scatter(
        x=_broken(words["x_left"], words["x_left"]), y=_broken(y - 0.5, y - 0.3), mode="lines",
        line={"color": theme.INK, "width": 2}, hoverinfo="skip", name=plain(f"word starts ({told})"),
        showlegend=True,
    )  # fmt: skip


def _row(row: Frame) -> go.Scatter:
    """Return the characters of one row; the frame's numbers, unrounded."""
    letters = theme.MUTED if row["layer"].iloc[0] < 0 else theme.INK
    times = [
        "the row begins here" if np.isnan(value) else f"{value:.2f} times the row's mean"
        for value in row["relative"]
    ]
    names = [plain(described(text)) for text in row["text"]]
    told = (names, row["bytes_hex"], row["increment"], times, row["position"], row["character"])
    label = row["row_label"].iloc[0]
    return go.Scatter(
        x=row["x_left"],
        y=row["y"],
        mode="text",
        text=[plain(text) for text in row["shown"]],
        textfont={
            "family": theme.MONO,
            "size": _FONT,
            "color": [_DELIMITER if delimiter else letters for delimiter in row["is_delimiter"]],
        },
        name=label,
        showlegend=False,
        customdata=np.stack([np.asarray(one, dtype=object) for one in told], axis=1),
        hovertemplate=(
            "<b>%{customdata[0]}</b><br>" + plain(label) + " · character %{customdata[5]}<br>"
            "bytes %{customdata[1]}<br>increment %{customdata[2]:.3f} (%{customdata[3]})<br>"
            "position %{customdata[4]:.2f}<extra></extra>"
        ),
    )


def _lane(bars: Frame, width: float) -> list[go.Bar | go.Scatter]:
    """Return one attention row: a bar at each key, the keys under the bars, the query marked."""
    is_query = bars["key_character"] == bars["query_character"]
    tallest = max(float(bars["weight"].max()), 1e-9)
    label = f"attention of {place(int(bars['layer'].iloc[0]), int(bars['head'].iloc[0]))}"
    names = [plain(described(text)) for text in bars["text"]]
    return [
        go.Bar(
            x=bars["x_left"], y=-bars["weight"] / tallest * 1.3, base=bars["y"] - 0.05, width=width,
            marker={"color": theme.layer_colour(0, 1), "line": {"width": 0}}, name=label, showlegend=False,
            customdata=np.stack([names, bars["weight"], bars["key_character"]], axis=1),
            hovertemplate="key <b>%{customdata[0]}</b> · character %{customdata[2]}<br>"
            "weight %{customdata[1]:.4f}<extra></extra>",
        ),
        go.Scatter(
            x=bars["x_left"], y=bars["y"] + 0.3, mode="text", text=[plain(text) for text in bars["shown"]],
            textfont={
                "family": theme.MONO, "size": _FONT - 2,
                "color": [theme.ACCENT if query else theme.MUTED for query in is_query],
            },
            hoverinfo="skip", name=f"{label}: keys", showlegend=False,
        ),
        go.Scatter(
            x=bars.loc[is_query, "x_left"], y=bars.loc[is_query, "y"] + 0.62, mode="markers",
            marker={"symbol": "triangle-up", "size": 9, "color": theme.ACCENT},
            hovertemplate="the query looks from here<extra></extra>", name="query", showlegend=False,
        ),
    ]  # fmt: skip
