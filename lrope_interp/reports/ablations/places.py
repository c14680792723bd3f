"""Freezing at some gaps only, beside freezing at as many random gaps."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.ablations.frames import at_place, main_where, whole_frame
from lrope_interp.reports.ablations.names import BEYOND, RANDOM, short, where_name
from lrope_interp.reports.ablations.numbers import with_bounds
from lrope_interp.reports.kit.blocks import Block, Table
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.wording import NOTHING
from lrope_interp.results import Result

_COLUMNS = ("where", "n_gaps", "value", "low", "high", "random_value", "random_low", "random_high")
_COLUMNS += ("more_value", "more_low", "more_high")


def places_frame(result: Result) -> Frame:
    """Return one row a place at which a suite froze all layers to their means.

    Returns:
        `where`, its number of gaps, the change in nats per byte there and at as many random gaps, and by how
        much the first is more, each with its interval; empty where the page is about one place or none.
    """
    frame = whole_frame(result)
    if main_where(frame) or frame.empty:
        return pd.DataFrame(columns=_COLUMNS)
    own = at_place(frame[frame["intervention"] == "mean"], ("all", -1, -1)).set_index("where")
    more = at_place(frame[frame["intervention"] == BEYOND], ("all", -1, -1)).set_index("where")
    places = table_of(result, "places")
    counts = (
        dict(zip(places["where"].tolist(), places["n_gaps"].tolist(), strict=True)) if len(places) else {}
    )
    rows = [
        {
            "where": where,
            "n_gaps": int(counts.get(where, 0)),
            **{name: own.at[where, name] for name in ("value", "low", "high")},
            **{f"random_{name}": own.at[RANDOM + where, name] for name in ("value", "low", "high")},
            **{f"more_{name}": more.at[where, name] for name in ("value", "low", "high")},
        }
        for where in own.index
        if RANDOM + where in own.index and where in more.index
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def places_blocks(result: Result) -> list[Block]:
    """Return the table of `places_frame`; nothing where it is empty."""
    frame = places_frame(result)
    if frame.empty:
        return []
    table = pd.DataFrame(
        {
            f"{short('mean')} at": [where_name(where) for where in frame["where"]],
            "Gaps": [f"{n:,}" if n else NOTHING for n in frame["n_gaps"]],
            "Change": _cells(frame, ""),
            "At as many random gaps": _cells(frame, "random_"),
            "Difference": _cells(frame, "more_"),
        }
    )
    return [Table(table, _CAPTION, left=[str(table.columns[0])])]


def _cells(frame: Frame, prefix: str) -> list[str]:
    columns = (frame[f"{prefix}{name}"].tolist() for name in ("value", "low", "high"))
    return [with_bounds(*one) for one in zip(*columns, strict=True)]


_CAPTION = (
    "All layers frozen to their means at some gaps and nowhere else, in nats per byte with 95 % intervals; "
    "the difference is paired. A place that costs no more than as many random gaps is no special place."
)
