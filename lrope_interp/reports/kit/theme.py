"""Colours, fonts and the one plotly template that every figure uses.

Layers take steps of one blue, light to dark; controls are grey; vermilion marks what the reader
should not miss (validation loss, the query of an attention row, a warning). The three survive
the common colour-vision deficiencies and grey-scale printing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import plotly.graph_objects as go

INK = "#1d232b"
MUTED = "#667180"
RULE = "#e3e7ec"
CONTROL = "#7d8590"
CONTROL_BAND = "rgba(140, 147, 157, 0.5)"
ACCENT = "#c4501b"
PAPER = "#ffffff"

_LAYER_STOPS = ((134, 182, 222), (47, 117, 181), (9, 38, 84))

SANS = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", '
    '"PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei", sans-serif'
)
MONO = (
    'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", "Noto Sans Mono CJK SC", '
    '"PingFang SC", "Microsoft YaHei", "WenQuanYi Zen Hei Mono", "WenQuanYi Zen Hei", '
    '"Apple Color Emoji", "Segoe UI Emoji", "Noto Color Emoji", monospace'
)

DIVERGING = [[0, "#1c5f9e"], [0.25, "#8dbbe0"], [0.5, "#ffffff"], [0.75, "#f0b08a"], [1, "#b5431a"]]
"""From less to more about white, for cells."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def layer_colour(index: int, count: int) -> str:
    """Return the colour of the `index`-th of `count` layers, light (first) to dark (last)."""
    share = index / (count - 1) if count > 1 else 0.6
    low, high = (0, 1) if share <= 0.5 else (1, 2)
    weight = share * 2 - low
    start, stop = _LAYER_STOPS[low], _LAYER_STOPS[high]
    mixed = [round(a + (b - a) * weight) for a, b in zip(start, stop, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def layer_colours(layers: Sequence[int]) -> dict[int, str]:
    """Return a colour for each layer that a figure shows, in the order of their numbers."""
    ordered = sorted(set(layers))
    return {layer: layer_colour(i, len(ordered)) for i, layer in enumerate(ordered)}


def faded(colour: str, alpha: float) -> str:
    """Return a `#rrggbb` colour as rgba with the given opacity."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


def _axis() -> dict[str, object]:
    return {
        "showline": True,
        "linecolor": "#b8c0ca",
        "gridcolor": RULE,
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "#b8c0ca",
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        "tickfont": {"size": 11, "color": MUTED},
        "automargin": True,
    }


@cache
def template() -> go.layout.Template:
    """Return the template of every figure: white, thin rules, no drag that would trap a scroll."""
    layout = go.Layout(
        font={"family": SANS, "size": 12, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        xaxis=_axis(),
        yaxis=_axis(),
        margin={"l": 58, "r": 20, "t": 40, "b": 48},
        title={"font": {"size": 14, "color": INK}, "x": 0, "xanchor": "left", "xref": "container"},
        hoverlabel={
            "bgcolor": PAPER,
            "bordercolor": "#b8c0ca",
            "align": "left",
            "font": {"family": SANS, "size": 12, "color": INK},
        },
        legend={"font": {"size": 11}, "bgcolor": "rgba(0, 0, 0, 0)"},
        colorway=[layer_colour(i, 6) for i in range(6)],
        dragmode=False,
        hovermode="closest",
    )
    return go.layout.Template(layout=layout)


def new_figure(*, height: int, title: str = "", **layout: Any) -> go.Figure:
    """Return an empty figure in the house template; `title` may hold plotly markup of ours only.

    A layout that is given here costs a third of what `update_layout` takes for it.
    """
    known = {"template": template(), "height": height, "title": {"text": title or None}}
    return go.Figure(layout=known | layout)
