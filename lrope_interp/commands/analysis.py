"""What every analysis of the command line shares: options, run, text, and the folder of its result."""

from __future__ import annotations

import inspect
import shlex
import sys
import webbrowser
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer

from lrope_interp.commands import options
from lrope_interp.commands.output import OnProgress, Voice
from lrope_interp.errors import LRopeError, plural

if TYPE_CHECKING:
    from lrope_interp.folders import Reservation
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.results import Result
    from lrope_interp.runs import Run

INTERRUPTED = 130
_MOST_ROWS = 16  # of the printed table: the finding stands above it, and stays in sight
_READS = ("model", "data", "text", "gold")  # in ``--help`` these come first


@dataclass(frozen=True)
class Analysis:
    """What analyses are asked in common, as it was typed; what a command lacks has its default.

    Attributes:
        command: Name of the command, and of the result folder inside the run.
    """

    command: str
    model: options.Model = None
    data: options.Data = None
    text: options.TextFile = None
    gold: options.GoldFile = None
    max_bytes: options.MaxBytes = options.MAX_BYTES
    out: options.Out = None
    overwrite: options.Overwrite = False
    seed: options.Seed = 0
    device: options.Device = "auto"
    batch_size: options.BatchSize = 16
    encoding_errors: options.EncodingErrors = "strict"
    text_column: options.TextColumn = "text"
    open_page: options.Open = False
    image: options.Format = None
    as_json: options.Json = False
    quiet: options.Quiet = False
    verbose: options.Verbose = False

    @cached_property
    def output(self) -> Voice:
        """What the command says, and how."""
        return Voice(self.as_json, self.quiet, self.verbose)

    @cached_property
    def run(self) -> Run:
        """The run of ``--model``; else the newest finished one, or the reference, which is then named."""
        from lrope_interp.folders import recover
        from lrope_interp.runs import RUNS, USING_REFERENCE, find_run

        for place in (RUNS,) if self.model is None else (self.model.absolute().parent, self.model):
            recover(place)
        run = find_run(self.model, self.output.warn)
        if self.model is None and run.name:
            self.output.note(USING_REFERENCE)
        elif self.model is None:
            recover(run.folder)
            self.output.note(f"using {run.folder}, the newest finished run")
        return run

    def load_model(self, run: Run | None = None) -> LRopeTransformer:
        """Load the model of the run, or of another one, onto ``--device``."""
        folder = (run or self.run).folder
        with self.output.progress() as on_progress:
            on_progress("loading the model", 0, 1)
            from lrope_interp.models import LRopeTransformer
            from lrope_interp.models.config import resolve_device

            return LRopeTransformer.from_pretrained(folder, device=resolve_device(self.device))

    def check_source(self) -> None:
        """Refuse two texts."""
        asked = {"--data": self.data, "--text": self.text, "--gold": self.gold}
        given = [option for option, value in asked.items() if value is not None]
        if len(given) > 1:
            n = {2: "both", 3: "all"}[len(given)]
            raise LRopeError(f"{' and '.join(given)} {n} say what to read: give one of them")

    def select(self, **amounts: Any) -> Selection:
        """Return held-out documents, checked against what the run was trained on.

        Args:
            amounts: How much of them, if not ``--max-bytes``; see `capture.suites`.
        """
        from lrope_interp.data import read_manifest
        from lrope_interp.probes.capture.selection import select_corpus, select_gold, select_text

        manifest = read_manifest(self.run.folder)
        limits = {"max_bytes": self.max_bytes, "encoding_errors": self.encoding_errors, **amounts}
        if self.text is not None:
            return select_text(manifest, self.text, **limits)
        if self.gold is not None:
            return select_gold(manifest, self.gold, **limits)
        return select_corpus(manifest, self.data, text_column=self.text_column, **limits)

    def other_model(self, path: Path | None) -> LRopeTransformer | None:
        """Load the model of another run."""
        from lrope_interp.runs import find_run

        return None if path is None else self.load_model(find_run(path))

    def report(
        self,
        model: LRopeTransformer,
        make: Callable[[OnProgress], Result],
        *,
        is_resumable: bool = False,
    ) -> None:
        """Make a result and its report in a folder that appears whole or not at all, and say what it says.

        The folder is reserved before anything is computed: one that cannot be written, or that another
        process fills, is found at once.

        Args:
            model: What is analysed; its weights have the digest that they were loaded with.
            make: Computes the result, and tells how far it is.
            is_resumable: Whether `make` remembers what it did, so that an interruption says how to go on.
        """
        from lrope_interp.folders import reserved
        from lrope_interp.results import stamp

        self.check_image()
        asked, again = self.out or self.run.home / self.command, self._command_line()
        try:
            with (
                reserved(
                    asked, self.command, overwrite=self.overwrite, is_numbered=self.out is None
                ) as reservation,
                self.output.progress(self.command) as on_progress,
            ):
                on_progress("reading the text", 0, 1)
                made = make(on_progress)
                on_progress("writing the page", 0, 1)
                known = {"model": self.run.name or self.run.folder.name, "model_sha256": model.weights_sha256}
                made = stamp(made, command=again, **known)
                result, folder = save(made, asked, reservation, self.image)
        except KeyboardInterrupt:
            if not is_resumable:
                raise
            typer.echo(
                f"interrupted: what was computed is kept. Go on where it stopped with: {again}", err=True
            )
            raise typer.Exit(INTERRUPTED) from None
        read, is_chosen = result.provenance.get("data", {}), self.data or self.text or self.gold
        if self.run.name and not is_chosen and "n_documents" in read:  # it follows from what is installed
            n_documents, n_bytes = plural(read["n_documents"], "document"), plural(read["n_bytes"], "byte")
            self.output.line(f"read on {read['name']}: {n_documents}, {n_bytes}")
        self.close(result, folder)

    def check_image(self) -> None:
        """Refuse ``--format``, before anything is computed, where no figure can be written."""
        if self.image is not None and find_spec("kaleido") is None:
            raise LRopeError(f"--format {self.image} needs kaleido: pip install 'lrope-interp[export]'")

    def close(self, result: Result, folder: Path, **more: Any) -> None:
        """Say what was found, what to mind and where it lies; with ``--json`` a summary and `more`."""
        page = folder / "report.html"
        print_verdicts(result, self.output)
        self.output.warnings(result.warnings)
        self.output.line(f"result  {folder}")
        self.output.line(f"report  {page}")
        about = {"kind": result.kind, "headline": result.headline, **more}
        about |= {"warnings": result.warnings, "provenance": result.provenance}
        self.output.finish({"result": folder, "report": page, **about})
        if self.open_page:
            webbrowser.open(page.absolute().as_uri())

    def _command_line(self) -> str:
        """Return the command as it was given, with the run that was chosen where none was named."""
        words = ["lrope-interp", *sys.argv[1:]]
        end = words.index("--") if "--" in words else len(words)  # what stands behind is text
        named = [] if self.model is not None else ["--model", self.run.called]
        return shlex.join([*words[:end], *named, *words[end:]])


_TYPES = get_type_hints(Analysis, include_extras=True)
_SHARED = {one.name: one.default for one in fields(Analysis) if one.name != "command"}


def shares(
    command: str, *names: str, lacks: Collection[str] = (), **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add options of `Analysis` to a command, which gets them as one `Analysis` before its own options.

    Args:
        command: See `Analysis`.
        names: Which options; all if none is named.
        lacks: But not these.
        defaults: Other defaults, by name.
    """
    wanted = [name for name in _SHARED if name in (names or _SHARED) and name not in lacks]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [*inspect.signature(function, eval_str=True).parameters.values()][1:]  # after the `Analysis`
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, _SHARED[name]),
                annotation=_TYPES[name],
            )
            for name in wanted
        ]

        def run(**values: Any) -> None:
            common = {name: values.pop(name) for name in wanted}
            function(Analysis(command, **common), **values)

        reads = [one for one in shared if one.name in _READS]
        every = [*reads, *own, *(one for one in shared if one not in reads)]
        # typer reads the signature and nothing else
        run.__signature__ = inspect.Signature(every)  # pyright: ignore[reportFunctionMemberAccess]
        run.__annotations__ = {one.name: one.annotation for one in every}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        return run

    return decorate


def print_verdicts(result: Result, out: Voice) -> None:
    """Print the finding in a sentence, and one table that fits 80 columns."""
    from lrope_interp import reports

    found = reports.verdicts(result)
    out.paragraph(found.headline)
    headings, rows = found.brief()
    if rows and headings[1:]:
        out.line()
        out.table("", headings, rows[:_MOST_ROWS])
        if len(rows) > _MOST_ROWS:
            out.line(f"... and {len(rows) - _MOST_ROWS} more rows on the page")
        out.line()
        out.paragraph(found.caption)
        out.line()


def save(
    made: Result,
    asked: Path,
    reservation: Reservation,
    image: str | None = None,
) -> tuple[Result, Path]:
    """Fill a reserved folder with a result and its report, and put it in its place.

    A report that cannot be made or written takes no table with it.
    """
    from lrope_interp.folders import as_given
    from lrope_interp.reports import write_image
    from lrope_interp.results import load_result, save_result

    save_result(made, reservation.folder)
    result, trouble = load_result(reservation.folder), None
    try:
        page = reservation.folder / "report.html"
        result.report(page)
        if image is not None:
            write_image(result, reservation.folder / f"figure.{image}")
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
            f"the result is whole and lies in {folder}, but without its page or figure: "
            f"{str(trouble) or 'out of memory'}"
        ) from trouble
    if trouble is not None:
        typer.echo(f"the result is whole and lies in {folder}, but without its page", err=True)
        raise trouble
    return result, folder
