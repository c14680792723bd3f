"""The most confident errors of a label, each as a strip of the text around it."""

from __future__ import annotations

from collections import Counter

from lrope_interp.reports.boundaries.contrast_figures import signed
from lrope_interp.reports.boundaries.frames import signal_name
from lrope_interp.reports.kit.frames import Frame, cell_of, numbers
from lrope_interp.reports.kit.glyphs import described, visible
from lrope_interp.reports.kit.strips import N_SHADES, Cell, Strip, Strips
from lrope_interp.reports.kit.wording import number
from lrope_interp.results import Result

_KEY = ["signal", "layer", "head", "rank"]


def errors_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the characters around each error of a label, in the order they are read.

    Returns:
        Columns `signal`, `layer`, `head`, `rank`, `error`, `document`, `character`, `offset`, `text`,
        `value` (oriented: high speaks for a boundary), `is_boundary`, and `shade`: which of nine
        shades it has, by the rank of `value` among all characters of these strips.
    """
    frame = cell_of(result, "errors", label, stratum)
    if frame.empty:
        return frame
    frame["value"], frame["text"] = numbers(frame["value"]), frame["text"].astype(str)
    frame["is_boundary"] = frame["is_boundary"].astype(str) == "True"
    ranks = frame["value"].rank(pct=True, method="average")
    frame["shade"] = (ranks * N_SHADES).clip(upper=N_SHADES - 1).fillna(0).astype(int)
    return frame.sort_values([*_KEY, "offset"], kind="stable").reset_index(drop=True)


def error_strips(result: Result, label: str, stratum: str) -> Strips | None:
    """Return the errors of a label as a block of strips; None where the result has none."""
    frame = errors_frame(result, label, stratum)
    if frame.empty:
        return None
    strips = [_strip(rows) for _, rows in frame.groupby(_KEY, sort=False)]
    first = frame.iloc[0]
    return Strips(
        strips, _caption(signal_name(str(first["signal"]), int(first["layer"]), int(first["head"])))
    )


def _strip(rows: Frame) -> Strip:
    first = rows.iloc[0]
    gap = rows[rows["offset"] == 0]
    value = signed(gap["value"].iloc[0]) if len(gap) else "–"
    words = ["text", "value", "shade", "offset", "is_boundary"]
    cells = [_cell(*row) for row in zip(*(rows[name].tolist() for name in words), strict=True)]
    where = f"{first['document']}, character {int(first['character']):,}; signal {value}"
    return Strip(str(first["error"]), where, cells)


def _cell(text: str, value: float, shade: int, offset: int, is_boundary: bool) -> Cell:
    hover = f"{described(text)}, signal {number(value, 3)}"
    return Cell(visible(text), hover, shade, is_marked=offset == 0, is_boundary=is_boundary)


def _caption(name: str) -> str:
    return (
        f"The errors of {name} farthest from its threshold, most confident first. The darker a character, "
        "the more the signal speaks for a boundary before it, by its rank within these strips. ▼ marks "
        "the gap in question, a dark bar under a character says that the reference has a boundary before "
        "it. A miss is a boundary that the signal is sure is none; a false alarm the reverse. ␣ is a "
        "space, ⏎ a line end; text runs from left to right whatever its script. Ten errors are examples "
        "and no statistic."
    )


def count_of(block: Strips) -> str:
    """Say how many errors of each kind a block shows."""
    kinds = Counter(strip.kind for strip in block.strips)
    plural = {"miss": "misses", "false alarm": "false alarms"}
    return ", ".join(f"{n} {kind if n == 1 else plural.get(kind, kind)}" for kind, n in kinds.most_common())
