"""Training from a config to a finished run folder, from the beginning or from a checkpoint."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lrope_interp.data import load_corpus_for, read_manifest
from lrope_interp.data.corpora import is_same_name
from lrope_interp.errors import LRopeError
from lrope_interp.folders import (
    RUN,
    Reservation,
    as_given,
    held,
    record,
    reserved,
    results_in,
    resumed_folder,
    write_json_atomically,
)
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.checkpoint import (
    CONFIG_FILE,
    INCREMENTS_FILE,
    WEIGHTS_FILE,
    load_increments,
    read_config,
    save_weights,
)
from lrope_interp.runs import RUN_FILE, RUNS, Run, newest_unfinished_run, read_run, timestamp
from lrope_interp.tokenizers import TOKENIZER_FILE, load_tokenizer
from lrope_interp.training import events
from lrope_interp.training.checkpoints import Checkpoint, newest_checkpoint, remove_partial_checkpoints
from lrope_interp.training.config import ONLINE, Recording, TrainConfig, run_name, train_config
from lrope_interp.training.distribution import decided, joined
from lrope_interp.training.events import OnEvent
from lrope_interp.training.frozen import find_source
from lrope_interp.training.metrics import METRICS_FILE, TIMING_FILE, RunLogs, check_trackers, cut_back
from lrope_interp.training.preparation import (
    Prepared,
    assert_same_data,
    build_model,
    prepare,
    stored_config,
    write_run_files,
)
from lrope_interp.training.process import stop_flag
from lrope_interp.training.steps import Sitting, TrainingLoop, first_decay, learning_rate_share

_FINAL = (
    CONFIG_FILE, "data.json", TOKENIZER_FILE, WEIGHTS_FILE, INCREMENTS_FILE, METRICS_FILE, TIMING_FILE
)  # fmt: skip
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}


def train(
    config: TrainConfig | str | None = "tiny",
    run_folder: Path | str | None = None,
    *,
    on_event: OnEvent | None = None,
    resume: bool = False,
    overwrite: bool = False,
    is_numbered: bool = False,
    recording: Recording | None = None,
    data: str | None = None,
    **options: Any,
) -> Run:
    """Train a model and leave a run folder.

    `train("tiny", data="code", n_steps=100)` trains a preset with some fields of `TrainConfig` replaced.

    In a process that `accelerate launch` or `torchrun` started, all processes train the one run:
    each takes its share of every batch, and only the main one writes and tells events.

    Args:
        config: What to train: a preset by name, or a config. With `resume` the run's own config counts:
            leave it out, or give one that says the same but for `n_steps`.
        run_folder: The run folder. It appears complete with its config, or not at all. Default: a new one
            under `runs`, named by what is trained; with `resume` the newest unfinished one there.
        on_event: Called with every event of `training.events`.
        resume: Go on with the run in `run_folder`, from its newest whole checkpoint, or from step 0
            where there is none. A finished run is returned as it is; other steps are too late for it.
        overwrite: Replace a run that is already there, and the analyses in it, if every file is ours. The new
            run is trained beside it, in `NAME.new`, and takes its place when it is finished.
        is_numbered: Take the first of `run_folder`, `run_folder-2` ... that is free.
        recording: Checkpoints by time, and trackers. What it leaves open is as a run that is resumed had it,
            but for trackers that tell a server.
        data: Of a preset: the corpus. With `resume`: where the run's own text is to be read. A file or
            data set that only the run folder names is not opened: its text is taken from the
            cache (see `load_corpus_for`).
        options: Of a preset: fields of `TrainConfig`.

    Returns:
        The finished run; `run.summary` holds its last figures.

    Raises:
        LRopeError: A mistake of the user, a full disk, or a loss that is not finite.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP: a checkpoint was saved, and `resume` goes on from it.
    """
    emit = on_event or events.ignore
    if options and (resume or not isinstance(config, str)):
        raise LRopeError(
            f"{', '.join(options)}: options are those of a preset that is begun anew; a config has its own, "
            "and so has a run that is resumed"
        )
    if resume:
        asked = Path(newest_unfinished_run().folder if run_folder is None else run_folder)
        own = None if isinstance(config, str) else config
        return _resume(own, resumed_folder(asked), emit, recording or Recording(), data)
    if config is None:
        raise LRopeError("a new run needs a config, or the name of a preset")
    config = train_config(config, data=data, **options) if isinstance(config, str) else config
    if not isinstance(config, TrainConfig):
        raise LRopeError(f"a TrainConfig is wanted, or the name of a preset; got {config!r:.60}")
    asked = Path(RUNS / run_name(config) if run_folder is None else run_folder)
    is_numbered = is_numbered or run_folder is None
    recording = (recording or Recording()).over({})
    check_trackers(recording.log_to or ())
    config = decided(config)
    with joined(config, recording.log_to or ()) as processes, ExitStack() as stack:
        emit = emit if processes.is_main else events.ignore
        how = {"overwrite": overwrite, "is_numbered": is_numbered}
        place = processes.on_main(lambda: _reserved(stack, asked, config, emit, **how))
        prepared = processes.main_first(lambda: prepare(config, emit))
        model = build_model(prepared.config, prepared.tokenizer, prepared.frozen)
        sitting = {"processes": processes.size, "recording": recording.to_dict()}

        def appear() -> None:
            if place is not None:
                write_run_files(place.folder, prepared, model, sitting)
                if not place.is_beside:  # with its config inside
                    place.settle()

        processes.on_main(appear)
        folder = processes.from_main(asked if place is None else as_given(asked, place.folder))
        return _run(Sitting(folder, processes, recording, emit), prepared, model, None, place)


def _reserved(stack: ExitStack, asked: Path, config: TrainConfig, emit: OnEvent, **how: bool) -> Reservation:
    """Reserve the folder, and say what it is to replace."""
    is_given_up = resumed_folder(asked) != asked
    if is_given_up and read_run(resumed_folder(asked), allow_unfinished=True).is_finished:
        raise LRopeError(
            f"the run {resumed_folder(asked)} is finished, and waits to replace {asked}: "
            f"`lrope-interp train --resume --out {asked}` lets it; or remove it"
        )
    place = stack.enter_context(reserved(asked, RUN, **how))
    if not place.is_beside:
        return place
    if config.frozen and os.path.samefile(find_source(config.frozen_from)[0].folder, place.target):
        raise LRopeError(f"{asked} has the increments that are trained on: give another folder")
    if is_given_up:
        emit(events.Warned(f"the run in {place.folder} is given up, which was to replace {asked} too"))
    inside = results_in(place.target)
    also = f", and what was made from it ({', '.join(inside)})" if inside else ""
    message = f"{asked} stays until the new run is finished, which then replaces it{also}; until then it is"
    emit(events.Warned(f"{message} {as_given(asked, place.folder)}"))
    return place


def _resume(
    config: TrainConfig | None, folder: Path, emit: OnEvent, recording: Recording, data: str | None
) -> Run:
    run = read_run(folder, allow_unfinished=True)
    if run.is_finished:
        if config is not None and not config.max_epochs and config.n_steps != run.info.get("n_steps"):
            raise LRopeError(
                f"the run {folder} is finished after {run.info.get('n_steps')} steps, so it is too late for "
                f"{config.n_steps}: leave out the steps, or start a new run"
            )
        with held(folder, RUN) as place:  # it may still have to replace another
            run = Run(as_given(folder, place.settle()), run.info)
        emit(events.Finished(run, run.summary))
        return run
    recording = recording.over(run.info.get("recording", {}))
    check_trackers(recording.log_to or ())
    stored = decided(stored_config(folder, config))
    with joined(stored, recording.log_to or ()) as processes, ExitStack() as stack:
        sitting = Sitting(folder, processes, recording, emit if processes.is_main else events.ignore)
        place = processes.on_main(lambda: stack.enter_context(held(folder, RUN)))
        prepared = processes.main_first(lambda: _prepared_again(stored, sitting, data))
        processes.together(lambda: assert_same_data(folder, prepared.manifest))
        _warn_of_changes(run.info, sitting)
        checkpoint = processes.main_first(lambda: _cleared(sitting))
        step = checkpoint.step if checkpoint else 0
        processes.on_main(lambda: _keep_length(run, prepared, step, sitting.emit))
        model = build_model(prepared.config, prepared.tokenizer, prepared.frozen)
        return _run(sitting, prepared, model, checkpoint, place)


def _keep_length(run: Run, prepared: Prepared, step: int, emit: OnEvent) -> None:
    """Write down that the run has another length from `step` on, and say what that means for its schedule."""
    config, n_before = prepared.config, run.info.get("n_steps", prepared.config.n_steps)
    if config.n_steps == n_before:
        return
    if config.n_steps <= step:
        raise LRopeError(
            f"the run {run.folder} is at step {step:,} already: {config.n_steps:,} steps would end it "
            "before that"
        )
    before = replace(config, n_steps=n_before)
    if step > min(first_decay(before), first_decay(config)):
        was, now = (learning_rate_share(step, one) * config.lr for one in (before, config))
        message = (
            f"{config.n_steps:,} steps instead of {n_before:,}: the schedule {config.schedule} takes the "
            f"learning rate at step {step:,} from {was:.2g} to {now:.2g}, so the outcome is not that of a "
            f"run which was asked for {config.n_steps:,} steps from the start"
        )
        emit(events.Warned(message))
    payload = read_config(run.folder)
    write_json_atomically(run.folder / "config.json", {**payload, "training": config.to_dict()})
    changes = [*run.info.get("steps_changed", []), {"step": step, "from": n_before, "to": config.n_steps}]
    changed = {"n_steps": config.n_steps, "command": config.command(), "steps_changed": changes}
    changed["epochs"] = prepared.sampler.epochs(config.n_steps)
    write_json_atomically(run.folder / RUN_FILE, {**run.info, **changed})  # last: what is above it repeats


def _prepared_again(stored: TrainConfig, sitting: Sitting, data: str | None) -> Prepared:
    """Prepare from the run folder what it keeps: the tokenizer, and increments taken from another run."""
    folder = sitting.folder
    cfg = LRopeConfig.from_dict({**read_config(folder)["model"], "device": stored.device})
    frozen = load_increments(folder, cfg, LRopeTransformer.from_pretrained)
    if stored.frozen and frozen is None:
        raise LRopeError(f"{folder} has lost its frozen increments; copy the whole folder again")
    manifest = read_manifest(folder)
    if not is_same_name(stored.data, manifest["name"]):
        raise LRopeError(f"{folder} holds the config of one run and the data.json of another; copy it again")
    corpus = load_corpus_for(manifest, data)
    return prepare(stored, sitting.emit, load_tokenizer(folder), frozen, corpus)


def _warn_of_changes(info: Mapping[str, Any], sitting: Sitting) -> None:
    """Say where the run is not what it was: sums in another order differ in their last bits."""
    told = info.get("recording", {}).get("log_to", ())
    for name in {*told} & {*ONLINE} - {*(sitting.recording.log_to or ())}:
        message = (
            f"{name} is told nothing, for a run folder does not start what sends: name the tracker again"
        )
        sitting.emit(events.Warned(message))
    now = {"threads": torch.get_num_threads(), "processes": sitting.processes.size}
    for name, number in now.items():
        before = info.get(name, number)
        if before != number:
            changed = f"{before} {name}, now {number}"
            message = f"the run had {changed}: the numbers may differ in their last bits"
            sitting.emit(events.Warned(message))


def _cleared(sitting: Sitting) -> Checkpoint | None:
    """Find the newest whole checkpoint; the main process also removes what comes after it."""
    folder = sitting.folder
    if sitting.processes.is_main:
        remove_partial_checkpoints(folder)
    checkpoint = newest_checkpoint(folder, lambda message: sitting.emit(events.Warned(message)))
    with _told_in_words(folder):
        for name in (METRICS_FILE, TIMING_FILE) if sitting.processes.is_main else ():
            cut_back(folder / name, checkpoint.step if checkpoint else 0)
    return checkpoint


def _run(
    sitting: Sitting,
    prepared: Prepared,
    model: LRopeTransformer,
    checkpoint: Checkpoint | None,
    place: Reservation | None,
) -> Run:
    folder, processes = sitting.folder, sitting.processes
    processes.log_into(folder)
    with _told_in_words(folder):
        with (
            stop_flag(is_patient=processes.size > 1) as stop,
            RunLogs(folder, processes, sitting.emit) as logs,
        ):
            loop = TrainingLoop(sitting, prepared, model, logs, stop)
            if checkpoint is not None:
                loop.restore(checkpoint)
            run = read_run(folder, allow_unfinished=True)
            logs.start_trackers(run, prepared.config, loop.step)
            summary = loop.run()
            logs.sync()
        processes.on_main(lambda: _finish(folder, model, summary))
        processes.on_main(lambda: place and place.settle())
        run = read_run(processes.from_main(folder if place is None else as_given(folder, place.folder)))
        sitting.emit(events.Finished(run, run.summary))
        return run


@contextmanager
def _told_in_words(folder: Path) -> Iterator[None]:
    """A disk that is full or cannot be written is the user's to mend."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise LRopeError(
            f"{folder} cannot be written: {error}. Mend that, then go on with "
            f"`lrope-interp train --resume --out {folder}`"
        ) from error


def _finish(folder: Path, model: LRopeTransformer, summary: dict[str, object]) -> None:
    """Write the final weights, and only then say that the run is finished."""
    save_weights(model, folder / WEIGHTS_FILE)
    record(folder, RUN, _FINAL)
    info = dict(read_run(folder, allow_unfinished=True).info)
    info |= {"status": "finished", "finished": timestamp(), "summary": summary}
    write_json_atomically(folder / RUN_FILE, info)
    record(folder, RUN, (RUN_FILE,))
