"""The figures of what stands against a layer: paired differences, and the gain over surprisal."""

from __future__ import annotations

import plotly.graph_objects as go

from lrope_interp.reports.boundaries.contrasts import beyond_frame, differences_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import interval, number
from lrope_interp.results import LOSES, TIES, WINS, Result

_WON = theme.layer_colour(0, 1)
_OFFSET = 0.18  # of a row, between the two baselines


def plot_differences(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the rows of `differences_frame` about zero; left of it the control is better."""
    frame = differences_frame(result, label, stratum)
    frame = frame.assign(y=range(len(frame)))
    cells = [[signed(row["value"]), signed_interval(row["low"], row["high"])] for _, row in frame.iterrows()]
    columns, heading = aligned(cells, ["difference", "95 % interval"])
    figure = rows_figure([named(name) for name in frame["name"]], columns, heading, vertical=0.0)
    for verdict, colour in ((LOSES, theme.ACCENT), (TIES, theme.CONTROL), (WINS, _WON)):
        rows = frame[frame["verdict"] == verdict]
        if len(rows):
            hover = [f"{plain(row['name'])}: {signed(row['value'])}, {verdict}" for _, row in rows.iterrows()]
            figure.add_trace(dots(rows, verdict, {"color": colour}, hover))
    shown = reach(frame["value"], frame["low"], frame["high"], least=(-0.02, 0.02))
    figure.update_xaxes(range=shown, title_text="ROC-AUC of the layer minus that of the control")
    return figure


def plot_beyond(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the bits a gap that each layer adds to a model of surprisal, from `beyond_frame`.

    Filled over M0, open over M0 with lexical log-odds; the rank test's p stands at the right.
    """
    frame = beyond_frame(result, label, stratum)
    names = list(dict.fromkeys(frame["name"]))
    at = {name: i for i, name in enumerate(names)}
    p = frame[frame["baseline"] == "bins"].set_index("name")["p"]
    columns, heading = aligned([[number(p.get(name), 3)] for name in names], ["p (rank test)"])
    figure = rows_figure([named(name) for name in names], columns, heading, vertical=0.0, height=30)
    looks = (
        ("M0", "over M0", -_OFFSET, {"color": _WON}),
        ("M0_lexical", "over M0 and lexical log-odds", _OFFSET, {"color": _WON, "symbol": "circle-open"}),
    )
    for baseline, words, offset, marker in looks:
        rows = _nested(frame, baseline, at, offset)
        if len(rows):
            figure.add_trace(dots(rows, words, marker, [_hover(row) for _, row in rows.iterrows()]))
    nested = frame[frame["baseline"] != "bins"]
    shown = reach(nested["bits"], nested["bits_low"], nested["bits_high"], least=(-0.0005, 0.0005))
    figure.update_xaxes(range=shown, title_text="bits a gap gained", nticks=7, exponentformat="none")
    return figure


def _nested(frame: Frame, baseline: str, at: dict[str, int], offset: float) -> Frame:
    rows = frame[(frame["baseline"] == baseline) & frame["bits"].notna()]
    return rows.assign(
        y=[at[name] + offset for name in rows["name"]],
        value=rows["bits"], low=rows["bits_low"], high=rows["bits_high"],
    )  # fmt: skip


def _hover(row: Row) -> str:
    bits = f"{number(row['bits'], 5)} bits a gap {interval(row['bits_low'], row['bits_high'], 5)}"
    auc = f"ROC-AUC {number(row['base_auc'], 4)} to {number(row['full_auc'], 4)}"
    return f"<b>{plain(row['name'])}</b><br>{bits}<br>{auc}"


def signed(value: object, digits: int = 3) -> str:
    """Format a difference with its sign, U+2212 for minus."""
    text = number(value, digits)
    return text.replace("-", "−") if text.startswith("-") else f"+{text}" if text[0].isdigit() else text


def signed_interval(low: object, high: object, digits: int = 3) -> str:
    """Format the interval of a difference, or a dash."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]" if interval(low, high) else "–"
