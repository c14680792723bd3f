"""The targets that lose most under an intervention, each as a strip of the text around it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lrope_interp.reports.ablations.frames import MAIN, find
from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.ablations.numbers import change
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import described, visible
from lrope_interp.reports.kit.strips import N_SHADES, Cell, Strip, Strips
from lrope_interp.reports.kit.wording import number
from lrope_interp.results import Result

_PLACE = ["intervention", "design", "layers", "layer"]
_COLUMNS = [
    *_PLACE, "rank", "document", "character", "offset", "text", "value", "loss", "ablated", "shade",
    "is_warm",
]  # fmt: skip


def examples_frame(result: Result) -> Frame:
    """Return the characters around the targets that lose most, in the order they are read.

    Returns:
        The columns of `examples.csv` (`value` is the change in nats of that character, `loss` and
        `ablated` its loss before and after), with `shade`, 0 to 8 by the root of |value| over the largest
        of the same intervention, and `is_warm`, whether it is predicted worse.
    """
    table = table_of(result, "examples")
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    frame = table.assign(
        **{name: numbers(table[name]) for name in ("value", "loss", "ablated")},
        text=table["text"].astype(str),
    )
    largest = frame["value"].abs().groupby([frame[name] for name in _PLACE]).transform("max")
    share = (frame["value"].abs() / largest.where(largest > 0)).fillna(0.0)
    frame = frame.assign(
        shade=np.rint(np.sqrt(share) * (N_SHADES - 1)).astype(int), is_warm=frame["value"] > 0
    )
    order = {name: i for i, name in enumerate(MAIN)}
    frame = frame.assign(order=frame["intervention"].map(order).fillna(len(order)))
    return frame.sort_values(["order", *_PLACE, "rank", "offset"], kind="stable").reset_index(drop=True)


def example_strips(result: Result) -> list[tuple[str, Strips]]:
    """Return a block of strips an intervention and place that has examples, with its title."""
    frame = examples_frame(result)
    found = []
    for i, (name, layers) in enumerate(
        dict.fromkeys(zip(frame["intervention"], frame["layers"], strict=True))
    ):
        own = find(frame, name, layers=layers)
        strips = [_strip(rows) for _, rows in own.groupby("rank", sort=True)]
        where = "all layers" if layers == "all" else f"layer {layers}"
        title = f"{short(str(name)).capitalize()}, {where}: the {len(strips)} targets that lose most"
        found.append((title, Strips(strips, _CAPTION if i == 0 else "Read as the first.")))
    return found


_CAPTION = (
    "▼ stands before the target, the character that loses most; the text around it runs from left to right "
    "whatever its script. Warm: predicted worse, the darker the more; blue: predicted better. A character "
    "that is pointed at says its loss before and after. ␣ is a space, ⏎ a line end. These are the extremes, "
    "picked by their loss: examples, and no statistic."
)


def _strip(rows: Frame) -> Strip:
    first = rows.iloc[0]
    target = rows[rows["offset"] == 0]
    said = _losses(*target.iloc[0][["value", "loss", "ablated"]]) if len(target) else "–"
    names = ["text", "value", "loss", "ablated", "shade", "is_warm", "offset"]
    cells = [_cell(*row) for row in zip(*(rows[name].tolist() for name in names), strict=True)]
    where = f"{first['document']}, character {int(first['character']):,}"
    return Strip(f"{said} nats", where, cells)


def _losses(value: float, loss: float, ablated: float) -> str:
    return f"{number(loss)} → {number(ablated)} ({change(value, 2)})"


def _cell(
    text: str, value: float, loss: float, ablated: float, shade: int, is_warm: bool, offset: int
) -> Cell:
    hover = f"{described(text)}, {_losses(value, loss, ablated)} nats"
    return Cell(visible(text), hover, shade, is_marked=offset == 0, is_warm=is_warm)
