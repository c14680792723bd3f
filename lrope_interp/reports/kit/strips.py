"""A block of text strips: characters in cells, shaded by a number, one place of each marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrope_interp.reports.kit.blocks import Figures

N_SHADES = 9


@dataclass(frozen=True)
class Cell:
    """One character.

    Attributes:
        text: What is drawn; never empty, never markup.
        hover: What the cell says when it is pointed at.
        shade: 0 (white) to `N_SHADES` - 1 (dark).
        is_marked: Whether the gap before it is the one in question.
        is_boundary: Whether the reference has a boundary before it.
        is_warm: Whether the shade is one of vermilion, not of blue.
    """

    text: str
    hover: str
    shade: int
    is_marked: bool = False
    is_boundary: bool = False
    is_warm: bool = False

    def html(self) -> str:
        """Return the cell, isolated so that right-to-left letters stay in their places."""
        marks = " marked" * self.is_marked + " boundary" * self.is_boundary
        shade = f"{'w' if self.is_warm else 's'}{self.shade}"
        return f'<bdi class="{shade}{marks}" title="{escape(self.hover)}">{escape(self.text)}</bdi>'


@dataclass(frozen=True)
class Strip:
    """One stretch of text with what it is and where it stands."""

    kind: str
    where: str
    cells: Sequence[Cell]

    def html(self) -> str:
        """Return the strip, every text escaped."""
        cells = "".join(cell.html() for cell in self.cells)
        return (
            f"<li><p><b>{escape(self.kind)}</b> <span>{escape(self.where)}</span></p>"
            f'<div class="strip" dir="ltr">{cells}</div></li>'
        )


@dataclass(frozen=True)
class Strips:
    """Numbered strips of text under a caption."""

    strips: Sequence[Strip]
    caption: str

    def html(self, figures: Figures) -> str:
        """Return the strips as an ordered list."""
        del figures
        items = "".join(strip.html() for strip in self.strips)
        return f'<p class="caption">{escape(self.caption)}</p><ol class="strips">{items}</ol>'
