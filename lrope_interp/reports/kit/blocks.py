"""What a page is made of: paragraphs, figures, tables, and their arrangements.

Each block renders itself to HTML with every text escaped, and leaves its figures with `Figures`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.strips import Strips

_UNSAFE_IN_SCRIPT = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


@dataclass
class Figures:
    """The figures met so far while a page is rendered, as (id, JSON) in page order."""

    items: list[tuple[str, str]] = field(default_factory=list)

    def add(self, figure: go.Figure) -> str:
        """Take a figure in and return the id of its place."""
        name = f"figure-{len(self.items) + 1}"
        self.items.append((name, figure_json(figure)))
        return name


@dataclass(frozen=True)
class Prose:
    """A paragraph of plain text."""

    text: str
    style: str = ""

    def html(self, figures: Figures) -> str:
        """Return the paragraph, escaped."""
        del figures
        return f'<p class="{escape(self.style)}">{escape(self.text)}</p>'


@dataclass(frozen=True)
class Plot:
    """A figure with how to read it and, always, what it does not show.

    Narrower than `min_width` pixels it scrolls instead of shrinking.
    """

    figure: go.Figure
    reads: str
    limits: str
    title: str = ""
    min_width: int | None = None

    def html(self, figures: Figures) -> str:
        """Return the figure's place and caption; its data goes into `figures`."""
        name = figures.add(self.figure)
        layout: Any = self.figure.layout
        size = f"height:{layout.height or 400:.0f}px"
        if self.min_width:
            size += f";min-width:{self.min_width}px"
        if layout.width:
            size += f";width:{layout.width:.0f}px"
        heading = f"<h3>{escape(self.title)}</h3>" if self.title else ""
        label = escape(self.title or self.reads)
        return (
            f'<figure>{heading}<div class="scroll" tabindex="0"><div class="plot" id="{name}" role="img" '
            f'aria-label="{label}" style="{size}"></div></div><figcaption>{inline(self.reads)} '
            f'<span class="limits">{inline(self.limits)}</span></figcaption></figure>'
        )


@dataclass(frozen=True)
class Table:
    """A table of ready-made strings; columns named in `left` hold words, the others numbers."""

    frame: Frame
    caption: str = ""
    left: Sequence[str] = ()
    row_styles: Sequence[str] = ()

    def html(self, figures: Figures) -> str:
        """Return the table, every cell escaped."""
        del figures
        styles = ["" if column not in self.left else ' class="left"' for column in self.frame.columns]
        head = "".join(
            f"<th{s}>{escape(str(c))}</th>" for c, s in zip(self.frame.columns, styles, strict=True)
        )
        rows = []
        for i, row in enumerate(self.frame.itertuples(index=False, name=None)):
            style = escape(self.row_styles[i]) if self.row_styles else ""
            cells = "".join(f"<td{s}>{escape(str(v))}</td>" for v, s in zip(row, styles, strict=True))
            rows.append(f'<tr class="{style}">{cells}</tr>')
        caption = f'<p class="caption">{inline(self.caption)}</p>' if self.caption else ""
        return (
            f'{caption}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>"
        )


@dataclass(frozen=True)
class Beside:
    """Blocks side by side where the window is wide enough."""

    blocks: Sequence[Block]

    def html(self, figures: Figures) -> str:
        """Return the blocks in a grid."""
        return f'<div class="beside">{"".join(block.html(figures) for block in self.blocks)}</div>'


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them; their figures are drawn when it is opened."""

    summary: str
    blocks: Sequence[Block]

    def html(self, figures: Figures) -> str:
        """Return a closed `details` element."""
        inside = "".join(block.html(figures) for block in self.blocks)
        return f"<details><summary>{escape(self.summary)}</summary>{inside}</details>"


@dataclass(frozen=True)
class Files:
    """Files beside the page, each a link with what it holds: (name, size, words)."""

    files: Sequence[tuple[str, str, str]]

    def html(self, figures: Figures) -> str:
        """Return a table of links relative to the page."""
        del figures
        rows = "".join(
            f'<tr><td class="left"><a href="{escape(quote(name))}">{escape(name)}</a></td>'
            f'<td>{escape(size)}</td><td class="left">{inline(words)}</td></tr>'
            for name, size, words in self.files
        )
        head = '<tr><th class="left">File</th><th>Rows</th><th class="left">A row is</th></tr>'
        return (
            '<div class="scroll" tabindex="0"><table class="files">'
            f"<thead>{head}</thead><tbody>{rows}</tbody></table></div>"
        )


Block = Prose | Plot | Table | Beside | Folded | Strips | Files


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]

    def html(self, figures: Figures) -> str:
        """Return the section, or nothing where it holds no block."""
        if not self.blocks:
            return ""
        inside = "".join(block.html(figures) for block in self.blocks)
        return f"<section><h2>{escape(self.title)}</h2>{inside}</section>"


def inline(text: str) -> str:
    """Escape text of ours, with `code` between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def figure_json(figure: go.Figure) -> str:
    """Return a figure as JSON that may stand inside a script element, whatever texts it holds."""
    text = str(figure.to_json(engine="json"))
    for character, escaped in _UNSAFE_IN_SCRIPT.items():
        text = text.replace(character, escaped)
    json.loads(text)  # escapes may only ever fall inside strings
    return text
