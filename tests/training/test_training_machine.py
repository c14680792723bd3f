from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lrope_interp.errors import LRopeError
from lrope_interp.folders import is_locked, locked
from lrope_interp.training import distribution
from lrope_interp.training.distribution import resolve_device, resolve_dtype
from lrope_interp.training.process import set_malloc_thresholds
from lrope_interp.training.steps import Clock


def test_auto_takes_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, best in ((("cpu",), "cpu"), (("mps", "cpu"), "mps"), (("cpu", "cuda", "mps"), "cuda")):
        monkeypatch.setattr(distribution, "_is_available", present.__contains__)
        assert resolve_device("auto") == best


def test_a_missing_device_is_refused_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "_is_available", "cpu".__eq__)
    with pytest.raises(LRopeError, match=r"sees only cpu here; use --device auto"):
        resolve_device("cuda")
    with pytest.raises(LRopeError, match="Did you mean 'cuda'"):
        resolve_device("cude")


def test_auto_computes_in_bfloat16_only_where_the_hardware_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_there, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(distribution, "has_bfloat16", lambda device, answer=is_there: answer)
        assert resolve_dtype("auto", "cpu") == dtype
    assert resolve_dtype("float32", "cpu") == "float32"
    with pytest.raises(LRopeError, match="Did you mean 'bfloat16'"):
        resolve_dtype("bfloat", "cpu")


def test_an_unknown_cpu_is_taken_for_one_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert distribution.has_bfloat16("cpu") is False
    assert distribution.has_bfloat16("mps") is False


def test_a_lock_keeps_a_second_process_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    holder = (
        "import sys; from pathlib import Path; from lrope_interp.folders import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert is_locked(tmp_path)
        with pytest.raises(LRopeError, match="another process is training"), locked(tmp_path):
            pass
        process.kill()
    assert not is_locked(tmp_path)


def test_a_lock_stays_with_a_folder_that_is_renamed(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    with locked(tmp_path / "partial"):
        (tmp_path / "partial").rename(tmp_path / "run")
        assert is_locked(tmp_path / "run")
    assert not is_locked(tmp_path / "run")


def test_malloc_thresholds_are_set_where_there_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from lrope_interp.training.process import set_malloc_thresholds; print(set_malloc_thresholds())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() in ("True", "False")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert set_malloc_thresholds() is False


def test_the_clock_counts_steps_and_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 12.0, 15.0, 19.0, 20.0])
    monkeypatch.setattr("lrope_interp.training.steps.time.perf_counter", lambda: next(times))
    clock = Clock(seconds=100.0)  # at 0
    clock.restart()  # at 10
    clock.stepped(1, 600)  # at 12: 2 s
    clock.restart()  # at 15
    clock.validated()  # at 19 (and restarts at 20): 4 s
    assert clock.seconds == 102.0
    assert clock.bytes_per_second == 300.0
    assert clock.seconds_left(10, 2) == 10 * 2.0 + 2 * 4.0
