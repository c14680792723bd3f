"""A text of a few kilobytes and a model of a few thousand parameters: a run takes a second."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrope_interp.training.config import TrainConfig, train_config

WORDS = re.findall(
    r"\S+",
    "the gap before every word is learned and 位置 moves on, says a small model. why? "
    "because 中文 has no spaces but still has words; count them!",
)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 60 kB of random sentences in paragraphs; the same in every session."""
    rng = np.random.default_rng(0)
    paragraphs = [" ".join(rng.choice(WORDS, size=60)) for _ in range(160)]
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make_config(text_file: Path) -> Callable[..., TrainConfig]:
    """Build a config of 12 steps that logs, validates and saves at different steps."""

    def make(**overrides: Any) -> TrainConfig:
        values: dict[str, Any] = {
            "data": f"file:{text_file}",
            "n_steps": 12,
            "warmup": 2,
            "batch_size": 4,
            "n_ctx": 32,
            "n_layers": 2,
            "d_model": 16,
            "n_heads": 2,
            "d_head": 8,
            "d_mlp": 32,
            "log_every": 3,
            "eval_every": 5,
            "checkpoint_every": 4,
            "validation_bytes": 1500,
            "device": "cpu",
            "dtype": "float32",
        }
        return train_config("tiny", **(values | overrides))

    return make
