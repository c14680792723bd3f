"""What a run leaves besides its numbers: how often it is saved by time, and which trackers are told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lrope_interp.errors import LRopeError, unknown

TRACKERS = ("tensorboard", "wandb")
_ONLINE = ("wandb",)


@dataclass(frozen=True)
class Recording:
    """What decides nothing about the numbers, and so is no part of `TrainConfig`.

    Attributes:
        log_to: Trackers to tell, of `TRACKERS`.
        checkpoint_minutes: A checkpoint is also written when so many minutes have passed since the
            last one; 0 leaves it to `TrainConfig.checkpoint_every` alone.
    """

    log_to: tuple[str, ...] = ()
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Check both values."""
        for name in self.log_to:
            if name not in TRACKERS:
                raise unknown("tracker", name, TRACKERS)
        if not 0.0 <= self.checkpoint_minutes < math.inf:
            raise LRopeError(
                f"checkpoint_minutes={self.checkpoint_minutes:g}: at least 0 is wanted (0: never by time)"
            )

    @property
    def checkpoint_seconds(self) -> float:
        """Seconds between two checkpoints by time; infinite where there are none."""
        return 60.0 * self.checkpoint_minutes or math.inf

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recording:
        """Build a recording from what `to_dict` gave; what is not there has its default."""
        default = cls()
        return cls(
            log_to=tuple(values.get("log_to", default.log_to)),
            checkpoint_minutes=float(values.get("checkpoint_minutes", default.checkpoint_minutes)),
        )

    def offline(self) -> Recording:
        """Return it without trackers that tell a server: a file, maybe a stranger's, does not start those."""
        return replace(self, log_to=tuple(name for name in self.log_to if name not in _ONLINE))

    def to_dict(self) -> dict[str, Any]:
        """Return what `run.json` holds under "recording"."""
        return {**asdict(self), "log_to": list(self.log_to)}


def tracker_names(words: Iterable[str]) -> tuple[str, ...]:
    """Return the trackers that ``--log-to a,b --log-to c`` names, each once."""
    names = [name.strip() for word in words for name in word.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))
