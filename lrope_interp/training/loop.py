"""Training from a config to a finished run folder, from the beginning or from a checkpoint."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import WEIGHTS_FILE, save_weights
from lrope_interp.runs import RUN_FILE, Run, new_folder, read_run, timestamp, write_json_atomically
from lrope_interp.training import events
from lrope_interp.training.checkpoints import Checkpoint, newest_checkpoint, remove_partial_checkpoints
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import OnEvent
from lrope_interp.training.interruption import stop_flag
from lrope_interp.training.lock import locked
from lrope_interp.training.metrics import METRICS_FILE, TIMING_FILE, JsonLines, cut_back
from lrope_interp.training.preparation import (
    Prepared,
    assert_same_data,
    build_model,
    prepare,
    stored_config,
    write_run_files,
)
from lrope_interp.training.steps import TrainingLoop

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO}


def train(
    config: TrainConfig | None,
    run_folder: Path | str,
    *,
    on_event: OnEvent | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Run:
    """Train a model and leave a run folder.

    Args:
        config: What to train. With `resume` the run's own config counts: give None, or one that
            says the same.
        run_folder: The run folder. It appears complete with its config, or not at all.
        on_event: Called with every event of `training.events`.
        resume: Go on with the run in `run_folder`, from its newest whole checkpoint, or from step 0
            where there is none. A finished run is returned as it is.
        overwrite: Replace a run that is already there.

    Returns:
        The finished run; `run.summary` holds its last figures.

    Raises:
        LRopeError: A mistake of the user, a full disk, or a loss that is not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM: a checkpoint was saved, and `resume` goes on from it.
    """
    emit, folder = on_event or events.ignore, Path(run_folder)
    if resume:
        return _resume(config, folder, emit)
    if config is None:
        raise LRopeError("a new run needs a config; train_config('tiny') makes one")
    if overwrite and folder.is_dir():
        with locked(folder):
            pass
    prepared = prepare(config, emit)
    model = build_model(prepared.config)
    with ExitStack() as stack:
        with new_folder(folder, overwrite=overwrite, marker=RUN_FILE) as partial:
            write_run_files(partial, prepared, model)
            stack.enter_context(locked(partial))
        return _run(folder, prepared, model, None, emit)


def _resume(config: TrainConfig | None, folder: Path, emit: OnEvent) -> Run:
    run = read_run(folder, allow_unfinished=True)
    if run.is_finished:
        emit(events.Finished(run, run.summary))
        return run
    with locked(folder):
        prepared = prepare(stored_config(folder, config), emit)
        assert_same_data(folder, prepared.manifest)
        if run.info.get("threads") != torch.get_num_threads():
            threads = f"{run.info.get('threads')} threads, now {torch.get_num_threads()}"
            emit(events.Warned(f"the run had {threads}: the numbers may differ in their last bits"))
        remove_partial_checkpoints(folder)
        checkpoint = newest_checkpoint(folder, lambda message: emit(events.Warned(message)))
        for name in (METRICS_FILE, TIMING_FILE):
            cut_back(folder / name, checkpoint.step if checkpoint else 0)
        return _run(folder, prepared, build_model(prepared.config), checkpoint, emit)


def _run(
    folder: Path, prepared: Prepared, model: LRopeTransformer, checkpoint: Checkpoint | None, emit: OnEvent
) -> Run:
    with _told_in_words(folder):
        with (
            JsonLines(folder / METRICS_FILE) as metrics,
            JsonLines(folder / TIMING_FILE) as timing,
            stop_flag() as stop,
        ):
            loop = TrainingLoop(folder, prepared, model, (metrics, timing), emit, stop)
            if checkpoint is not None:
                loop.restore(checkpoint)
            summary = loop.run()
            metrics.sync()
        return _finish(folder, model, summary, emit)


@contextmanager
def _told_in_words(folder: Path) -> Iterator[None]:
    """A disk that is full or cannot be written is the user's to mend."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno not in _CANNOT_WRITE:
            raise
        raise LRopeError(
            f"{folder} cannot be written: {error}. Mend that, then go on with "
            f"`lrope-interp train --resume --out {folder}`"
        ) from error


def _finish(folder: Path, model: LRopeTransformer, summary: dict[str, object], emit: OnEvent) -> Run:
    """Write the final weights, and only then say that the run is finished."""
    save_weights(model, folder / WEIGHTS_FILE)
    with (folder / WEIGHTS_FILE).open("rb") as file:
        os.fsync(file.fileno())
    info = dict(read_run(folder, allow_unfinished=True).info)
    info |= {"status": "finished", "finished": timestamp(), "summary": summary}
    write_json_atomically(folder / RUN_FILE, info)
    run = read_run(folder)
    emit(events.Finished(run, run.summary))
    return run
