"""Passages that hold a concept, each character shaded by its increment."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lrope_interp.reports.concepts.frames import KEY, claims_of
from lrope_interp.reports.concepts.names import INCREMENTS
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.glyphs import described, visible
from lrope_interp.reports.kit.strips import N_SHADES, Cell, Strip, Strips
from lrope_interp.reports.kit.wording import number
from lrope_interp.results import Result

_PLACE = [*KEY, "layer", "passage"]
_COLUMNS = [*_PLACE, "document", "character", "text", "value", "in_span", "shade", "is_warm"]


def examples_frame(result: Result) -> Frame:
    """Return the characters of the passages, each concept in one layer: that of its best single-layer claim.

    Returns:
        The columns of `examples.csv`, with `shade`, 0 to 8 by how many times the increment is larger or
        smaller than the layer's mean, over the most in the concept's passages; and `is_warm`, whether it
        is larger.
    """
    table = table_of(result, "examples")
    if table.empty:
        return pd.DataFrame(columns=_COLUMNS)
    table = table.assign(
        value=numbers(table["value"]),
        text=table["text"].astype(str),
        in_span=table["in_span"].astype("boolean").fillna(False).astype(bool),
    )
    chosen = _layers(result, table)
    keys = zip(table["family"], table["concept"], strict=True)
    table = table[[chosen[key] == layer for key, layer in zip(keys, table["layer"], strict=True)]]
    size = np.log(table["value"].where(table["value"] > 0)).abs()
    largest = size.groupby([table[name] for name in KEY]).transform("max")
    share = (size / largest.where(largest > 0)).fillna(0.0)
    found = table.assign(
        shade=np.rint(share * (N_SHADES - 1)).astype(int), is_warm=table["value"] > 1, order=range(len(table))
    )
    return found.sort_values(["order"], kind="stable").reset_index(drop=True)[_COLUMNS]


def _layers(result: Result, table: Frame) -> dict[tuple[str, str], int]:
    """Return which layer of each concept is shown."""
    claims = claims_of(result, INCREMENTS)
    claims = claims[claims["layer"] >= 0].sort_values("above", ascending=False, kind="stable")
    first = claims.drop_duplicates(KEY)
    best = {(row.family, row.concept): int(str(row.layer)) for row in first.itertuples()}
    found = {}
    for key, own in table.groupby(KEY, sort=False):
        layers = sorted(set(own["layer"]))
        family, concept = key
        layer = best.get((family, concept), -1)
        found[family, concept] = layer if layer in layers else layers[-1]
    return found


def example_strips(result: Result) -> list[tuple[str, Strips]]:
    """Return a title and a block of strips a concept."""
    frame = examples_frame(result)
    found = []
    for i, (key, own) in enumerate(frame.groupby(KEY, sort=False)):
        strips = [_strip(rows) for _, rows in own.groupby("passage", sort=True)]
        title = f"{key[0]}: {key[1]}, layer {own['layer'].iloc[0]}"
        found.append((title, Strips(strips, _CAPTION if i == 0 else "Read as the first.")))
    return found


_CAPTION = (
    "The span is underlined, and ▼ stands before its first character. Warm: the increment before the "
    "character is larger than the layer's mean; blue: smaller; the darker, the more times. A character that "
    "is pointed at says its increment, in units of that mean. ␣ is a space, ⏎ a line end. Passages are taken "
    "evenly from the text, not picked by their looks: examples, and no statistic."
)


def _strip(rows: Frame) -> Strip:
    first = rows.iloc[0]
    span = rows[rows["in_span"]]
    span_mean, mean = number(span["value"].mean()), number(rows["value"].mean())
    said = f"mean increment {span_mean} in the span, {mean} in the passage"
    where = f"{first['document']}, character {int(first['character']):,}"
    start = int(span["character"].min()) if len(span) else -1
    names = ["text", "value", "in_span", "shade", "is_warm", "character"]
    cells = [_cell(*row, start=start) for row in zip(*(rows[name].tolist() for name in names), strict=True)]
    return Strip(said, where, cells)


def _cell(
    text: str, value: float, in_span: bool, shade: int, is_warm: bool, character: int, *, start: int
) -> Cell:
    hover = f"{described(text)}, increment {number(value, 3)} of the mean"
    return Cell(visible(text), hover, shade, character == start, in_span, is_warm)
