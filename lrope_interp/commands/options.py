"""The options of the command line: one meaning each, whichever command has it, and how words are read."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from lrope_interp.errors import LRopeError, unknown, visible

MAX_BYTES = 200_000
ALL = "all"
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
OnBadBytes = Literal["strict", "replace"]
PresetName = Literal["tiny", "small", "paper"]
Frozen = Literal["1", "mean", "lexical"]

Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="RUN",
        help="Run folder, reference, or OWNER/NAME of the hub. Default: newest under ./runs, else reference.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="NAME|file:PATH|hf:NAME", help="Corpus. Default: the one the model was trained on."
    ),
]
TextFile = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="Your own text instead of a corpus; - reads stdin."),
]
OneText = Annotated[
    Path | None,
    typer.Option("--text", metavar="FILE", help="A file with the text instead; - reads stdin."),
]
GoldFile = Annotated[
    Path | None,
    typer.Option("--gold", metavar="FILE", help="Your own segmented text: .txt with blanks, or CoNLL-U."),
]
MaxBytes = Annotated[
    int,
    typer.Option("--max-bytes", min=1, help="Most bytes a language for each of fit, dev and test."),
]
MaxBytesIfGiven = Annotated[
    int | None,
    typer.Option("--max-bytes", min=1, help="Most bytes a language for each split. Default: the suite's."),
]
Suite = Annotated[
    Literal["default", "full"],
    typer.Option("--suite", help="default answers in minutes; full takes more text and all controls."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where to write. Default: a new folder in the run."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace --out, if it is a folder that this command wrote.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Device = Annotated[DeviceName, typer.Option("--device", help="Where to compute.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Windows at a time: bounds the memory.")]
Layer = Annotated[str, typer.Option("--layer", metavar="N|all", help="One layer, or all of them.")]
Freeze = Annotated[
    Frozen | None,
    typer.Option("--freeze", help="Every increment to 1, to its layer's mean, or its byte's."),
]
FixedModel = Annotated[
    Path | None,
    typer.Option("--fixed-model", metavar="RUN", help="A run with fixed increments, as one more control."),
]
_ENCODING_ERRORS = typer.Option("--encoding-errors", help="What to do with bytes that are not UTF-8.")
EncodingErrors = Annotated[OnBadBytes, _ENCODING_ERRORS]
EncodingErrorsIfGiven = Annotated[OnBadBytes | None, _ENCODING_ERRORS]
_TEXT_COLUMN = typer.Option(
    "--text-column", metavar="NAME", help="Column that holds the text of .jsonl, .parquet and hf: data."
)
TextColumn = Annotated[str, _TEXT_COLUMN]
TextColumnIfGiven = Annotated[str | None, _TEXT_COLUMN]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
Open = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
Format = Annotated[
    Literal["png", "svg"] | None,
    typer.Option("--format", help="Write the main figure too, as figure.png or figure.svg."),
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print every warning, not their number.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes.")]

# Commands that had another name once, and what they are called now.
MOVED = {
    "entities": "study entities",
    "bench": "study context",
    "replicate": "study replicate",
    "runs": "list runs",
    "corpora": "list corpora",
}


class CommandGroup(TyperGroup):
    """Commands in panels; what was wrong with a command line is said without steering the terminal."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the options before the command."""
        with _said_visibly():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Read the command and its options, and run it."""
        with _said_visibly():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; of one that has moved, say where to.

        Raises:
            LRopeError: A command under its old name.
        """
        if ctx.parent is None and args and (now := _renamed(args)):
            raise LRopeError(f"this is now: lrope-interp {now}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by their panels, in the order in which they were added."""
        del ctx
        panels: dict[str, list[tuple[str, str]]] = {}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name, command in self.commands.items():
            panel = getattr(command, "rich_help_panel", None)
            panel = panel if isinstance(panel, str) else "Commands"
            panels.setdefault(panel, []).append((name, command.get_short_help_str(width)))
        for panel, rows in panels.items():
            with formatter.section(panel):
                formatter.write_dl(rows)


def _renamed(words: Sequence[str]) -> str | None:
    """Return a command line under the present names; None where nothing was renamed."""
    name, *rest = words
    if name == "distance" and "--definitions" in rest:
        rest.remove("--definitions")
        return shlex.join(["study", "definitions", *rest])
    return None if name not in MOVED else " ".join([MOVED[name], *map(shlex.quote, rest)])


@contextmanager
def _said_visibly() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        said: Any = error  # click's UsageError, from wherever typer has its click
        if hasattr(said, "format_message"):
            words = said.message.replace("Value error, ", "")  # the type checker's, not the user's
            said.message = visible(words, keep="\n")  # the help where no command is named
        raise


_OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)


class TextCommand(TyperCommand):
    """A command with a text as its argument, which may begin with a dash: ``show '-5 degrees'``.

    What has the form of an option is one, and misspelt it is an error that says how it would be a text.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put texts that begin with a dash behind ``--``, where they are no options."""
        has_value = {
            name
            for one in self.params
            if not getattr(one, "is_flag", True)
            for name in (*one.opts, *one.secondary_opts)
        }
        options_, texts, left = [], [], list(args)
        while left and left[0] != "--":
            word = left.pop(0)
            if word in has_value:
                options_ += [word, *left[:1]]
                del left[:1]
            elif word.startswith("-") and word != "-" and not _OPTION.fullmatch(word):
                texts.append(word)
            else:
                options_.append(word)
        try:
            return super().parse_args(ctx, [*options_, *(["--", *texts] if texts or left else []), *left[1:]])
        except Exception as error:
            said: Any = error  # click's NoSuchOption, from wherever typer has its click
            if hasattr(said, "option_name") and hasattr(said, "possibilities"):
                said.message += " (a text of this form goes behind --)"
            raise


def pick_layers(value: str, n_layers: int, *, more: Sequence[str] = ()) -> list[int]:
    """Return the layers that ``--layer N|all`` asks for; `more` is what else the caller would have taken."""
    names = [str(layer) for layer in range(n_layers)]
    if value == ALL:
        return list(range(n_layers))
    if value in names:
        return [int(value)]
    if re.fullmatch(r"-?[0-9]{1,9}", value):  # to a number the nearest is a number, however it is spelled
        raise LRopeError(
            f"unknown layer {value}: the model has {n_layers}, counted from 0, and the nearest is "
            f"{max(0, min(int(value), n_layers - 1))}; --layer all takes all"
        )
    raise unknown("layer", value, [*names, ALL, *more])


def typed_text(sentence: str | None) -> str:
    """Return a text that was typed, unless it is the name of a file that was meant to be read."""
    if sentence and os.path.isfile(sentence):
        raise LRopeError(f"{sentence} is a file: give --text {shlex.quote(sentence)} to have it read")
    return sentence or ""


def names_in(value: str | None, option: str) -> list[str] | None:
    """Return the names between the commas of an option; None where it was not given."""
    if value is None:
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise LRopeError(f"{option} names nothing; leave it away for the default")
    return names
