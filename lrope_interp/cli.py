"""The command line: parse, call one function, say where the result lies.

Nothing heavy is imported before a command runs, so that ``--help`` answers at once. Any mistake of
the user ends with one line on stderr and exit code 2; an interruption with 130.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from types import FrameType
from typing import Annotated, Any

import typer

from lrope_interp import __version__
from lrope_interp.commands import options
from lrope_interp.commands.ablate import ablate
from lrope_interp.commands.boundaries import boundaries
from lrope_interp.commands.context import context
from lrope_interp.commands.definitions import definitions
from lrope_interp.commands.distance import distance
from lrope_interp.commands.entities import entities
from lrope_interp.commands.evaluate import evaluate
from lrope_interp.commands.generate import generate
from lrope_interp.commands.listings import corpora, runs
from lrope_interp.commands.probe import probe
from lrope_interp.commands.replicate import replicate
from lrope_interp.commands.show import show
from lrope_interp.commands.train import train
from lrope_interp.errors import LRopeError, visible

_LOOK: dict[str, Any] = {
    "cls": options.CommandGroup,
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(
    name="lrope-interp",
    help="Train small models that learn how far apart their tokens are, and measure what the distances mean.",
    pretty_exceptions_enable=False,
    **_LOOK,
)
study = typer.Typer(help="Studies made with the toolkit.", **_LOOK)
listing = typer.Typer(help="What there is: corpora to train on, runs to read.", **_LOOK)
app.command(rich_help_panel="Train")(train)
app.command(rich_help_panel="Look", cls=options.TextCommand)(show)
app.command(rich_help_panel="Look", cls=options.TextCommand)(distance)
app.command(rich_help_panel="Look", cls=options.TextCommand)(generate)
app.add_typer(listing, name="list", rich_help_panel="Look")
app.command(rich_help_panel="Measure")(boundaries)
app.command(rich_help_panel="Measure")(ablate)
app.command(rich_help_panel="Measure")(probe)
app.command("eval", rich_help_panel="Measure")(evaluate)
app.add_typer(study, name="study", rich_help_panel="Studies")
for command in (entities, definitions, context, replicate):
    study.command()(command)
for command in (corpora, runs):
    listing.command()(command)


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
    set_malloc_thresholds()
    try:
        with _ended_by_signals():
            app(args=None if arguments is None else list(arguments), prog_name="lrope-interp")
    except LRopeError as error:
        _fail(str(error))
    except (MemoryError, RuntimeError, OSError) as error:
        if _is_out_of_memory(error):
            words = [*(sys.argv[1:] if arguments is None else arguments)]
            named = next((word for word in words[:2] if word in _LESS_MEMORY), "")
            _fail(f"out of memory: {_LESS_MEMORY[named]}")
        if not isinstance(error, OSError) or (error.filename is None and error.strerror is None):
            raise
        # a disk that is full, a folder that is closed to us
        _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")


def set_malloc_thresholds() -> bool:
    """Keep glibc from handing every tensor's memory back to the system and faulting it in again.

    glibc maps blocks above 128 KiB (growing to 32 MiB) afresh and returns free memory at the heap's
    top; a training step then spends much of its time in page faults. The command line raises both
    thresholds before torch allocates. Importing the package never does: the setting belongs to the
    whole process.

    Returns:
        Whether both were set; False where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    m_trim_threshold, m_mmap_threshold = -1, -3
    has_mmap = mallopt(m_mmap_threshold, 32 * 1024 * 1024) == 1  # glibc refuses more
    return mallopt(m_trim_threshold, 2**31 - 1) == 1 and has_mmap


_LESS_MEMORY = {
    "": "--batch-size N (default 16) and --max-bytes N ask for less",
    "train": "--grad-accumulation N computes the same batch in N parts; a smaller --batch-size or --preset "
    "asks for less, too. A run that was saved goes on with --resume",
    "replicate": "a smaller --preset asks for less",
    "show": "a shorter text, or --layer N instead of all layers, asks for less",
    "distance": "a shorter text, or --layer N instead of all layers, asks for less",
    "generate": "a smaller --max-new-tokens or a shorter prompt asks for less",
    "context": "--max-context N, fewer --arms or --skip-forward-above N ask for less",
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
        typer.echo(f"lrope-interp {__version__}")
        raise typer.Exit
    return False


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version
