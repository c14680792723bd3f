"""A text of a few kilobytes and a model of a few thousand parameters: a run takes a second."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrope_interp.training.config import TrainConfig, train_config
from lrope_interp.training.events import Event

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
        sizes = {"n_ctx": 32, "n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32}
        pace = {"n_steps": 12, "warmup": 2, "log_every": 3, "eval_every": 5, "checkpoint_every": 4}
        rest = {"data": f"file:{text_file}", "batch_size": 4, "validation_bytes": 1500}
        place = {"device": "cpu", "dtype": "float32"}
        return train_config("tiny", **(sizes | pace | rest | place | overrides))

    return make


@pytest.fixture(scope="session")
def story(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., TrainConfig]
) -> tuple[Path, list[Event]]:
    """A finished run that nothing interrupted, and all that it told; tests only read it."""
    from lrope_interp.training.loop import train

    folder, told = tmp_path_factory.mktemp("uninterrupted") / "run", list[Event]()
    train(make_config(), folder, on_event=told.append)
    return folder, told


@pytest.fixture(scope="session")
def uninterrupted(story: tuple[Path, list[Event]]) -> Path:
    """The folder of a finished run that nothing interrupted."""
    return story[0]
