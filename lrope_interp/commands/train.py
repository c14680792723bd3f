"""`lrope-interp train`: from options to a run folder and its report; resuming after Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import INTERRUPTED
from lrope_interp.commands.output import Voice
from lrope_interp.errors import LRopeError, visible

if TYPE_CHECKING:
    from lrope_interp.commands.progress import Course
    from lrope_interp.runs import Run
    from lrope_interp.training.config import TrainConfig


def train(
    preset: Annotated[options.PresetName | None, typer.Option(help="Default: tiny.")] = None,
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
        Literal["cosine", "wsd"] | None,
        typer.Option(
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
        "encoding_errors": encoding_errors,
        "text_column": text_column,
        "max_train_bytes": max_train_bytes,
        "despaced": despaced or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if resume and overwrite:
        raise LRopeError("--resume goes on with a run and --overwrite replaces it: give one of them")
    from lrope_interp.commands.progress import Course, listen
    from lrope_interp.runs import RUNS
    from lrope_interp.training.config import Recording, run_name, tracker_names, train_config
    from lrope_interp.training.distribution import launched_as_main, leave
    from lrope_interp.training.loop import train as take_steps

    recording = Recording(tracker_names(log_to or ()) or None, checkpoint_minutes)
    how = {"resume": resume, "overwrite": overwrite, "is_numbered": out is None and not resume, "data": data}
    is_main = launched_as_main()  # which speaks for all processes; the others train along
    say, course, folder = Voice(as_json, quiet), Course(), out
    finished, code = None, 0
    try:
        if resume:
            config, folder = resumed(given, out)
        else:
            config = train_config(**given)
            folder = out or RUNS / run_name(config)
        with listen(say, course) if is_main else nullcontext() as on_event:
            tell = None if on_event is None else partial(on_event, None)
            finished = take_steps(config, folder, on_event=tell, recording=recording, **how)
    except LRopeError:
        if is_main:
            raise
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
        if is_main:
            typer.echo(visible(_how_to_go_on(folder, course, resume)), err=True)
    leave()  # not inside `except`: what is caught there keeps the model, and the model its process group
    if finished is None:
        raise typer.Exit(code)
    if not is_main:
        return
    if course.started is None:
        say.note(f"the run {folder} was finished before: nothing is left to train")
    _summarise(finished, write_report(finished), course, say)


def resumed(given: Mapping[str, Any], out: Path | None) -> tuple[TrainConfig | None, Path]:
    """Find the run to go on with; options that were repeated must say what the run says."""
    from lrope_interp.folders import recover, resumed_folder
    from lrope_interp.runs import RUNS, newest_unfinished_run
    from lrope_interp.training.config import TrainConfig
    from lrope_interp.training.preparation import stored_config

    recover(RUNS if out is None else out.absolute().parent)
    folder = resumed_folder(out or newest_unfinished_run().folder)
    if not given:
        return None, folder
    stored = stored_config(folder, None)
    if given.get("n_steps", stored.n_steps) != stored.n_steps:  # steps asked for lift the cap
        stored = replace(stored, max_epochs=0.0)
    not_frozen = {"frozen": "", "frozen_from": ""} if "increments" in given else {}
    return TrainConfig.from_dict({**stored.to_dict(), **not_frozen, **given}), folder


def _how_to_go_on(folder: Path | None, course: Course, is_resumed: bool) -> str:
    if course.started is None and is_resumed and folder is not None:
        return f"interrupted before the next step. Go on with: lrope-interp train --resume --out {folder}"
    if course.started is None:
        return "interrupted before the first step; nothing to go on with"
    saved = "no checkpoint yet, so it begins again" if course.saved is None else f"from step {course.saved}"
    return f"interrupted. Go on ({saved}) with: lrope-interp train --resume --out {course.started.folder}"


def write_report(finished: Run) -> Path:
    """Write the page of a finished run, and note it in the manifest."""
    from lrope_interp.folders import RUN, locked, record, write_text_atomically
    from lrope_interp.reports.training import render

    report = finished.folder / "report.html"
    try:
        with locked(finished.folder):
            write_text_atomically(report, render(finished.folder), errors="xmlcharrefreplace")
            record(finished.folder, RUN, (report.name,))
        return report
    except (LRopeError, OSError) as error:
        raise LRopeError(f"the run {finished.folder} is finished, but without its page: {error}") from error


def _summarise(finished: Run, report: Path, course: Course, out: Voice) -> None:
    from lrope_interp.commands.progress import by_layer, clock

    summary, tokenizer = finished.summary, finished.info.get("tokenizer") or {}
    unit = "byte" if tokenizer.get("name", "bytes") == "bytes" else "token"
    nats, bits = summary["validation_nats_per_byte"], summary["validation_bits_per_byte"]
    rows = [
        ["validation loss", f"{nats:.4f} nats/byte, {bits:.4f} bits/byte"],
        ["training loss", f"{summary['train_loss']:.4f} nats/{unit}"],
        ["read", f"{summary['bytes'] / 1e6:.2f} MB in {clock(summary['seconds'])}"],
        ["speed", f"{summary['bytes_per_second'] / 1000:.1f} kB/s"],
    ]
    rows += [
        [f"increments, layer {layer}", f"mean {mean:.3f}, s.d. {sd:.3f} over tokens"]
        for layer, mean, sd in by_layer(course.increments)
    ]
    out.table(f"{finished.folder}, step {summary['step']}", ["", ""], rows)
    out.line()
    out.line(f"run     {finished.folder}")
    out.line(f"report  {report}")
    out.finish({"run": finished.folder, "report": report, "summary": dict(summary)})
