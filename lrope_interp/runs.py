"""Run folders: find them, read `run.json`, and make new folders that appear whole or not at all.

A run folder is what `lrope-interp train` leaves: `run.json` says whether it is finished, and "the
newest" goes by the time inside it, never by the file system. Nothing here needs more than the
standard library, so that `lrope-interp runs` answers at once.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError

RUN_FORMAT = 1
RUN_FILE = "run.json"
RUNS = Path("runs")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_FINISHED_FILES = ("config.json", "data.json", "tokenizer.json", "model.safetensors")
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


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
    folder = Path(folder)
    run = Run(folder, _read_info(folder))
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


def _ignore(problem: str) -> None:
    del problem


def list_runs(root: Path | str = RUNS, warn: Callable[[str], None] = _ignore) -> list[Run]:
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
                warn(f"left out: {error}")
    return sorted(runs, key=lambda run: run.started)


def newest_finished_run(root: Path | str = RUNS, warn: Callable[[str], None] = _ignore) -> Run:
    """Return the finished run under `root` that started last; see `list_runs`."""
    finished = [run for run in list_runs(root, warn) if run.is_finished]
    if not finished:
        raise LRopeError(
            f"there is no finished run under {root}; make one with `lrope-interp train`, "
            "or name one with --model"
        )
    return finished[-1]


def newest_unfinished_run(root: Path | str = RUNS) -> Run:
    """Return the unfinished run under `root` that started last: what `--resume` goes on with."""
    unfinished = [run for run in list_runs(root) if not run.is_finished]
    if not unfinished:
        raise LRopeError(
            f"there is no unfinished run under {root} to go on with; start one with `lrope-interp train`, "
            "or name one with --out"
        )
    return unfinished[-1]


def numbered_folder(base: Path | str) -> Path:
    """Return the first of `base`, `base-2`, `base-3` ... that does not exist."""
    base = Path(base)
    candidates = (base if k == 1 else base.with_name(f"{base.name}-{k}") for k in count(1))
    return next(path for path in candidates if not os.path.lexists(path))


def timestamp() -> str:
    """Return the present time in ISO form, in UTC, fine enough to order runs by."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def write_json_atomically(path: Path | str, payload: Mapping[str, Any]) -> None:
    """Write `payload` as JSON so that a reader sees the old file or the new one, never a part."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    text = json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in `folder` durable, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def new_folder(path: Path | str, *, overwrite: bool = False, marker: str) -> Iterator[Path]:
    """Fill a temporary sibling folder and rename it to `path` once everything is written.

    Args:
        path: The folder to make. It may exist if it is empty.
        overwrite: Replace a non-empty `path`, provided that it holds `marker`.
        marker: The file that says that the folder is ours (`run.json`, `result.json`).

    Yields:
        The temporary folder. After any exception it is removed, and so are the parents made for it.

    Raises:
        LRopeError: `path` is in the way, or cannot be written.
    """
    target = Path(os.path.realpath(path))
    _refuse_to_replace(target, path, overwrite, marker)
    partial, parents = _make_partial(target, path)
    try:
        yield partial
        _refuse_to_replace(target, path, overwrite, marker)  # somebody may have made it meanwhile
        _move(partial, target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in parents:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and error.errno in _CANNOT_WRITE | {errno.ENOTEMPTY, errno.EEXIST}:
            raise _unwritable(path, error) from error
        raise


def _refuse_to_replace(target: Path, shown: Path | str, overwrite: bool, marker: str) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise LRopeError(f"{shown} is a file; a folder is wanted: give another --out")
    if not any(target.iterdir()):
        return
    if not (target / marker).is_file():
        raise LRopeError(
            f"{shown} is not empty and holds no {marker}, so it is not ours to replace (not even with "
            "--overwrite): give another --out"
        )
    if not overwrite:
        raise LRopeError(f"{shown} is not empty: give another --out, or --overwrite to replace it")


def _make_partial(target: Path, shown: Path | str) -> tuple[Path, list[Path]]:
    """Make the temporary sibling; return it and the parents made for it, deepest first."""
    missing = [parent for parent in target.parents if not parent.exists()]
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise _unwritable(shown, error) from error
    return partial, missing


def _unwritable(shown: Path | str, error: OSError) -> LRopeError:
    return LRopeError(f"cannot write the folder {shown}: {error.strerror or error}; give another --out")


def _move(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; an older folder steps aside first and is removed last."""
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    if target.exists() and any(target.iterdir()):
        target.rename(aside)
    try:
        partial.rename(target)
    except OSError:
        if aside.exists():
            aside.rename(target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _read_info(folder: Path) -> dict[str, Any]:
    from lrope_interp.files import RunFile, read_json  # not above: --help needs no pydantic

    if not folder.is_dir():
        raise LRopeError(
            f"there is no run folder {folder}; `lrope-interp runs` lists the runs that there are"
        )
    missing = f"{folder} is not a run folder: it has no {RUN_FILE}"
    return read_json(folder / RUN_FILE, RunFile, newest=RUN_FORMAT, missing=missing)
