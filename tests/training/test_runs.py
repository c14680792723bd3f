from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.folders import write_json_atomically
from lrope_interp.runs import (
    RUN_FORMAT,
    list_runs,
    newest_finished_run,
    newest_unfinished_run,
    read_run,
)

FILES = ("config.json", "data.json", "tokenizer.json", "model.safetensors")


def write_run(folder: Path, started: str = "2026-01-02T03:04:05+00:00", **info: Any) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("{}")
    payload = {"format": RUN_FORMAT, "status": "finished", "started": started, "summary": {"step": 3}}
    write_json_atomically(folder / "run.json", payload | info)
    return folder


def test_a_finished_run_tells_what_run_json_says(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "a", preset="tiny", n_steps=7))
    assert (run.is_finished, run.status, run.preset, run.n_steps) == (True, "finished", "tiny", 7)
    assert run.summary == {"step": 3}
    assert not hasattr(run, "nothing_of_the_kind")


def test_every_way_of_being_no_run_has_its_own_message(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "run.json").write_text('{"format": 1, "sta')
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "run.json").write_text('["not ours"]')
    write_run(tmp_path / "newer", format=RUN_FORMAT + 1)
    write_run(tmp_path / "undated", started="yesterday")
    write_run(tmp_path / "unfinished", status="running")
    (write_run(tmp_path / "lacking") / "data.json").unlink()
    messages = {
        "nowhere": "there is no run folder",
        "empty": "not a run folder",
        "torn": "cannot be read",
        "foreign": "names no format",
        "newer": f"reads up to {RUN_FORMAT}. Upgrade",
        "undated": "damaged",
        "unfinished": "train --resume --out",
        "lacking": "data.json is missing",
    }
    for name, message in messages.items():
        with pytest.raises(LRopeError, match=message):
            read_run(tmp_path / name)


def test_an_unfinished_run_can_be_asked_for(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", status="running")
    assert not read_run(folder, allow_unfinished=True).is_finished


def test_the_newest_run_goes_by_the_time_inside_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "2026-03-01T00:00:00+00:00")
    write_run(tmp_path / "b", "2026-03-01T00:30:00+02:00")  # earlier, though it reads later
    write_run(tmp_path / "c", "2026-04-01T00:00:00+00:00", status="running")
    write_run(tmp_path / ".d.partial", "2026-05-01T00:00:00+00:00")
    (tmp_path / "not-a-run").mkdir()
    (write_run(tmp_path / "broken") / "run.json").write_text("{")
    assert [run.folder.name for run in list_runs(tmp_path)] == ["b", "a", "c"]
    assert newest_finished_run(tmp_path).folder.name == "a"
    assert newest_unfinished_run(tmp_path).folder.name == "c"


def test_where_there_is_no_run_the_message_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="make one with `lrope-interp train`"):
        newest_finished_run(tmp_path / "runs")
    with pytest.raises(LRopeError, match="start one with `lrope-interp train`"):
        newest_unfinished_run(tmp_path)
