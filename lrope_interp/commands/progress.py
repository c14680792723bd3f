"""Training as the terminal can show it, one run or many: live bars, sparse lines, or warnings alone."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lrope_interp.commands.output import Voice, console
from lrope_interp.errors import visible
from lrope_interp.training.events import (
    Checkpointed,
    Event,
    Finished,
    LayerIncrements,
    Started,
    Step,
    Validated,
    Warned,
)

if TYPE_CHECKING:
    from lrope_interp.training.replication import PlannedRun

_Listener = Callable[["PlannedRun | None", Event], None]
LINES_A_RUN = 20
LINES_OF_EACH_RUN = 4  # of several
SECONDS_BETWEEN_LINES = 120.0


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


@dataclass
class Course:
    """How far all runs of a paired experiment are, and what is known of the one at hand.

    Attributes:
        n_runs: Runs of the experiment.
        n_finished: How many are finished.
        n_steps: Steps of a run; the same for all.
    """

    n_runs: int
    n_finished: int
    n_steps: int
    planned: PlannedRun | None = None
    state: TrainingState = field(default_factory=TrainingState)
    step: int = 0
    n_taken: int = 0
    began: float = field(default_factory=time.monotonic)

    def take(self, planned: PlannedRun | None, event: Event) -> None:
        """Remember an event."""
        if planned is not self.planned:
            self.planned, self.state, self.step = planned, TrainingState(), 0
        self.state.take(event)
        if isinstance(event, Started):
            self.step, self.n_steps = event.step, event.n_steps
        elif isinstance(event, Step):
            self.n_taken += event.step - self.step
            self.step = event.step
        elif isinstance(event, Finished):
            self.n_finished += 1
            self.step = 0

    @property
    def done(self) -> int:
        """Steps of all runs that are done."""
        return self.n_finished * self.n_steps + self.step

    @property
    def total(self) -> int:
        """Steps of all runs."""
        return self.n_runs * self.n_steps

    def seconds_left(self) -> float:
        """Return the time that all runs still take, at the pace since the command began."""
        if not self.n_taken:
            return float("nan")
        return (time.monotonic() - self.began) / self.n_taken * (self.total - self.done)

    def heading(self) -> str:
        """Name the run at hand."""
        from lrope_interp.training.replication import spoken

        if self.planned is None:
            return ""
        number = min(self.n_finished + 1, self.n_runs)
        return f"run {number}/{self.n_runs}: {spoken(self.planned.arm)}, seed {self.planned.seed}"

    def figures(self) -> str:
        """Return the figures of the run at hand and the time that all take, in one line."""
        return f"{self.state.figures()} | all runs {clock(self.seconds_left())} left"


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
def listen(out: Voice, course: Course) -> Iterator[_Listener]:
    """Yield what to hand to `train_missing` as `on_event`; to `train`, with None for the plan.

    It is shown by a picture that is redrawn four times a second, by lines, or not at all.
    """
    told: set[str] = set()

    def take(planned: PlannedRun | None, event: Event) -> None:
        course.take(planned, event)
        if isinstance(event, Warned) and event.message not in told:  # runs of one experiment share most
            told.add(event.message)
            out.warn(event.message)

    if out.is_quiet:
        yield take
        return
    if not sys.stderr.isatty():
        yield _lines(out, course, take)
        return
    from rich.live import Live

    drawn, redraw = _picture(course)
    with Live(get_renderable=drawn, console=console(to_stderr=True), refresh_per_second=4) as live:

        def on_event(planned: PlannedRun | None, event: Event) -> None:
            take(planned, event)
            if isinstance(event, Started) and planned is None:
                for line in opening(event):
                    live.console.print(visible(line), soft_wrap=True)
            redraw()

        yield on_event


def _lines(out: Voice, course: Course, take: _Listener) -> _Listener:
    """Return what writes few lines a run, evenly, and one more wherever a long silence has been."""
    tick, at = -1, time.monotonic()

    def on_event(planned: PlannedRun | None, event: Event) -> None:
        nonlocal tick, at
        take(planned, event)
        state, lines = course.state, LINES_A_RUN if planned is None else LINES_OF_EACH_RUN
        if isinstance(event, Started) and planned is None:
            for line in opening(event):
                out.note(line)
        elif isinstance(event, Started):
            tick = event.step * lines // event.n_steps
            begin = f" from step {event.step}" if event.step else ""
            out.note(f"{course.heading()}{begin}, {event.n_parameters:,} parameters")
        elif isinstance(event, Step):
            due, now = event.step * lines // event.n_steps, time.monotonic()
            if due == tick and now - at < SECONDS_BETWEEN_LINES:
                return
            tick, at = due, now
            if planned is not None:
                out.note(f"  step {event.step}/{event.n_steps}  {course.figures()}")
                return
            out.note(f"step {event.step}/{event.n_steps}  {state.figures()}")
            if state.increments:
                out.note(f"  increments  {state.increments_line()}")

    return on_event


def _picture(course: Course) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Return what draws the runs, and what brings it up to date.

    Of one run a bar, the figures and the increments; of several a bar for all, one for the run at hand and
    the figures.
    """
    from rich.console import Group
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    is_single, count = course.n_runs == 1, "{task.completed:.0f}/{task.total:.0f}"
    name, behind = (f"step {count}", []) if is_single else ("{task.description}", [TextColumn(count)])
    bars = Progress(TextColumn(name), BarColumn(bar_width=None), *behind, expand=True)
    every = bars.add_task(
        "steps of all runs", total=course.total, completed=course.done, visible=not is_single
    )
    own = bars.add_task("", total=course.n_steps, visible=False)

    def drawn() -> Group:
        if not is_single:
            return Group(bars, Text(course.figures()))
        state = course.state
        return Group(bars, Text(state.figures()), Text(f"increments  {state.increments_line()}"))

    def redraw() -> None:
        bars.update(every, completed=course.done, total=course.total)
        done = course.done if is_single else course.step
        is_begun = course.state.started is not None
        bars.update(own, description=course.heading(), completed=done, total=course.n_steps, visible=is_begun)

    return drawn, redraw
