"""Pages, figures and verdicts of results, one module a kind; from the saved numbers, computing none.

A kind's module has `verdicts(result)`; `FIGURES`, the first being the kind's own; and, where its template
asks for more than the result and the module itself, as `page`, a function `page_values(result)`.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit.wording import facts, plural

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from lrope_interp.reports.kit.verdicts import Verdicts
    from lrope_interp.results import Result

_MODULES = {
    "ablate": "ablations",
    "compare": "comparison",
    "distance": "distances",
    "eval": "evaluation",
    "probe": "concepts",
    "replicate": "replication",
    "show": "spacing",
} | {kind: kind for kind in ("boundaries", "context", "definitions", "entities")}


def _page(kind: str) -> Any:
    if kind not in _MODULES:
        raise LRopeError(f"no page is known for results of kind {kind!r}")
    return import_module(f"lrope_interp.reports.{_MODULES[kind]}")


def _kit() -> Any:
    return import_module("lrope_interp.reports.kit.render")  # loads plotly, which a sentence does not need


def render(result: Result) -> str:
    """Return the page of a result as HTML, from the saved result alone."""
    page = _page(result.kind)
    words = {
        "kicker": f"lrope-interp {result.kind}",
        "about": facts(result.provenance, result.created),
        "warnings": result.warnings,
        "result": result,
        "page": page,
    }
    words |= page.page_values(result) if hasattr(page, "page_values") else {}
    return _kit().rendered(f"templates/{_MODULES[result.kind]}.html.j2", page.verdicts(result), **words)


def write(result: Result, path: Path) -> Path:
    """Write the page of a result; see `Result.report`."""
    return _kit().write_page(render(result), path)


def verdicts(result: Result) -> Verdicts:
    """Return what a result found: a sentence, and a row a question."""
    return _page(result.kind).verdicts(result)


def plot(result: Result, name: str | None = None, **which: Any) -> go.Figure:
    """Draw a figure of a result.

    Args:
        result: Of any kind.
        name: Which figure; the kind's own if None.
        which: What of, by the name of the figure's arguments.

    Raises:
        LRopeError: There is no such figure, or it is of something else.
    """
    known = _page(result.kind).FIGURES
    name = next(iter(known)) if name is None else name
    if name not in known:
        raise LRopeError(f"{result.kind} has no figure {name!r}: choose from {', '.join(known)}")
    asks = [*inspect.signature(known[name]).parameters][1:]
    if not {*which} <= {*asks}:
        of = f"it is of {', '.join(asks)}" if asks else "nothing can be chosen"
        raise LRopeError(f"figure {name!r} cannot be drawn of {', '.join({*which} - {*asks})}: {of}")
    return known[name](result, **which)


def write_image(result: Result, path: Path) -> None:
    """Write the figure of a result as PNG or SVG, by the ending of `path`.

    Raises:
        LRopeError: kaleido or a browser for it is missing, or the file cannot be written.
    """
    try:
        plot(result).write_image(path, scale=2 if path.suffix == ".png" else 1)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        raise LRopeError(
            f"the figure needs kaleido (pip install 'lrope-interp[export]') and Chrome or Chromium, which "
            f"BROWSER_PATH may name: {said}"
        ) from error


_LINES = 15  # of the text of a result


def text_of(result: Result) -> str:
    """Return what a result found as plain text of at most 15 lines."""
    found = verdicts(result)
    rows = [[*row.cells] for row in found.rows]
    widths = [max(map(len, column)) for column in zip(found.headings, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in (found.headings, *rows)] if rows else []  # fmt: skip
    if len(lines) > _LINES - 4:
        lines = [*lines[: _LINES - 5], f"... and {len(lines) - _LINES + 5} more rows: .frame()"]
    minds = [f"{plural(len(result.warnings), 'warning')}: .warnings"] if result.warnings else []
    tables = ", ".join(result.tables)
    more = f"tables: {tables if len(tables) < 110 else tables[:107] + '...'}"
    return "\n".join([f"{result.kind}: {found.headline}", *lines, *minds, more])


def html_of(result: Result) -> str:
    """Return what a result found as a table for notebooks: no script, and numbers that need no picture."""
    return _kit().embedded(verdicts(result), result)
