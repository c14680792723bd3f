"""A trained run that fits in a second, one result of each kind, and the command line as a function."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cli_words import (
    COMMANDS,
    SHAPE,
    Analysed,
    Cli,
    Train,
    WhileComputing,
    run_command,
    some_text,
    spans_of_colours,
)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    return run_command


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
        steps = {"n_steps": 6, "batch_size": 4, "lr": 1e-2, "eval_every": 6, "checkpoint_every": 3}
        config = train_config(
            "tiny", data=f"file:{text_file}", increments=increments, validation_bytes=500, **SHAPE, **steps
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


@pytest.fixture(scope="session")
def analysed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Analysed]:
    """The result of a command of `COMMANDS` on the shared run, made once a session."""
    home = tmp_path_factory.mktemp("analysed")
    shutil.copytree(trained, home / "runs" / trained.name)
    (home / "spans.jsonl").write_text(spans_of_colours(), encoding="utf-8")
    (home / "names.txt").write_text("# ours\nfox dog\nthe fox\nquick tree\nsmall water\n")
    (home / "gold.txt").write_text("中国 人民 today\n" * 21 + "发展 经济\n", encoding="utf-8")

    @cache
    def make(command: str) -> Analysed:
        words = f"{command} {COMMANDS[command]}".strip()
        with chdir(home):
            answer = run_command(*shlex.split(words))
        assert answer.code == 0, answer.err
        return Analysed(words, answer, home / "runs" / trained.name / command.split()[-1])

    return make


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preset `tiny` a model of a few thousand parameters: a run takes a moment."""
    from lrope_interp.training.config import PRESETS

    monkeypatch.setitem(PRESETS, "tiny", {**SHAPE, "batch_size": 4, "validation_bytes": 500})


@pytest.fixture
def while_computing(monkeypatch: pytest.MonkeyPatch) -> WhileComputing:
    """Let something happen after `show` has loaded the model and begun to compute."""

    from lrope_interp.probes.spacing import spacing as spacing_module

    def let(action: Callable[[], object]) -> None:
        compute = spacing_module.show

        def computing(*rest: Any, **how: Any) -> Any:
            action()
            return compute(*rest, **how)

        monkeypatch.setattr(spacing_module, "show", computing)

    return let
