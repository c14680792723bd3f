"""How a character of the user's text is drawn: made visible, measured, and never read as markup."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

N_SHADES = 9  # of a cell
_NAMED = {"\n": "⏎", "\t": "⇥", "\r": "␍", "\x7f": "␡"}
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "\n": " ", "\r": " "})


def plain(text: object) -> str:
    """Escape text for any plotly label, name or hover.

    plotly reads a small subset of HTML in every text, and TeX between dollar signs where a
    notebook has loaded MathJax; both are switched off by entities, which plotly decodes.
    """
    return str(text).translate(_MARKUP)


def visible(character: str) -> str:
    """Return something that can be seen for a character (or a token) that may be white or without a glyph.

    Spaces become ␣, line ends ⏎, tabs ⇥, control bytes their Unicode pictures; a combining mark
    sits on a dotted circle; characters that only format (joiners, direction marks) become ◦.
    The hover of a figure names them by code point.
    """
    if not character:
        return "◦"
    if len(character) > 1 and not unicodedata.combining(character[1]):
        return visible(character[0]) + visible(character[1:])
    if character in _NAMED:
        return _NAMED[character]
    if len(character) == 1 and ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    if character.isspace():
        return "␣"
    category = unicodedata.category(character[0])
    if category in ("Mn", "Me", "Mc"):
        return "◌" + character
    if category in ("Cf", "Cc", "Cs", "Co", "Cn"):
        return "◦"
    return character


def described(character: str) -> str:
    """Return the character with its code points, for a hover: `中 U+4E2D`."""
    points = " ".join(f"U+{ord(point):04X}" for point in character)
    return f"{visible(character)}  {points}".rstrip()


def is_delimiter(character: str) -> bool:
    """Say whether the character, or the first one of a token, is white space or punctuation (category P*)."""
    return character[:1].isspace() or unicodedata.category(character[:1] or "\0").startswith("P")


def width_in_em(character: str) -> float:
    """Return the width that the drawn character or token needs, in units of the font size."""
    if len(character) > 1:
        return sum(width_in_em(one) for one in character)
    shown = visible(character)[-1]
    return 1.0 if unicodedata.east_asian_width(shown) in ("W", "F") else 0.6


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


@dataclass(frozen=True)
class Strip:
    """One stretch of text with what it is and where it stands."""

    kind: str
    where: str
    cells: Sequence[Cell]
