"""How fast training goes and how long it will still take. Nothing here decides anything."""

from __future__ import annotations

import time
from collections import deque

_MEMORY = 20


class Clock:
    """Counts the seconds of optimiser steps; validation and checkpoints are not training time.

    Args:
        seconds: Training time of the sessions before this one.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._validation_seconds = 0.0
        self._recent: deque[tuple[float, int, int]] = deque(maxlen=_MEMORY)
        self._since = time.perf_counter()

    def restart(self) -> None:
        """Begin to count: what happened since the last step is not training time."""
        self._since = time.perf_counter()

    def stepped(self, n_steps: int, n_bytes: int) -> None:
        """Count the time since the last call as that of `n_steps` steps over `n_bytes` bytes."""
        now = time.perf_counter()
        self._recent.append((now - self._since, n_steps, n_bytes))
        self.seconds += now - self._since
        self._since = now

    def validated(self) -> None:
        """Count the time since the last step as a validation's."""
        self._validation_seconds = time.perf_counter() - self._since
        self.restart()

    @property
    def bytes_per_second(self) -> float:
        """Training speed over the latest steps, in bytes read as targets."""
        return sum(n_bytes for *_, n_bytes in self._recent) / max(1e-9, self._recent_seconds)

    def seconds_left(self, n_steps: int, n_validations: int) -> float:
        """Estimate the time for so many more steps and validations."""
        recent_steps = sum(n for _, n, _ in self._recent)
        step_seconds = self._recent_seconds / max(1, recent_steps)
        return n_steps * step_seconds + n_validations * self._validation_seconds

    @property
    def _recent_seconds(self) -> float:
        return sum(seconds for seconds, *_ in self._recent)
