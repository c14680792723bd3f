"""What one sitting of a run works with: its folder, its processes, its logs, and who is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrope_interp.training.distribution import Processes
from lrope_interp.training.events import OnEvent
from lrope_interp.training.interruption import StopFlag, stop_flag
from lrope_interp.training.metrics import METRICS_FILE, TIMING_FILE, JsonLines
from lrope_interp.training.recording import Recording
from lrope_interp.training.trackers import Trackers


@dataclass(frozen=True)
class Logs:
    """`metrics.jsonl` and `timing.jsonl`; only the main process has them."""

    metrics: JsonLines
    timing: JsonLines

    def sync(self) -> None:
        """Wait until the disk has what was written."""
        self.metrics.sync()
        self.timing.sync()


@dataclass(frozen=True)
class Session:
    """One sitting of a run, from its start or a checkpoint to its end or an interruption.

    Attributes:
        folder: The run folder; the main process holds its lock.
        processes: The processes that train together.
        recording: What the run leaves besides its numbers.
        logs: The run's logs, in the main process.
        trackers: Told what the metrics are told.
        emit: Told of every event, in the main process.
        stop: Looked at between steps.
    """

    folder: Path
    processes: Processes
    recording: Recording
    logs: Logs | None
    trackers: Trackers
    emit: OnEvent
    stop: StopFlag

    def write_metrics(self, line: Mapping[str, Any]) -> None:
        """Append a line to the metrics, and tell the trackers."""
        if self.logs is not None:
            self.logs.metrics.write(line)
        self.trackers.log(line)

    def write_timing(self, line: Mapping[str, Any]) -> None:
        """Append a line to the wall-clock figures."""
        if self.logs is not None:
            self.logs.timing.write(line)


@contextmanager
def session(folder: Path, processes: Processes, recording: Recording, emit: OnEvent) -> Iterator[Session]:
    """Open the logs and listen for signals; close the trackers at the end."""
    trackers = Trackers(processes, emit)
    with _logs(folder, processes.is_main) as logs, stop_flag(is_patient=processes.size > 1) as stop:
        try:
            yield Session(folder, processes, recording, logs, trackers, emit, stop)
        finally:
            trackers.finish()


@contextmanager
def _logs(folder: Path, is_main: bool) -> Iterator[Logs | None]:
    if not is_main:
        yield None
        return
    with JsonLines(folder / METRICS_FILE) as metrics, JsonLines(folder / TIMING_FILE) as timing:
        yield Logs(metrics, timing)
