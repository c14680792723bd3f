"""`lrope-interp train`: from options to a run folder and its report, and how to go on after Ctrl-C."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from lrope_interp._cli_output import Output
from lrope_interp._cli_progress import TrainingState, by_layer, clock, listen
from lrope_interp.runs import RUNS, Run, newest_unfinished_run, numbered_folder
from lrope_interp.training.config import TrainConfig, train_config

INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """What the user asked of `train`; an option that was not given is not in `given`."""

    given: Mapping[str, Any]
    out: Path | None
    resume: bool
    overwrite: bool


def run(request: Request, out: Output) -> None:
    """Train, write the report, and say where everything lies."""
    from lrope_interp.training.malloc import set_malloc_thresholds

    set_malloc_thresholds()
    from lrope_interp.training.loop import train

    config, folder = _resumed(request) if request.resume else _new(request)
    state = TrainingState()
    try:
        with listen(out, state) as on_event:
            finished = train(
                config, folder, on_event=on_event, resume=request.resume, overwrite=request.overwrite
            )
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(folder, state), err=True)
        raise typer.Exit(INTERRUPTED) from None
    report = _write_report(finished)
    _summarise(finished, report, state, out)


def run_name(config: TrainConfig) -> str:
    """Return the name of a run folder; the path of one's own text becomes its last part."""
    data = config.data
    if data.startswith("file:"):
        data = f"file-{Path(data.removeprefix('file:')).stem}"
    data = re.sub(r"[^\w.-]+", "_", data)
    return f"{config.preset}-{data}-{config.increments}-s{config.seed}"


def _new(request: Request) -> tuple[TrainConfig, Path]:
    config = train_config(**request.given)
    return config, request.out or numbered_folder(RUNS / run_name(config))


def _resumed(request: Request) -> tuple[TrainConfig | None, Path]:
    """Find the run to go on with; options that were repeated must say what the run says."""
    folder = request.out or newest_unfinished_run().folder
    if not request.given:
        return None, folder
    from lrope_interp.training.preparation import stored_config

    return TrainConfig.from_dict({**stored_config(folder, None).to_dict(), **request.given}), folder


def _how_to_go_on(folder: Path, state: TrainingState) -> str:
    if state.started is None:
        return "interrupted before the first step; nothing to go on with"
    saved = "no checkpoint yet, so it begins again" if state.saved is None else f"from step {state.saved}"
    return f"interrupted. Go on ({saved}) with: lrope-interp train --resume --out {folder}"


def _write_report(finished: Run) -> Path:
    from lrope_interp.reports.page import write_page
    from lrope_interp.reports.training import render_training

    return write_page(render_training(finished.folder), finished.folder / "report.html")


def _summarise(finished: Run, report: Path, state: TrainingState, out: Output) -> None:
    summary = finished.summary
    nats, bits = summary["validation_nats_per_byte"], summary["validation_bits_per_byte"]
    rows = [
        ["validation loss", f"{nats:.4f} nats/byte, {bits:.4f} bits/byte"],
        ["training loss", f"{summary['train_loss']:.4f} nats/byte"],
        ["read", f"{summary['bytes'] / 1e6:.2f} MB in {clock(summary['seconds'])}"],
        ["speed", f"{summary['bytes_per_second'] / 1000:.1f} kB/s"],
    ]
    rows += [
        [f"increments, layer {layer}", f"mean {mean:.3f}, s.d. {sd:.3f} over tokens"]
        for layer, mean, sd in by_layer(state.increments)
    ]
    out.table(f"{finished.folder}, step {summary['step']}", ["", ""], rows)
    out.line(f"run     {finished.folder}")
    out.line(f"report  {report}")
    out.finish({"run": finished.folder, "report": report, "summary": dict(summary)})
