"""A paired experiment as the terminal can show it: which run, how far, and how long all of them take."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrope_interp.commands.output import Output, console
from lrope_interp.commands.progress import Pace, TrainingState, clock
from lrope_interp.training.events import Event, Finished, Started, Step, Warned
from lrope_interp.training.replication import spoken

if TYPE_CHECKING:
    from lrope_interp.training.replication import OnRunEvent, PlannedRun

LINES_A_RUN = 4


@dataclass
class Course:
    """How far all runs are, and what is known of the one at hand.

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

    def take(self, planned: PlannedRun, event: Event) -> None:
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
        if self.planned is None:
            return ""
        number = min(self.n_finished + 1, self.n_runs)
        return f"run {number}/{self.n_runs}: {spoken(self.planned.arm)}, seed {self.planned.seed}"

    def figures(self) -> str:
        """Return the figures of the run at hand and the time that all take, in one line."""
        return f"{self.state.figures()} | all runs {clock(self.seconds_left())} left"


@contextmanager
def listen_to_runs(out: Output, course: Course) -> Iterator[OnRunEvent]:
    """Yield what to hand to `train_missing` as `on_event`."""
    if out.is_quiet:
        yield _Silent(out, course)
    elif not sys.stderr.isatty():
        yield _Lines(out, course)
    else:
        with _live(out, course) as on_event:
            yield on_event


class _Silent:
    """Nothing but warnings, each once: runs of one experiment share most of them."""

    def __init__(self, out: Output, course: Course) -> None:
        self._out, self._course = out, course
        self._told: set[str] = set()

    def __call__(self, planned: PlannedRun, event: Event) -> None:
        self._course.take(planned, event)
        if isinstance(event, Warned) and event.message not in self._told:
            self._told.add(event.message)
            self._out.warn(event.message)


class _Lines(_Silent):
    """A line now and then, for logs and pipes."""

    def __init__(self, out: Output, course: Course) -> None:
        super().__init__(out, course)
        self._pace = Pace(LINES_A_RUN, 0)

    def __call__(self, planned: PlannedRun, event: Event) -> None:
        super().__call__(planned, event)
        if isinstance(event, Started):
            self._pace.begin(event)
            begin = f" from step {event.step}" if event.step else ""
            self._out.note(f"{self._course.heading()}{begin}, {event.n_parameters:,} parameters")
        elif isinstance(event, Step) and self._pace.is_due(event):
            self._out.note(f"  step {event.step}/{event.n_steps}  {self._course.figures()}")


@contextmanager
def _live(out: Output, course: Course) -> Iterator[OnRunEvent]:
    """Draw a bar for all runs, one for the run at hand, and its figures."""
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        expand=True,
    )
    every = bars.add_task("steps of all runs", total=course.total, completed=course.done)
    own = bars.add_task("", total=course.n_steps, visible=False)

    def picture() -> Group:
        return Group(bars, Text(course.figures()))

    silent = _Silent(out, course)
    with Live(get_renderable=picture, console=console(to_stderr=True), refresh_per_second=4):

        def on_event(planned: PlannedRun, event: Event) -> None:
            silent(planned, event)
            bars.update(every, completed=course.done, total=course.total)
            bars.update(
                own, description=course.heading(), completed=course.step, total=course.n_steps, visible=True
            )

        yield on_event
