"""Tables that stand in a page between two comments which name them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, in which no interval is broken between two lines."""
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (headings, *rows)]
    made = "\n".join([lines[0], "|---" * len(headings) + "|", *lines[1:]])
    return re.sub(r"(\[[^][]+,) ([^][]+\])", "\\1\u00a0\\2", made)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """Return the page with every table as it was made; the words around them stay."""
    for name, made in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin not in page:
            sys.exit(f"the page has no place for the table {name}")
        page = re.sub(
            f"{begin}.*?{end}", f"{begin}\n{made}\n{end}".replace("\\", r"\\"), page, flags=re.DOTALL
        )
    return page
