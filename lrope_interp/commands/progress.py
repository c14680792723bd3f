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
    OnEvent,
    Started,
    Step,
    Validated,
    Warned,
)

if TYPE_CHECKING:
    from lrope_interp.training.replication import OnRunEvent, PlannedRun

LINES_A_RUN = 20
LINES_OF_EACH_RUN = 4  # of several
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
def listen(out: Voice, state: TrainingState) -> Iterator[OnEvent]:
    """Yield what to hand to `train` as `on_event`: it shows the run the way this terminal can."""
    with _shown(out, Course(1, 0, 0, state=state), _Lines, _run_picture) as on_event:
        yield lambda event: on_event(None, event)


@contextmanager
def listen_to_runs(out: Voice, course: Course) -> Iterator[OnRunEvent]:
    """Yield what to hand to `train_missing` as `on_event`: it shows the runs one after the other."""
    with _shown(out, course, _LinesOfRuns, _runs_picture) as on_event:
        yield on_event


@contextmanager
def _shown(
    out: Voice,
    course: Course,
    lines: type[_Silent],
    picture: Callable[[Course], tuple[Any, Callable[[], Any]]],
) -> Iterator[Callable[[PlannedRun | None, Event], None]]:
    """Show runs by a picture that is redrawn four times a second, by lines, or not at all."""
    if out.is_quiet or not sys.stderr.isatty():
        yield (_Silent if out.is_quiet else lines)(out, course)
        return
    from rich.live import Live

    silent, (drawn, redraw) = _Silent(out, course), picture(course)
    with Live(get_renderable=drawn, console=console(to_stderr=True), refresh_per_second=4) as live:

        def on_event(planned: PlannedRun | None, event: Event) -> None:
            silent(planned, event)
            if isinstance(event, Started) and planned is None:
                for line in opening(event):
                    live.console.print(visible(line), soft_wrap=True)
            redraw()

        yield on_event


class _Silent:
    """Nothing but warnings, each once: runs of one experiment share most of them."""

    def __init__(self, out: Voice, course: Course) -> None:
        self._out, self._course = out, course
        self._told: set[str] = set()

    def __call__(self, planned: PlannedRun | None, event: Event) -> None:
        self._course.take(planned, event)
        if isinstance(event, Warned) and event.message not in self._told:
            self._told.add(event.message)
            self._out.warn(event.message)


class _Lines(_Silent):
    """A line of one run now and then, for logs and pipes."""

    def __init__(self, out: Voice, course: Course) -> None:
        super().__init__(out, course)
        self._pace = Pace(LINES_A_RUN, -1)

    def __call__(self, planned: PlannedRun | None, event: Event) -> None:
        super().__call__(planned, event)
        state = self._course.state
        if isinstance(event, Started):
            for line in opening(event):
                self._out.note(line)
        elif isinstance(event, Step) and self._pace.is_due(event):
            self._out.note(f"step {event.step}/{event.n_steps}  {state.figures()}")
            if state.increments:
                self._out.note(f"  increments  {state.increments_line()}")


class _LinesOfRuns(_Silent):
    """A heading for each run, and few lines below it."""

    def __init__(self, out: Voice, course: Course) -> None:
        super().__init__(out, course)
        self._pace = Pace(LINES_OF_EACH_RUN, 0)

    def __call__(self, planned: PlannedRun | None, event: Event) -> None:
        super().__call__(planned, event)
        if isinstance(event, Started):
            self._pace.begin(event)
            begin = f" from step {event.step}" if event.step else ""
            self._out.note(f"{self._course.heading()}{begin}, {event.n_parameters:,} parameters")
        elif isinstance(event, Step) and self._pace.is_due(event):
            self._out.note(f"  step {event.step}/{event.n_steps}  {self._course.figures()}")


def _run_picture(course: Course) -> tuple[Any, Callable[[], None]]:
    """Return what draws a bar, the figures and the increments of one run, and what brings it up to date."""
    from rich.console import Group
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.text import Text

    words = TextColumn("step {task.completed:.0f}/{task.total}")
    bar = Progress(words, BarColumn(bar_width=None), expand=True)
    task = bar.add_task("", total=None, visible=False)

    def drawn() -> Group:
        state = course.state
        return Group(bar, Text(state.figures()), Text(f"increments  {state.increments_line()}"))

    def redraw() -> None:
        if course.state.started is not None:
            bar.update(task, completed=course.done, total=course.n_steps, visible=True)

    return drawn, redraw


def _runs_picture(course: Course) -> tuple[Any, Callable[[], None]]:
    """Return what draws a bar for all runs and one for the run at hand, and what brings it up to date."""
    from rich.console import Group
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

    def redraw() -> None:
        bars.update(every, completed=course.done, total=course.total)
        bars.update(
            own, description=course.heading(), completed=course.step, total=course.n_steps, visible=True
        )

    return (lambda: Group(bars, Text(course.figures()))), redraw
