"""The heat map of claims: every concept against every layer, above or below its best control."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.ablations.numbers import bounds, change
from lrope_interp.reports.concepts.frames import claims_of, families_of, layers_of
from lrope_interp.reports.concepts.names import BEYOND, DOCUMENT, TYPE, control_name
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import is_number, number, shortened
from lrope_interp.results import Result

STANDS, ABOVE, BEHIND, OPEN = "★", "△", "▼", "?"
MARKS = {
    STANDS: "the claim stands: above every control here and in the other map, and selective",
    ABOVE: "above every control here, but the claim as a whole does not stand",
    BEHIND: "a control wins: it is as good or better",
    OPEN: "no interval, so no verdict",
}
COLOURS = [[0, "#b5431a"], [0.25, "#f0b08a"], [0.5, "#ffffff"], [0.75, "#8dbbe0"], [1, "#1c5f9e"]]
_GREY = "#e6e9ed"
_LEAST_REACH = 0.05
_PREFIX = {DOCUMENT: "", TYPE: "type_"}
_ROW, _TOP, _BOTTOM, _CELL = 50, 26, 12, 57  # pixels
_LETTER, _LONGEST = 6.4, 24


def heat_map_frame(result: Result, features: str, split: str = DOCUMENT) -> Frame:
    """Return one row a cell: a concept in a layer, and how far it is above its best control.

    Returns:
        `family`, `concept`, `place`, `layer`, `auc`, `control` (the best one), `control_auc`, `value`
        (the ROC-AUC less that of the control), `low`, `high`, `verdict`, `n`, `n_concept`, and `mark`.
    """
    p = _PREFIX[split]
    frame = claims_of(result, features)
    names = {
        f"{p}auc": "auc", f"{p}best_control": "control", f"{p}best_control_auc": "control_auc",
        f"{p}above": "value", f"{p}above_low": "low", f"{p}above_high": "high",
    }  # fmt: skip
    kept = ["family", "concept", "place", "layer", *names, "verdict", "n", "n_concept"]
    found = frame[kept].rename(columns=names)
    return found.assign(mark=[_mark(row) for _, row in found.iterrows()])


def _mark(row: Row) -> str:
    if not is_number(row["value"]):
        return ""
    if not is_number(row["low"]):
        return OPEN
    if row["verdict"] == BEYOND:
        return STANDS
    return ABOVE if row["low"] > 0 else BEHIND


def rows_of(frame: Frame) -> list[tuple[str, str]]:
    """Return the rows of the map, (family, concept); ("family", "") is a heading where there are several."""
    families = families_of(frame)
    found = []
    for family in families:
        concepts = list(dict.fromkeys(frame.loc[frame["family"] == family, "concept"]))
        found += ([(family, "")] if len(families) > 1 else []) + [(family, name) for name in concepts]
    return found


def map_width(result: Result, features: str) -> int:
    """Return the width in pixels below which the map cannot be read."""
    frame = claims_of(result, features)
    return _left(rows_of(frame)) + _CELL * len(layers_of(frame)) + 8


def _left(rows: list[tuple[str, str]]) -> int:
    longest = max((min(len(name or family), _LONGEST) for family, name in rows), default=0)
    return round(20 + _LETTER * longest)


def plot_heat_map(result: Result, features: str, split: str = DOCUMENT) -> go.Figure:
    """Draw `heat_map_frame`: mark and value, interval and best control in each cell, colour about 0.

    Blue is above the best control, vermilion below it; cells without a value are grey. Both splits have
    one scale of colours.
    """
    frame = heat_map_frame(result, features, split)
    rows, columns = rows_of(frame), layers_of(frame)
    height = _TOP + _BOTTOM + _ROW * max(len(rows), 1)
    figure = theme.new_figure(height=height)
    known = frame["value"].notna()
    largest = _reach(result, features)
    coloured = {"colorscale": COLOURS, "zmin": -largest, "zmax": largest, "name": "above the best control"}
    grey = {"colorscale": [[0, _GREY], [1, _GREY]], "zmin": 0, "zmax": 1, "name": "not measured"}
    figure.add_trace(_cells(frame[known], rows, columns, coloured))
    if (~known).any():
        figure.add_trace(_cells(frame[~known], rows, columns, grey))
    figure.update_layout(margin={"l": _left(rows), "r": 8, "t": _TOP, "b": _BOTTOM})
    axis = {
        "showline": False,
        "ticks": "",
        "showgrid": False,
        "automargin": False,
        "fixedrange": True,
        "tickmode": "array",
    }
    figure.update_xaxes(
        axis, side="top", tickangle=0, tickvals=list(range(len(columns))), ticktext=columns,
        range=[-0.5, len(columns) - 0.5], tickfont={"size": 11, "color": theme.INK},
    )  # fmt: skip
    figure.update_yaxes(
        axis, tickvals=list(range(len(rows))), ticktext=[_label(*row) for row in rows],
        range=[len(rows) - 0.5, -0.5], tickfont={"size": 12, "color": theme.INK},
    )  # fmt: skip
    return figure


def _reach(result: Result, features: str) -> float:
    """Return the largest distance from a control in either split."""
    claims = claims_of(result, features)
    values = np.abs(claims[["above", "type_above"]].to_numpy(dtype=float))
    return float(np.nanmax(values, initial=_LEAST_REACH))


def _label(family: str, concept: str) -> str:
    return f"{plain(shortened(concept, _LONGEST))} " if concept else f"<b>{plain(shortened(family, 24))}</b> "


def _cells(
    frame: Frame, rows: list[tuple[str, str]], columns: list[str], look: dict[str, object]
) -> go.Heatmap:
    """Return some cells in their places; `customdata` holds the values."""
    shape = (len(rows), len(columns))
    z, values = np.full(shape, np.nan), np.full(shape, np.nan)
    text, hover = np.full(shape, "", object), np.full(shape, "", object)
    for _, row in frame.iterrows():
        at = rows.index((row["family"], row["concept"])), columns.index(row["place"])
        values[at] = row["value"]
        z[at] = row["value"] if is_number(row["value"]) else 0.0
        text[at], hover[at] = _cell_text(row), _hover(row)
    return go.Heatmap(
        z=z,
        x=list(range(len(columns))),
        y=list(range(len(rows))),
        customdata=values,
        text=text,
        texttemplate="%{text}",
        textfont={"size": 11},
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        showscale=False,
        xgap=2,
        ygap=2,
        **look,
    )


def _cell_text(row: Row) -> str:
    if not is_number(row["value"]):
        return "not<br>measured"
    lines = [f"{row['mark']} {_narrow(change(row['value'], 3))}"]
    if is_number(row["low"]):
        spread = f"{_narrow(change(row['low'], 2))} … {_narrow(change(row['high'], 2))}"
        lines.append(f"<span style='font-size:9px'>{spread}</span>")
    lines.append(f"<span style='font-size:9px'>{plain(shortened(control_name(row['control']), 14))}</span>")
    return "<br>".join(lines)


def _narrow(text: str) -> str:
    """Drop the 0 before the decimal point."""
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text


def _hover(row: Row) -> str:
    lines = [f"<b>{plain(row['family'])}: {plain(row['concept'])}, {plain(row['place'])}</b>"]
    if not is_number(row["value"]):
        lines.append("not measured: too few spans")
        return "<br>".join(lines)
    lines += [
        f"ROC-AUC {number(row['auc'], 3)}",
        f"best control: {plain(control_name(row['control']))}, {number(row['control_auc'], 3)}",
        f"difference {change(row['value'], 3)} {bounds(row['low'], row['high'], 3)}",
        MARKS[row["mark"]],
    ]
    if is_number(row["n"]) and is_number(row["n_concept"]):
        lines.append(f"{int(row['n']):,} spans, {int(row['n_concept']):,} of the concept")
    return "<br>".join(lines)
