"""A run is replaced when the new one is finished, and not before."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
from run_samples import MakeConfig, at, contents, fail, files, of, outcome, send

from lrope_interp.errors import LRopeError
from lrope_interp.folders import first_foreign, reserved
from lrope_interp.results import Result, save_result
from lrope_interp.runs import newest_unfinished_run, read_run
from lrope_interp.training.events import Event, Finished, Started, Warned
from lrope_interp.training.loop import train

SHORT = {"n_steps": 3, "checkpoint_every": 2, "eval_every": 3, "validation_bytes": 300}


def analyse(run_folder: Path) -> None:
    with reserved(run_folder / "show", "show", is_numbered=True) as place:
        save_result(Result("show", {}, {}, {"x": pd.DataFrame({"x": [1]})}), place.folder)
        place.settle()


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """A finished run with an analysis in it."""
    folder = tmp_path_factory.mktemp("analysed") / "run"
    train(make_config(**SHORT), folder)
    analyse(folder)
    return folder


@pytest.fixture
def run(analysed: Path, tmp_path: Path) -> Path:
    """One of one's own."""
    return Path(shutil.copytree(analysed, tmp_path / "run"))


def test_the_old_run_and_its_analyses_stay_until_the_new_run_is_finished(
    tmp_path: Path, run: Path, make_config: MakeConfig
) -> None:
    before, told = files(run), list[Event]()
    with pytest.raises(LRopeError, match="overwrite to replace"):
        train(make_config(**SHORT, seed=1), run)
    stop = at(2, send(signal.SIGTERM), told)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(**SHORT, seed=1), run, overwrite=True, on_event=stop)
    assert files(run) == before
    (warned,) = of(Warned, told)
    assert "what was made from it (show)" in warned.message
    assert "run.new" in warned.message
    assert of(Started, told)[0].folder == tmp_path / "run.new"
    assert newest_unfinished_run(tmp_path).folder == tmp_path / "run.new"

    told.clear()
    finished = train(None, run, resume=True, on_event=told.append)
    assert finished.folder == of(Finished, told)[0].run.folder == run
    assert (finished.seed, finished.is_finished) == (1, True)
    assert of(Started, told)[0].step == 2
    assert contents(tmp_path) == ["run"]
    assert "show" not in contents(run)
    assert first_foreign(run, "run") is None
    train(make_config(**SHORT, seed=1), tmp_path / "alone")
    assert outcome(run) == outcome(tmp_path / "alone")


def test_a_replacement_that_cannot_begin_leaves_everything_as_it_was(
    tmp_path: Path, run: Path, make_config: MakeConfig
) -> None:
    before = files(run)
    with pytest.raises(LRopeError):
        train(make_config(**SHORT | {"data": "file:nowhere.txt"}), run, overwrite=True)
    on_itself = {"increments": "fixed", "frozen": "lexical", "frozen_from": str(run)}
    with pytest.raises(LRopeError, match="has the increments that are trained on"):
        train(make_config(**SHORT, **on_itself), run, overwrite=True)
    assert files(run) == before
    (run / "model.safetensors").write_bytes(b"tuned by hand")
    changed = r"holds model\.safetensors, which lrope-interp did not write, or not"
    with pytest.raises(LRopeError, match=changed):
        train(make_config(**SHORT), run, overwrite=True)
    assert contents(tmp_path) == ["run"]


def test_a_replacement_that_failed_is_given_up_by_the_next_which_says_so(
    tmp_path: Path, run: Path, make_config: MakeConfig
) -> None:
    before = files(run)
    with pytest.raises(RuntimeError):
        train(make_config(**SHORT, seed=1), run, overwrite=True, on_event=at(3, fail()))
    assert files(run) == before
    told: list[Event] = []
    train(make_config(**SHORT, seed=2), run, overwrite=True, on_event=told.append)
    assert any("is given up" in event.message for event in of(Warned, told))
    assert read_run(run).seed == 2
    assert contents(tmp_path) == ["run"]


def test_without_a_name_each_of_several_gets_its_own(tmp_path: Path, make_config: MakeConfig) -> None:
    second: list[Path] = []

    def meanwhile() -> None:
        config = make_config(**SHORT, seed=1)
        second.append(train(config, tmp_path / "run", is_numbered=True).folder)

    asked = make_config(**SHORT)
    first = train(asked, tmp_path / "run", is_numbered=True, on_event=at(1, meanwhile)).folder
    assert [first, *second] == [tmp_path / "run", tmp_path / "run-2"]
    assert [read_run(folder).seed for folder in (first, *second)] == [0, 1]


def test_a_place_is_reserved_before_the_text_is_read(tmp_path: Path, make_config: MakeConfig) -> None:
    with reserved(tmp_path / "run", "run"), pytest.raises(LRopeError, match="another process is writing"):
        train(make_config(**SHORT | {"data": "file:nowhere.txt"}), tmp_path / "run")
