"""What is told to trackers never changes a run's numbers, and goes nowhere unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from run_samples import MakeConfig, outcome

from lrope_interp.errors import LRopeError
from lrope_interp.training import metrics
from lrope_interp.training.config import Recording
from lrope_interp.training.distribution import decided, joined
from lrope_interp.training.events import Event, Warned
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import METRICS_FILE, RunLogs, figures, read_lines


def test_a_line_of_metrics_becomes_named_figures() -> None:
    heads = [{"layer": 1, "head": 0, "mean": 1.5, "sd": 0.1}, {"layer": 1, "head": 1, "mean": 0.5, "sd": 0.1}]
    line = {"step": 3, "split": "train", "loss": 2.0, "lr": 1e-3, "grad_norm": 0.5, "increments": heads}
    assert figures(line) == {
        "train/loss": 2.0, "train/lr": 1e-3, "train/grad_norm": 0.5, "increments/L1H0": 1.5,
        "increments/L1H1": 0.5,
    }  # fmt: skip
    assert figures({"step": 3, "split": "validation", "nats_per_byte": 2.5, "bytes": 10}) == {
        "validation/nats_per_byte": 2.5
    }


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    lacking = r"needs the package tensorboard.*pip install 'lrope-interp\[track\]'"
    with pytest.raises(LRopeError, match=lacking):
        train(make_config(), tmp_path / "run", recording=Recording(log_to=("tensorboard",)))
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_fails_is_warned_of_once_and_training_goes_on(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(values: dict[str, float], step: int) -> None:
        raise ConnectionError("no network")

    told: list[Event] = []
    with joined(decided(make_config())) as processes:
        monkeypatch.setattr(processes.accelerator, "log_with", ["wandb"])
        monkeypatch.setattr(processes.accelerator, "log", fail)
        with RunLogs(tmp_path, processes, told.append) as logs:
            for step in (1, 2):
                logs.write(METRICS_FILE, {"step": step, "split": "train", "loss": 1.0})
    assert told == [Warned("a tracker failed and is told nothing more: no network")]
    assert [line["step"] for line in read_lines(tmp_path / METRICS_FILE)] == [1, 2]


TRACKED = """
import json, sys
from pathlib import Path
from lrope_interp.training.config import Recording, TrainConfig
from lrope_interp.training.loop import train
train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], recording=Recording(("tensorboard",)))
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
told = EventAccumulator(str(Path(sys.argv[2]) / "tensorboard" / "lrope-interp"))
told.Reload()
tags = told.Tags()["scalars"]
print(json.dumps({tag: [(one.step, one.value) for one in told.Scalars(tag)] for tag in tags}))
"""


@pytest.mark.slow
def test_tensorboard_is_told_what_the_metrics_are_told(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    """In a process of its own: TensorBoard imports what warns."""
    pytest.importorskip("tensorboard", exc_type=ImportError)
    call = [sys.executable, "-c", TRACKED, json.dumps(make_config().to_dict()), str(tmp_path / "run")]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    lines = [line for line in read_lines(tmp_path / "run" / METRICS_FILE) if line["split"] == "train"]
    for name in ("loss", "lr", "grad_norm"):
        steps, values = zip(*told[f"train/{name}"], strict=True)
        assert list(steps) == [line["step"] for line in lines]
        assert list(values) == pytest.approx([line[name] for line in lines], rel=1e-6)
    assert {"validation/nats_per_byte", "increments/L0", "increments/L1"} <= told.keys()
    assert outcome(uninterrupted) == outcome(tmp_path / "run")
