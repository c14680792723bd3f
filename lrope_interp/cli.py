"""The command line: parse, call one function, say where the result lies.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. Any mistake of
the user ends with one line on stderr and exit code 2; an interruption with 130.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

import lrope_interp
from lrope_interp.commands import ablate as ablate_command
from lrope_interp.commands import context as context_command
from lrope_interp.commands import distance as distance_command
from lrope_interp.commands import entities as entities_command
from lrope_interp.commands import generate as generate_command
from lrope_interp.commands import options
from lrope_interp.commands import probe as probe_command
from lrope_interp.commands import replicate as replicate_command
from lrope_interp.errors import LRopeError, visible

app = typer.Typer(
    name="lrope-interp",
    cls=options.CommandGroup,
    help="Train small models that learn how far apart their tokens are, and measure what the distances mean.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the entry point of ``lrope-interp`` and ``python -m lrope_interp``."""
    with suppress(OSError):  # a stream that the caller closed: or the next file opened takes its number
        while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
            pass
        os.close(handle)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 (as long as the process)
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal that lacks a letter must not end the command
            stream.reconfigure(errors="replace")
    words = sys.argv[1:] if arguments is None else arguments
    if odd := [word for word in words if any("\ud800" <= character <= "\udfff" for character in word)]:
        _fail(
            f"{odd[0]}: not UTF-8, so that a result could not name it; rename the file, or leave the byte out"
        )
    try:
        with _ended_by_signals():
            app(args=None if arguments is None else list(arguments), prog_name="lrope-interp")
    except LRopeError as error:
        _fail(str(error))
    except (MemoryError, RuntimeError, OSError) as error:
        if _is_out_of_memory(error):
            words = [*(sys.argv[1:] if arguments is None else arguments), ""]
            _fail(f"out of memory: {_LESS_MEMORY.get(words[0], _LESS_MEMORY[''])}")
        if not isinstance(error, OSError) or (error.filename is None and error.strerror is None):
            raise
        # a disk that is full, a folder that is closed to us
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


_LESS_MEMORY = {
    "": "--batch-size N (default 16) and --max-bytes N ask for less",
    "train": "--grad-accumulation N computes the same batch in N parts; a smaller --batch-size or --preset "
    "asks for less, too. A run that was saved goes on with --resume",
    "replicate": "a smaller --preset asks for less",
    "show": "a shorter text, or --layer N instead of all layers, asks for less",
    "distance": "a shorter text, or --layer N instead of all layers, asks for less",
    "generate": "a smaller --max-new-tokens or a shorter prompt asks for less",
    "bench": "--max-context N, fewer --arms or --skip-forward-above N ask for less",
}


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an error is that of Python, numpy, torch or a device that has no memory left."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", "alloc_cpu")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does, which leaves nothing half-made behind."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]  # not under nohup
    if threading.current_thread() is not threading.main_thread() or "RANK" in os.environ:
        numbers = []  # what torchrun started waits for others in calls that no handler interrupts

    def end(number: int, frame: FrameType | None) -> None:
        del number, frame
        for one in numbers:  # a closing terminal sends several: tidying up is not interrupted
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _fail(message: str) -> None:
    with suppress(BrokenPipeError):
        typer.echo(visible(f"Error: {message}"), err=True)
    raise SystemExit(2)


def _version(is_asked: bool) -> bool:
    if is_asked:
        typer.echo(f"lrope-interp {lrope_interp.__version__}")
        raise typer.Exit
    return False


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version


@app.command()
def train(
    preset: Annotated[str | None, typer.Option(metavar="tiny|small|paper", help="Default: tiny.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAME|file:PATH|hf:NAME", help="Corpus. Default: bilingual.")
    ] = None,
    increments: Annotated[
        str | None,
        typer.Option(
            metavar="per-layer|shared|fixed|frozen:RUN|frozen-contextual:RUN",
            help="frozen: each token's mean in RUN; frozen-contextual: what RUN says. Default: per-layer.",
        ),
    ] = None,
    per_head: Annotated[bool, typer.Option("--per-head", help="One increment for each head.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: what the preset says.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: what the preset says.")] = None,
    lr: Annotated[
        float | None, typer.Option(metavar="X", help="Peak learning rate. Default: what the preset says.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            metavar="cosine|wsd",
            help="After the warm-up: half a cosine, or constant with a linear fall over the last fifth. "
            "Default: cosine.",
        ),
    ] = None,
    grad_accumulation: Annotated[
        int | None, typer.Option(min=1, help="Parts that a batch is computed in, to save memory. Default: 1.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the weights and the data order. Default: 0.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="bytes|bpe:N|FILE.json",
            help="bpe:8000 trains one on the text; a file is Hugging Face's. Default: bytes.",
        ),
    ] = None,
    device: options.Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run folder. Default: runs/<preset>-<data>-<increments>-s<seed>."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with --out, or the newest unfinished run; --steps may differ."),
    ] = False,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="STEPS", min=1, help="Steps between two checkpoints. Default: 200.")
    ] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, help="Also save when M minutes have passed; 0: never. Default: 10."),
    ] = None,
    log_to: Annotated[
        list[str] | None,
        typer.Option(metavar="tensorboard|wandb", help="Trackers to tell; repeat it, or put commas."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out, if it is a run.")] = False,
    encoding_errors: options.EncodingErrorsIfGiven = None,
    text_column: options.TextColumnIfGiven = None,
    max_train_bytes: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Read at most so much of file: or hf: data.")
    ] = None,
    despaced: Annotated[
        bool, typer.Option("--despaced", help="Remove all white space from the text; words stay known.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a model on real text; leaves a run folder with a report."""
    from lrope_interp.commands import train as train_command
    from lrope_interp.commands.output import Output

    asked = {
        "preset": preset,
        "data": data,
        "increments": increments,
        "per_head": per_head or None,
        "n_steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "grad_accumulation": grad_accumulation,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
        "tokenizer": tokenizer,
        "device": None if device == "auto" else device,
        "encoding_errors": encoding_errors and options.check_encoding_errors(encoding_errors),
        "text_column": text_column,
        "max_train_bytes": max_train_bytes,
        "despaced": despaced or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if resume and overwrite:
        raise LRopeError("--resume goes on with a run and --overwrite replaces it: give one of them")
    recording = train_command.Recorded(checkpoint_minutes, tuple(log_to or ()))
    request = train_command.Request(given, out, resume, overwrite, recording)
    train_command.run(request, Output(as_json, quiet))


@app.command()
def boundaries(
    model: options.Model = None,
    data: options.Data = None,
    text: options.TextFile = None,
    gold: options.GoldFile = None,
    layer: options.Layer = "all",
    labels: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Which boundaries. Default: all that the text can tell."),
    ] = None,
    align: Annotated[
        str, typer.Option(metavar="dev|lead|last|sum", help="How the bytes of a character are read.")
    ] = "dev",
    fixed_model: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run with fixed increments, as one more control.")
    ] = None,
    match: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run of another seed: match its layers with these.")
    ] = None,
    max_bytes: options.MaxBytes = options.MAX_BYTES,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    encoding_errors: options.EncodingErrors = "strict",
    text_column: options.TextColumn = "text",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Test increments as detectors of boundaries, with controls."""
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands import boundaries as boundaries_command
    from lrope_interp.commands.output import Output

    output = Output(as_json, quiet)
    errors = options.check_encoding_errors(encoding_errors)
    source = analysis.Source(data, text, max_bytes, errors, text_column, gold)
    place = analysis.Place(analysis.find_run(model, output), "boundaries", out, overwrite)
    how = analysis.Computing(seed, device, batch_size)
    asked = boundaries_command.Asked(layer, labels, align, fixed_model, match)
    boundaries_command.run(place, source, how, asked, output)


@app.command(cls=options.TextCommand)
def show(
    sentence: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to show.")] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="A file with the text instead; - reads stdin."),
    ] = None,
    gold: options.GoldFile = None,
    model: options.Model = None,
    layer: options.Layer = "all",
    start: Annotated[int, typer.Option(min=0, help="First character to show.")] = 0,
    length: Annotated[int | None, typer.Option(min=1, help="Characters to show. Default: up to 120.")] = None,
    attention: Annotated[
        str | None, typer.Option(metavar="LAYER.HEAD", help="Draw where this head looks from --at.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="Number of a character of the text, or the character: its first after --start.",
        ),
    ] = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    device: options.Device = "auto",
    encoding_errors: options.EncodingErrors = "strict",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw a text as the model spaces it, one row a layer."""
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands import show as show_command
    from lrope_interp.commands.output import Output

    output = Output(as_json, quiet)
    errors = options.check_encoding_errors(encoding_errors)
    shown = show_command.Shown(sentence, text, start, length, attention, at, errors, gold)
    place = analysis.Place(analysis.find_run(model, output), "show", out, overwrite)
    show_command.run(place, shown, layer, device, output)


@app.command(name="eval")
def evaluate(
    model: options.Model = None,
    data: options.Data = None,
    text: options.TextFile = None,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Most bytes a language. Default: 200000; a --text up to 8 MB as a whole."),
    ] = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    batch_size: options.BatchSize = 16,
    encoding_errors: options.EncodingErrors = "strict",
    text_column: options.TextColumn = "text",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Score text in nats and bits per byte."""
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands import evaluate as evaluate_command
    from lrope_interp.commands.output import Output

    output = Output(as_json, quiet)
    source = analysis.Source(
        data, text, max_bytes, options.check_encoding_errors(encoding_errors), text_column
    )
    place = analysis.Place(analysis.find_run(model, output), "eval", out, overwrite)
    evaluate_command.run(place, source, analysis.Computing(seed, device, batch_size), output)


@app.command()
def corpora(as_json: options.Json = False) -> None:
    """List the corpora: what they are, and which are installed."""
    from lrope_interp.commands import listings
    from lrope_interp.commands.output import Output

    listings.corpora(Output(as_json))


@app.command()
def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Where the runs are. Default: ./runs.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the runs, and the reports of the newest finished one."""
    from lrope_interp.commands import listings
    from lrope_interp.commands.output import Output

    listings.runs(folder, Output(as_json))


ablate_command.register(app)
probe_command.register(app)
distance_command.register(app)
entities_command.register(app)
generate_command.register(app)
replicate_command.register(app)
context_command.register(app)
