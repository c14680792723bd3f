"""The answer of an analysis: a sentence, and a row a question with the interval that its verdict rests on.

The page, the notebook, the terminal and `compare` show the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

from markupsafe import Markup

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import NOTHING, interval, is_number, number, signed, signed_interval
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS

MARKS = {WINS: ("▲", "won"), LOSES: ("▼", "lost"), AS_GOOD: ("≈", "open"), TIES: ("=", "open")}
_WIDTH, _HEIGHT, _EDGE = 132, 18, 5  # pixels of a drawn interval
COLUMNS = (  # of `Verdicts.frame`
    *("what", "where", "value", "low", "high", "control"),
    *("difference", "difference_low", "difference_high", "verdict"),
)


@dataclass(frozen=True)
class VerdictRow:
    """A row of the table, ready to be shown: its cells, the interval as SVG, and how the row looks."""

    cells: Sequence[str]
    drawn: Markup
    style: str


@dataclass(frozen=True)
class Verdicts:
    """What an analysis found.

    Attributes:
        headline: The finding in at most 25 words.
        frame: One row a question, with `COLUMNS`: what was asked; where the best answer stands; its value
            with bounds; what it is held against; their difference with bounds; the verdict. Any of them may
            be missing in every row, and is then not shown. A column `reference` gives each row its own, and
            its own scale about it.
        names: What the columns hold, by column: "what", "where", "value", "control", "difference".
        digits: Of the numbers.
        reference: Where "no effect" stands on the axis of a drawn difference (of a value, where none is).
        caption: What the intervals are.
        about_drawing: What more is to be known where they are drawn.
        marks: By verdict, a sign that does without colour, and how the row looks: "won", "lost" or "open".
        reach: How far the axis of a drawing goes from `reference` at least, so that nothing looks like much.
        picture: Draws what a notebook shows besides the table, as SVG below 100 kB.
    """

    headline: str
    frame: Frame
    names: dict[str, str] = field(default_factory=dict)
    digits: int = 3
    reference: float | None = 0.0
    caption: str = ""
    about_drawing: str = ""
    marks: Mapping[str, tuple[str, str]] = field(default_factory=lambda: MARKS)
    reach: float = 0.0
    picture: Callable[[], Markup] | None = None

    def has(self, column: str) -> bool:
        """Say whether any row has something in a column."""
        if column not in self.frame or self.frame.empty:
            return False
        found = self.frame[column].notna()
        return bool((found & (self.frame[column].astype(str) != "")).any())

    @cached_property
    def headings(self) -> list[str]:
        """The headings of the columns that are shown."""
        named = {
            "what": "",
            "where": "Best",
            "value": "Value",
            "control": "Control",
            "difference": "Difference",
        }
        named |= self.names
        shown = [name for name in named if self.has(name)]
        return [named[name] for name in shown] + (["Verdict"] if self.has("verdict") else [])

    @cached_property
    def drawn_in(self) -> int:
        """The place among the columns of the one behind which the interval is drawn; -1: none is."""
        shown = [name for name in ("what", "where", "value", "control", "difference") if self.has(name)]
        drawn = [name for name in ("difference", "value") if name in shown]
        return shown.index(drawn[0]) if drawn else -1

    @cached_property
    def rows(self) -> list[VerdictRow]:
        """The rows, ready to be shown."""
        drawn = "difference" if self.has("difference") else "value"
        low, high = ("difference_low", "difference_high") if drawn == "difference" else ("low", "high")
        about = () if self.reference is None else (self.reference - self.reach, self.reference + self.reach)
        axis, rows = _axis(self.frame, (drawn, low, high), about), []
        for row in self.frame.to_dict("records"):
            bounds, about = (
                (row.get(drawn), row.get(low), row.get(high)),
                row.get("reference", self.reference),
            )
            own = axis if "reference" not in row else _about(about, bounds)
            style = self.marks.get(row.get("verdict", ""), ("", "open"))[1]
            rows.append(VerdictRow(self._cells(row), svg_interval(*bounds, own, about), style))
        return rows

    def brief(self) -> tuple[list[str], list[list[str]]]:
        """Return headings and rows for 80 columns: without the value where there is a difference."""
        left_out = {self.names.get("value", "Value")} if self.has("difference") else set()
        kept = [i for i, heading in enumerate(self.headings) if heading not in left_out]
        rows = [[_short(row.cells[i]) for i in kept] for row in self.rows]
        return [_short(self.headings[i]) for i in kept], rows

    def _cells(self, row: dict[str, Any]) -> list[str]:
        cells = [str(row[name]) for name in ("what", "where") if self.has(name)]
        if self.has("value"):
            value = number(row["value"], self.digits)
            bounds = interval(row.get("low"), row.get("high"), self.digits)
            cells.append(f"{value} {bounds}".strip().replace("-", "−"))
        if self.has("control"):
            cells.append(str(row["control"]) or NOTHING)
        if self.has("difference"):
            bounds = signed_interval(row["difference_low"], row["difference_high"], self.digits)
            bounds = "" if bounds == NOTHING else bounds
            cells.append(f"{signed(row['difference'], self.digits)} {bounds}".strip())
        if self.has("verdict"):
            mark = self.marks.get(row["verdict"], ("", ""))[0]
            cells.append(f"{mark} {row['verdict']}".strip() or NOTHING)
        return cells


def _short(cell: str) -> str:
    for long, short in (
        (LOSES, "control"), (WINS, "layer"), (AS_GOOD, "as good"), (TIES, "neither"),
        ("the model adds", "adds"), ("worse with the model", "worse"),
        (" mean increment", " mean"),
        ("supervised ", ""), ("finds it too", "too"), ("untrained model", "untrained"),
        ("Best layer", "Best"), ("Strongest control", "Control"), ("Nearest control", "Control"),
        ("Costliest alone", "Costliest"), ("; seeds for 80 %", "; seeds"), ("all layers", "all"),
        ("random head ", "random "), ("under 1 %", "< 1 %"),
    ):  # fmt: skip
        cell = cell.replace(long, short)
    return cell


def _axis(frame: Frame, names: Sequence[str], least: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that holds every bound of every row, and `least`."""
    values = [float(v) for name in names if name in frame for v in frame[name] if is_number(v)]
    values += least
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _about(reference: float, bounds: Sequence[Any]) -> tuple[float, float]:
    """Return the ends of an axis with a reference in its middle."""
    reach = max((abs(float(one) - reference) for one in bounds if is_number(one)), default=0.0) or 1.0
    return (reference - reach, reference + reach)


def svg_interval(
    value: Any, low: Any, high: Any, axis: tuple[float, float], reference: float | None = 0.0
) -> Markup:
    """Draw a value with its interval against a reference as a small SVG; nothing where there is no value.

    Args:
        value: The dot.
        low: Left end of the line, where there is one.
        high: Right end.
        axis: The values at the two edges.
        reference: Where the upright line stands; None for none.
    """
    if not is_number(value):
        return Markup("")
    scale = (_WIDTH - 2 * _EDGE) / (axis[1] - axis[0])

    def at(number: Any) -> str:
        return f"{_EDGE + (float(number) - axis[0]) * scale:.1f}"

    middle = _HEIGHT // 2
    parts = [f'<path d="M0 {middle}H{_WIDTH}" stroke="#8b95a1" stroke-opacity=".35"/>']
    if reference is not None:
        parts.append(f'<path d="M{at(reference)} 1V{_HEIGHT - 1}" stroke="#8b95a1"/>')
    words = number(value, 3)
    if is_number(low) and is_number(high):
        words += f" {interval(low, high)}"
        parts.append(f'<path d="M{at(low)} {middle}H{at(high)}" stroke="currentColor" stroke-width="2.5"/>')
    parts.append(f'<circle cx="{at(value)}" cy="{middle}" r="4" fill="currentColor"/>')
    head = f'<svg class="interval" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
    label = f'role="img" aria-label="{escape(words)}">'
    return Markup(head + label + "".join(parts) + "</svg>")
