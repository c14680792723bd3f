"""Run folders: find them, and read `run.json`.

A run folder is what `lrope-interp train` leaves: `run.json` says whether it is finished, and "the
newest" goes by the time inside it, never by the file system. Nothing here needs more than the
standard library, so that `lrope-interp list runs` answers at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError

RUN_FORMAT = 1
RUN_FILE = "run.json"
RUNS = Path("runs")
REFERENCE = "reference"
SHIPPED = Path(__file__).with_name(REFERENCE)  # a trained model, where the package has its weights
USING_REFERENCE = f"using the reference model, which comes with the package: no finished run under ./{RUNS}"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_FINISHED_FILES = ("config.json", "data.json", "tokenizer.json", "model.safetensors")


@dataclass(frozen=True)
class Run:
    """One run folder and what its `run.json` says.

    Attributes:
        folder: Where the run lies.
        info: The content of `run.json`.
        name: Of a run that is not the user's own folder: "reference", or OWNER/NAME of the hub.
    """

    folder: Path
    info: Mapping[str, Any]
    name: str = ""

    @property
    def called(self) -> str:
        """What ``--model`` calls it: its name, or its folder."""
        return self.name or str(self.folder)

    @property
    def home(self) -> Path:
        """Where results go unless told otherwise: the folder, or one under ./runs of a run by name."""
        return RUNS / self.name if self.name else self.folder

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


def place_of(name: Path | str, *, file: str = RUN_FILE) -> tuple[Path, str]:
    """Return the folder that a model's name means, and the name where it is not the user's own folder.

    A local folder that holds the file wins, then ``reference``, then OWNER/NAME of the Hugging Face hub,
    unless there is a folder OWNER here: then it is a path.

    Args:
        name: A folder, or a name.
        file: What a local folder of that name must hold to win.

    Raises:
        LRopeError: A name of the hub that it does not give.
    """
    folder, words = Path(name), str(name)
    if (folder / file).is_file():
        return folder, ""
    if words == REFERENCE and (SHIPPED / RUN_FILE).is_file():
        return SHIPPED, REFERENCE
    if re.fullmatch(r"[\w.-]+/[\w.-]+", words, re.ASCII) and not folder.parent.exists():
        from lrope_interp.hub import pulled

        return pulled(words), words
    return folder, ""


def find_run(name: Path | str | None = None, warn: Callable[[str], object] | None = None) -> Run:
    """Return the finished run that a name means (see `place_of`).

    Args:
        name: None takes the newest finished run under ./runs, and where there is none the reference model.
        warn: See `list_runs`.

    Raises:
        LRopeError: There is none.
    """
    if name is not None:
        folder, called = place_of(name)
        return replace(read_run(folder), name=called)
    try:
        return newest_finished_run(warn=warn)
    except LRopeError:
        if not (SHIPPED / RUN_FILE).is_file():
            raise
    return replace(read_run(SHIPPED), name=REFERENCE)


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
