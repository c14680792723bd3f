"""What moves inside: where each head looks before and after an intervention on all layers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrope_interp.reports.ablations.frames import (
    BETTER,
    MAIN,
    OPEN,
    UNKNOWN,
    WORSE,
    language_of,
    shown_by,
)
from lrope_interp.reports.ablations.heat_map import DIVERGING, GREY_LOOK
from lrope_interp.reports.ablations.names import long, short
from lrope_interp.reports.ablations.numbers import change
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row, numbers, table_of
from lrope_interp.reports.kit.wording import number, plural
from lrope_interp.results import Result

UNTOUCHED = "untouched"
METRICS = {"look_back": "Look-back distance", "within_word": "Attention within the word"}
_UNITS = {"look_back": "tokens", "within_word": "share of attention"}
_DIGITS = {"look_back": 1, "within_word": 2}
_COLUMNS = [
    "intervention", "layer", "head", "language", "metric", "before", "value", "change", "low", "high",
    "shows",
]  # fmt: skip
_PLAIN: dict[str, object] = {"showscale": False, "textfont": {"size": 11}}
_BLUES = [[0, "#f4f8fc"], [0.5, "#93bbdd"], [1, "#1d5a94"]]


def attended_interventions(result: Result) -> list[str]:
    """Return the interventions whose attention was measured, the headline first."""
    table = table_of(result, "attention")
    if table.empty:
        return []
    found = [name for name in dict.fromkeys(table["intervention"].astype(str)) if name != UNTOUCHED]
    return [name for name in MAIN if name in found] + [name for name in found if name not in MAIN]


def attention_frame(result: Result, intervention: str, metric: str) -> Frame:
    """Return where each head looks before and after an intervention on all layers.

    Returns:
        Columns `layer`, `head`, `before`, `value` (after), `change` with its interval `low` and `high`,
        and `shows` ("worse" stands for more here, "better" for less); empty where nothing was measured.
    """
    table = table_of(result, "attention")
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    table = table[(table["metric"] == metric) & (table["language"] == language_of(table))]
    renamed = {"change_low": "low", "change_high": "high"}
    columns = ["value", "change", "change_low", "change_high"]
    table = table.assign(**{name: numbers(table[name]) for name in columns}).rename(columns=renamed)
    before = table[table["intervention"] == UNTOUCHED].set_index(["layer", "head"])["value"]
    frame = table[table["intervention"] == intervention].sort_values(["layer", "head"])
    keys = list(zip(frame["layer"], frame["head"], strict=True))
    frame = frame.assign(
        before=[float(before.get(key, np.nan)) for key in keys], shows=shown_by(frame["low"], frame["high"])
    )
    return frame[_COLUMNS].reset_index(drop=True)


def plot_attention(result: Result, intervention: str, metric: str) -> go.Figure:
    """Draw `attention_frame`: layers by heads before, after, and the change with its own colours.

    Cells of the change whose interval holds 0 are grey.
    """
    frame = attention_frame(result, intervention, metric)
    layers, heads = sorted(set(frame["layer"])), sorted(set(frame["head"]))
    figure = make_subplots(
        1, 3, shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=["untouched", short(intervention), "change"],
        figure=theme.new_figure(height=92 + 30 * max(len(layers), 1)),
    )  # fmt: skip
    top = float(np.nanmax(frame[["before", "value"]].to_numpy(dtype=float), initial=0.0)) or 1.0
    for column, name in enumerate(("before", "value"), 1):
        look = {"colorscale": _BLUES, "zmin": 0, "zmax": top}
        figure.add_trace(_cells(frame, name, metric, (layers, heads), _PLAIN | look), row=1, col=column)
    reach = float(np.nanmax(np.abs(frame["change"].to_numpy(dtype=float)), initial=0.0)) or 1.0
    is_grey = frame["shows"] == OPEN
    look = {"colorscale": DIVERGING, "zmin": -reach, "zmax": reach}
    grey = _cells(frame[is_grey], "change", metric, (layers, heads), GREY_LOOK)
    coloured = _cells(frame[~is_grey], "change", metric, (layers, heads), _PLAIN | look)
    figure.add_traces([grey, coloured], rows=[1, 1], cols=[3, 3])
    figure.update_layout(margin={"l": 70, "r": 12, "t": 34, "b": 46})
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    axis = {"showline": False, "ticks": "", "showgrid": False}
    figure.update_xaxes(
        axis, title_text="head", tickvals=heads, tickmode="array", range=[min(heads, default=0) - 0.5,
        max(heads, default=0) + 0.5],
    )  # fmt: skip
    figure.update_yaxes(
        axis, tickvals=layers, ticktext=[f"layer {layer}" for layer in layers], tickmode="array",
        range=[max(layers, default=0) + 0.5, min(layers, default=0) - 0.5],
    )  # fmt: skip
    return figure


def _cells(
    frame: Frame, name: str, metric: str, axes: tuple[list[int], list[int]], look: dict[str, object]
) -> go.Heatmap:
    layers, heads = axes
    shape = (len(layers), len(heads))
    values, text, hover = np.full(shape, np.nan), np.full(shape, "", object), np.full(shape, "", object)
    for _, row in frame.iterrows():
        at = layers.index(row["layer"]), heads.index(row["head"])
        values[at], hover[at] = row[name], _hover(row, name, metric)
        text[at] = _text(row, name, metric) if len(heads) <= _MOST_HEADS else ""
    return go.Heatmap(
        z=values, x=heads, y=layers, text=text, texttemplate="%{text}",
        hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", hoverongaps=False, xgap=1, ygap=1,
        name=name, **look,
    )  # fmt: skip


_MOST_HEADS = 8  # beyond these, numbers stand in the hover alone


def _text(row: Row, name: str, metric: str) -> str:
    digits = _DIGITS.get(metric, 2)
    if name != "change":
        return number(row[name], digits)
    mark = {OPEN: "·", UNKNOWN: "?"}.get(str(row["shows"]), "")
    return f"{mark}{change(row['change'], digits)}"


def _hover(row: Row, name: str, metric: str) -> str:
    start = f"<b>head {int(row['layer'])}.{int(row['head'])}</b>"
    if name != "change":
        return f"{start}<br>{number(row[name], 3)} {_UNITS.get(metric, '')}"
    spread = (
        "no interval could be had"
        if row["shows"] == UNKNOWN
        else f"95 % interval {change(row['low'], 3)} to {change(row['high'], 3)}"
    )
    return f"{start}<br>{change(row['change'], 3)} {_UNITS.get(metric, '')}<br>{spread}"


def attention_sentence(result: Result, intervention: str, metric: str) -> str:
    """Count the heads that look farther or less far, or within the word more or less."""
    frame = attention_frame(result, intervention, metric)
    counted = frame["shows"].value_counts()
    more, less = int(counted.get(WORSE, 0)), int(counted.get(BETTER, 0))
    rest = int(counted.get(OPEN, 0))
    verb = {"look_back": "look farther back", "within_word": "look more within the word"}[metric]
    total = plural(len(frame), "head")
    if (frame["shows"] == UNKNOWN).all():
        return f"No interval could be had for any of {total}, so nothing is said of which {verb}."
    lost = f"; {n} without an interval" if (n := int(counted.get(UNKNOWN, 0))) else ""
    return (
        f"{long(intervention)}, in all layers: {more} of {total} {verb}, {less} less; of {rest} the interval "
        f"holds 0{lost}. No correction for the number of heads."
    )
