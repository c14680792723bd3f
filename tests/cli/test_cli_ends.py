"""How a command ends that is stopped, or that has no memory left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cli_words import Cli, WhileComputing

SHOW = ("show", "A cat. 猫。", "--quiet")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_an_analysis_and_leaves_nothing(
    cli: Cli,
    run_copy: Path,
    tmp_path: Path,
    while_computing: WhileComputing,
    number: int,
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
