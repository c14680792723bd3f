from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.runs import (
    RUN_FORMAT,
    list_runs,
    new_folder,
    newest_finished_run,
    newest_unfinished_run,
    numbered_folder,
    read_run,
    write_json_atomically,
)

FILES = ("config.json", "data.json", "tokenizer.json", "model.safetensors")


def write_run(folder: Path, started: str = "2026-01-02T03:04:05+00:00", **info: Any) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text("{}")
    payload = {"format": RUN_FORMAT, "status": "finished", "started": started, "summary": {"step": 3}}
    write_json_atomically(folder / "run.json", payload | info)
    return folder


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_folders_are_numbered_from_two(tmp_path: Path) -> None:
    assert numbered_folder(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert numbered_folder(tmp_path / "run") == tmp_path / "run-3"


def test_a_new_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "out"
    with new_folder(target, marker="result.json") as folder:
        (folder / "result.json").write_text("{}")
        assert not target.exists()
        assert folder.parent == target.parent
    assert contents(target) == ["result.json"]
    assert contents(target.parent) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_exception_nothing_is_left_not_even_the_parents(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "runs" / "out", marker="run.json") as folder:
            (folder / "half").write_text("written")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(tmp_path) == []


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out", marker="run.json") as folder:
        (folder / "run.json").write_text("{}")
    assert contents(tmp_path / "out") == ["run.json"]


def test_a_folder_of_ours_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("old")
    with pytest.raises(LRopeError, match="--overwrite to replace it"), new_folder(out, marker="run.json"):
        pass
    with new_folder(out, overwrite=True, marker="run.json") as folder:
        (folder / "new").write_text("new")
        assert (out / "run.json").read_text() == "old"
    assert contents(out) == ["new"]
    assert contents(tmp_path) == ["out"]


def test_a_folder_that_is_not_ours_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    with (
        pytest.raises(LRopeError, match="not ours to replace"),
        new_folder(out, overwrite=True, marker="run.json"),
    ):
        pass
    assert (out / "thesis.tex").read_text() == "precious"


def test_a_failed_replacement_keeps_the_old_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "run.json").write_text("old")
    with pytest.raises(RuntimeError), new_folder(out, overwrite=True, marker="run.json"):
        raise RuntimeError
    assert (out / "run.json").read_text() == "old"
    assert contents(tmp_path) == ["out"]


def test_a_folder_that_somebody_else_made_meanwhile_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def be_overtaken() -> None:
        with new_folder(out, marker="run.json"):
            out.mkdir()
            (out / "theirs").write_text("")

    with pytest.raises(LRopeError, match="not empty"):
        be_overtaken()
    assert contents(out) == ["theirs"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LRopeError, match="is a file"), new_folder(tmp_path / "file", marker="run.json"):
        pass
    with (
        pytest.raises(LRopeError, match="cannot write the folder"),
        new_folder(tmp_path / "file" / "out", marker="run.json"),
    ):
        pass


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with (
        pytest.raises(LRopeError, match="No space left"),
        new_folder(tmp_path / "out", marker="run.json"),
    ):
        raise OSError(28, "No space left on device")
    assert contents(tmp_path) == []


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json_atomically(path, {"word": "字"})
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"word": "字"}
    assert contents(tmp_path) == ["run.json"]
