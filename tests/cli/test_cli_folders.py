"""What a command replaces, reserves and leaves behind, however it ends."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from cli_words import Cli, WhileComputing, files

from lrope_interp.folders import reserved
from lrope_interp.results import load_result

SHOW = ("show", "A cat. 猫。", "--quiet")


def test_nothing_that_is_not_ours_is_replaced(
    cli: Cli, run_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    (mine / ".git").mkdir(parents=True)
    for name, content in (("result.json", '{"my": "results"}'), ("thesis.tex", "x"), (".git/HEAD", "x")):
        (mine / name).write_text(content)
    (tmp_path / "link").symlink_to(mine)
    assert cli("eval", "--model", run_copy, "--quiet").code == 0
    before = files(tmp_path)
    for out in (mine, tmp_path / "link", tmp_path, run_copy, run_copy.parent, run_copy / "eval"):
        refused = cli(*SHOW, "--model", run_copy, "--out", out, "--overwrite")
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (2, "", 1)
    for command in (["train"], ["study", "replicate"]):
        for out in (mine, tmp_path / "link", run_copy / "eval"):
            refused = cli(*command, "--data", "file:x", "--steps", "1", "--out", out, "--overwrite")
            assert refused.code == 2
    monkeypatch.chdir(mine)
    assert "not ours to replace" in cli(*SHOW, "--model", run_copy, "--out", ".", "--overwrite").err
    assert files(tmp_path) == before


def test_results_are_numbered_and_one_of_ours_is_replaced_as_a_whole(cli: Cli, run_copy: Path) -> None:
    for _ in range(2):
        assert cli(*SHOW).code == 0
    assert {"show", "show-2"} <= {one.name for one in run_copy.iterdir()}
    words = [*SHOW, "--out", "out"]
    assert cli(*words).code == 0
    before = Path("out/result.json").read_bytes()
    assert cli(*words).code == 2
    assert cli(*words, "--overwrite").code == 0
    assert Path("out/result.json").read_bytes() != before
    Path("out/note.txt").write_text("mine")
    refused = cli(*words, "--overwrite")
    assert refused.code == 2 and "holds note.txt" in refused.err
    assert Path("out/note.txt").read_text() == "mine"


def test_one_that_is_asked_for_the_same_folder_is_refused_before_it_computes(
    cli: Cli, run_copy: Path, tmp_path: Path, while_computing: WhileComputing
) -> None:
    computed: list[int] = []
    while_computing(lambda: computed.append(1))
    with reserved(tmp_path / "out", "show"):
        refused = cli(*SHOW, "--model", run_copy, "--out", "out")
    assert (refused.code, computed) == (2, [])
    assert "another process is writing out" in refused.err
    assert sorted(os.listdir(tmp_path)) == ["runs"]


def test_what_a_killed_analysis_left_in_a_run_is_removed_by_the_next_command(
    cli: Cli, run_copy: Path
) -> None:
    child = os.fork()
    if child == 0:
        with reserved(run_copy / "probe", "probe", is_numbered=True):
            os._exit(9)
    os.waitpid(child, 0)
    assert (run_copy / ".probe.partial").is_dir()
    assert cli(*SHOW, "--model", run_copy).code == 0
    assert not (run_copy / ".probe.partial").exists()


@pytest.mark.parametrize(
    ("error", "said"), [(OSError(28, "No space left on device"), "No space"), (MemoryError(), "memory")]
)
def test_a_page_that_cannot_be_written_does_not_take_the_tables_with_it(
    cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    from lrope_interp.reports.kit import render

    def fail(html: str, path: Path) -> Path:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(render, "write_page", fail)
        answer = cli(*SHOW, "--model", run_copy)
    assert answer.code == 2
    assert f"the result is whole and lies in {run_copy / 'show'}" in answer.err
    assert said in answer.err
    assert len(load_result(run_copy / "show").tables["characters"])
    again = cli(*SHOW, "--model", run_copy, "--out", run_copy / "show", "--overwrite")
    assert again.code == 0, again.err
    assert (run_copy / "show" / "report.html").is_file()


def test_provenance_names_the_weights_that_were_analysed_and_not_those_that_came_after(
    cli: Cli, run_copy: Path, while_computing: WhileComputing
) -> None:
    weights = run_copy / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()

    def replace() -> None:
        (run_copy / "new").write_bytes(b"other weights")
        (run_copy / "new").replace(weights)

    while_computing(replace)
    assert cli(*SHOW, "--model", run_copy).code == 0
    assert load_result(run_copy / "show").provenance["model_sha256"] == digest


@pytest.mark.usefixtures("tiny_preset")
def test_two_trainings_without_a_name_get_two_runs_and_a_replaced_one_is_named(
    cli: Cli, text_file: Path
) -> None:
    words = ("train", "--steps", "1", "--data", f"file:{text_file}", "--quiet")
    assert cli(*words).code == 0
    assert cli(*words).code == 0
    name = "tiny-file-text-per_layer-s0"
    assert sorted(os.listdir("runs")) == [name, f"{name}-2"]
    page = Path("runs") / name / "report.html"
    text = page.read_text(encoding="utf-8")
    page.write_text("notes", encoding="utf-8")
    assert "holds report.html, which" in cli(*words, "--out", f"runs/{name}", "--overwrite").err
    page.write_text(text, encoding="utf-8")
    replaced = cli(*words, "--seed", "3", "--out", f"runs/{name}", "--overwrite")
    assert replaced.code == 0
    assert f"runs/{name} stays until the new run is finished" in replaced.err
    assert json.loads((Path("runs") / name / "run.json").read_text())["seed"] == 3
    assert sorted(os.listdir("runs")) == [name, f"{name}-2"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_analysis_and_leaves_nothing(
    cli: Cli, run_copy: Path, tmp_path: Path, while_computing: WhileComputing, number: int
) -> None:
    before, handlers = files(tmp_path), [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)]
    while_computing(lambda: signal.raise_signal(number))
    for out in ((), ("--out", "deep/er/out")):
        answer = cli(*SHOW, "--model", run_copy, *out)
        assert (answer.code, answer.out) == (130, "")
        assert "Traceback" not in answer.err
    assert files(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["runs"]
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)] == handlers


def test_under_nohup_a_hang_up_is_still_ignored(
    cli: Cli, run_copy: Path, while_computing: WhileComputing
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        while_computing(lambda: signal.raise_signal(signal.SIGHUP))
        assert cli(*SHOW, "--model", run_copy).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_out_of_memory_says_which_option_helps(
    cli: Cli, run_copy: Path, while_computing: WhileComputing, error: Exception
) -> None:
    def fail() -> None:
        raise error

    while_computing(fail)
    answer = cli(*SHOW, "--model", run_copy)
    assert (answer.code, len(answer.err.splitlines())) == (2, 1)
    assert answer.err.startswith("Error: out of memory: a shorter text")
    assert not (run_copy / "show").exists()
