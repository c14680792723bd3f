"""The split of what freezing to 1 costs: contextual, lexical and scale, as a waterfall and a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.ablations.frames import (
    BETTER,
    OPEN,
    PARTS,
    UNKNOWN,
    WORSE,
    at_place,
    main_place,
    whole_frame,
)
from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.ablations.numbers import bounds, change, digits_of, with_bounds
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import NOTHING
from lrope_interp.results import Result

COLOURS = {WORSE: theme.ACCENT, BETTER: "#2f75b5", OPEN: "#b7bdc6", UNKNOWN: "#d9a68f"}
_END = {"split_contextual": "to byte's<br>mean", "split_lexical": "to layer's<br>mean", "split_scale": "to 1"}


def split_frame(result: Result) -> Frame:
    """Return the parts of the split, every place that has them, in the order in which they are taken away.

    Returns:
        The columns of `changes_frame`, with `start` and `end`: the loss over that of the untouched model
        before and after the part is taken away (the total runs from 0).
    """
    frame = whole_frame(result)
    frame = frame[frame["intervention"].isin(PARTS) & frame["design"].isin(("single", "all"))]
    order = {name: i for i, name in enumerate(PARTS)}
    depth = frame["layer"].where(frame["design"] == "single", np.inf)
    frame = frame.assign(order=frame["intervention"].map(order), depth=depth)
    frame = frame.sort_values(["depth", "head", "order"], kind="stable").reset_index(drop=True)
    end = frame["value"].groupby([frame["place"], frame["where"]]).cumsum()
    is_total = frame["intervention"] == "split_total"
    return frame.assign(
        start=(end - frame["value"]).where(~is_total, 0.0), end=end.where(~is_total, frame["value"])
    )


def waterfall_frame(result: Result, *, is_whole: bool = True) -> Frame:
    """Return the rows of the waterfall: all layers, or the only place there is.

    Args:
        result: A result of kind "ablate".
        is_whole: False leaves out the scale, which may dwarf the rest, and with it the total.
    """
    frame = split_frame(result)
    own = at_place(frame, main_place(whole_frame(result)))
    return own if is_whole else own[own["intervention"].isin(PARTS[:2])]


def is_dwarfed(result: Result) -> bool:
    """Say whether the scale is so large that the other parts cannot be read beside it."""
    sizes = waterfall_frame(result).set_index("intervention")["value"].abs()
    others = sizes.reindex(PARTS[:2]).max()
    return bool(sizes.get("split_scale", 0.0) > 4 * others > 0)


def plot_split(result: Result, *, is_whole: bool = True) -> go.Figure:
    """Draw `waterfall_frame`: each part stands on the one before; whiskers are its own 95 % interval."""
    frame = waterfall_frame(result, is_whole=is_whole)
    names = [_label(name) for name in frame["intervention"]]
    figure = theme.new_figure(height=340)
    figure.add_trace(
        go.Bar(
            x=names, y=frame["value"], base=frame["start"], width=0.58, name="parts",
            marker={"color": [COLOURS[shows] for shows in frame["shows"]]},
            customdata=[bounds(row.low, row.high, digits_of(row.value)) for row in frame.itertuples()],
            hovertemplate="%{x}: %{y:+.4f} %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=names, y=frame["end"], mode="markers", marker={"size": 1, "color": theme.INK},
            error_y={
                "type": "data", "symmetric": False, "array": frame["high"] - frame["value"],
                "arrayminus": frame["value"] - frame["low"], "color": theme.INK, "thickness": 1.3, "width": 5,
            },
            hoverinfo="skip", name="95 % interval",
        )
    )  # fmt: skip
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    figure.update_layout(showlegend=False, annotations=_values(frame, names), margin={"t": 24, "b": 62})
    figure.update_xaxes(ticks="", tickfont={"color": theme.INK, "size": 11}, tickangle=0)
    figure.update_yaxes(
        title_text="nats per byte over the untouched model", range=_reach(frame), rangemode="normal"
    )
    return figure


def _label(part: str) -> str:
    plus = "+ " if part != "split_total" else ""
    ends = (
        f"<br><span style='font-size:10px;color:{theme.MUTED}'>{_END.get(part, 'untouched<br>to 1')}</span>"
    )
    return f"{plus}{short(part)}{ends}"


def _values(frame: Frame, names: list[str]) -> list[dict[str, object]]:
    """Write each part's value over its bar and its whisker."""
    tops = np.nanmax(
        [frame["start"], frame["end"], frame["start"] + frame["high"], [0.0] * len(frame)], axis=0
    ) if len(frame) else []  # fmt: skip
    return [
        {
            "x": name, "y": float(top), "yanchor": "bottom", "yshift": 4, "showarrow": False,
            "text": f"<b>{change(value)}</b>", "font": {"size": 12},
        }
        for name, top, value in zip(names, tops, frame["value"], strict=True)
    ]  # fmt: skip


def _reach(frame: Frame) -> list[float]:
    columns = [frame["start"], frame["end"], frame["start"] + frame["low"], frame["start"] + frame["high"]]
    values = np.concatenate([np.asarray(column, dtype=float) for column in columns])
    values = np.append(values[np.isfinite(values)], [0.0, 1e-6])
    low, high = float(values.min()), float(values.max())
    return [low - 0.06 * (high - low), high + 0.14 * (high - low)]


def split_table(result: Result) -> Frame:
    """Return the parts as ready-made strings, one row a place."""
    frame = split_frame(result)
    names = [part for part in PARTS if (frame["intervention"] == part).any()]
    rows = []
    for place, own in frame.groupby("place", sort=False):
        cells = {str(row.intervention): with_bounds(row.value, row.low, row.high) for row in own.itertuples()}
        rows.append(
            {"Where": str(place).capitalize()}
            | {short(name).capitalize(): cells.get(name, NOTHING) for name in names}
        )
    return pd.DataFrame(rows)
