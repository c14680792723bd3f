"""Training: one frozen config in, one run folder out; resumable, and silent but for its events."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lrope_interp.training.config import PRESETS, TrainConfig, train_config

if TYPE_CHECKING:
    from lrope_interp.training.loop import train as train

__all__ = ["PRESETS", "TrainConfig", "train", "train_config"]


def __getattr__(name: str) -> Any:
    """Import `train`, and torch with it, the first time it is asked for."""
    if name != "train":
        raise AttributeError(f"module 'lrope_interp.training' has no attribute {name!r}")
    return importlib.import_module("lrope_interp.training.loop").train
