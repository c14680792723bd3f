"""What `lrope-interp train` does: from options to a run folder and its report; resuming after Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from lrope_interp.commands.analysis import INTERRUPTED
from lrope_interp.commands.output import Voice
from lrope_interp.commands.progress import TrainingState, by_layer, clock, listen
from lrope_interp.errors import LRopeError, visible
from lrope_interp.folders import RUN, locked, record, recover, resumed_folder
from lrope_interp.runs import RUNS, Run, newest_unfinished_run, read_run
from lrope_interp.training.config import Recording, TrainConfig, run_name, tracker_names, train_config


@dataclass(frozen=True)
class Request:
    """What the user asked of `train`; an option that was not given is not in `given`."""

    given: Mapping[str, Any]
    out: Path | None
    resume: bool
    overwrite: bool
    recorded: Recorded

    def how(self) -> dict[str, Any]:
        """Return what `train` takes besides the config and the folder."""
        is_numbered = self.out is None and not self.resume
        asked = {"resume": self.resume, "overwrite": self.overwrite, "is_numbered": is_numbered}
        return asked | {"data": self.given.get("data")}


@dataclass(frozen=True)
class Recorded:
    """What the user asked to be kept besides the numbers; it may differ from sitting to sitting."""

    checkpoint_minutes: float | None
    log_to: tuple[str, ...]

    def over(self, before: Recording) -> Recording:
        """Return the recording with what was not asked for as it was before."""
        minutes = before.checkpoint_minutes if self.checkpoint_minutes is None else self.checkpoint_minutes
        return Recording(tracker_names(self.log_to) or before.log_to, minutes)


def run(request: Request, out: Voice) -> None:
    """Train, write the report, and say where everything lies."""
    from lrope_interp.training.distribution import launched_as_main, leave
    from lrope_interp.training.loop import train

    if not launched_as_main():  # the main process speaks for all of them
        _follow(request, train)
        return
    config, folder = _resumed(request) if request.resume else _new(request)
    recording, state = request.recorded.over(_recording(request, folder)), TrainingState()
    finished: Run | None = None
    try:
        with listen(out, state) as on_event:
            finished = train(config, folder, on_event=on_event, recording=recording, **request.how())
    except KeyboardInterrupt:
        typer.echo(visible(_how_to_go_on(folder, state, request.resume)), err=True)
    leave()  # not inside `except`: what is caught there keeps the model, and the model its process group
    if finished is None:
        raise typer.Exit(INTERRUPTED)
    if state.started is None:
        out.note(f"the run {folder} was finished before: nothing is left to train")
    report = write_report(finished)
    _summarise(finished, report, state, out)


def _follow(request: Request, train: Callable[..., Run]) -> None:
    """Train along in a process that is not the main one, and leave the talking to that."""
    from lrope_interp.training.distribution import leave

    code = 0
    try:
        config, folder = _resumed(request) if request.resume else _new(request)
        recording = request.recorded.over(_recording(request, folder))
        train(config, folder, **request.how(), recording=recording)
    except LRopeError:
        code = 2
    except KeyboardInterrupt:
        code = INTERRUPTED
    leave()
    if code:
        raise typer.Exit(code)


def _recording(request: Request, folder: Path) -> Recording:
    """Return what the run to go on with records; the defaults for a new one."""
    if not request.resume:
        return Recording()
    said = read_run(folder, allow_unfinished=True).info.get("recording", {})
    return Recording.from_dict(said).offline()


def _new(request: Request) -> tuple[TrainConfig, Path]:
    config = train_config(**request.given)
    return config, request.out or RUNS / run_name(config)


def _resumed(request: Request) -> tuple[TrainConfig | None, Path]:
    """Find the run to go on with; options that were repeated must say what the run says."""
    recover(RUNS if request.out is None else request.out.absolute().parent)
    folder = resumed_folder(request.out or newest_unfinished_run().folder)
    if not request.given:
        return None, folder
    from lrope_interp.training.preparation import stored_config

    stored = stored_config(folder, None)
    if request.given.get("n_steps", stored.n_steps) != stored.n_steps:  # steps asked for lift the cap
        stored = replace(stored, max_epochs=0.0)
    not_frozen = {"frozen": "", "frozen_from": ""} if "increments" in request.given else {}
    return TrainConfig.from_dict({**stored.to_dict(), **not_frozen, **request.given}), folder


def _how_to_go_on(folder: Path, state: TrainingState, is_resumed: bool) -> str:
    if state.started is None and is_resumed:
        return f"interrupted before the next step. Go on with: lrope-interp train --resume --out {folder}"
    if state.started is None:
        return "interrupted before the first step; nothing to go on with"
    saved = "no checkpoint yet, so it begins again" if state.saved is None else f"from step {state.saved}"
    return f"interrupted. Go on ({saved}) with: lrope-interp train --resume --out {state.started.folder}"


def write_report(finished: Run) -> Path:
    """Write the page of a finished run, and note it in the manifest."""
    from lrope_interp.reports.kit.page import write_page
    from lrope_interp.reports.training.page import render_training

    try:
        with locked(finished.folder):
            report = write_page(render_training(finished.folder), finished.folder / "report.html")
            record(finished.folder, RUN, (report.name,))
        return report
    except (LRopeError, OSError) as error:
        raise LRopeError(f"the run {finished.folder} is finished, but without its page: {error}") from error


def _unit(finished: Run) -> str:
    """Return what the training loss is a mean over."""
    tokenizer = finished.info.get("tokenizer") or {}
    return "byte" if tokenizer.get("name", "bytes") == "bytes" else "token"


def _summarise(finished: Run, report: Path, state: TrainingState, out: Voice) -> None:
    summary = finished.summary
    nats, bits = summary["validation_nats_per_byte"], summary["validation_bits_per_byte"]
    rows = [
        ["validation loss", f"{nats:.4f} nats/byte, {bits:.4f} bits/byte"],
        ["training loss", f"{summary['train_loss']:.4f} nats/{_unit(finished)}"],
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
