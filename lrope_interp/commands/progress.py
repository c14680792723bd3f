"""Training as the terminal can show it: a live bar, sparse lines in a log, or warnings alone."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrope_interp.commands.output import Output, console
from lrope_interp.errors import visible
from lrope_interp.training.events import (
    Checkpointed,
    Event,
    LayerIncrements,
    OnEvent,
    Started,
    Step,
    Validated,
    Warned,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

LINES_A_RUN = 20
SECONDS_BETWEEN_LINES = 120.0


class Pace:
    """Lets so many lines a run through, evenly, and one more wherever a long silence has been.

    Args:
        lines: Lines a run.
        tick: Which of them was written last.
    """

    def __init__(self, lines: int, tick: int) -> None:
        self.lines, self._tick, self._at = lines, tick, time.monotonic()

    def begin(self, event: Started) -> None:
        """Go on from the step at which a run begins."""
        self._tick = event.step * self.lines // event.n_steps

    def is_due(self, event: Step) -> bool:
        """Return whether this step gets a line, and remember it if so."""
        tick, now = event.step * self.lines // event.n_steps, time.monotonic()
        if tick == self._tick and now - self._at < SECONDS_BETWEEN_LINES:
            return False
        self._tick, self._at = tick, now
        return True


@dataclass
class TrainingState:
    """The newest of everything that the loop has told."""

    started: Started | None = None
    step: Step | None = None
    validated: Validated | None = None
    saved: int | None = None
    increments: Sequence[LayerIncrements] = field(default_factory=tuple)

    def take(self, event: Event) -> None:
        """Remember an event."""
        if isinstance(event, Started):
            self.started = event
            self.saved = event.step or None
        elif isinstance(event, Checkpointed):
            self.saved = event.step
        elif isinstance(event, Validated):
            self.validated = event
        elif isinstance(event, Step):
            self.step = event
            self.increments = event.increments or self.increments

    def figures(self) -> str:
        """Return loss, speed and the last validation in one line."""
        if self.step is None:
            return "first step ..."
        parts = [
            f"loss {self.step.loss:.3f} nats ({self.step.bits:.3f} bits)",
            f"{self.step.bytes_per_second / 1000:.1f} kB/s",
            f"{clock(self.step.seconds_left)} left",
        ]
        if self.validated is not None:
            parts.append(f"validation {self.validated.nats_per_byte:.3f} at step {self.validated.step}")
        return " | ".join(parts)

    def increments_line(self) -> str:
        """Return mean and s.d. of each layer's increments in one line."""
        return "  ".join(f"L{layer} {mean:.2f}±{sd:.2f}" for layer, mean, sd in by_layer(self.increments))


def by_layer(statistics: Sequence[LayerIncrements]) -> list[tuple[int, float, float]]:
    """Pool the heads of each layer: (layer, mean, s.d.) over tokens and heads."""
    pooled = []
    for layer in sorted({one.layer for one in statistics}):
        heads = [one for one in statistics if one.layer == layer]
        mean = sum(one.mean for one in heads) / len(heads)
        square = sum(one.sd**2 + (one.mean - mean) ** 2 for one in heads) / len(heads)
        pooled.append((layer, mean, math.sqrt(square)))
    return pooled


def clock(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss; "?" where they are not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def opening(event: Started) -> list[str]:
    """Return what is worth knowing before the first step."""
    epochs = ", ".join(f"{part} {share:.2f}" for part, share in event.epochs.items())
    return [
        f"run {event.folder}: {event.n_parameters:,} parameters on {event.device} in {event.dtype}, "
        f"{event.n_steps - event.step} steps from step {event.step}",
        f"epochs at the end: {epochs}",
    ]


@contextmanager
def listen(out: Output, state: TrainingState) -> Iterator[OnEvent]:
    """Yield what to hand to `train` as `on_event`: it shows the run the way this terminal can."""
    if out.is_quiet:
        yield _Silent(out, state)
    elif not sys.stderr.isatty():
        yield _Lines(out, state)
    else:
        with _live(out, state) as on_event:
            yield on_event


class _Silent:
    """Nothing but warnings."""

    def __init__(self, out: Output, state: TrainingState) -> None:
        self._out, self._state = out, state

    def __call__(self, event: Event) -> None:
        self._state.take(event)
        if isinstance(event, Warned):
            self._out.warn(event.message)


class _Lines(_Silent):
    """A line now and then, for logs and pipes."""

    def __init__(self, out: Output, state: TrainingState) -> None:
        super().__init__(out, state)
        self._pace = Pace(LINES_A_RUN, -1)

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Started):
            for line in opening(event):
                self._out.note(line)
        elif isinstance(event, Step) and self._pace.is_due(event):
            self._out.note(f"step {event.step}/{event.n_steps}  {self._state.figures()}")
            if self._state.increments:
                self._out.note(f"  increments  {self._state.increments_line()}")


@contextmanager
def _live(out: Output, state: TrainingState) -> Iterator[OnEvent]:
    """Draw the bar, the figures and the increments, redrawn four times a second."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    bar = Progress(
        TextColumn("step {task.completed:.0f}/{task.total}"), BarColumn(bar_width=None), expand=True
    )
    task = bar.add_task("", total=None, visible=False)

    def picture() -> RenderableType:
        return Group(bar, Text(state.figures()), Text(f"increments  {state.increments_line()}"))

    silent, screen = _Silent(out, state), console(to_stderr=True)
    with Live(get_renderable=picture, console=screen, refresh_per_second=4) as live:

        def on_event(event: Event) -> None:
            silent(event)
            if isinstance(event, Started):
                for line in opening(event):
                    live.console.print(visible(line), soft_wrap=True)
                bar.update(task, completed=event.step, total=event.n_steps, visible=True)
            elif isinstance(event, Step):
                bar.update(task, completed=event.step)

        yield on_event
