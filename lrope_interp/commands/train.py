"""`lrope-interp train`: the options, all of which a run's configuration may have been given before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.output import Voice
from lrope_interp.errors import LRopeError


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
    from lrope_interp.commands.training import Recorded, Request, run

    recording = Recorded(checkpoint_minutes, tuple(log_to or ()))
    run(Request(given, out, resume, overwrite, recording), Voice(as_json, quiet))
