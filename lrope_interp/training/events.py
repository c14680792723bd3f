"""What `train` tells its caller while it runs. The loop prints nothing; whoever listens may."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrope_interp.runs import Run


@dataclass(frozen=True)
class LayerIncrements:
    """Increments of one layer (and head) in one batch, every window's first token left out.

    `sd` is the spread over tokens; it says nothing about how sure the mean is.
    """

    layer: int
    head: int | None
    mean: float
    sd: float

    def to_dict(self) -> dict[str, int | float]:
        """Return the entry of a metrics line."""
        head = {} if self.head is None else {"head": self.head}
        return {"layer": self.layer, **head, "mean": self.mean, "sd": self.sd}


@dataclass(frozen=True)
class Started:
    """Training begins, or goes on at `step`.

    `epochs` says how often the run will have seen each part of the corpus at its end.
    """

    folder: Path
    step: int
    n_steps: int
    n_parameters: int
    device: str
    dtype: str
    epochs: Mapping[str, float]


@dataclass(frozen=True)
class Warned:
    """Something that the user should know; training goes on."""

    message: str


@dataclass(frozen=True)
class Step:
    """One optimiser step is done (on an accelerator: the latest of several).

    `loss` is in nats per token over all next tokens of the batch, EOS included; `bits` is the
    same in bits. `increments` is empty but at the steps that are logged.
    """

    step: int
    n_steps: int
    loss: float
    bits: float
    lr: float
    bytes_per_second: float
    seconds_left: float
    increments: tuple[LayerIncrements, ...] = ()


@dataclass(frozen=True)
class Validated:
    """The fixed validation text was scored: nats and bits per byte, EOS not counted."""

    step: int
    n_steps: int
    nats_per_byte: float
    bits_per_byte: float
    n_bytes: int


@dataclass(frozen=True)
class Checkpointed:
    """A checkpoint is safely on the disk."""

    step: int
    n_steps: int
    folder: Path


@dataclass(frozen=True)
class Finished:
    """The run is complete. `summary` is what `run.json` holds under that name."""

    run: Run
    summary: Mapping[str, Any]


Event = Started | Warned | Step | Validated | Checkpointed | Finished
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
    del event
