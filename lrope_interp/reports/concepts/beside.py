"""The best claim of a concept beside each of its controls."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.concepts.frames import beside_frame, best_claims
from lrope_interp.reports.concepts.names import CONTROLS, DOCUMENT, SPLIT_NAMES, control_name, feature_name
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import NOTHING, is_number, number
from lrope_interp.results import Result

OWN, AHEAD, UNDER = "claimed", "control, as good", "control, below"
_LOOKS = {
    OWN: {"color": theme.layer_colour(2, 3), "size": 11},
    AHEAD: {"color": theme.ACCENT, "symbol": "triangle-left", "size": 11},
    UNDER: {"color": theme.CONTROL},
}


def plot_beside(result: Result, claim: Row, split: str = DOCUMENT) -> go.Figure:
    """Draw `beside_frame`: the features first, controls from high to low, those as good in vermilion."""
    frame = beside_frame(result, claim, split)
    frame = frame.assign(y=range(len(frame)))
    cells = [[number(row["value"], 3), _spread(row)] for _, row in frame.iterrows()]
    columns, heading = aligned(cells, ["ROC-AUC", "interval"])
    names = [_name(row, claim) for _, row in frame.iterrows()]
    figure = rows_figure(names, columns, heading, vertical=0.5)
    for look, rows in _groups(frame):
        if len(rows):
            hover = [_hover(row, claim) for _, row in rows.iterrows()]
            figure.add_trace(dots(rows, look, dict(_LOOKS[look]), hover))
    shown = reach(frame["value"], frame["low"], frame["high"], least=(0.45, 1.0))
    figure.update_xaxes(range=shown, title_text="ROC-AUC, this concept against all other spans")
    return figure


def beside_table(result: Result, features: str) -> Frame:
    """Return every concept's best claim beside every control, on both splits, as ready-made strings."""
    rows = []
    for _, claim in best_claims(result, features).iterrows():
        for split, words in SPLIT_NAMES.items():
            frame = beside_frame(result, claim, split)
            known = {"Family": claim["family"], "Concept": claim["concept"], "Where": claim["place"]}
            known["Spans of"] = words.lower()
            rows.append(known | {_column(row, features): _value(row) for _, row in frame.iterrows()})
            rows[-1]["Verdict"] = claim["verdict"]
    names = ["Family", "Concept", "Where", "Spans of", feature_name(features), *map(control_name, CONTROLS)]
    found = pd.DataFrame(rows).fillna(NOTHING)
    return found[[name for name in [*names, "Verdict"] if name in found]]


def _column(row: Row, features: str) -> str:
    control = str(row["control"])
    return feature_name(features) if control == "none" else control_name(control)


def _value(row: Row) -> str:
    return f"{'▲ ' if row['is_ahead'] else ''}{number(row['value'], 3)}"


def _groups(frame: Frame) -> list[tuple[str, Frame]]:
    is_own = frame["control"] == "none"
    return [
        (OWN, frame[is_own]),
        (AHEAD, frame[frame["is_ahead"]]),
        (UNDER, frame[~is_own & ~frame["is_ahead"]]),
    ]


def _title(row: Row, claim: Row) -> str:
    if row["control"] != "none":
        return control_name(str(row["control"]))
    return f"{feature_name(str(claim['features']))}, {claim['place']}"


def _name(row: Row, claim: Row) -> str:
    is_own = row["control"] == "none"
    return named(_title(row, claim), "▲" if row["is_ahead"] else "", is_strong=is_own)


def _spread(row: Row) -> str:
    if not (is_number(row["low"]) and is_number(row["high"])) or row["low"] == row["high"]:
        return ""
    words = f"{number(row['low'], 3)}, {number(row['high'], 3)}"
    return f"({words})" if row["spread"] == "range" else f"[{words}]"


def _hover(row: Row, claim: Row) -> str:
    about = "range over seeds" if row["spread"] == "range" else "95 % interval"
    spread = f", {about} {_spread(row)}" if _spread(row) else ""
    return f"{plain(_title(row, claim))}: {number(row['value'], 4)}{spread}"
