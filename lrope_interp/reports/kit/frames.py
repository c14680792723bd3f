"""What the reports' tables have in common: their type, and layers and heads as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

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
