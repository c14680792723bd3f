"""What a run leaves besides its numbers never changes them: checkpoints by time, and trackers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.training import metrics
from lrope_interp.training.config import Recording, TrainConfig, tracker_names
from lrope_interp.training.distribution import decided, joined
from lrope_interp.training.events import Checkpointed, Event, Step, Warned
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import Trackers, figures, read_lines

MakeConfig = Callable[..., TrainConfig]


def outcome(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()


def test_names_of_trackers_are_given_with_commas_or_again() -> None:
    assert tracker_names(["wandb,tensorboard", " wandb "]) == ("wandb", "tensorboard")
    assert tracker_names([]) == ()
    with pytest.raises(LRopeError, match="Did you mean 'tensorboard'"):
        Recording(log_to=tracker_names(["tensorbord"]))


@pytest.mark.parametrize("minutes", [-1.0, math.nan, math.inf])
def test_minutes_that_are_none_are_refused(minutes: float) -> None:
    with pytest.raises(LRopeError, match="at least 0 is wanted"):
        Recording(checkpoint_minutes=minutes)


def test_a_recording_comes_back_from_json_and_zero_minutes_means_never() -> None:
    recording = Recording(log_to=("wandb",), checkpoint_minutes=0.0)
    assert Recording.from_dict(json.loads(json.dumps(recording.to_dict()))) == recording
    assert recording.checkpoint_seconds == math.inf
    assert Recording.from_dict({}) == Recording()
    assert Recording().checkpoint_seconds == 600.0


def test_checkpoints_by_time_change_neither_weights_nor_metrics(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    saved: dict[str, list[int]] = {}
    for name, minutes in (("never", 0.0), ("always", 1e-9)):
        told: list[Event] = []
        config = make_config(checkpoint_every=1000)
        train(config, tmp_path / name, on_event=told.append, recording=Recording(checkpoint_minutes=minutes))
        saved[name] = [event.step for event in told if isinstance(event, Checkpointed)]
    assert saved == {"never": [], "always": list(range(1, 12))}
    assert outcome(tmp_path / "never") == outcome(tmp_path / "always")


def test_a_run_that_crashed_goes_on_from_a_checkpoint_by_time_with_its_own_recording(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config, recording = make_config(checkpoint_every=1000), Recording(checkpoint_minutes=1e-9)
    train(config, tmp_path / "whole")

    def crash(event: Event) -> None:
        if isinstance(event, Step) and event.step == 6:  # step 5 was validated before it was saved
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(config, tmp_path / "run", recording=recording, on_event=crash)
    told: list[Event] = []
    train(None, tmp_path / "run", resume=True, on_event=told.append)
    assert [event.step for event in told if isinstance(event, Checkpointed)] == list(range(6, 12))
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_a_run_that_is_resumed_starts_no_tracker_that_sends_unless_it_is_asked_to(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, Step) and event.step == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(make_config(), tmp_path / "run", on_event=stop)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    said = {"log_to": ["wandb"], "checkpoint_minutes": 10.0}
    (tmp_path / "run" / "run.json").write_text(json.dumps({**info, "recording": said}))
    told: list[Event] = []
    assert train(None, tmp_path / "run", resume=True, on_event=told.append).is_finished
    assert [one.message for one in told if isinstance(one, Warned) and "--log-to wandb" in one.message]


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
    with pytest.raises(
        LRopeError, match=r"needs the package tensorboard.*pip install 'lrope-interp\[track\]'"
    ):
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
        tracking = Trackers(processes, told.append)
        for step in (1, 2):
            tracking.log({"step": step, "split": "train", "loss": 1.0})
    assert told == [Warned("a tracker failed and is told nothing more: no network")]


def test_tensorboard_is_told_what_the_metrics_are_told(tmp_path: Path, make_config: MakeConfig) -> None:
    """In a process of its own: TensorBoard imports what warns."""
    pytest.importorskip("tensorboard", exc_type=ImportError)
    code = """
import json, sys
from pathlib import Path
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.loop import train
from lrope_interp.training.config import Recording
train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], recording=Recording(("tensorboard",)))
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
told = EventAccumulator(str(Path(sys.argv[2]) / "tensorboard" / "lrope-interp"))
told.Reload()
tags = told.Tags()["scalars"]
print(json.dumps({tag: [(one.step, one.value) for one in told.Scalars(tag)] for tag in tags}))
"""
    config = make_config()
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(config.to_dict()), str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    for name in ("loss", "lr", "grad_norm"):
        expected = [(line["step"], line[name]) for line in lines if line["split"] == "train"]
        assert [step for step, _ in told[f"train/{name}"]] == [step for step, _ in expected]
        assert [value for _, value in told[f"train/{name}"]] == pytest.approx(
            [value for _, value in expected], rel=1e-6
        )
    assert {"validation/nats_per_byte", "increments/L0", "increments/L1"} <= told.keys()
    train(config, tmp_path / "untold")
    assert outcome(tmp_path / "untold") == outcome(tmp_path / "run")
