"""Where in the text a change falls: by class of the predicted byte, by distance, by language."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrope_interp.reports.ablations.frames import (
    EVERYWHERE,
    MAIN,
    at_main_where,
    at_place,
    changes_frame,
    empty_frame,
    interventions_of,
    language_of,
    main_place,
    placed,
    whole_frame,
)
from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.ablations.numbers import with_bounds
from lrope_interp.reports.ablations.split import COLOURS
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.wording import CLASS_ORDER, LANGUAGES, in_order, is_number
from lrope_interp.results import Result

_ROW, _TOP, _BOTTOM = 24, 40, 46  # pixels


def classes_change_frame(result: Result) -> Frame:
    """Return the change by class of the predicted byte, of all layers (or the only place there is).

    Returns:
        The columns of `changes_frame`, with `group`, the class; in the order of the page.
    """
    frame = changes_frame(result)
    frame = frame[(frame["language"] == language_of(frame)) & (frame["byte_class"] != EVERYWHERE)]
    frame = _main(result, frame).assign(group=lambda rows: rows["byte_class"])
    return _ordered(frame, in_order(frame["group"], CLASS_ORDER))


def languages_change_frame(result: Result) -> Frame:
    """Return the change by language; empty where the text has one."""
    frame = changes_frame(result)
    frame = frame[(frame["language"] != EVERYWHERE) & (frame["byte_class"] == EVERYWHERE)]
    frame = _main(result, frame)
    names = [LANGUAGES.get(code, code) or code for code in frame["language"]]
    frame = frame.assign(group=pd.Series(names, index=frame.index, dtype=object))
    kept = frame if frame["group"].nunique() > 1 else frame.iloc[:0]
    return _ordered(kept, in_order(kept["group"], tuple(LANGUAGES.values())))


def distance_labels(result: Result) -> list[str]:
    """Return the labels that distances were measured from."""
    table = table_of(result, "distances")
    return [] if table.empty else list(dict.fromkeys(table["label"].astype(str)))


def distances_frame(result: Result, label: str) -> Frame:
    """Return the change by distance since the last boundary of a label.

    Returns:
        The columns of `distances.csv` with `low`, `high`, `shows`, and `group`: the bytes since the
        boundary in words, 0 the boundary's own byte.
    """
    table = table_of(result, "distances")
    if table.empty:
        return empty_frame().assign(group="")
    frame = placed(table[table["label"].astype(str) == label]).assign(where="")
    frame = _main(result, frame)
    frame = frame.assign(distance=numbers(frame["distance"]), distance_high=numbers(frame["distance_high"]))
    frame = frame.sort_values("distance", kind="stable")
    ends = zip(frame["distance"], frame["distance_high"], strict=True)
    frame = frame.assign(group=pd.Series([_bin(*end) for end in ends], index=frame.index, dtype=object))
    return _ordered(frame, list(dict.fromkeys(frame["group"])))


def _bin(low: float, high: float) -> str:
    if not is_number(high):
        return f"{int(low)} or more"
    return f"{int(low)}" if low == high else f"{int(low)} to {int(high)}"


def _main(result: Result, frame: Frame) -> Frame:
    """Return the rows of one place and of the interventions that the page is about."""
    whole = whole_frame(result)
    if "where" in frame and len(frame):
        frame = frame if (frame["where"] == "").all() else at_main_where(frame)
    frame = at_place(frame, main_place(whole))
    chosen = interventions_of(frame, MAIN) or interventions_of(frame)[:3]
    frame = frame[frame["intervention"].isin(chosen)]
    return frame[frame["parameter"].isna() | (frame["parameter"] == frame["parameter"].max())]


def _ordered(frame: Frame, groups: list[str]) -> Frame:
    if frame.empty:
        return frame
    at = frame["group"].map({name: i for i, name in enumerate(groups)})
    return frame.assign(at=at).sort_values(["intervention", "at"], kind="stable").reset_index(drop=True)


def plot_groups(frame: Frame, title: str) -> go.Figure:
    """Draw a frame with `group` and `at`: a row a group, a panel an intervention, each with its own axis.

    Bars are changes in nats per byte with 95 % intervals; grey where the interval holds 0. Grey numbers
    count predictions.

    Args:
        frame: What `classes_change_frame`, `languages_change_frame` or `distances_frame` returns.
        title: What a group is, over the names.
    """
    names = [name for name in MAIN if (frame["intervention"] == name).any()]
    names = names or interventions_of(frame)
    groups = list(dict.fromkeys(frame.sort_values("at")["group"]))
    height = _TOP + _BOTTOM + _ROW * max(len(groups), 2)
    figure = make_subplots(
        1, max(len(names), 1), shared_yaxes=True, horizontal_spacing=0.04,
        subplot_titles=[short(name) for name in names], figure=theme.new_figure(height=height),
    )  # fmt: skip
    for column, name in enumerate(names, 1):
        own = frame[frame["intervention"] == name]
        figure.add_trace(_bars(own, name), row=1, col=column)
        figure.add_vline(x=0, line={"color": theme.INK, "width": 1}, row=1, col=column)  # pyright: ignore[reportArgumentType]
    counts = frame.groupby("group")["n"].max()
    ticks = [
        f"{plain(group)}  <span style='color:#8b95a1'>{int(counts[group]):,}</span>"
        if is_number(counts[group]) else plain(group)
        for group in groups
    ]  # fmt: skip
    longest = max([len(title), *(len(g) + 8 for g in groups)])
    figure.update_layout(
        showlegend=False,
        bargap=0.3,
        margin={"l": round(24 + 6.2 * longest), "r": 16, "t": _TOP, "b": _BOTTOM},
    )
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.add_annotation(
        text=title, x=0, xref="paper", xanchor="right", xshift=-8, y=1, yref="paper", yanchor="bottom",
        showarrow=False, font={"size": 11, "color": theme.MUTED},
    )  # fmt: skip
    figure.update_xaxes(title_text="nats per byte", nticks=5)
    figure.update_yaxes(
        range=[len(groups) - 0.5, -0.5], tickmode="array", tickvals=list(range(len(groups))), ticktext=ticks,
        ticks="", automargin=False,
    )  # fmt: skip
    return figure


def _bars(own: Frame, name: str) -> go.Bar:
    hover = [
        f"{plain(row.group)}: {with_bounds(row.value, row.low, row.high)} nats per byte"
        for row in own.itertuples()
    ]
    return go.Bar(
        orientation="h", y=own["at"], x=own["value"], name=short(name), text=hover, textposition="none",
        marker={"color": [COLOURS[shows] for shows in own["shows"]]},
        error_x={
            "type": "data", "symmetric": False, "array": own["high"] - own["value"],
            "arrayminus": own["value"] - own["low"], "color": theme.INK, "thickness": 1.2, "width": 3,
        },
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip
