"""TensorBoard and Weights & Biases, told through accelerate what `metrics.jsonl` is told."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from lrope_interp.errors import LRopeError
from lrope_interp.runs import Run
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.distribution import Processes
from lrope_interp.training.events import OnEvent, Warned

PROJECT = "lrope-interp"
_PACKAGES = {  # the packages of which one is needed, and how to get it
    "tensorboard": (("tensorboard", "tensorboardX"), "pip install 'lrope-interp[track]'"),
    "wandb": (("wandb",), "pip install wandb"),
}
_FIGURES = ("loss", "bits_per_byte", "nats_per_byte", "lr", "grad_norm")


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuse a tracker whose package is not installed."""
    for name in names:
        packages, command = _PACKAGES[name]
        if not any(find_spec(package) for package in packages):
            raise LRopeError(f"--log-to {name} needs the package {packages[0]}, which is not here: {command}")


class Trackers:
    """The trackers of a run. What goes wrong in one ends the tracking, with a warning, not the run.

    Args:
        processes: Their accelerator was made with the trackers' names; only its main process tells.
        emit: Told when a tracker fails.
    """

    def __init__(self, processes: Processes, emit: OnEvent) -> None:
        self._accelerator, self._emit = processes.accelerator, emit
        self._is_open = bool(self._accelerator.log_with) and processes.is_main

    def start(self, run: Run, config: TrainConfig, step: int) -> None:
        """Begin to tell of a run, or go on with it after `step`."""
        identity = hashlib.sha256(f"{run.folder.name} {run.info['started']}".encode()).hexdigest()[:16]
        one_run = {"name": run.folder.name, "id": identity, "resume": "allow", "dir": str(run.folder)}
        options = {"tensorboard": {"purge_step": step + 1}, "wandb": one_run}
        values = {name: _plain(value) for name, value in config.to_dict().items()}
        self._attempt(lambda: self._accelerator.init_trackers(PROJECT, values, options))

    def log(self, line: Mapping[str, Any]) -> None:
        """Tell of one line of `metrics.jsonl`."""
        self._attempt(lambda: self._accelerator.log(figures(line), step=line["step"]))

    def finish(self) -> None:
        """Close the trackers; they may have to send what is left."""
        for tracker in self._accelerator.trackers:
            self._attempt(tracker.finish)
        self._is_open = False

    def _attempt(self, action: Any) -> None:
        if not self._is_open:
            return
        try:
            action()
        except Exception as error:  # whatever a tracker does, it is not worth the run
            self._is_open = False
            self._emit(Warned(f"a tracker failed and is told nothing more: {error}"))


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a line of metrics as "train/loss", "validation/nats_per_byte" ...

    Each layer (and head) has the mean of its increments: "increments/L0", "increments/L0H1".
    """
    named = {f"{line['split']}/{name}": float(line[name]) for name in _FIGURES if name in line}
    for one in line.get("increments", ()):
        head = f"H{one['head']}" if "head" in one else ""
        named[f"increments/L{one['layer']}{head}"] = float(one["mean"])
    return named


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
