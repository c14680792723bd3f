"""What every analysis of the command line shares: find the run, load it, write the result whole."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lrope_interp.commands.options import MAX_BYTES
from lrope_interp.commands.output import Output
from lrope_interp.errors import LRopeError
from lrope_interp.folders import Reservation, as_given, recover, reserved
from lrope_interp.runs import RUNS, Run, newest_finished_run, read_run

if TYPE_CHECKING:
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.results import Result

INTERRUPTED = 130


@dataclass(frozen=True)
class Place:
    """Which run is read, and where the result goes.

    Attributes:
        run: The run.
        command: Name of the command, and of the result folder inside the run.
        out: ``--out``, if it was given.
        overwrite: Whether ``--out`` may replace a result of ours.
    """

    run: Run
    command: str
    out: Path | None
    overwrite: bool


@dataclass(frozen=True)
class Computing:
    """How it is computed: what changes no number but the seed."""

    seed: int = 0
    device: str = "auto"
    batch_size: int = 16


def find_run(model: Path | None, out: Output) -> Run:
    """Return the run of ``--model``, or the newest finished one, and say which that is."""
    for place in (RUNS,) if model is None else (model.absolute().parent, model):
        recover(place)
    if model is not None:
        return read_run(model)
    run = newest_finished_run(warn=out.warn)
    recover(run.folder)
    out.note(f"using {run.folder}, the newest finished run")
    return run


def load_model(run: Run, device: str) -> LRopeTransformer:
    """Load the model of a run onto ``--device``."""
    from lrope_interp.training.process import set_malloc_thresholds

    set_malloc_thresholds()
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.training.distribution import resolve_device

    return LRopeTransformer.from_pretrained(run.folder, device=resolve_device(device))


@dataclass(frozen=True)
class Source:
    """What is to be read: a corpus, the user's own text, or a gold segmentation.

    With `spread` a small share of each document of a corpus is read, and not a large one of a few.
    """

    data: str | None
    text: Path | None
    max_bytes: int | None
    encoding_errors: str
    text_column: str = "text"
    gold: Path | None = None
    spread: bool = False

    def check(self) -> None:
        """Refuse two texts."""
        asked = {"--data": self.data, "--text": self.text, "--gold": self.gold}
        given = [option for option, value in asked.items() if value is not None]
        if len(given) > 1:
            n = {2: "both", 3: "all"}[len(given)]
            raise LRopeError(f"{' and '.join(given)} {n} say what to read: give one of them")

    def select(self, run: Run) -> Selection:
        """Return held-out documents, checked against what the run was trained on."""
        from lrope_interp.data import read_manifest
        from lrope_interp.probes.capture.selection import select_corpus, select_gold, select_text

        self.check()
        manifest = read_manifest(run.folder)
        limits = {"max_bytes": self.max_bytes or MAX_BYTES, "encoding_errors": self.encoding_errors}
        if self.text is not None:
            return select_text(manifest, self.text, **limits)
        if self.gold is not None:
            return select_gold(manifest, self.gold, **limits)
        return select_corpus(manifest, self.data, text_column=self.text_column, spread=self.spread, **limits)


def held_out_run(
    path: Path | None, option: str, selection: Selection, device: str
) -> LRopeTransformer | None:
    """Load another run, which must not have been trained on what is scored, nor read it otherwise."""
    if path is None:
        return None
    from lrope_interp.data import Reading, assert_held_out, read_manifest

    other = read_run(path)
    manifest = read_manifest(other.folder)
    is_despaced = any(document.is_despaced for document in selection.test)
    if Reading.of(manifest).despaced != is_despaced:
        raise LRopeError(
            f"{option} {path}: one of the two runs was trained with --despaced and the other was not"
        )
    try:
        assert_held_out(manifest, (*selection.dev, *selection.test))
    except LRopeError as error:
        raise LRopeError(f"{option} {path}: {error}") from None
    return load_model(other, device)


def write(
    place: Place, model: LRopeTransformer, make: Callable[[], Result], render: Callable[[Result], str]
) -> tuple[Result, Path]:
    """Make a result and its report in a folder that appears whole or not at all.

    The folder is reserved before anything is computed: one that cannot be written, or that another process
    fills, is found at once.

    Args:
        place: Where to.
        model: What is analysed; its weights have the digest that they were loaded with.
        make: Computes the result.
        render: Turns the *saved* result into the report.

    Returns:
        The result as it was read back, and its folder.
    """
    from lrope_interp.results import stamp

    asked = place.out or place.run.folder / place.command
    is_numbered = place.out is None
    with reserved(asked, place.command, overwrite=place.overwrite, is_numbered=is_numbered) as reservation:
        known = {"model": place.run.folder.name, "model_sha256": model.weights_sha256}
        made = stamp(make(), command=command_line(place.run), **known)
        return save(made, render, asked, reservation)


def write_resumable(
    place: Place, model: LRopeTransformer, make: Callable[[], Result], render: Callable[[Result], str]
) -> tuple[Result, Path]:
    """Do what `write` does; an interruption says how to go on with what `make` remembered."""
    try:
        return write(place, model, make, render)
    except KeyboardInterrupt:
        again = command_line(place.run)
        typer.echo(f"interrupted: what was computed is kept. Go on where it stopped with: {again}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def save(
    made: Result, render: Callable[[Result], str], asked: Path, reservation: Reservation
) -> tuple[Result, Path]:
    """Fill a reserved folder with a result and its report, and put it in its place.

    A report that cannot be made or written takes no table with it.
    """
    from lrope_interp.reports.kit.page import write_page
    from lrope_interp.results import load_result, save_result

    save_result(made, reservation.folder)
    result, trouble = load_result(reservation.folder), None
    try:
        write_page(render(result), reservation.folder / "report.html")
    except Exception as error:  # told below, when the tables are safe
        trouble = error
    wanted, folder = reservation.target, as_given(asked, reservation.settle())
    if reservation.target != wanted:
        typer.echo(
            f"warning: {asked} was taken meanwhile, or cannot be replaced; the result is in {folder}",
            err=True,
        )
    if isinstance(trouble, LRopeError | OSError | MemoryError):
        raise LRopeError(
            f"the result is whole and lies in {folder}, but without its page: "
            f"{str(trouble) or 'out of memory'}"
        ) from trouble
    if trouble is not None:
        typer.echo(f"the result is whole and lies in {folder}, but without its page", err=True)
        raise trouble
    return result, folder


def command_line(run: Run) -> str:
    """Return the command as it was given, with the run that was chosen where none was named."""
    words = ["lrope-interp", *sys.argv[1:]]
    end = words.index("--") if "--" in words else len(words)  # what stands behind is text
    is_named = any(word == "--model" or word.startswith("--model=") for word in words[:end])
    named = [] if is_named else ["--model", str(run.folder)]
    return shlex.join([*words[:end], *named, *words[end:]])


def close(result: Result, folder: Path, out: Output) -> None:
    """Say what to mind and where the result lies; print the JSON summary if asked."""
    for warning in result.warnings:
        out.warn(warning)
    out.line(f"result  {folder}")
    out.line(f"report  {folder / 'report.html'}")
    out.finish(
        {
            "result": folder,
            "report": folder / "report.html",
            "kind": result.kind,
            "headline": result.headline,
            "warnings": result.warnings,
            "provenance": result.provenance,
        }
    )
