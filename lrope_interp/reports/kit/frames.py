"""What the reports' tables have in common: their type, and layers and heads as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from lrope_interp.reports.kit.wording import NOTHING, is_number

if TYPE_CHECKING:
    # pandas does not say what indexing returns; a checker that believes DataFrame reports only that.
    Frame: TypeAlias = Any
    Column: TypeAlias = Any
    Row: TypeAlias = Any
else:
    Frame = pd.DataFrame
    Column = pd.Series
    Row = pd.Series


def table_of(result: Any, name: str) -> Frame:
    """Return a table of a result with layer and head as integers, -1 where there is none.

    A missing table is an empty one.
    """
    return _with_places(result.tables.get(name, pd.DataFrame()))


def cell_of(result: Any, name: str, label: str, stratum: str) -> Frame:
    """Return the rows of a table that are about one label and stratum, as `table_of` does."""
    table = result.tables.get(name, pd.DataFrame())
    if table.empty:
        return _with_places(table)
    return _with_places(table[(table["label"] == label) & (table["stratum"] == stratum)])


def _with_places(table: Frame) -> Frame:
    found = table.reset_index(drop=True)
    for column in ("layer", "head"):
        found[column] = whole_numbers(found, column)
    return found


def whole_numbers(frame: Frame, name: str) -> Column:
    """Return a column of layers or heads as integers, -1 where it is null or missing."""
    if name not in frame:
        return pd.Series(-1, index=frame.index, dtype=int)
    return numbers(frame[name]).fillna(-1).astype(int)


def numbers(column: Column) -> Column:
    """Return a column as floats, NaN where it holds no number."""
    found: Any = pd.to_numeric(column, errors="coerce")
    return found.astype("Float64").astype(float)


def worded(frame: Frame, columns: Mapping[str, str | Sequence[str]], digits: int = 3) -> Frame:
    """Return columns of a table as text, for a page.

    Args:
        frame: Any table.
        columns: By heading, the column that stands there; of two its interval, of three value and interval.
        digits: Significant ones, of what is no whole number.
    """
    shown = {}
    for heading, names in columns.items():
        asked = [names] if isinstance(names, str) else names
        rows = zip(*(frame[name].tolist() for name in asked), strict=True)
        shown[heading] = [_cell(row, digits) for row in rows]
    return pd.DataFrame(shown)


def _cell(values: Sequence[Any], digits: int) -> str:
    words = [_word(value, digits) for value in values]
    if len(words) == 1 or NOTHING in words[-2:]:
        return words[0] if len(words) != 2 else NOTHING
    return " ".join([*words[:-2], f"[{', '.join(words[-2:])}]"])


def _word(value: Any, digits: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not is_number(value) or isinstance(value, int):
        return f"{value:,}" if is_number(value) else NOTHING
    size = abs(value)
    if size >= 1 or not size:
        text = f"{value:,.{max(digits - len(str(int(size))), 0)}f}"
    else:
        text = f"{value:.1e}".replace("e-0", "e-") if size < 1e-4 else f"{value:#.{digits}g}"
    return text.replace("-", "−")
