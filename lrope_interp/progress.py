"""How far a computation is: what analyses tell, what is left of the whole, and a bar in notebooks."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told the stage, what is done of it, and all of it."""

_REFRESH = 0.4  # seconds between two looks of a notebook
# What stages weigh before anything was measured here: seconds of the default suites with the reference model
# and two free cores.
_UNTRAINED = ["untrained 1/2", "untrained 2/2"]
USUAL: dict[str, dict[str, float]] = {
    "boundaries": {
        "reading the text": 2.0, "capturing fit": 11.0, "capturing dev": 4.0, "capturing test": 12.0,
        **dict.fromkeys(_UNTRAINED, 12.0), "scoring": 19.0, "comparing": 1.0, "writing the page": 7.0,
    },
    "ablate": {"reading the text": 3.0, "fit": 11.0, "ablations": 195.0, "writing the page": 2.0},
    "probe": {
        "reading the text": 55.0, "reading: model": 57.0, **dict.fromkeys(
            [f"reading: {one}" for one in _UNTRAINED], 31.0
        ), "probing: entities": 10.0, "probing: clauses": 2.0, "writing the page": 1.0,
    },
}  # fmt: skip
Function = TypeVar("Function", bound=Callable[..., Any])


class Stages:
    """Where a computation of several stages is, each weighing what it took the last time.

    A stage that was passed over counts as done when a later one begins.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        """Begin now.

        Args:
            weights: What each stage took the last time, in seconds, in order.
        """
        self._weights = dict(weights or {})
        self._took: dict[str, float] = {}
        self._began = self._stage_began = time.monotonic()
        self._stage, self._within, self._words = "", 0.0, "starting"

    def tell(self, stage: str, done: int, total: int) -> None:
        """Note that `done` of `total` of a stage are done."""
        now = time.monotonic()
        if stage != self._stage:
            self._close(now)
            self._stage, self._stage_began = stage, now
        self._within = min(done / total, 1.0) if total > 0 else 0.0
        counted = f"{stage} {done:,}/{total:,}" if total > 1 else stage
        self._words = counted if done < total else f"{stage}, finishing"

    def _close(self, now: float) -> None:
        if self._stage:
            self._took[self._stage] = self._took.get(self._stage, 0.0) + now - self._stage_began

    def took(self) -> dict[str, float]:
        """Return what each stage took until now, in seconds, in the order they were met."""
        now = time.monotonic()
        self._close(now)
        self._stage_began = now
        return dict(self._took)

    @property
    def share(self) -> float | None:
        """The share of the whole that is done, as stages took before; None where nobody knows."""
        if not self._weights:
            return None
        order = [*self._weights]
        known = [order.index(stage) + 1 for stage in self._took if stage in order]
        at = order.index(self._stage) if self._stage in order else max(known, default=0)
        passed = sum(self._weights[stage] for stage in order[:at])
        if self._stage in self._weights:
            passed += self._weights[self._stage] * self._within
        return min(passed / max(sum(self._weights.values()), 1e-9), 1.0)

    def left(self) -> float | None:
        """Return the seconds left of the whole, or of this stage alone; None where nobody can say."""
        now = time.monotonic()
        share, since = self.share, self._began
        if share is None:
            share, since = self._within, self._stage_began
        return (now - since) * (1 - share) / share if share > 0.01 else None

    def __str__(self) -> str:
        """Return the stage, the share and the time left in words."""
        share, left = self.share, self.left()
        of_all = "" if share is None else f", {100 * share:.0f} %"
        until = (
            "" if left is None else f", about {clock(left)} left{' of this stage' if share is None else ''}"
        )
        return f"{clock(time.monotonic() - self._began)}  {self._words}{of_all}{until}"


def clock(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss; "?" where they are not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def shows_progress(name: str) -> Callable[[Function], Function]:
    """Show a bar while a function runs in a notebook, unless it is given an `on_progress` of its own.

    Args:
        name: Of the analysis, as in `USUAL`.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def shown(*args: Any, **named: Any) -> Any:
            if named.get("on_progress") is not None or not _is_notebook():
                return function(*args, **named)
            with _bar(name) as on_progress:
                return function(*args, **named | {"on_progress": on_progress})

        return shown  # pyright: ignore[reportReturnType]

    return decorate


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """Draw how far it is below the cell, without a widget; it is gone when the cell is done."""
    from IPython.display import HTML, display

    stages, seen = Stages(USUAL.get(name)), 0.0
    handle: Any = display(HTML(""), display_id=True)

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal seen
        stages.tell(stage, done, total)
        if time.monotonic() - seen > _REFRESH:
            seen = time.monotonic()
            value = stages.share if stages.share is not None else done / max(total, 1)
            handle.update(HTML(f'<progress value="{value:.3f}"></progress> <code>{stages}</code>'))

    try:
        yield tell
    finally:
        handle.update(HTML(""))
