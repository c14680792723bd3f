"""The figures of `probe`, each from one frame of `tables`."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lrope_interp.reports.concepts import tables
from lrope_interp.reports.concepts.tables import ABOVE, AREA, DOCUMENT, GAIN, PARTLY, TYPE
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.panels import Look, plot_panels
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.verdicts import MARKS
from lrope_interp.reports.kit.wording import (
    interval,
    is_number,
    number,
    shortened,
    signed,
    signed_interval,
)
from lrope_interp.results import Result

WIDE = 760  # pixels of a figure with columns of text on both sides
_BLUE, _PALE = theme.layer_colour(2, 3), "#5b9bd0"
_COLOURS = [[0, "#b5431a"], [0.25, "#f0b08a"], [0.5, "#ffffff"], [0.75, "#8dbbe0"], [1, "#1c5f9e"]]
_GREY = "#e6e9ed"
_LEAST_REACH = 0.05
_ROW, _TOP, _CELL = 42, 26, 92  # pixels
_LETTER, _LONGEST = 6.4, 24
_MARKS = {verdict: mark for verdict, (mark, _) in MARKS.items()} | {PARTLY: "△"}


def plot_map(result: Result, features: str | None = None, split: str = DOCUMENT) -> go.Figure:
    """Draw `map_frame`: mark and value, and the interval, in each cell; colour about 0.

    Blue is above the best control, vermilion below it; cells without a value are grey. Both splits have one
    scale of colours. `layout.meta` is the width in pixels below which the map cannot be read.
    """
    kind = str(tables.claim_of(result, None, features)["features"])
    frame = tables.map_frame(result, kind, split)
    columns = list(dict.fromkeys(tables.by_depth(frame)["place"]))
    rows: list[tuple[str, str]] = []
    for family, own in frame.groupby("family", sort=False):
        rows += [(str(family), "")] if frame["family"].nunique() > 1 else []
        rows += [(str(family), name) for name in dict.fromkeys(own["what"])]
    left = round(20 + _LETTER * max((min(len(name or family), _LONGEST) for family, name in rows), default=0))
    figure = theme.new_figure(height=_TOP + 12 + _ROW * max(len(rows), 1))
    values = [tables.map_frame(result, kind, one)["value"] for one in (DOCUMENT, TYPE)]
    largest = float(np.nanmax(np.abs(np.concatenate(values)), initial=_LEAST_REACH))
    known = frame["value"].notna()
    coloured = {"colorscale": _COLOURS, "zmin": -largest, "zmax": largest, "name": "minus the best control"}
    grey = {"colorscale": [[0, _GREY], [1, _GREY]], "zmin": 0, "zmax": 1, "name": "not measured"}
    figure.add_trace(_cells(frame[known], rows, columns, coloured))
    if (~known).any():
        figure.add_trace(_cells(frame[~known], rows, columns, grey))
    axis = {
        "showline": False, "ticks": "", "showgrid": False, "automargin": False, "fixedrange": True,
        "tickmode": "array",
    }  # fmt: skip
    figure.update_layout(margin={"l": left, "r": 8, "t": _TOP, "b": 12}, meta=left + _CELL * len(columns) + 8)
    figure.update_xaxes(
        axis, side="top", tickangle=0, tickvals=list(range(len(columns))), ticktext=columns,
        range=[-0.5, len(columns) - 0.5],
    )  # fmt: skip
    names = []
    for family, name in rows:
        own = plain(shortened(name.removeprefix(f"{family.replace('_', ' ')}: ") or family, _LONGEST))
        names.append(f"{own} " if name else f"<b>{own}</b> ")
    figure.update_yaxes(
        axis, tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5],
        tickfont={"size": 12, "color": theme.INK},
    )  # fmt: skip
    return figure


def _cells(
    frame: Frame, rows: list[tuple[str, str]], columns: list[str], look: dict[str, object]
) -> go.Heatmap:
    shape = (len(rows), len(columns))
    z = np.full(shape, np.nan)
    text, hover = np.full(shape, "", object), np.full(shape, "", object)
    for _, row in frame.iterrows():
        at = rows.index((row["family"], row["what"])), columns.index(row["place"])
        z[at] = row["value"] if is_number(row["value"]) else 0.0
        text[at], hover[at] = _cell_text(row), _cell_hover(row)
    return go.Heatmap(
        z=z, x=list(range(len(columns))), y=list(range(len(rows))), text=text, texttemplate="%{text}",
        textfont={"size": 11}, hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False, showscale=False, xgap=2, ygap=2, **look,
    )  # fmt: skip


def _cell_text(row: Row) -> str:
    if not is_number(row["value"]):
        return "not<br>measured"
    lines = [f"{_MARKS.get(row['verdict'], '')} <b>{_narrow(signed(row['value']))}</b>".strip()]
    if is_number(row["low"]):
        lines.append(f"{_narrow(signed(row['low'], 2))} … {_narrow(signed(row['high'], 2))}")
    return "<br>".join(lines)


def _narrow(text: str) -> str:
    """Drop the 0 before the decimal point."""
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text


def _cell_hover(row: Row) -> str:
    lines = [f"<b>{plain(row['what'])}, {plain(row['place'])}</b>"]
    if not is_number(row["value"]):
        return "<br>".join([*lines, "not measured: too few spans"])
    bounds = signed_interval(row["low"], row["high"]) if is_number(row["low"]) else "no interval"
    lines += [
        f"ROC-AUC {number(row['auc'], 3)}",
        f"best control: {plain(tables.control_name(row['control']))}, {number(row['control_auc'], 3)}",
        f"difference {signed(row['value'])} {bounds}",
        *([row["verdict"]] if row["verdict"] else []),
    ]
    if is_number(row["n"]) and is_number(row["n_concept"]):
        lines.append(f"{int(row['n']):,} spans, {int(row['n_concept']):,} of the concept")
    return "<br>".join(lines)


_LAYERS = {
    "untrained": Look("untrained model's features", theme.CONTROL, "diamond"),
    "control": Look("best control of each layer, unseen documents", theme.ACCENT, "triangle-up"),
    DOCUMENT: Look("unseen documents", _BLUE),
    TYPE: Look("unseen words", _PALE, "square"),
}


def plot_layers(result: Result, concept: str | None = None, features: str | None = None) -> go.Figure:
    """Draw one concept over layers, from `layers_frame`: ROC-AUC, difference and gain."""
    frame = tables.layers_frame(result, tables.claim_of(result, concept, features))
    return plot_panels(frame, _LAYERS, "", reference={AREA: 0.5, ABOVE: 0.0, GAIN: 0.0})


OWN, AHEAD, UNDER, WORDS = "claimed", "control, not below", "control, below", "the same, unseen words"
_LOOKS = {
    OWN: {"color": _BLUE, "size": 11},
    AHEAD: {"color": theme.ACCENT, "symbol": "triangle-left", "size": 11},
    UNDER: {"color": theme.CONTROL},
}
_OFFSET = 0.2  # of a row, between two dots that share it


def plot_controls(result: Result, concept: str | None = None, features: str | None = None) -> go.Figure:
    """Draw `controls_frame` of a concept's best claim: filled on unseen documents, open on unseen words."""
    claim = tables.claim_of(result, concept, features)
    frame, by_type = (tables.controls_frame(result, claim, split) for split in (DOCUMENT, TYPE))
    at = {name: y for y, name in enumerate(frame["control"])}
    by_type = by_type[by_type["control"].isin(at)]
    words = {row["control"]: _value(row) for _, row in by_type.iterrows()}
    cells = [[_value(row), _spread(row), words.get(row["control"], "")] for _, row in frame.iterrows()]
    columns, heading = aligned(cells, ["documents", "interval", "words"])
    names = [named(row["name"], is_strong=row["control"] == "none") for _, row in frame.iterrows()]
    figure = rows_figure(names, columns, heading, vertical=0.5, height=28)
    is_own = frame["control"] == "none"
    for look, chosen in ((OWN, is_own), (AHEAD, frame["is_ahead"]), (UNDER, ~is_own & ~frame["is_ahead"])):
        rows = frame[chosen].assign(y=[at[name] - _OFFSET / 2 for name in frame.loc[chosen, "control"]])
        if len(rows):
            figure.add_trace(
                dots(rows, look, dict(_LOOKS[look]), [_hover(row) for _, row in rows.iterrows()])
            )
    if len(by_type):
        rows = by_type.assign(y=[at[name] + _OFFSET for name in by_type["control"]])
        open_dots = {"symbol": "circle-open", "color": theme.INK, "size": 7}
        figure.add_trace(dots(rows, WORDS, open_dots, [_hover(row) for _, row in rows.iterrows()]))
    ends = [own[name] for own in (frame, by_type) for name in ("value", "low", "high")]
    figure.update_xaxes(
        range=reach(*ends, least=(0.45, 1.0)), title_text="ROC-AUC, this concept against all other spans"
    )
    return figure


def _value(row: Row) -> str:
    return f"{'▼ ' if row['is_ahead'] else ''}{number(row['value'], 3)}"


def _spread(row: Row) -> str:
    bounds = interval(row["low"], row["high"])
    if row["low"] == row["high"]:
        return ""
    return f"({bounds[1:-1]})" if bounds and row["spread"] == "range" else bounds


def _hover(row: Row) -> str:
    about = "range over seeds" if row["spread"] == "range" else "95 % interval"
    return f"{plain(row['name'])}: {number(row['value'], 4)}" + (
        f", {about} {_spread(row)}" if _spread(row) else ""
    )


_SELECTIVITY = {
    "accuracy": Look("accuracy on the concepts", _BLUE),
    "control_task": Look("accuracy on random labels (mean and range over seeds)", theme.ACCENT, "diamond"),
    "selectivity": Look("selectivity, 95 % interval", _BLUE, "square"),
    "majority": Look("always the commonest", theme.CONTROL, "line-ew-open", is_joined=True),
}


def plot_selectivity(result: Result, features: str | None = None) -> go.Figure:
    """Draw `selectivity_frame`: each family's accuracy beside that on random labels, and the difference."""
    frame = tables.selectivity_frame(result, str(tables.claim_of(result, None, features)["features"]))
    zero = dict.fromkeys(frame.loc[frame["series"] == "selectivity", "panel"], 0.0)
    return plot_panels(frame, _SELECTIVITY, "share of spans", reference=zero)


_CODES = {
    "none": Look("what is claimed", _BLUE),
    "untrained": Look("untrained", theme.CONTROL, "diamond"),
    "random_head": Look("random head", theme.CONTROL, "x-thin-open"),
    "fixed": Look("fixed twin", theme.CONTROL, "square-open"),
    "joint_plus": Look("with all of the text", _PALE, "square"),
    "joint_untrained": Look("untrained with all of the text", theme.CONTROL, "square"),
    "text": Look("the text alone", theme.ACCENT, "triangle-up"),
}


def plot_codes(result: Result, features: str | None = None) -> go.Figure:
    """Draw `codes_frame`: bits per span by layer, and those of each control of the text."""
    frame = tables.codes_frame(result, str(tables.claim_of(result, None, features)["features"]))
    return plot_panels(frame, _CODES, "bits per span", x_title="layer, or control")


_SPARSE = {
    "value": Look("the best features", _BLUE, is_joined=True),
    "random_value": Look("random features", theme.CONTROL, "diamond", is_joined=True),
    "shuffled_value": Look("shuffled labels", theme.CONTROL, "x-thin-open", is_joined=True),
}


def plot_sparse(result: Result) -> go.Figure:
    """Draw `sparse_frame`: ROC-AUC by the number of single features, a panel a concept."""
    return plot_panels(tables.sparse_frame(result), _SPARSE, "ROC-AUC", x_title="features", reference=0.5)


_STRUCTURE = {
    "increments": Look("increments", _BLUE),
    "lexical": Look("mean of the byte", theme.ACCENT, "triangle-up"),
    "ngram_3": Look("mean of the last three bytes", theme.ACCENT, "triangle-down"),
    "untrained": Look("untrained", theme.CONTROL, "diamond"),
    "random_head": Look("random head", theme.CONTROL, "x-thin-open"),
    "single": Look("no layer", theme.CONTROL, "square"),
}
_Y_TITLES = {"contrasts": "between / within", "pairs": "ROC-AUC", "trees": "F1 of brackets"}


def plot_structure(result: Result, table: str = "contrasts") -> go.Figure:
    """Draw `structure_frame` of the table "contrasts", "pairs" or "trees": a panel a unit of the text."""
    frame, nothing = tables.structure_frame(result, table), tables.STRUCTURE[table][-1]
    return plot_panels(
        frame, _STRUCTURE, _Y_TITLES[table], x_title="layer, or what has none", reference=nothing
    )


_ERASED = {
    "before": Look("before", theme.INK, "circle-open"),
    "leace": Look("concept erased, at its bytes", _BLUE),
    "elsewhere": Look("concept erased, at other bytes", _PALE, "circle-open"),
    "shuffled": Look("concepts shuffled over the same spans", "#8c6d31", "square"),
    "random": Look("random directions, as many", theme.CONTROL, "diamond"),
}


def plot_erasure(result: Result, concept: str | None = None) -> go.Figure:
    """Draw `erasure_frame`: what erasing a concept from what one layer's increment head reads does."""
    frame = tables.erasure_frame(result, tables.claim_of(result, concept, None))
    return plot_panels(frame, _ERASED, "", reference=0.0)
