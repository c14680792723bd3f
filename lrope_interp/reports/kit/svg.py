"""A text as bars, for notebooks: a still picture that needs no script and stays below 100 kB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from lrope_interp.reports.kit.glyphs import width_in_em
from lrope_interp.reports.kit.wording import is_number, plural

_WIDTH, _FONT, _ROW, _BAR, _GAP, _NOTE = 900, 13, 22, 18, 12, 18  # pixels
_LETTER = 7.2  # of the names of rows
_TALLEST = 2.5  # means: what is taller is cut
_MOST_BARS, _LEAST_CHARACTERS = 2_400, 40
_MIDDLE = ' text-anchor="middle"'
_COLOURS = ("#3b82c4", "#d2691e")  # both can be seen on white and on black


@dataclass(frozen=True)
class BarRow:
    """A row of bars: its name, and a number a character in units of the row's mean."""

    name: str
    values: Sequence[float]


def bars_under_text(
    shown: Sequence[str], marked: Sequence[bool], rows: Sequence[BarRow], note: str
) -> Markup:
    """Draw characters with a row of bars below them for each of `rows`, wrapped to lines.

    Args:
        shown: What is drawn for each character (or token).
        marked: Which of them stand out; lines break behind them where one is near.
        rows: The bars; those that a small picture has no room for are left out, and counted.
        note: How it is read, below the picture.
    """
    drawn = rows[: _MOST_BARS // _LEAST_CHARACTERS]
    n = min(len(shown), _MOST_BARS // max(len(drawn), 1))
    left = round(12 + _LETTER * max((len(row.name) for row in drawn), default=0))
    widths = [round(_FONT * width_in_em(text)) + 2 for text in shown[:n]]
    y, parts = 0, []
    for line in _lines(widths, marked, _WIDTH - left):
        at = [left + sum(widths[line.start : i]) for i in line]
        middles = [f"{x + widths[i] / 2:g}" for x, i in zip(at, line, strict=True)]
        is_one = [_is_one(shown[i]) for i in line]
        letters = "".join(shown[i] for i, one in zip(line, is_one, strict=True) if one)
        places = " ".join(x for x, one in zip(middles, is_one, strict=True) if one)
        parts.append(_text(places, y + _FONT, letters, _MIDDLE))
        parts += [
            _text(x, y + _FONT, shown[i], _MIDDLE)
            for x, i, one in zip(middles, line, is_one, strict=True)
            if not one
        ]
        y += _FONT + 6
        for row in drawn:
            base = y + _BAR
            parts.append(_text("0", base - 3, row.name, ' opacity=".75"'))
            mean = base - round(_BAR / _TALLEST)
            end = at[-1] + widths[line.stop - 1]
            parts.append(f'<path d="M{left} {mean}H{end}" stroke="currentColor" stroke-opacity=".3"/>')
            for colour, is_marked in zip(_COLOURS, (False, True), strict=True):
                bars = "".join(
                    f"M{x} {base}h{widths[i] - 2}v-{_height(row.values[i])}h-{widths[i] - 2}z"
                    for x, i in zip(at, line, strict=True)
                    if bool(marked[i]) == is_marked and is_number(row.values[i])
                )
                parts.append(f'<path d="{bars}" fill="{colour}"/>' if bars else "")
            y += _ROW
        y += _GAP
    cut = [f"{n:,} of {plural(len(shown), 'character')}"] if n < len(shown) else []
    cut += [f"{len(drawn)} of {len(rows)} rows"] if len(drawn) < len(rows) else []
    parts.append(_text("0", y + _FONT, " ".join([note, *([f"Shown: {', '.join(cut)}."] if cut else [])])))
    height = y + _NOTE
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" style="max-width:100%;height:auto" '
        f'role="img" aria-label="{escape(note)}" font-size="12" fill="currentColor" '
        'font-family="ui-monospace, Menlo, Consolas, monospace">'
    )
    return Markup(head + "".join(parts) + "</svg>")


def _height(value: float) -> str:
    return f"{_BAR * min(max(value, 0.0), _TALLEST) / _TALLEST:.1f}".removesuffix(".0")


def _is_one(text: str) -> bool:
    """Say whether a text is one character for the list of places that SVG counts in 16 bits."""
    return len(text) == 1 and ord(text) < 0x10000


def _text(x: str, y: int, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}"{more}>{escape(text)}</text>' if text else ""


def _lines(widths: Sequence[int], marked: Sequence[bool], room: int) -> list[range]:
    """Return which characters stand in each line."""
    lines, start = [], 0
    while start < len(widths):
        stop, used, behind = start, 0, start
        while stop < len(widths) and (used + widths[stop] <= room or stop == start):
            used += widths[stop]
            stop += 1
            behind = stop if marked[stop - 1] and used > 0.7 * room else behind
        stop = behind if behind > start and stop < len(widths) else stop
        lines.append(range(start, stop))
        start = stop
    return lines
