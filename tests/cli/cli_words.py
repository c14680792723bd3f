"""What the tests of the command line call things."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


Cli = Callable[..., Answer]
Train = Callable[..., Path]
WhileComputing = Callable[[Callable[[], object]], None]
