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
from lrope_interp.progress import clock
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
class Course:
    """How far a run is, or all those of an experiment, and the newest that the one at hand has told.

    Attributes:
        n_runs: How many runs are trained.
        n_finished: How many of them are finished.
        n_steps: Steps of a run; the same for all.
        planned: Which run of an experiment is at hand.
    """

    n_runs: int = 1
    n_finished: int = 0
    n_steps: int = 0
    planned: PlannedRun | None = None
    started: Started | None = None
    latest: Step | None = None
    validated: Validated | None = None
    saved: int | None = None
    increments: Sequence[LayerIncrements] = ()
    step: int = 0
    n_taken: int = 0
    began: float = field(default_factory=time.monotonic)

    def take(self, planned: PlannedRun | None, event: Event) -> None:
        """Remember an event."""
        if planned is not self.planned:
            self.planned, self.increments, self.step = planned, (), 0
            self.started = self.latest = self.validated = self.saved = None
        if isinstance(event, Started):
            self.started, self.saved = event, event.step or None
            self.step, self.n_steps = event.step, event.n_steps
        elif isinstance(event, Checkpointed):
            self.saved = event.step
        elif isinstance(event, Validated):
            self.validated = event
        elif isinstance(event, Step):
            self.n_taken += event.step - self.step
            self.latest, self.step = event, event.step
            self.increments = event.increments or self.increments
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

    def heading(self) -> str:
        """Name the run at hand."""
        from lrope_interp.training.replication import spoken

        if self.planned is None:
            return ""
        number = min(self.n_finished + 1, self.n_runs)
        return f"run {number}/{self.n_runs}: {spoken(self.planned.arm)}, seed {self.planned.seed}"

    def figures(self) -> str:
        """Return loss, speed and validation of the run at hand, and the time that all take, in one line."""
        parts = ["first step ..."]
        if self.latest is not None:
            parts = [
                f"loss {self.latest.loss:.3f} nats ({self.latest.bits:.3f} bits)",
                f"{self.latest.bytes_per_second / 1000:.1f} kB/s",
                f"{clock(self.latest.seconds_left)} left",
            ]
            if self.validated is not None:
                parts.append(f"validation {self.validated.nats_per_byte:.3f} at step {self.validated.step}")
        if self.n_runs > 1:  # at the pace since the command began
            pace = (time.monotonic() - self.began) / self.n_taken if self.n_taken else math.nan
            parts.append(f"all runs {clock(pace * (self.total - self.done))} left")
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
        lines = LINES_A_RUN if planned is None else LINES_OF_EACH_RUN
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
            margin = "" if planned is None else "  "
            out.note(f"{margin}step {event.step}/{event.n_steps}  {course.figures()}")
            if planned is None and course.increments:
                out.note(f"  increments  {course.increments_line()}")

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
        increments = [Text(f"increments  {course.increments_line()}")] if is_single else []
        return Group(bars, Text(course.figures()), *increments)

    def redraw() -> None:
        bars.update(every, completed=course.done, total=course.total)
        done = course.done if is_single else course.step
        is_begun = course.started is not None
        bars.update(own, description=course.heading(), completed=done, total=course.n_steps, visible=is_begun)

    return drawn, redraw
