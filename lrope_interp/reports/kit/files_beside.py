"""What every report of tables ends with: the files beside it."""

from __future__ import annotations

from collections.abc import Mapping

from lrope_interp.reports.kit.blocks import Block, Files, Folded, Prose
from lrope_interp.reports.kit.wording import NOTHING, is_number, plural
from lrope_interp.results import Result

_NOTE = (
    "The links work where this page lies beside its tables. Empty cells are numbers that could not be had."
)


def whole(value: object) -> str:
    """Write a count with commas, or nothing where there is none."""
    return f"{int(value):,}" if is_number(value) else NOTHING  # pyright: ignore[reportArgumentType, reportCallIssue]


def files_beside(result: Result, meanings: Mapping[str, str]) -> list[Block]:
    """Name every file that stands beside the page, so that its numbers can be checked elsewhere.

    Args:
        result: What was saved.
        meanings: What a row of each table is.
    """
    files = [
        (f"{name}.csv", f"{len(table):,}", meanings.get(name, ""))
        for name, table in result.tables.items()
        if len(table)
    ]
    if not files:
        return []
    summary = f"{plural(len(files), 'file')} with every number of this page"
    return [Folded(summary, [Prose(_NOTE, "note"), Files(files)])]
