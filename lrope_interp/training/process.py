"""What training asks of its process: a flag for signals.

Ctrl-C, SIGTERM and SIGHUP ask the loop to stop after the step at hand; a second Ctrl-C stops at once.
"""

from __future__ import annotations

import os
import signal
import sys
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


# Sent twice when a terminal closes, by its shell and by the system.
_HANG_UP = getattr(signal, "SIGHUP", None)


def _forget_terminal(terminals: list[int]) -> None:
    """Let what is said to a terminal that is gone go nowhere: it shall not fail and keep us from saving."""
    for handle in terminals:
        if not os.isatty(handle):
            os.dup2(os.open(os.devnull, os.O_WRONLY), handle)


@contextmanager
def stop_flag(*, is_patient: bool = False) -> Iterator[StopFlag]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a flag, so that no step is left half-done.

    A SIGHUP that is ignored (`nohup`) stays so. Outside the main thread no handler can be set, and the flag
    stays down.

    Args:
        is_patient: Let further signals do nothing: a launcher passes on what the terminal has
            already told every process.

    Yields:
        The flag.
    """
    flag = StopFlag()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if number == _HANG_UP:
            _forget_terminal(terminals)
        elif flag.is_set and not is_patient:
            raise KeyboardInterrupt
        flag.is_set = True

    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream and stream.isatty()]
    numbers = [signal.SIGINT, signal.SIGTERM]
    if _HANG_UP is not None and signal.getsignal(_HANG_UP) is not signal.SIG_IGN:
        numbers.append(_HANG_UP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
