"""Run folders: find them, and read `run.json`.

A run folder is what `lrope-interp train` leaves: `run.json` says whether it is finished, and "the
newest" goes by the time inside it, never by the file system. Nothing here needs more than the
standard library, so that `lrope-interp list runs` answers at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError

RUN_FORMAT = 1
RUN_FILE = "run.json"
RUNS = Path("runs")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_FINISHED_FILES = ("config.json", "data.json", "tokenizer.json", "model.safetensors")


@dataclass(frozen=True)
class Run:
    """One run folder and what its `run.json` says.

    Attributes:
        folder: Where the run lies.
        info: The content of `run.json`.
    """

    folder: Path
    info: Mapping[str, Any]

    @property
    def status(self) -> str:
        """``"running"`` (also after an interruption) or ``"finished"``."""
        return str(self.info["status"])

    @property
    def is_finished(self) -> bool:
        """Whether the last step was taken and the final weights are written."""
        return self.status == "finished"

    @property
    def started(self) -> datetime:
        """When training began, with time zone; the order of runs goes by it."""
        return datetime.fromisoformat(self.info["started"])

    @property
    def summary(self) -> Mapping[str, Any]:
        """The figures of the last step; empty while the run is not finished."""
        return self.info.get("summary") or {}

    def __getattr__(self, name: str) -> Any:
        """Read `preset`, `data`, `increments`, `seed`, `n_steps` ... from `run.json`."""
        if name.startswith("_") or name not in self.__dict__.get("info", {}):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self.info[name]


def read_run(folder: Path | str, *, allow_unfinished: bool = False) -> Run:
    """Read the run in `folder`.

    Args:
        folder: A run folder.
        allow_unfinished: Also return a run that was interrupted or is still training.

    Returns:
        The run.

    Raises:
        LRopeError: The folder is missing, is no run, was written by a newer version, is not
            finished, or lacks a file that a finished run has; one message each.
    """
    from lrope_interp.files import RunFile, read_json  # not above: --help needs no pydantic

    folder = Path(folder)
    if any("\ud800" <= character <= "\udfff" for character in str(folder)):
        raise LRopeError(f"{folder}: not UTF-8, so that a result could not name it; rename the folder")
    if not folder.is_dir():
        raise LRopeError(
            f"there is no run folder {folder}; `lrope-interp list runs` lists the runs that there are"
        )
    no_run = f"{folder} is not a run folder: it has no {RUN_FILE}"
    run = Run(folder, read_json(folder / RUN_FILE, RunFile, newest=RUN_FORMAT, missing=no_run))
    if run.is_finished:
        missing = [name for name in _FINISHED_FILES if not (folder / name).is_file()]
        if missing:
            pickles = sorted(one.name for one in folder.iterdir() if one.suffix in _PICKLES)
            if pickles:
                raise LRopeError(
                    f"the run {folder} has {pickles[0]} and no {missing[0]}: a pickle runs code when it is "
                    "loaded, so none ever is; convert it to safetensors where it was made"
                )
            raise LRopeError(
                f"the run {folder} is incomplete: {', '.join(missing)} is missing; "
                "copy the whole folder again, or train a new one"
            )
    elif not allow_unfinished:
        raise LRopeError(
            f"the run {folder} is not finished (status {run.status!r}); "
            f"go on with `lrope-interp train --resume --out {folder}`"
        )
    return run


def list_runs(root: Path | str = RUNS, warn: Callable[[str], object] | None = None) -> list[Run]:
    """Return the readable runs right under `root`, oldest start first, finished or not.

    Args:
        root: The folder that holds them.
        warn: Told of every run that cannot be read and is left out.
    """
    root = Path(root)
    runs = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not folder.name.startswith(".") and os.path.lexists(folder / RUN_FILE):
            try:
                runs.append(read_run(folder, allow_unfinished=True))
            except (LRopeError, OSError) as error:
                if warn is not None:
                    warn(f"left out: {error}")
    return sorted(runs, key=lambda run: run.started)


def newest_finished_run(root: Path | str = RUNS, warn: Callable[[str], object] | None = None) -> Run:
    """Return the finished run under `root` that started last; see `list_runs`."""
    finished = [run for run in list_runs(root, warn) if run.is_finished]
    if not finished:
        raise LRopeError(
            f"there is no finished run under {root}; make one with `lrope-interp train`, or name another run"
        )
    return finished[-1]


def newest_unfinished_run(root: Path | str = RUNS) -> Run:
    """Return the unfinished run under `root` that started last: what `--resume` goes on with."""
    unfinished = [run for run in list_runs(root) if not run.is_finished]
    if not unfinished:
        raise LRopeError(
            f"there is no unfinished run under {root} to go on with; start one with `lrope-interp train`, "
            "or name another run"
        )
    return unfinished[-1]


def timestamp() -> str:
    """Return the present time in ISO form, in UTC, fine enough to order runs by."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
