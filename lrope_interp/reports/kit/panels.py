"""Small panels side by side, each a few series of points over layers or other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import is_number, number, shortened

COLUMNS = ["panel", "series", "x", "value", "low", "high", "spread"]  # of a frame of panels
_HIGH, _TOP, _GAP, _BOTTOM, _LEFT = 190, 62, 76, 42, 62  # pixels
_NAMES = 40  # pixels more below panels whose axis has names
_ACROSS, _WIDEST, _GUTTER, _SPREAD = 4, 1060, 0.06, 0.42


@dataclass(frozen=True)
class Look:
    """How one series is drawn: its name in the legend, its colour and plotly's name of its symbol."""

    name: str
    colour: str = theme.CONTROL
    symbol: str = "circle"
    is_joined: bool = False


def frame_of(rows: Any) -> Frame:
    """Return a frame of panels from rows that have its columns or some of them; those without a value go."""
    frame = pd.DataFrame(rows)
    frame = frame.reindex(columns=[*COLUMNS, *(name for name in frame if name not in COLUMNS)])
    frame = frame.astype(dict.fromkeys(("value", "low", "high"), float))
    return frame[frame["value"].notna()].reset_index(drop=True)


def plot_panels(
    frame: Frame,
    looks: Mapping[str, Look],
    y_title: str,
    *,
    x_title: str = "layer",
    reference: Mapping[str, float] | float | None = None,
) -> go.Figure:
    """Draw points with their bars, a few panels in a row; each panel has axes of its own.

    Args:
        frame: Rows with `panel`, `series`, `x` (a name on the axis), `value`, `low`, `high` (no bar where
            they are missing) and `spread`: "range" where those are one over seeds.
        looks: The series by name, in the order they are drawn.
        y_title: What is measured, with its unit.
        x_title: What the names on the axis are.
        reference: A horizontal line; by panel where they differ, or none.

    Returns:
        The figure; `layout.meta` is the width in pixels below which it cannot be read.
    """
    panels = {name: frame[frame["panel"] == name] for name in dict.fromkeys(frame["panel"])}
    ticks = {name: [str(x) for x in dict.fromkeys(own["x"])] for name, own in panels.items()}
    least = max(200, 24 * max(map(len, ticks.values()), default=1) + 40)
    across = max(1, min(len(panels), _ACROSS, (_WIDEST - _LEFT) // least))
    low = _NAMES if any(len(x) > 4 for names in ticks.values() for x in names) else 0
    n_rows = max(-(-len(panels) // across), 1)
    inner = n_rows * _HIGH + (n_rows - 1) * (_GAP + low)
    width = (1 - _GUTTER * (across - 1)) / across
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"meta": _LEFT + across * least, "annotations": []}
    shown: set[str] = set()
    for i, (name, own) in enumerate(panels.items()):
        axis, left = str(i + 1) if i else "", (i % across) * (width + _GUTTER)
        top = 1 - (i // across) * (_HIGH + _GAP + low) / inner
        layout[f"xaxis{axis}"] = {
            "domain": (left, min(left + width, 1.0)), "anchor": f"y{axis}", "tickmode": "array",
            "tickangle": -45 if low else 0, "tickvals": list(range(len(ticks[name]))), "showgrid": False,
            "ticktext": [plain(shortened(x, 14)) for x in ticks[name]],
            "range": [-0.6, len(ticks[name]) - 0.4], "fixedrange": True,
            "title": {"text": x_title if i + across >= len(panels) else ""},
        }  # fmt: skip
        layout[f"yaxis{axis}"] = {
            "domain": (max(top - _HIGH / inner, 0.0), top), "anchor": f"x{axis}", "nticks": 6,
            "fixedrange": True, "title": {"text": "" if i % across else y_title},
        }  # fmt: skip
        layout["annotations"].append({
            "text": f"<b>{plain(shortened(str(name), 26))}</b>", "x": left, "y": top, "xref": "paper",
            "yref": "paper", "xanchor": "left", "yanchor": "bottom", "yshift": 4, "showarrow": False,
        })  # fmt: skip
        at = reference.get(str(name)) if isinstance(reference, Mapping) else reference
        if at is not None:
            traces.append({
                "type": "scatter", "x": [-0.6, len(ticks[name]) - 0.4], "y": [at, at], "mode": "lines",
                "xaxis": f"x{axis}", "yaxis": f"y{axis}", "name": "reference", "hoverinfo": "skip",
                "line": {"color": theme.INK, "width": 1}, "showlegend": False,
            })  # fmt: skip
        for series, offset in _beside(own, looks).items():
            points = _points(looks[series], own[own["series"] == series], ticks[name], offset)
            traces.append(
                points | {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "showlegend": series not in shown}
            )
            shown.add(series)
    layout |= {
        "template": theme.template(), "height": _TOP + inner + _BOTTOM + low,
        "margin": {"l": _LEFT, "r": 14, "t": _TOP, "b": _BOTTOM + low},
        "legend": {
            "orientation": "h", "x": 0, "xref": "container", "y": 1, "yref": "container", "yanchor": "top",
        },
    }  # fmt: skip
    return go.Figure(data=traces, layout=layout)


def _beside(own: Frame, looks: Mapping[str, Look]) -> dict[str, float]:
    """Return the series of a panel, and how far each stands to the side of its name on the axis."""
    present = {name: look for name, look in looks.items() if name in set(own["series"])}
    n_places = own.groupby("series")["x"].nunique()
    is_single = own["x"].nunique() == 1
    sharing = [name for name in present if not present[name].is_joined and (n_places[name] > 1 or is_single)]
    offsets = np.linspace(-_SPREAD, _SPREAD, len(sharing) + 2)[1:-1].tolist()
    return dict.fromkeys(present, 0.0) | dict(zip(sharing, offsets, strict=True))


def _points(look: Look, rows: Frame, ticks: list[str], offset: float) -> dict[str, Any]:
    notes = [f"; {note}" if note else "" for note in rows["note"]] if "note" in rows else [""] * len(rows)
    columns = (rows[name] for name in ("x", "value", "low", "high", "spread"))
    hover = [
        f"<b>{plain(look.name)}</b>, {plain(x)}<br>{number(value, 4)}{_bounds(*bounds)}{plain(note)}"
        for x, value, *bounds, note in zip(*columns, notes, strict=True)
    ]
    bars = {
        "type": "data", "symmetric": False, "array": (rows["high"] - rows["value"]).clip(lower=0),
        "arrayminus": (rows["value"] - rows["low"]).clip(lower=0), "color": look.colour, "thickness": 1.2,
        "width": 2,
    }  # fmt: skip
    return {
        "type": "scatter", "x": [ticks.index(str(x)) + offset for x in rows["x"]], "y": rows["value"],
        "mode": "lines+markers" if look.is_joined else "markers",
        "line": {"color": look.colour, "width": 1.2}, "error_y": bars,
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 8},
        "name": look.name, "text": hover, "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _bounds(low: object, high: object, spread: object) -> str:
    if not (is_number(low) and is_number(high)):
        return ", no interval"
    about = "range over seeds" if spread == "range" else "95 % interval"
    return f", {about} {number(low, 4)} to {number(high, 4)}"
