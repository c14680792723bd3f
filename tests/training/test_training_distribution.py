"""Device and precision; several processes, or parts of a batch, train what one process trains at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from run_samples import MakeConfig, logged

from lrope_interp.errors import LRopeError
from lrope_interp.models.config import resolve_device
from lrope_interp.runs import read_run
from lrope_interp.training import distribution
from lrope_interp.training.distribution import (
    Processes,
    decided,
    joined,
    launched_as_main,
    resolve_dtype,
)
from lrope_interp.training.loop import train
from lrope_interp.training.preparation import prepare

RECORDING = """
import json, os, signal, sys, torch
from pathlib import Path
torch.set_num_threads(1)
from lrope_interp.training import steps
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.distribution import leave
from lrope_interp.training.loop import train

config, folder, stop_at = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rank, read, right = int(os.environ["RANK"]), [], steps.TrainingLoop._loss

def recorded(self, tokens):
    read.append((self.step, tokens.tolist()))
    if self.step == stop_at and rank == 1:
        signal.raise_signal(signal.SIGTERM)
    return right(self, tokens)

steps.TrainingLoop._loss = recorded
code = 0
try:
    train(TrainConfig.from_dict(config), folder, resume=folder.exists())
except KeyboardInterrupt:
    code = 130
leave()
left = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in left if "gloo" in name], f"threads of the group outlive it: {left}"
if code:
    sys.exit(code)
folder.with_name(f"read-{rank}.json").write_text(json.dumps(read))
"""


def in_processes(n: int, command: Sequence[str]) -> list[int]:
    """Start a command as a launcher does, once a process, and return the exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(command, env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(n)
    ]
    try:
        return [process.wait(timeout=600) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def assert_close(one: Path, other: Path) -> None:
    """Assert that two runs differ by no more than the order in which sums are taken."""
    for split, name in (("train", "loss"), ("validation", "nats_per_byte")):
        assert logged(one, split, name) == pytest.approx(logged(other, split, name), abs=1e-5)
    found, wanted = (
        [layer[name] for line in logged(run, name="increments") for layer in line for name in ("mean", "sd")]
        for run in (one, other)
    )
    assert found == pytest.approx(wanted, abs=1e-5)


def test_auto_takes_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for present, best in ((("mps", "cpu"), "mps"), (("cpu", "cuda", "mps"), "cuda"), (("cpu",), "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda here="cuda" in present: here)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda here="mps" in present: here)
        assert resolve_device("auto") == best
    with pytest.raises(LRopeError, match=r"sees only cpu here; use device auto"):
        resolve_device("cuda")
    with pytest.raises(LRopeError, match="Did you mean 'cuda'"):
        resolve_device("cude")


def test_auto_computes_in_bfloat16_only_where_the_hardware_does(monkeypatch: pytest.MonkeyPatch) -> None:
    for check in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, check, raising=False)
    assert not distribution.has_bfloat16("cpu")  # an unknown one
    assert not distribution.has_bfloat16("mps")
    for is_there, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(distribution, "has_bfloat16", lambda device, answer=is_there: answer)
        assert resolve_dtype("auto", "cpu") == dtype
    assert resolve_dtype("float32", "cpu") == "float32"
    with pytest.raises(LRopeError, match="Did you mean 'bfloat16'"):
        resolve_dtype("bfloat", "cpu")


def processes_like(rank: int, size: int, n_pieces: int) -> Processes:
    accelerator: Any = SimpleNamespace(
        process_index=rank, num_processes=size, gradient_accumulation_steps=n_pieces
    )
    return Processes(accelerator)


@pytest.mark.parametrize(("size", "n_pieces"), [(1, 1), (1, 4), (2, 1), (2, 2), (4, 3)])
def test_processes_and_parts_share_a_batch_without_loss_or_repetition(size: int, n_pieces: int) -> None:
    batch = torch.arange(24 * 3).reshape(24, 3)
    shares = [processes_like(rank, size, n_pieces).pieces(batch) for rank in range(size)]
    assert all(len(share) == n_pieces for share in shares)
    assert {len(piece) for share in shares for piece in share} == {24 // size // n_pieces}
    assert sorted(row for share in shares for piece in share for row in piece[:, 0].tolist()) == list(
        range(0, 72, 3)
    )


def test_a_batch_that_cannot_be_shared_is_refused(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "num_processes", 3)
    with pytest.raises(LRopeError, match=r"among 3 processes.*a multiple of 3 is wanted, 6 for example"):
        train(make_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{}, {"per_head": True}, {"increments": "fixed"}])
def test_accumulated_gradients_train_the_same_model(
    tmp_path: Path, make_config: MakeConfig, options: dict[str, Any]
) -> None:
    train(make_config(**options), tmp_path / "whole")
    train(make_config(grad_accumulation=4, **options), tmp_path / "parts")
    assert_close(tmp_path / "parts", tmp_path / "whole")
    assert logged(tmp_path / "parts") != logged(tmp_path / "whole"), "four parts are summed in another order"


def test_accelerate_is_left_as_it_was_found(tmp_path: Path, make_config: MakeConfig) -> None:
    from accelerate.state import AcceleratorState, GradientState, PartialState

    kinds = (PartialState, AcceleratorState, GradientState)
    before = [dict(kind._shared_state) for kind in kinds]
    for dtype in ("float32", "bfloat16"):  # accelerate by itself refuses a second precision
        train(make_config(dtype=dtype, n_steps=1), tmp_path / dtype)
    assert [dict(kind._shared_state) for kind in kinds] == before


def test_what_fails_in_another_process_fails_here(make_config: MakeConfig, tmp_path: Path) -> None:
    with joined(decided(make_config())) as alone:
        assert alone.together(lambda: 3) == 3
        pair = PairWithTrouble(alone.accelerator)
        with pytest.raises(LRopeError, match="the other one's disk is full"):
            pair.together(lambda: 3)
        with pytest.raises(ZeroDivisionError):
            pair.together(lambda: 1 // 0)


class PairWithTrouble(Processes):
    """Two processes, as far as they are asked, of which the other one fails."""

    @property
    def size(self) -> int:
        return 2

    def _gather(self, value: str | None) -> list[str | None]:
        return [value, "the other one's disk is full"]


def test_launchers_say_who_speaks_and_where(monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig) -> None:
    assert launched_as_main()
    monkeypatch.setenv("RANK", "1")
    assert not launched_as_main()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert decided(make_config(device="auto")).device == "cpu"


def test_two_processes_read_the_same_batches_and_find_the_same_losses(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(n_steps=6, log_every=1)
    command = [sys.executable, "-c", RECORDING, json.dumps(config.to_dict()), str(tmp_path / "two"), "0"]
    assert in_processes(2, command) == [0, 0]
    train(config, tmp_path / "one")
    sampler = prepare(config, lambda event: None).sampler
    first, second = (json.loads((tmp_path / f"read-{rank}.json").read_text()) for rank in (0, 1))
    for step in range(6):
        batch = sampler.batch(step).tolist()
        assert first[step] == [step + 1, batch[0::2]]
        assert second[step] == [step + 1, batch[1::2]]
    assert logged(tmp_path / "two")[0] == pytest.approx(logged(tmp_path / "one")[0], abs=1e-6)
    assert_close(tmp_path / "two", tmp_path / "one")
    assert (read_run(tmp_path / "two").processes, read_run(tmp_path / "one").processes) == (2, 1)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_and_both_go_on(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config(n_steps=50, log_every=1)
    command = [sys.executable, "-c", RECORDING, json.dumps(config.to_dict()), str(tmp_path / "two")]
    assert in_processes(2, [*command, "7"]) == [130, 130]
    assert (tmp_path / "two" / "checkpoints" / "step-00000007").is_dir()
    assert in_processes(2, [*command, "0"]) == [0, 0]
    train(config, tmp_path / "one")
    one, two = logged(tmp_path / "one"), logged(tmp_path / "two")
    assert two[0] == pytest.approx(one[0], abs=1e-6)
    assert two[49] == pytest.approx(one[49], abs=1e-4)


@pytest.mark.slow
def test_the_command_under_torchrun_leaves_one_run_and_speaks_once(tmp_path: Path, text_file: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    data = f"file:{text_file}"
    options = ["--steps", "3", "--batch-size", "4", "--device", "cpu", "--data", data, "--json"]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [*launcher, "-m", "lrope_interp", "train", *options],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=600,
    )  # fmt: skip
    assert json.loads(done.stdout)["summary"]["step"] == 3
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny-file-sentences-per_layer-s0"]


@pytest.mark.slow
def test_when_one_process_dies_the_other_does_not_wait(tmp_path: Path, make_config: MakeConfig) -> None:
    dying = RECORDING.replace("signal.raise_signal(signal.SIGTERM)", "os.kill(os.getpid(), signal.SIGKILL)")
    config = json.dumps(make_config(n_steps=50).to_dict())
    began = time.monotonic()
    codes = in_processes(2, [sys.executable, "-c", dying, config, str(tmp_path / "two"), "3"])
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, None)
    assert time.monotonic() - began < 500
