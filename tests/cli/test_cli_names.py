"""Odd names and closed streams: what a terminal is sent, and what is refused before any work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_words import Cli

from lrope_interp.errors import visible

ODD = "a\x1b[31m\nb\x9b1m\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, na\u00efve \u4e2d\u6587 \U0001f642", "plain, na\u00efve \u4e2d\u6587 \U0001f642"),
        (ODD, r"a\x1b[31m\nb\x9b1m\u202e"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800\r\t\x7f", r"\ud800\r\t\x7f"),
    ],
)
def test_what_would_steer_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


def _is_clean(written: str) -> bool:
    return not any(character in written for character in "\x1b\x9b\u202e")


def test_names_and_texts_do_not_steer_the_terminal(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd" / ODD
    shutil.copytree(run_copy, odd)
    info = json.loads((odd / "run.json").read_text())
    (odd / "run.json").write_text(json.dumps(info | {"data": ODD, "increments": ODD}))
    (tmp_path / f"{ODD}.txt").write_text(f"A text {ODD} with more.")
    for words in (
        ("list", "runs", tmp_path / "odd"),
        ("list", "runs", tmp_path / ODD),
        ("show", ODD, "--model", odd),
        ("eval", "--text", tmp_path / f"{ODD}.txt", "--model", odd),
        ("generate", ODD, "--model", odd, "--max-new-tokens", 3),
        ("boundaries", "--data", ODD, "--model", odd),
        (f"--{ODD}",),
        ("eval", ODD),
        ("show", "--x", f"--layer-{ODD}"),
        ("train", f"--{ODD}=3"),
    ):
        answer = cli(*words)
        assert _is_clean(answer.out + answer.err), words
        assert answer.out or answer.err
    assert len(cli("list", "runs", tmp_path / ODD).err.splitlines()) == 1
    listed = cli("list", "runs", tmp_path / "odd", "--json").out
    assert _is_clean(listed) and json.loads(listed)["runs"][0]["folder"] == str(odd)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--text", "caf\udce9.txt"),
        ("eval", "--text", "x.txt", "--out", "caf\udce9"),
        ("train", "--data", "file:caf\udce9.txt"),
        ("list", "runs", "caf\udce9"),
        ("show", "caf\udce9"),
    ],
    ids=lambda words: words[0],
)
def test_a_word_that_is_not_utf8_is_refused_before_any_work(
    cli: Cli, words: tuple[str, ...], tmp_path: Path
) -> None:
    answer = cli(*words)
    assert (answer.code, answer.out) == (2, "")
    assert "not UTF-8" in answer.err and r"caf\xe9" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_folder_is_not_utf8_is_left_out_of_the_list(cli: Cli, run_copy: Path) -> None:
    shutil.copytree(run_copy, os.fsdecode(os.fsencode(run_copy.parent) + b"/caf\xe9"))
    answer = cli("list", "runs")
    assert answer.code == 0
    assert r"caf\xe9: not UTF-8" in answer.err
    assert run_copy.name in answer.out


@pytest.mark.parametrize("redirection", [">&-", "2>&- >&-", "| true"])
def test_closed_streams_end_without_a_traceback(redirection: str) -> None:
    command = f"{sys.executable} -m lrope_interp list corpora {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert (done.stdout, done.stderr) == ("", "")
