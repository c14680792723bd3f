"""Folders are reserved before work, appear whole, and replace nothing that is not ours."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lrope_interp import folders
from lrope_interp.errors import LRopeError
from lrope_interp.folders import (
    MANIFEST_FILE,
    REPLICATE,
    RUN,
    first_foreign,
    held,
    is_locked,
    kind_of,
    locked,
    recover,
    reserved,
    resumed_folder,
    write_json_atomically,
)
from lrope_interp.reports.kit.render import write_page
from lrope_interp.results import Result, save_result
from lrope_interp.training.replication import ARMS


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(path: Path, *, is_folder: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if is_folder else path.write_text('{"my": "results"}')


def a_result(kind: str = "spacing") -> Result:
    table = pd.DataFrame({"x": [1, 2], "y": [0.5, np.nan]})
    return Result(kind, {"model": "m"}, {"n": 2.0}, {"characters": table}, gaps=table)


def write_result(folder: Path, command: str = "show", **how: Any) -> Path:
    with reserved(folder, command, **how) as place:
        save_result(a_result(), place.folder)
        write_page("<html></html>", place.folder / "report.html")
        return place.settle()


def write_run(folder: Path, **how: Any) -> Path:
    with reserved(folder, RUN, **how) as place:
        fill_run(place.folder)
        return place.settle()


def fill_run(folder: Path) -> None:
    names = "config.json data.json tokenizer.json model.safetensors metrics.jsonl report.html"
    for name in (*names.split(), "checkpoints/step-00000004/state.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    info = {"format": 1, "status": "finished", "started": "2026-01-02T03:04:05+00:00"}
    write_json_atomically(folder / "run.json", info)


def give_up(folder: Path, kind: str, fill: Callable[[Path], object], **how: Any) -> None:
    """Reserve a place, fill it, and fail."""
    with reserved(folder, kind, **how) as place:
        fill(place.folder)
        raise KeyboardInterrupt


def begin_to_replace(run: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        give_up(run, RUN, fill_run, overwrite=True)


def forget_manifests(folder: Path) -> None:
    """Make a folder as it was written before there were manifests."""
    for path in [*folder.rglob(MANIFEST_FILE)]:
        path.unlink()


HOLDER = """
import sys
from lrope_interp.folders import reserved
how = {"is_numbered": "numbered" in sys.argv, "overwrite": "over" in sys.argv}
with reserved(sys.argv[1], sys.argv[2], **how) as place:
    (place.folder / "report.html").write_text("half")
    print(place.folder, flush=True)
    if sys.stdin.read(1):
        print(place.settle(), flush=True)
"""


@contextmanager
def another_process(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Reserve a folder in another process; it settles when it is told a letter, and gives up at the end."""
    call = [sys.executable, "-c", HOLDER, *map(str, words)]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.filling = Path(process.stdout.readline().strip())  # type: ignore[attr-defined]
        yield process


def test_a_new_folder_appears_only_when_it_is_whole_and_else_not_even_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "out"
    with pytest.raises(KeyboardInterrupt):
        give_up(target, "show", lambda folder: (folder / "half").write_text("written"))
    assert contents(tmp_path) == []
    with reserved(target, "show") as place:
        (place.folder / "result.json").write_text("{}")
        assert not target.exists()
        assert place.folder.parent == target.parent
        assert place.settle() == target
    assert contents(target) == [MANIFEST_FILE, "result.json"]
    assert contents(target.parent) == ["out"]


def test_an_empty_folder_is_used_and_stays_the_one_in_which_somebody_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    before = out.stat().st_ino
    write_result(Path("."))
    assert out.stat().st_ino == before
    assert "result.json" in os.listdir(".")
    assert contents(tmp_path) == ["out"]
    with pytest.raises(LRopeError, match="is where you stand"):
        write_result(Path("."), overwrite=True)
    with pytest.raises(LRopeError, match="not ours"):
        write_result(Path("/"), overwrite=True)


def test_a_folder_of_ours_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out")
    with pytest.raises(LRopeError, match="overwrite to replace it"):
        write_result(out)
    with reserved(out, "show", overwrite=True) as place:
        (place.folder / "new").write_text("new")
        assert "result.json" in contents(out)
        place.settle()
    assert contents(out) == [MANIFEST_FILE, "new"]
    assert contents(tmp_path) == ["out"]


# What is ours


@pytest.mark.parametrize("is_old", [False, True])
def test_a_result_that_holds_anything_else_is_never_replaced(tmp_path: Path, is_old: bool) -> None:
    out = write_result(tmp_path / "out")
    if is_old:
        forget_manifests(out)
    assert first_foreign(out, "show") is None
    foreign = ("thesis.tex", ".git/HEAD", "notes/", "characters-2.csv", "sub/result.json", "report.html~")
    for name in foreign:
        put(out / name.rstrip("/"), is_folder=name.endswith("/"))
        before = files(out)
        with pytest.raises(LRopeError) as refused:
            write_result(out, overwrite=True)
        assert f"holds {name}," in str(refused.value)
        assert files(out) == before
        shutil.move(out / name.partition("/")[0], tmp_path / f"away-{name.partition('/')[0]}")
    for make in (os.mkfifo, lambda path: path.symlink_to(tmp_path)):
        (out / "characters.csv").unlink()
        make(out / "characters.csv")
        with pytest.raises(LRopeError, match=r"holds characters\.csv"):
            write_result(out, overwrite=True)


@pytest.mark.parametrize("name", ["characters.csv", "result.json"])
def test_a_file_of_ours_that_was_changed_is_not_ours_any_more(tmp_path: Path, name: str) -> None:
    out = write_result(tmp_path / "out")
    (out / name).write_text("edited for a week")
    with pytest.raises(LRopeError, match=rf"holds {name}, which lrope-interp did not write, or not as it is"):
        write_result(out, overwrite=True)
    assert (out / name).read_text() == "edited for a week"


def test_a_result_without_a_manifest_does_not_say_of_any_file_that_it_is_its_table(tmp_path: Path) -> None:
    out = write_result(tmp_path / "out")
    forget_manifests(out)
    result = json.loads((out / "result.json").read_text())
    put(out / "thesis.tex")
    write_json_atomically(out / "result.json", {**result, "tables": {"characters": "thesis.tex"}})
    with pytest.raises(LRopeError, match=r"thesis\.tex"):
        write_result(out, overwrite=True)


def test_through_a_link_the_folder_itself_is_replaced_or_refused(tmp_path: Path) -> None:
    out = write_result(tmp_path / "real" / "out")
    (tmp_path / "link").symlink_to(out)
    write_result(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    put(out / "thesis.tex")
    with pytest.raises(LRopeError, match=r"holds thesis\.tex"):
        write_result(tmp_path / "link", overwrite=True)


@pytest.mark.parametrize("names", [["result.json"], ["run.json"], [".git/HEAD"]])
def test_a_folder_with_our_names_and_other_content_is_not_ours(tmp_path: Path, names: list[str]) -> None:
    out = tmp_path / "out"
    for name in names:
        put(out / name)
    before = files(out)
    for write in (write_result, write_run):
        for overwrite in (False, True):
            with pytest.raises(LRopeError, match="not ours to replace"):
                write(out, overwrite=overwrite)
    assert files(out) == before


def test_what_another_command_made_is_not_replaced(tmp_path: Path) -> None:
    run, shown = write_run(tmp_path / "run"), write_result(tmp_path / "show")
    write_result(tmp_path / "eval", "eval")
    for folder, what in (("eval", "a result of `eval`"), ("run", "a run")):
        with pytest.raises(LRopeError, match=f"holds {what}, which `show` does not replace"):
            write_result(tmp_path / folder, overwrite=True)
    with pytest.raises(LRopeError, match="holds a result of `show`, which `train` does not replace"):
        write_run(shown, overwrite=True)
    forget_manifests(tmp_path)
    assert [kind_of(folder) for folder in (run, shown)] == [RUN, "show"]


def test_what_a_command_made_under_its_former_name_is_replaced_by_it(tmp_path: Path) -> None:
    folder = write_result(tmp_path / "cost", "bench")
    assert kind_of(folder) == "context"
    write_result(folder, "context", overwrite=True)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_run_is_replaced_with_its_analyses_if_every_file_in_it_is_ours(
    tmp_path: Path, is_old: bool
) -> None:
    run = write_run(tmp_path / "run")
    write_result(run / "show", is_numbered=True)
    write_result(run / "show", is_numbered=True)
    if is_old:
        forget_manifests(run)
    for name in ("checkpoints/note.txt", "show-2/note.txt", "increments/mine", "sub/run.json", "a.csv"):
        put(run / name)
        with pytest.raises(LRopeError) as refused:
            write_run(run, overwrite=True)
        assert f"holds {name}," in str(refused.value)
        (run / name).unlink()
        if (run / name).parent.name in ("increments", "sub"):
            (run / name).parent.rmdir()
    write_run(run, overwrite=True)
    assert "show" not in contents(run)


def test_an_experiment_is_known_by_its_runs_and_checked_to_the_last_file(tmp_path: Path) -> None:
    rep = tmp_path / "rep"
    for arm in ARMS:
        write_run(rep / "runs" / f"{arm}-s12")
    put(rep / "scores" / "fixed-s0.json")
    save_result(a_result("replicate"), rep)
    assert (kind_of(rep), first_foreign(rep, REPLICATE)) == (REPLICATE, None)
    put(rep / "runs" / "fixed-s12" / "note.txt")
    assert first_foreign(rep, REPLICATE) == "runs/fixed-s12/note.txt"


def test_what_a_killed_process_was_writing_is_ours_and_what_looks_like_it_is_not(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in (".run.json.0123abcd", ".model.safetensors.tmp", ".report.html.89abcdef"):
        put(run / name)
    put(run / ".notes.md.tmp")
    assert first_foreign(run, RUN) == ".notes.md.tmp"
    with locked(run):
        recover(run)
    assert ".report.html.89abcdef" in contents(run)
    recover(run)
    assert [name for name in contents(run) if name.startswith(".")] == [MANIFEST_FILE, ".notes.md.tmp"]
    put(tmp_path / ".report.html.0123abcd")
    recover(tmp_path)
    assert ".report.html.0123abcd" in contents(tmp_path)  # which is no folder of ours


@pytest.mark.parametrize("replaces", [5, ["run.json"], None])
def test_a_manifest_of_another_form_is_none_of_ours(tmp_path: Path, replaces: object) -> None:
    run = write_run(tmp_path / "run.new")
    manifest = json.loads((run / MANIFEST_FILE).read_text())
    write_json_atomically(run / MANIFEST_FILE, {**manifest, "replaces": replaces})
    assert folders.folder_manifest(run) == {}


def test_what_looks_like_left_over_and_is_a_strangers_stays(tmp_path: Path) -> None:
    for name in (".show.partial", ".show.0123abcd.old", ".config.0123abcd.old", ".x.partial"):
        put(tmp_path / name / "precious")
    put(tmp_path / ".y.partial")
    put(tmp_path / "mine.new", is_folder=True)
    (tmp_path / ".z.old").symlink_to(tmp_path)
    shutil.copytree(write_result(tmp_path / "out"), tmp_path / ".out.old")  # a backup that the user hid
    before = files(tmp_path)
    recover(tmp_path)
    assert write_result(tmp_path / "show", is_numbered=True) == tmp_path / "show-2"
    with pytest.raises(LRopeError, match="is in the way"):
        write_result(tmp_path / "show")
    assert {name: content for name, content in files(tmp_path).items() if "show-2" not in name} == before
    assert not {"config", "show"} & {*contents(tmp_path)}
    assert "mine.new" in contents(tmp_path)
    for name in (".out.partial", ".out.0123abcd.old"):
        with pytest.raises(LRopeError, match="give another folder"):
            write_result(tmp_path / name)


def test_a_run_that_happens_to_be_called_new_is_not_taken_for_a_replacement(tmp_path: Path) -> None:
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "run.new")
    before = files(other)
    with pytest.raises(LRopeError, match="is in the way"):
        write_run(run, overwrite=True)
    with held(other, RUN) as place:
        assert place.settle() == other
    recover(tmp_path)
    assert resumed_folder(run) == run
    assert files(other) == before


# What cannot be written


@pytest.mark.parametrize("has_old", [False, True])
def test_a_mount_point_is_filled_if_it_is_empty_and_costs_no_result_if_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_old: bool
) -> None:
    out = tmp_path / "out"
    if has_old:
        write_result(out)
    out.mkdir(exist_ok=True)
    before, rename = files(out), Path.rename

    def within_one_device(path: Path, target: Path) -> Path:
        if path == out:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if path.is_relative_to(out) != target.is_relative_to(out):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", within_one_device)
    made = write_result(out, overwrite=True)
    assert made == (tmp_path / "out-2" if has_old else out)
    assert {"result.json", MANIFEST_FILE} <= {*contents(made)}
    assert contents(tmp_path) == (["out", "out-2"] if has_old else ["out"])
    assert not has_old or files(out) == before


@pytest.mark.parametrize("has_old", [False, True])
def test_who_is_overtaken_loses_nothing_and_takes_nothing(tmp_path: Path, has_old: bool) -> None:
    out = tmp_path / "out"
    if has_old:
        write_result(out)
    with reserved(out, "show", overwrite=True) as place:
        (place.folder / "mine").write_text("computed for hours")
        put(out / "theirs")
        assert place.settle() == tmp_path / "out-2"
    assert "theirs" in contents(out)
    assert (tmp_path / "out-2" / "mine").read_text() == "computed for hours"
    assert contents(tmp_path) == ["out", "out-2"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LRopeError, match="is a file"), reserved(tmp_path / "file", "show"):
        pass
    for name in ("file/out", "x" * 300):
        with (
            pytest.raises(LRopeError, match="cannot write the folder") as refused,
            reserved(tmp_path / name, "show"),
        ):
            pass
        assert f"({tmp_path / name.split('/')[0]}" in str(refused.value), "the file is named"
    with pytest.raises(PermissionError), reserved(tmp_path / "out", "show"):  # of a file that is read
        raise PermissionError(errno.EACCES, "Permission denied", "secret.txt")


def test_a_full_disk_is_said_in_words_and_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write() -> None:
        with reserved(tmp_path / "out", "show") as place:
            monkeypatch.setattr(os, "fsync", full)
            save_result(a_result(), place.folder)

    with pytest.raises(LRopeError, match=r"characters\.csv: No space left"):
        write()
    assert contents(tmp_path) == []
    for write_one in (write_page, lambda _, path: write_json_atomically(path, {})):
        with pytest.raises((LRopeError, OSError), match="No space left") as said:
            write_one("", tmp_path / "one.file")
        assert "one.file" in str(said.value)
    assert contents(tmp_path) == []


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json_atomically(path, {"word": "字"})
    with pytest.raises(ValueError, match="JSON"):
        write_json_atomically(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"word": "字"}
    assert contents(tmp_path) == ["run.json"]


# Two processes at once


def test_several_at_once_all_get_a_place_of_their_own(tmp_path: Path) -> None:
    words = (tmp_path / "show", "show", "numbered")
    with another_process(*words) as first, another_process(*words) as second:
        assert write_result(tmp_path / "show", is_numbered=True) == tmp_path / "show-3"
        for process, name in ((second, "show-2"), (first, "show")):
            assert process.communicate("x")[0].strip() == str(tmp_path / name)
    assert contents(tmp_path) == ["show", "show-2", "show-3"]


@pytest.mark.parametrize("before", ["nothing", "empty", "old"])
def test_a_place_that_another_process_fills_is_refused_at_once_until_that_is_killed(
    tmp_path: Path, before: str
) -> None:
    out = tmp_path / "show"
    if before != "nothing":
        write_result(out) if before == "old" else out.mkdir()
    with another_process(out, "show", "over") as other:
        with pytest.raises(LRopeError, match="another process"):
            write_result(out, overwrite=True)
        recover(tmp_path)
        recover(out)
        assert other.filling.is_dir()  # type: ignore[attr-defined]
        other.kill()
    assert other.filling.is_dir()  # type: ignore[attr-defined]
    assert write_result(out, overwrite=True) == out
    assert contents(tmp_path) == ["show"]
    assert ".show.partial" not in contents(out)


def test_a_lock_stays_with_a_folder_that_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    with locked(tmp_path / "partial"):
        (tmp_path / "partial").rename(tmp_path / "run")
        assert is_locked(tmp_path / "run")
    assert not is_locked(tmp_path / "run")


def test_a_run_is_replaced_by_one_that_is_filled_beside_it_and_can_be_resumed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    before = files(run)
    with reserved(run, RUN, overwrite=True) as place:
        assert place.folder == tmp_path / "run.new"
        recover(tmp_path)
        assert contents(tmp_path) == ["run", "run.new"]
    assert contents(tmp_path) == ["run"]  # nothing was begun that could be resumed
    begin_to_replace(run)
    assert files(run) == before
    assert resumed_folder(run) == tmp_path / "run.new"
    with held(resumed_folder(run), RUN) as place:
        assert is_locked(run)
        with pytest.raises(LRopeError, match="another process"):
            write_run(run, overwrite=True)
        (place.folder / "timing.jsonl").write_text("new")
        assert place.settle() == run
    assert contents(tmp_path) == ["run"]
    assert (run / "timing.jsonl").read_text() == "new"
    assert "replaces" not in json.loads((run / MANIFEST_FILE).read_text())


def test_what_came_into_a_run_while_its_replacement_was_made_is_not_lost(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    begin_to_replace(run)
    write_result(run / "show")
    came = pytest.raises(LRopeError, match="holds show, which was not there, or was another")
    with held(resumed_folder(run), RUN) as place, came:
        place.settle()
    assert contents(tmp_path) == ["run", "run.new"]
    with another_process(run / "show-2", "show"):
        (run / "show").rename(tmp_path / "show")
        with held(resumed_folder(run), RUN) as place, pytest.raises(LRopeError, match="is writing into"):
            place.settle()
    shutil.move(run, tmp_path / "kept")
    write_run(run)
    (run / "model.safetensors").write_text("another")
    before = files(run)
    with (
        held(resumed_folder(run), RUN) as place,
        pytest.raises(LRopeError, match=r"holds model\.safetensors"),
    ):
        place.settle()
    assert files(run) == before
    shutil.rmtree(run)
    shutil.move(tmp_path / "kept", run)
    with held(resumed_folder(run), RUN) as place:
        place.settle()
    assert contents(tmp_path) == ["run", "show"]


# Killed or interrupted before any one of the calls that change the disk

CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync")


def ending_at(n: int, end: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the n-th call that changes the disk end everything, once."""
    calls = count()

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any, **how: Any) -> Any:
            if next(calls) == n:
                end()
            return call(*given, **how)

        return called

    for name in CALLS:
        monkeypatch.setattr(os, name, ending(getattr(os, name)))


def is_killed(n: int, action: Callable[[], Any]) -> bool:
    """Do something in a process that dies before its n-th call; return whether it came so far."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            ending_at(n, lambda: os._exit(9), patch)
            action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def is_interrupted(n: int, action: Callable[[], Any]) -> bool:
    def end() -> None:
        raise KeyboardInterrupt

    try:
        with pytest.MonkeyPatch.context() as patch:
            ending_at(n, end, patch)
            action()
    except KeyboardInterrupt:
        return True
    return False


Cut = Callable[[int, Callable[[], Any]], bool]


def ends(is_cut: Cut, places: Iterator[Path], action: Callable[[Path], Any]) -> Iterator[Path]:
    """Yield a place where an action ended before its first call, its second, ... and where it did not."""
    for n, place in enumerate(places):
        was_cut = is_cut(n, lambda place=place: action(place))
        yield place
        if not was_cut:
            assert n > 10
            return


def write_small(folder: Path, said: str, kind: str = "show", names: str = "result.json scores.csv") -> Path:
    """Put a folder of few files into its place, all of which say the same."""
    with reserved(folder, kind, overwrite=True) as place:
        for name in names.split():
            write_json_atomically(place.folder / name, {"said": said})
        return place.settle()


def said_by(folder: Path) -> str:
    """Return what the files of a whole result say; nothing, if it has none."""
    said = {json.loads(path.read_text())["said"] for path in folder.iterdir() if path.name != MANIFEST_FILE}
    assert contents(folder) in ([MANIFEST_FILE, "result.json", "scores.csv"], [])
    assert len(said) <= 1
    return "".join(said)


@pytest.mark.parametrize("is_cut", [is_killed, is_interrupted])
@pytest.mark.parametrize("before", ["nothing", "empty", "old"])
def test_wherever_it_ends_a_result_is_the_old_one_or_the_new_one_and_nothing_else_is_left(
    tmp_path: Path, before: str, is_cut: Cut
) -> None:
    def places() -> Iterator[Path]:
        for n in count():
            out = tmp_path / f"{n}" / "runs" / "out"
            if before != "nothing":
                write_small(out, "old") if before == "old" else out.mkdir(parents=True)
            yield out

    seen = set()
    for out in ends(is_cut, places(), lambda out: write_small(out, "new")):
        if is_cut is is_killed and out.parent.exists():
            recover(out.parent)  # as every command does
            if before == "empty" and any(out.iterdir()):  # somebody may stand in it, and saw it fill
                if "result.json" in contents(out):  # which says that it is whole
                    assert {*contents(out)} >= {MANIFEST_FILE, "scores.csv"}
                write_small(out, "new")
        if out.exists():
            seen.add(said_by(out))
        else:
            assert before == "nothing"
        if out.parent.exists():
            assert contents(out.parent) == (["out"] if out.exists() else [])
            assert out.exists() or is_cut is is_killed
        write_small(out, "at last")
        assert said_by(out) == "at last"
    assert seen - {""} == ({"old", "new"} if before == "old" else {"new"})


@pytest.mark.parametrize("is_old", [False, True])
def test_wherever_the_removal_of_an_old_run_ends_the_next_command_ends_it(
    tmp_path: Path, is_old: bool
) -> None:
    new, old = write_run(tmp_path / "out"), write_run(tmp_path / "old")
    write_result(old / "show")
    if is_old:
        forget_manifests(old)
    aside, before = tmp_path / ".out.0123abcd.old", files(new)
    for _ in ends(is_killed, (shutil.copytree(old, aside) for _ in count()), lambda _: recover(tmp_path)):
        if aside.exists():
            with locked(aside):  # as if its owner lived
                recover(tmp_path)
            assert aside.exists()
        recover(tmp_path)
        assert contents(tmp_path) == ["old", "out"]
        assert files(new) == before


@pytest.mark.parametrize("is_cut", [is_killed, is_interrupted])
def test_wherever_the_replacement_of_a_run_ends_it_can_be_ended_and_none_is_lost(
    tmp_path: Path, is_cut: Cut
) -> None:
    def write(run: Path, said: str = "new") -> Path:
        return write_small(run, said, RUN, "timing.jsonl run.json")

    def said(run: Path) -> str:
        return json.loads((run / "timing.jsonl").read_text())["said"]

    for run in ends(is_cut, (write(tmp_path / f"{n}" / "run", "old") for n in count()), write):
        recover(run.parent)
        assert first_foreign(run, RUN) is None
        assert said(run) in ("old", "new")
        if resumed_folder(run) != run:
            assert said(run) == "old"
            with held(resumed_folder(run), RUN) as place:
                assert place.settle() == run
            assert said(run) == "new"
        assert contents(run.parent) == ["run"]


# What is on the disk before what


def test_a_folder_is_on_the_disk_before_it_gets_its_name_and_the_old_one_goes_after(
    tmp_path: Path, journal: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, partial, remove = write_result(tmp_path / "out"), tmp_path / ".out.partial", folders._remove
    journal.clear()

    def noting_remove(folder: Path) -> None:
        journal.append(("remove", str(folder)))
        remove(folder)

    monkeypatch.setattr(folders, "_remove", noting_remove)
    write_result(out, overwrite=True)
    moved = journal.index(("rename", f"{partial} -> {out}"))
    for name in contents(out):
        last = max(k for k, noted in enumerate(journal) if noted == ("fsync", str(partial / name)))
        assert last < moved
    assert ("fsync", str(partial)) in journal[:moved]
    (removed,) = [k for k, (what, path) in enumerate(journal) if what == "remove" and path.endswith(".old")]
    assert ("fsync", str(tmp_path)) in journal[moved:removed]


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    tmp_path: Path, journal: list[tuple[str, str]]
) -> None:
    write_json_atomically(tmp_path / "run.json", {})
    save_result(a_result(), tmp_path)
    assert [what for what, _ in journal[:3]] == ["fsync", "rename", "fsync"]
    assert journal[1][1].startswith(journal[0][1]) and journal[2][1] == str(tmp_path)
    (moved,) = [k for k, (what, path) in enumerate(journal) if what == "rename" and "result.json" in path]
    for name in ("characters.csv", "gaps.parquet"):
        assert journal.index(("fsync", str(tmp_path / name))) < moved


def test_a_folder_that_fills_says_last_that_it_is_whole(
    tmp_path: Path, journal: list[tuple[str, str]]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_result(out)
    arrived = [k for k, (what, path) in enumerate(journal) if what == "rename" and f" -> {out}/" in path]
    came = [Path(journal[k][1].partition(" -> ")[2]) for k in arrived]
    came = [path.name for path in came if path.parent == out]
    assert came[-1] == "result.json" and set(came) == set(contents(out))
    assert ("fsync", str(out)) in journal[arrived[-1] :]
