"""A paired experiment: arms times seeds, trained one after the other in one folder, resumably.

Every run is an ordinary run folder, ``<folder>/runs/<arm>-s<seed>``. Seeds are the outer loop, so that
whole pairs are there early. Nothing but the run folders says how far the experiment is: a finished run
is not trained again, an unfinished one is gone on with, a missing one is started.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError
from lrope_interp.folders import (
    MANIFEST_FILE,
    REPLICATE,
    Reservation,
    held,
    is_locked,
    reserved,
    resumed_folder,
)
from lrope_interp.runs import Run, read_run
from lrope_interp.training.arms import ARMS, arm_config
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import Event
from lrope_interp.training.loop import train
from lrope_interp.training.preparation import assert_same_data, stored_config

RUNS_FOLDER, SCORES_FOLDER = "runs", "scores"
_OURS = {RUNS_FOLDER, SCORES_FOLDER, "result.json", "report.html"}
_RUN_NAME = re.compile(rf"({'|'.join(ARMS)})-s[0-9]+")


@dataclass(frozen=True)
class PlannedRun:
    """One run of the experiment, trained or not.

    Attributes:
        arm: Name of the arm, as in `ARMS`.
        seed: Of the weights and the data order.
        config: What is asked for.
        folder: Its run folder.
    """

    arm: str
    seed: int
    config: TrainConfig
    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def trained(self) -> Run | None:
        """Return the run if it is finished."""
        run = read_run(self.folder, allow_unfinished=True) if self.is_begun else None
        return run if run is not None and run.is_finished else None

    @property
    def is_begun(self) -> bool:
        """Whether there is anything in its place."""
        return self.folder.is_file() or (self.folder.is_dir() and any(self.folder.iterdir()))


@dataclass(frozen=True)
class Replication:
    """What is asked for.

    Attributes:
        folder: Holds the runs and, in the end, the result.
        arms: Names of `ARMS`.
        n_seeds: Seeds 0 to n_seeds - 1.
        base: The config that all runs share; its increments, width and seed are the arms'.
    """

    folder: Path
    arms: tuple[str, ...]
    n_seeds: int
    base: TrainConfig

    def runs(self) -> tuple[PlannedRun, ...]:
        """Return every run, seed by seed."""
        return tuple(
            PlannedRun(
                arm,
                seed,
                arm_config(arm, self.base, seed),
                self.folder / RUNS_FOLDER / f"{arm}-s{seed}",
            )
            for seed in range(self.n_seeds)
            for arm in self.arms
        )


OnRunEvent = Callable[[PlannedRun, Event], None]


def at_default_place(asked: Replication) -> Replication:
    """Return `asked` in its folder, or in ``-2``, ``-3`` ... beside it.

    The first is taken that is not there yet, or whose runs are all as asked for.
    """
    first = asked.folder
    names = (first if k == 1 else first.with_name(f"{first.name}-{k}") for k in count(1))
    places = (replace(asked, folder=name) for name in names)
    return next(place for place in places if _is_free(as_begun(place)))


def as_begun(asked: Replication) -> Replication:
    """Return `asked` in the folder in which it goes on: in `NAME.new`, if that is to replace the other."""
    return replace(asked, folder=resumed_folder(asked.folder))


def _is_free(replication: Replication) -> bool:
    try:
        check(replication)
    except LRopeError:
        return False
    return True


def check(
    replication: Replication,
    manifest: Mapping[str, Any] | None = None,
    *,
    is_replaced: bool = False,
) -> None:
    """Refuse a folder of something else, and runs that are not what is asked for.

    Args:
        replication: What is asked for.
        manifest: What `data.json` of every run must hold, where the text was read already.
        is_replaced: The runs that are there will be removed, so what they hold is of no account.

    Raises:
        LRopeError: The message shows what differs. Nothing has been written.
    """
    _assert_ours(replication.folder)
    for planned in replication.runs():
        if planned.is_begun and not is_replaced:
            read_run(planned.folder, allow_unfinished=True)
            _assert_as_long(planned, stored_config(planned.folder, None))
            stored_config(planned.folder, planned.config)
            if manifest is not None:
                assert_same_data(planned.folder, manifest)


def _assert_as_long(planned: PlannedRun, stored: TrainConfig) -> None:
    """Refuse a run of another length: it could be given this one, but pairs are of one length."""
    if planned.config.n_steps != stored.n_steps and not planned.config.max_epochs:
        raise LRopeError(
            f"the run {planned.folder} was started with other options: n_steps was {stored.n_steps}, now "
            f"{planned.config.n_steps}"
        )


def _assert_ours(folder: Path) -> None:
    if folder.is_file():
        raise LRopeError(f"{folder} is a file; a folder is wanted: give another --out")
    found, runs = _names(folder), _names(folder / RUNS_FOLDER)
    foreign = [name for name in found if name not in _OURS and not name.endswith((".csv", ".part"))]
    foreign += [f"{RUNS_FOLDER}/{name}" for name in runs if not _RUN_NAME.fullmatch(name)]
    if foreign or (found and RUNS_FOLDER not in found):
        holds = f"holds {foreign[0]}" if foreign else f"has no {RUNS_FOLDER}/"
        raise LRopeError(f"{folder} {holds}, so it is no folder of `replicate`: give another --out")


def _names(folder: Path) -> list[str]:
    """Return what a folder holds, in order; hidden names are what a killed process left."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if not name.startswith("."))


@contextmanager
def opened(replication: Replication, *, overwrite: bool = False) -> Iterator[Reservation]:
    """Hold the experiment's folder, which is made if it is missing; a second process is refused.

    A folder that was made here and stayed empty is removed again.

    Args:
        replication: What is asked for; `check` it first.
        overwrite: Begin again from nothing. The runs and results that are there stay until the new ones are
            whole: those are made beside, in `NAME.new`.

    Yields:
        The reservation: train in its `folder`, and settle it when the result is written.
    """
    folder = replication.folder
    with ExitStack() as stack:
        if not overwrite and folder.is_dir():
            yield stack.enter_context(held(folder, REPLICATE))
            return
        place = stack.enter_context(reserved(folder, REPLICATE, overwrite=overwrite, is_resumable=True))
        if place.is_beside:
            _assert_not_in_training(place.target)
        else:
            place.settle()
        try:
            yield place
        finally:
            place.is_kept = place.is_beside and (place.folder / RUNS_FOLDER).exists()
            if [path.name for path in place.target.iterdir()] == [MANIFEST_FILE]:
                shutil.rmtree(place.target)


def _assert_not_in_training(folder: Path) -> None:
    for run in (folder / RUNS_FOLDER).glob("*"):
        if run.is_dir() and is_locked(run):
            raise LRopeError(f"another process is training in {run}: wait until it ends")


def train_missing(replication: Replication, on_event: OnRunEvent) -> tuple[Run, ...]:
    """Train what is not trained yet, seed by seed, and return every run.

    Args:
        replication: What is asked for; hold its folder by `opened`.
        on_event: Told of every event of every run that is trained.

    Raises:
        LRopeError: As `train`; what is finished stays finished.
        KeyboardInterrupt: The run at hand has a checkpoint; the same call goes on from it.
    """
    return tuple(planned.trained() or _train(planned, on_event) for planned in replication.runs())


def _train(planned: PlannedRun, on_event: OnRunEvent) -> Run:
    def tell(event: Event) -> None:
        on_event(planned, event)

    if planned.is_begun:
        return train(None, planned.folder, on_event=tell, resume=True, data=planned.config.data)
    return train(planned.config, planned.folder, on_event=tell)
