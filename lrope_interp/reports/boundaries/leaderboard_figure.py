"""The leaderboard: every signal's ROC-AUC with its interval, its null and the probe above it."""

from __future__ import annotations

import plotly.graph_objects as go

from lrope_interp.reports.boundaries.leaderboard import leaderboard_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import aligned, bands, dots, named, reach, rows_figure
from lrope_interp.reports.kit.wording import interval, is_number, number
from lrope_interp.results import Result

NULL, SEEDS, PROBE = "null, 95 %", "range over seeds", "probe of that layer"
_NULL_LOOK = ("rgba(140, 147, 157, 0.30)", 0.84)
_SEEDS_LOOK = ("rgba(110, 118, 129, 0.55)", 0.30)
_OPEN = {"symbol": "diamond-open", "size": 10, "color": theme.ACCENT, "line": {"width": 2}}


def plot_leaderboard(result: Result, label: str, stratum: str) -> go.Figure:
    """Draw the rows of `leaderboard_frame`, best first, against chance.

    Layers are blue by depth, controls grey, the supervised probe open and vermilion: a row of its own
    for its best layer, and a mark in each layer's row. Whiskers are 95 % intervals.
    """
    frame = leaderboard_frame(result, label, stratum)
    frame = frame.assign(y=range(len(frame)))
    columns, heading = _columns(frame)
    figure = rows_figure([_name(row) for _, row in frame.iterrows()], columns, heading, vertical=0.5)
    figure.add_traces(_bands(frame))
    is_layer, is_ceiling = frame["signal"] == "increments", frame["kind"] == "ceiling"
    colours = theme.layer_colours(frame.loc[is_layer, "layer"].tolist())
    blue = {"color": [colours[layer] for layer in frame.loc[is_layer, "layer"]]}
    looks = [
        (is_layer, "layer, light to dark", blue),
        (~is_layer & ~is_ceiling, "control", {"color": theme.CONTROL}),
        (is_ceiling, "probe (ceiling)", _OPEN),
    ]
    for chosen, name, marker in looks:
        if chosen.any():
            figure.add_trace(dots(_with_whiskers(frame[chosen]), name, marker, _hovers(frame[chosen])))
    figure.add_traces(_probes(frame[frame["probe"].notna()]))
    shown = [frame[name] for name in ("value", "low", "high", "null_low", "null_high", "probe")]
    figure.update_xaxes(
        range=reach(*shown, least=(0.45, 1.0)), title_text="ROC-AUC, sign chosen on dev", dtick=0.1
    )
    figure.update_xaxes(tickformat=".1f")
    return figure


def _with_whiskers(rows: Frame) -> Frame:
    """Blank the bounds that are no interval."""
    is_interval = rows["spread"] == "interval"
    return rows.assign(low=rows["low"].where(is_interval), high=rows["high"].where(is_interval))


def _bands(frame: Frame) -> list[go.Bar]:
    nulls, seeds = frame[frame["null_low"].notna()], frame[frame["spread"] == "range"]
    found = [bands(nulls, "null_low", "null_high", NULL, _NULL_LOOK)] if len(nulls) else []
    return [*found, *([bands(seeds, "low", "high", SEEDS, _SEEDS_LOOK)] if len(seeds) else [])]


def _probes(rows: Frame) -> list[go.Scatter]:
    """Mark the supervised probe of each layer in that layer's row."""
    if rows.empty:
        return []
    mark = go.Scatter(
        x=rows["probe"], y=rows["y"], mode="markers", name=PROBE,
        marker=_OPEN | {"size": 7, "line": {"width": 1.2}},
        hovertemplate="supervised probe on this layer's hidden state: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    return [mark]


def _name(row: Row) -> str:
    note = f"{sign_of(row)} {row['align'] or '–':<4}"
    return named(row["name"], note, is_strong=row["signal"] == "increments")


def sign_of(row: Row) -> str:
    """Return the sign that dev chose, or ± where seeds differ or nothing is known."""
    return "+" if row["sign"] > 0 else "−" if row["sign"] < 0 else "±"


def _columns(frame: Frame) -> tuple[list[str], str]:
    """Return value and p values as columns; a p value that no row has is left out."""
    names = {"value": "AUC", "p_shift": "p shift", "p_same_byte": "p byte"}
    kept = [name for name in names if name == "value" or frame[name].notna().any()]
    rows = [[number(row[name], 3) for name in kept] for _, row in frame.iterrows()]
    return aligned(rows, [names[name] for name in kept])


def _hovers(rows: Frame) -> list[str]:
    return [_hover(row) for _, row in rows.iterrows()]


def _hover(row: Row) -> str:
    lines = [f"<b>{plain(row['name'])}</b>", f"ROC-AUC {number(row['value'], 3)} {_spread(row)}"]
    lines.append(f"sign {sign_of(row)}, alignment {plain(row['align']) or 'none'}")
    if is_number(row["null_low"]):
        lines.append(f"null {interval(row['null_low'], row['null_high'])}")
    if is_number(row["p_shift"]) or is_number(row["p_same_byte"]):
        lines.append(f"p (shift) {number(row['p_shift'], 3)}, p (same byte) {number(row['p_same_byte'], 3)}")
    if row["n_places"] > 1:
        lines.append(f"the best of {int(row['n_places'])} layers or heads")
    return "<br>".join(lines)


def _spread(row: Row) -> str:
    bounds = interval(row["low"], row["high"])
    return f"{bounds} over {int(row['n_seeds'])} seeds" if row["spread"] == "range" else bounds
