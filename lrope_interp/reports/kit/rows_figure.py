"""Figures with a row a signal: names at the left, a dot and its interval, numbers at the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Column, Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import shortened

_TOP, _BOTTOM = 58, 46  # pixels
_LETTER, _MONO_LETTER = 6.5, 6.7  # pixels, at 12 and 11 pixels of font size
_LONGEST = 40
_SPACE = "\u00a0"
_RIGHT_AXIS = "y2"


def rows_figure(
    names: Sequence[str], columns: Sequence[str], heading: str, vertical: float, *, height: int = 22
) -> go.Figure:
    """Return a figure with named rows, the first on top, and an empty plot with a vertical line.

    Args:
        names: Each row's name, ready for plotly (see `named`).
        columns: Each row's numbers, as one string of equal widths (see `aligned`).
        heading: The heading over `columns`, as wide as they are.
        vertical: Where the line of reference stands.
        height: Of a row, in pixels.
    """
    n = max(len(names), 1)
    left = 22 + _LETTER * max((len(_bare(name)) for name in names), default=0)
    axis: dict[str, Any] = {
        "range": [n - 0.5, -0.5], "tickmode": "array", "tickvals": list(range(len(names))), "ticks": "",
        "showline": False, "automargin": False, "fixedrange": True, "showgrid": True,
    }  # fmt: skip
    figure = theme.new_figure(
        height=_TOP + _BOTTOM + height * n,
        barmode="overlay",
        margin={"l": round(left), "r": round(14 + _MONO_LETTER * len(heading)), "t": _TOP, "b": _BOTTOM},
        legend={
            "orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top",
        },
        yaxis=axis | {"ticktext": list(names), "tickfont": {"size": 12, "color": theme.INK}},
        yaxis2=axis
        | {
            "ticktext": [_mono(text) for text in columns], "overlaying": "y", "side": "right",
            "showgrid": False, "tickfont": {"size": 11, "color": theme.INK, "family": theme.MONO},
        },
        annotations=[_heading(heading)],
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[vertical, vertical], y=[-0.5, n - 0.5], mode="lines", yaxis=_RIGHT_AXIS,
            line={"color": theme.INK, "width": 1}, hoverinfo="skip", showlegend=False, name="reference",
        )
    )  # fmt: skip
    return figure


def _heading(text: str) -> dict[str, Any]:
    return {
        "text": _mono(text), "x": 1, "xref": "paper", "xanchor": "left", "xshift": 2, "y": 1, "yref": "paper",
        "yanchor": "bottom", "showarrow": False,
        "font": {"size": 11, "color": theme.MUTED, "family": theme.MONO},
    }  # fmt: skip


def _mono(text: str) -> str:
    return plain(text).replace(" ", _SPACE)


def named(name: str, note: str = "", is_strong: bool = False) -> str:
    """Return a row's name for plotly: shortened, escaped, grey or bold, with a small note behind it."""
    text = plain(shortened(name, _LONGEST))
    text = f"<b>{text}</b>" if is_strong else text
    if not note:
        return text
    style = "font-family:monospace;font-size:11px"
    return f"{text}<span style='{style}'>{_SPACE * 2}{_mono(note)}</span>"


def _bare(name: str) -> str:
    """Return what a reader sees of a name that `named` made."""
    kept, depth = [], 0
    for character in name:
        depth += (character == "<") - (character == ">")
        if depth == 0 and character != ">":
            kept.append(character)
    return "".join(kept).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def aligned(rows: Sequence[Sequence[str]], headings: Sequence[str]) -> tuple[list[str], str]:
    """Return rows of strings as lines of equal width, and the headings as wide, all flushed right."""
    widths = [max([len(h), *(len(row[i]) for row in rows)]) for i, h in enumerate(headings)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))

    return [line(row) for row in rows], line(headings)


def dots(rows: Frame, name: str, marker: dict[str, Any], hover: Column | list[str]) -> dict[str, Any]:
    """Return a trace of rows (columns `y`, `value`, `low`, `high`): dots with their intervals."""
    return dict(
        type="scatter",
        x=rows["value"],
        y=rows["y"],
        mode="markers",
        orientation="h",  # its numbers lie along x
        marker={"size": 9, "line": {"width": 0}} | marker,
        error_x={
            "type": "data", "symmetric": False, "array": rows["high"] - rows["value"],
            "arrayminus": rows["value"] - rows["low"], "color": theme.INK, "thickness": 1.3, "width": 3,
        },
        name=name,
        text=list(hover),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def bands(rows: Frame, low: str, high: str, name: str, look: tuple[str, float]) -> dict[str, Any]:
    """Return a trace: a band a row, from column `low` to column `high`; `look` is colour and height."""
    return dict(
        type="bar", orientation="h", base=rows[low], x=rows[high] - rows[low], y=rows["y"], width=look[1],
        marker={"color": look[0], "line": {"width": 0}}, name=name, hoverinfo="skip",
    )  # fmt: skip


def reach(*columns: Column, least: tuple[float, float], margin: float = 0.03) -> list[float]:
    """Return the range of an axis that holds every number of the columns, and `least` in any case."""
    values = np.concatenate([np.asarray(column, dtype=float) for column in columns])
    values = values[np.isfinite(values)]
    low, high = min([least[0], *values]), max([least[1], *values])
    return [low - margin * (high - low), high + margin * (high - low)]
