"""Ctrl-C and SIGTERM ask the loop to stop after the step at hand; a second one stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequested(KeyboardInterrupt):
    """Somebody asked training to stop, and no step is half-done."""


class StopFlag:
    """Whether somebody asked training to stop."""

    def __init__(self) -> None:
        self.is_set = False

    def raise_if_set(self) -> None:
        """Raise `StopRequested` if somebody did."""
        if self.is_set:
            raise StopRequested


@contextmanager
def stop_flag(*, is_patient: bool = False) -> Iterator[StopFlag]:
    """Turn the first SIGINT or SIGTERM into a flag, so that no step is left half-done.

    Outside the main thread no handler can be set, and the flag stays down.

    Args:
        is_patient: Let further signals do nothing: a launcher passes on what the terminal has
            already told every process.

    Yields:
        The flag.
    """
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        if flag.is_set and not is_patient:
            raise KeyboardInterrupt
        flag.is_set = True

    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
