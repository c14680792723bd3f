"""A lock on a run folder that dies with the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrope_interp.errors import LRopeError

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes on one folder are then not noticed
    fcntl = None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive flock on `folder`; refuse if another process trains there.

    The lock is on the folder itself, so it stays valid while the folder is renamed, and the
    system lifts it however the process ends.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in `folder` right now."""
    try:
        with locked(folder):
            return False
    except LRopeError:
        return True


def _lock(folder: Path) -> int | None:
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise LRopeError(
            f"another process is training in {folder}; wait until it ends, or give another --out"
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
