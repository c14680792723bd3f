"""What a command says: results on stdout, notes and progress on stderr, JSON alone if asked for."""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrope_interp.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

# Without a terminal nothing wraps at 80 columns: a table in a log must keep its rows.
WIDTH_WITHOUT_TERMINAL = 140
# What JSON lets stand and a terminal obeys.
_STEERING = re.compile("[\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Voice:
    """The voice of one command.

    Attributes:
        as_json: Print one JSON object on stdout and nothing else there.
        is_quiet: No progress and no notes.
    """

    as_json: bool = False
    is_quiet: bool = False

    def note(self, text: str) -> None:
        """Say on stderr what the user may want to know but did not ask for."""
        if not self.is_quiet:
            with suppress(OSError):  # a terminal that is gone is no reason to stop
                typer.echo(visible(text), err=True)

    def warn(self, text: str) -> None:
        """Say on stderr what the user must know, quiet or not."""
        with suppress(OSError):
            typer.echo(visible(f"warning: {text}"), err=True)

    def line(self, text: str = "") -> None:
        """Print a line of the result; paths go here, unwrapped."""
        if not self.as_json:
            typer.echo(visible(text))

    def paragraph(self, text: str) -> None:
        """Print prose in lines of at most 80 columns."""
        for line in textwrap.wrap(text, 80):
            self.line(line)

    def text(self, text: str, end: str = "\n") -> None:
        """Print a text, or a piece of one, with its line ends and tabs."""
        if not self.as_json:
            typer.echo(visible(text, keep="\n\t") + end, nl=False)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table of the result; columns of numbers are set to the right."""
        if self.as_json:
            return
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(
            title=visible(title) or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
            pad_edge=False, show_edge=False,
        )  # fmt: skip
        for k, name in enumerate(header):
            is_numeric = bool(rows) and all(row[k] == "-" or row[k][:1].isdigit() for row in rows)
            is_whole = any("[" in row[k] for row in rows)  # a number and its interval stay together
            justify = "right" if is_numeric else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=is_whole)
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        console(to_stderr=False).print(table)

    def grid(
        self, title: str, corner: str, cells: Iterable[tuple[str, str, str]], columns: Iterable[str] = ()
    ) -> str:
        """Print a table from its cells, each with its row and column, in the order of their first mention.

        Returns:
            What all cells say, one after the other.
        """
        rows: dict[str, dict[str, str]] = {}
        headings = dict.fromkeys(columns)
        for row, column, text in cells:
            headings[column] = None
            rows.setdefault(row, {})[column] = text
        filled = [[row, *(texts.get(column, "-") for column in headings)] for row, texts in rows.items()]
        self.table(title, [corner, *headings], filled)
        return " ".join(text for texts in rows.values() for text in texts.values())

    def finish(self, payload: Mapping[str, Any]) -> None:
        """Print the JSON object, if JSON was asked for; numbers that do not exist are null."""
        if self.as_json:
            text = json.dumps(_plain(payload), indent=2, ensure_ascii=False, allow_nan=False)
            typer.echo(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    @contextmanager
    def progress(self) -> Iterator[OnProgress]:
        """Show how far a computation is; yields what to call with (stage, done, total)."""
        if self.is_quiet or not sys.stderr.isatty():
            told = ""

            def tell(stage: str, done: int, total: int) -> None:  # one line a stage, for logs and pipes
                nonlocal told
                del done
                if stage != told:
                    told = stage
                    self.note(f"{stage} ({total}) ...")

            yield tell
            return
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        bar = Progress(*columns, TimeRemainingColumn(), console=console(to_stderr=True))
        tasks: dict[str, TaskID] = {}
        with ExitStack() as shown:

            def show(stage: str, done: int, total: int) -> None:
                if not tasks:  # a command that tells nothing draws nothing
                    shown.enter_context(bar)
                if stage not in tasks:
                    tasks[stage] = bar.add_task(stage, total=total)
                bar.update(tasks[stage], completed=done, total=total)

            yield show


def console(*, to_stderr: bool) -> Console:
    """Return rich's console on stdout or stderr; it honours NO_COLOR and a missing terminal."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=to_stderr, width=width, highlight=False, markup=False)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"


def within(low: float | None, high: float | None, digits: int = 3, marks: str = "[]") -> str:
    """Return an interval for a table, "" where there is none."""
    bounds = (number(low, digits), number(high, digits))
    return "" if "-" in bounds else f"{marks[0]}{', '.join(bounds)}{marks[1]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
