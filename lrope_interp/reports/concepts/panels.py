"""Panels side by side, each a few series of points over layers (or another row of names)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import is_number, number, shortened

COLUMNS = ["panel", "series", "x", "value", "low", "high", "spread"]
BLUE, PALE = theme.layer_colour(2, 3), theme.layer_colour(0, 3)
_HIGH, _TOP, _GAP, _BOTTOM, _LEFT = 190, 62, 76, 42, 62  # pixels
_NAMES = 34  # pixels more below a panel whose axis has names
_MOST_ACROSS, _WIDEST, _SPREAD = 4, 1130, 0.42


@dataclass(frozen=True)
class Look:
    """How one series is drawn: its name in the legend, its colour and plotly's name of its symbol."""

    name: str
    colour: str = theme.CONTROL
    symbol: str = "circle"
    is_joined: bool = False


@dataclass(frozen=True)
class Panels:
    """What a figure of panels shows.

    Attributes:
        frame: Rows with `panel`, `series`, `x` (a name on the axis), `value`, `low`, `high`, and `spread`
            (what those are); missing bounds have no bar.
        looks: The series by name, in the order they are drawn.
        y_title: What is measured, with its unit.
        x_title: What the names on the axis are.
        reference: A horizontal line; by panel where they differ, or none.
        notes: What a panel's heading says after its name.
    """

    frame: Frame
    looks: Mapping[str, Look]
    y_title: str
    x_title: str = "layer"
    reference: float | Mapping[str, float] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The panels, in the order of the frame."""
        return list(dict.fromkeys(self.frame["panel"]))

    @property
    def panel_width(self) -> int:
        """The width in pixels below which a panel cannot be read."""
        most = max((len(_ticks(rows)) for _, rows in self.frame.groupby("panel")), default=1)
        return max(200, 24 * most + 40)

    @property
    def across(self) -> int:
        """How many panels stand in a row."""
        room = (_WIDEST - _LEFT) // self.panel_width
        return max(1, min(len(self.names), _MOST_ACROSS, room))

    @property
    def width(self) -> int:
        """The width in pixels below which the figure cannot be read."""
        return _LEFT + self.across * self.panel_width

    @property
    def has_names(self) -> bool:
        """Whether the axis holds names, and not only numbers."""
        return any(len(str(x)) > 4 for x in self.frame["x"])


def empty_frame() -> Frame:
    """Return a frame of panels without a row."""
    return pd.DataFrame(columns=COLUMNS).astype(dict.fromkeys(("value", "low", "high"), float))


def plot_panels(panels: Panels) -> go.Figure:
    """Draw points with their bars, a few panels in a row; each panel has axes of its own."""
    grid = _Grid(len(panels.names), panels.across, _NAMES * panels.has_names)
    figure = theme.new_figure(height=_TOP + grid.inner + _BOTTOM + grid.low)
    shown: set[str] = set()
    layout: dict[str, Any] = {"annotations": []}
    traces: list[go.Scatter] = []
    for i, name in enumerate(panels.names):
        own = panels.frame[panels.frame["panel"] == name]
        axes = "" if i == 0 else str(i + 1)
        layout[f"xaxis{axes}"] = _x_axis(panels, own, grid, i)
        layout[f"yaxis{axes}"] = _y_axis(panels, grid, i)
        layout["annotations"].append(_heading(panels, name, grid.across_of(i)[0], grid.down_of(i)[1]))
        traces += _traces(panels, own, axes, shown)
    figure.add_traces(traces)
    figure.update_layout(
        layout,
        margin={"l": _LEFT, "r": 14, "t": _TOP, "b": _BOTTOM + grid.low},
        legend={
            "orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top",
        },
    )  # fmt: skip
    return figure


@dataclass(frozen=True)
class _Grid:
    """Where panels stand: how many, how many in a row, and pixels for names below each."""

    count: int
    across: int
    low: int

    @property
    def inner(self) -> int:
        """Pixels from the top of the first row to the bottom of the last."""
        n_rows = max(-(-self.count // self.across), 1)
        return n_rows * _HIGH + (n_rows - 1) * (_GAP + self.low)

    def is_last(self, i: int) -> bool:
        """Whether no panel stands below one."""
        return i + self.across >= self.count

    def across_of(self, i: int) -> tuple[float, float]:
        """Return where a panel begins and ends from left to right, as shares of the figure."""
        gap = 0.06 if self.across > 1 else 0.0
        width = (1 - gap * (self.across - 1)) / self.across
        left = (i % self.across) * (width + gap)
        return left, min(left + width, 1.0)

    def down_of(self, i: int) -> tuple[float, float]:
        """Return where a panel ends and begins from bottom to top, as shares of the figure."""
        top = 1 - (i // self.across) * (_HIGH + _GAP + self.low) / self.inner
        return max(top - _HIGH / self.inner, 0.0), top


def _x_axis(panels: Panels, own: Frame, grid: _Grid, i: int) -> dict[str, Any]:
    ticks = _ticks(own)
    return {
        "domain": grid.across_of(i), "anchor": f"y{i + 1}" if i else "y", "tickmode": "array",
        "tickangle": -45 if grid.low else 0, "tickvals": list(range(len(ticks))),
        "ticktext": [plain(shortened(x, 12)) for x in ticks], "range": [-0.6, len(ticks) - 0.4],
        "showgrid": False, "fixedrange": True,
        "title": {"text": panels.x_title if grid.is_last(i) else ""},
    }  # fmt: skip


def _y_axis(panels: Panels, grid: _Grid, i: int) -> dict[str, Any]:
    return {
        "domain": grid.down_of(i), "anchor": f"x{i + 1}" if i else "x", "nticks": 6, "fixedrange": True,
        "title": {"text": "" if i % grid.across else panels.y_title},
    }  # fmt: skip


def _ticks(rows: Frame) -> list[str]:
    return [str(x) for x in dict.fromkeys(rows["x"])]


def _traces(panels: Panels, own: Frame, axes: str, shown: set[str]) -> list[go.Scatter]:
    """Return the points of one panel; series that share a name on the axis stand beside each other."""
    ticks = _ticks(own)
    found = []
    given = panels.reference
    reference = given.get(str(own["panel"].iloc[0])) if isinstance(given, Mapping) else given
    if reference is not None:
        found.append(_line(reference, len(ticks), axes))
    present = [name for name in panels.looks if name in set(own["series"])]
    beside = dict.fromkeys(present, 0.0)
    beside |= _beside(own, [name for name in present if not panels.looks[name].is_joined])
    for name, offset in beside.items():
        rows = own[own["series"] == name]
        found.append(_points(panels.looks[name], rows, ticks, offset, axes))
        found[-1].showlegend = name not in shown
        shown.add(name)
    return found


def _beside(own: Frame, names: Sequence[str]) -> dict[str, float]:
    """Return how far each series stands to the side of its name on the axis."""
    counts = own.groupby("series")["x"].nunique()
    shared = [name for name in names if counts[name] > 1 or own["x"].nunique() == 1]
    places = np.linspace(-_SPREAD, _SPREAD, len(shared) + 2)[1:-1].tolist()
    offsets = dict(zip(shared, places, strict=True))
    return {name: offsets.get(name, 0.0) for name in names}


def _line(at: float, n: int, axes: str) -> go.Scatter:
    return go.Scatter(
        x=[-0.6, n - 0.4], y=[at, at], mode="lines", xaxis=f"x{axes}", yaxis=f"y{axes}", name="reference",
        line={"color": theme.INK, "width": 1}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip


def _points(look: Look, rows: Frame, ticks: list[str], offset: float, axes: str) -> go.Scatter:
    head = f"<b>{plain(look.name)}</b>"
    hover = [
        f"{head}, {plain(x)}<br>{number(value, 4)}{_bounds(low, high, spread)}{plain(note)}"
        for x, value, low, high, spread, note in zip(
            rows["x"], rows["value"], rows["low"], rows["high"], rows["spread"], _notes(rows), strict=True
        )
    ]
    return go.Scatter(
        x=[ticks.index(str(x)) + offset for x in rows["x"]],
        y=rows["value"],
        mode="lines+markers" if look.is_joined else "markers",
        line={"color": look.colour, "width": 1.2},
        marker={"color": look.colour, "symbol": look.symbol, "size": 8},
        error_y={
            "type": "data", "symmetric": False, "array": (rows["high"] - rows["value"]).clip(lower=0),
            "arrayminus": (rows["value"] - rows["low"]).clip(lower=0), "color": look.colour, "thickness": 1.2,
            "width": 2,
        },
        name=look.name, text=hover, hovertemplate="%{text}<extra></extra>",
        xaxis=f"x{axes}", yaxis=f"y{axes}",
    )  # fmt: skip


def _notes(rows: Frame) -> list[str]:
    return [f"; {note}" if note else "" for note in rows["note"]] if "note" in rows else [""] * len(rows)


def _bounds(low: object, high: object, spread: object) -> str:
    if not (is_number(low) and is_number(high)):
        return ", no interval"
    about = "range over seeds" if spread == "range" else "95 % interval"
    return f", {about} {number(low, 4)} to {number(high, 4)}"


def _heading(panels: Panels, name: str, left: float, top: float) -> dict[str, Any]:
    note = panels.notes.get(name, "")
    text = f"<b>{plain(shortened(name, 26))}</b>"
    text += f"  <span style='font-size:10px;color:{theme.MUTED}'>{plain(note)}</span>" if note else ""
    return {
        "text": text, "x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left",
        "yanchor": "bottom", "yshift": 4, "showarrow": False, "font": {"size": 12, "color": theme.INK},
    }  # fmt: skip
