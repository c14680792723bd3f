"""What a command says: results on stdout, notes and progress on stderr, JSON alone if asked for."""

from __future__ import annotations

import json
import math
import re
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrope_interp.errors import visible
from lrope_interp.progress import USUAL, Progress, Stages

if TYPE_CHECKING:
    from rich.console import Console

# Without a terminal nothing wraps at 80 columns: a table in a log must keep its rows.
WIDTH_WITHOUT_TERMINAL = 140
# What JSON lets stand and a terminal obeys.
_STEERING = re.compile("[\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")
OnProgress = Progress
_FEW = 2  # warnings that are printed as they are
_STAGES, _EVERY = "stages.json", 30.0  # seconds between two lines of a log


@dataclass(frozen=True)
class Voice:
    """The voice of one command.

    Attributes:
        as_json: Print one JSON object on stdout and nothing else there.
        is_quiet: No progress and no notes.
        is_verbose: Every warning of a result, not their number.
    """

    as_json: bool = False
    is_quiet: bool = False
    is_verbose: bool = False

    def note(self, text: str) -> None:
        """Say on stderr what the user may want to know but did not ask for."""
        if not self.is_quiet:
            with suppress(OSError):  # a terminal that is gone is no reason to stop
                typer.echo(visible(text), err=True)

    def warn(self, text: str) -> None:
        """Say on stderr what the user must know, quiet or not."""
        with suppress(OSError):
            typer.echo(visible(f"warning: {text}"), err=True)

    def warnings(self, texts: Sequence[str]) -> None:
        """Say what to mind of a result, or where many warnings stand."""
        if self.is_verbose or len(texts) <= _FEW:
            for text in texts:
                with suppress(OSError):
                    typer.echo(_wrapped(f"warning: {text}", "  "), err=True)
        else:
            self.warn(f"{len(texts)} things to mind: they stand on the page, and --verbose prints them")

    def line(self, text: str = "") -> None:
        """Print a line of the result; paths go here, unwrapped."""
        if not self.as_json:
            typer.echo(visible(text))

    def paragraph(self, text: str, margin: str = "") -> None:
        """Print prose in lines of at most 80 columns, each behind a margin."""
        if not self.as_json:
            typer.echo(_wrapped(margin + text, margin))

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
            pad_edge=False, show_edge=False, collapse_padding=True, show_header=any(header),
        )  # fmt: skip
        for k, name in enumerate(header):
            is_numeric = bool(rows) and all(row[k] == "-" or row[k][:1].isdigit() for row in rows)
            # a number and its interval stay together
            is_whole = any(re.search(r"\[[+−]?\d", row[k]) for row in rows)
            justify = "right" if is_numeric else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=is_whole)
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        console(to_stderr=False).print(table)

    def finish(self, payload: Mapping[str, Any]) -> None:
        """Print the JSON object, if JSON was asked for; numbers that do not exist are null."""
        if self.as_json:
            text = json.dumps(_plain(payload), indent=2, ensure_ascii=False, allow_nan=False)
            typer.echo(_STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    @contextmanager
    def progress(self, command: str = "") -> Iterator[Progress]:
        """Show how far a computation of several stages is, and what is left of the whole.

        On a terminal in one line that moves; for logs and pipes a line a stage, and one every half minute.

        Args:
            command: Whose stages are remembered, so that the next time they are weighed.
        """
        stages = Stages(_usual(command))
        if self.is_quiet:
            yield stages.tell
            return
        with (_moving if sys.stderr.isatty() else _lines)(self, stages) as on_progress:
            yield on_progress
        _remember(command, stages.took())


@contextmanager
def _moving(voice: Voice, stages: Stages) -> Iterator[Progress]:
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task
    from rich.progress import Progress as Bar
    from rich.text import Text

    del voice

    class Said(ProgressColumn):
        """Where it is by now: asked at every look, so that the clock goes on between two messages."""

        def render(self, task: Task) -> Text:
            del task
            return Text(visible(str(stages)))

    told = False
    with ExitStack() as shown:
        bar = Bar(SpinnerColumn(), BarColumn(20), Said(), console=console(to_stderr=True), transient=True)
        task = bar.add_task("", total=1.0)

        def show(stage: str, done: int, total: int) -> None:
            nonlocal told
            stages.tell(stage, done, total)
            if not told:  # a command that tells nothing draws nothing
                shown.enter_context(bar)
                told = True
            share = done / max(total, 1) if stages.share is None else stages.share
            bar.update(task, completed=share)

        yield show


@contextmanager
def _lines(voice: Voice, stages: Stages) -> Iterator[Progress]:
    ended, told = threading.Event(), ""

    def now_and_then() -> None:
        while not ended.wait(_EVERY):
            if told:
                voice.note(str(stages))

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal told
        stages.tell(stage, done, total)
        if stage != told:
            told = stage
            if total > 1:  # short ones are named if they last
                voice.note(f"{stage} ({total:,}) ...")

    threading.Thread(target=now_and_then, daemon=True).start()
    try:
        yield tell
    finally:
        ended.set()


def _usual(command: str) -> dict[str, float]:
    """Return what the stages of a command took the last time, or usually take, in seconds."""
    from lrope_interp.data.cache import cache_folder

    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):  # whatever the file holds
        found = json.loads((cache_folder() / _STAGES).read_text(encoding="utf-8"))[command]
        return {str(stage): max(float(seconds), 0.0) for stage, seconds in found.items()}
    return USUAL.get(command, {})


def _remember(command: str, took: Mapping[str, float]) -> None:
    """Keep what the stages of a command took; where it cannot be kept, the next estimate is worse."""
    from lrope_interp.data.cache import cache_folder
    from lrope_interp.folders import write_json_atomically

    if not command or not took:
        return
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        known = json.loads((cache_folder() / _STAGES).read_text(encoding="utf-8"))
    with suppress(OSError):
        known = known if isinstance(known, dict) else {}
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_json_atomically(cache_folder() / _STAGES, {**known, command: took})


def console(*, to_stderr: bool) -> Console:
    """Return rich's console on stdout or stderr; it honours NO_COLOR and a missing terminal."""
    from rich.console import Console

    stream = sys.stderr if to_stderr else sys.stdout
    width = None if stream.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(stderr=to_stderr, width=width, highlight=False, markup=False)


def _wrapped(text: str, margin: str = "") -> str:
    """Return prose in lines of at most 80 columns; a path or a name stays whole."""
    how = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": margin}
    return "\n".join(textwrap.wrap(visible(text), 80, **how))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table, "-" where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.{digits}f}"


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
