"""A trained run that fits in a second, and the command line as a function."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli_words import Answer, Cli, Train, WhileComputing

WORDS = [
    "fox",
    "dog",
    "bird",
    "tree",
    "water",
    "green",
    "small",
    "quick",
    "jumps",
    "sings",
    "over",
    "near",
    "the",
]
HAN = "人民日报北京今天中国经济发展改革工人农民学生老师"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str | Path) -> Answer:
        from lrope_interp.cli import main

        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lrope-interp", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, out, err)

    return call


def some_text(n_paragraphs: int = 120, seed: int = 0) -> str:
    """English and Chinese paragraphs in turn, all different."""
    draw = random.Random(seed)
    paragraphs = []
    for number in range(n_paragraphs):
        if number % 2:
            paragraphs.append("".join(draw.choice(HAN) for _ in range(60)) + "。")
        else:
            words = [draw.choice(WORDS) for _ in range(40)]
            paragraphs.append(f"{' '.join(words[:20]).capitalize()}, {' '.join(words[20:])}.")
    return "\n\n".join(paragraphs) + "\n"


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text long enough to be split into train and held out."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(some_text(400), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def train_tiny(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Train:
    """Train a very small model for a few steps, once a kind; returns the run folder: copy it to change it."""
    from lrope_interp.training.config import train_config
    from lrope_interp.training.loop import train

    @cache
    def make(increments: str = "per_layer") -> Path:
        folder = tmp_path_factory.mktemp("runs") / f"tiny-{increments}"
        shape = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 32}
        steps = {"n_steps": 6, "batch_size": 4, "lr": 1e-2, "eval_every": 6, "checkpoint_every": 3}
        config = train_config(
            "tiny", data=f"file:{text_file}", increments=increments, validation_bytes=500, **shape, **steps
        )
        train(config, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def trained(train_tiny: Train) -> Path:
    """A finished run, shared by all tests: copy it before changing it."""
    return train_tiny()


@pytest.fixture
def run_copy(trained: Path, tmp_path: Path) -> Path:
    """A finished run of the test's own, under ./runs of the command."""
    folder = tmp_path / "runs" / trained.name
    shutil.copytree(trained, folder)
    return folder


@pytest.fixture
def while_computing(monkeypatch: pytest.MonkeyPatch) -> WhileComputing:
    """Let something happen after `show` has loaded the model and begun to compute."""

    from lrope_interp.probes.spacing import spacing as spacing_module

    def let(action: Callable[[], object]) -> None:
        compute = spacing_module.spacing

        def computing(*rest: Any, **how: Any) -> Any:
            action()
            return compute(*rest, **how)

        monkeypatch.setattr(spacing_module, "spacing", computing)

    return let
