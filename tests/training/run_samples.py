"""What tests of training share: what a run comes to, what it tells, and how it is stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import Event, Step
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import read_lines

MakeConfig = Callable[..., TrainConfig]
MakeModel = Callable[..., LRopeTransformer]


def outcome(folder: Path) -> tuple[bytes, bytes]:
    """Return what must repeat bit for bit."""
    return (folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def logged(folder: Path, split: str = "train", name: str = "loss") -> list[Any]:
    return [line[name] for line in read_lines(folder / "metrics.jsonl") if line["split"] == split]


def of(kind: type[Event], told: list[Event]) -> list[Any]:
    return [event for event in told if isinstance(event, kind)]


def at(
    step: int, action: Callable[[], object], told: list[Event] | None = None, kind: type[Event] = Step
) -> Callable[[Event], None]:
    """Do something when the loop tells of a step (or a checkpoint)."""

    def on_event(event: Event) -> None:
        if told is not None:
            told.append(event)
        if isinstance(event, kind) and getattr(event, "step", None) == step:
            action()

    return on_event


def send(*numbers: int) -> Callable[[], object]:
    """Return what sends signals to this process."""
    return lambda: [signal.raise_signal(number) for number in numbers]


def fail(error: type[BaseException] = RuntimeError) -> Callable[[], None]:
    def failing() -> None:
        raise error

    return failing


def stop(folder: Path, config: TrainConfig, step: int, number: int = signal.SIGTERM) -> None:
    """Train to a step and stop there, with a checkpoint."""
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, on_event=at(step, send(number)))


def slow_nats(model: LRopeTransformer, text: str) -> float:
    """Score one byte at a time, each in the window that gives it most left context."""
    sequence, n_ctx, total = [256, *text.encode()], model.cfg.n_ctx, 0.0
    for index in range(1, len(sequence)):
        start = 0
        while start + n_ctx <= index:
            start += n_ctx // 2
        with torch.no_grad():
            logits = model(torch.tensor([sequence[start:index]]))
        total -= float(torch.log_softmax(logits[0, -1].double(), -1)[sequence[index]])
    return total
