from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lrope_interp.commands.training import Recorded, Request, _resumed
from lrope_interp.errors import LRopeError
from lrope_interp.folders import locked
from lrope_interp.runs import read_run
from lrope_interp.training import checkpoints, loop
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import Checkpointed, Event, Finished, Started, Step, Warned
from lrope_interp.training.loop import train
from lrope_interp.training.process import stop_flag
from lrope_interp.training.steps import learning_rate_share

MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(make_config(), folder)
    return folder


def outcome(folder: Path) -> tuple[str, bytes]:
    weights = (folder / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), (folder / "metrics.jsonl").read_bytes()


def at(step: int, kind: type[Event], action: Callable[[], object]) -> Callable[[Event], None]:
    """Do something when the loop tells of a step (or a checkpoint)."""

    def on_event(event: Event) -> None:
        if isinstance(event, kind) and getattr(event, "step", None) == step:
            action()

    return on_event


def interrupt(number: int = signal.SIGINT) -> Callable[[], None]:
    return lambda: signal.raise_signal(number)


@pytest.mark.parametrize("step", [1, 5, 7, 8, 12])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path, step: int, number: int
) -> None:
    """Step 5 stops within its validation, 8 at a checkpoint that is due, 12 is the last."""
    folder, told = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), folder, on_event=at(step, Step, interrupt(number)))
    assert read_run(folder, allow_unfinished=True).status == "running"
    run = train(None, folder, resume=True, on_event=told.append)
    assert run.is_finished
    assert next(event for event in told if isinstance(event, Started)).step == step
    assert outcome(folder) == outcome(uninterrupted)


def test_a_second_ctrl_c_stops_at_once_and_saves_nothing(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(3, Step, twice))
    assert not (tmp_path / "run" / "checkpoints").exists()
    train(None, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_a_terminal_that_closes_sends_two_hang_ups_and_training_saves(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)

    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(3, Step, twice))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    train(None, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_under_nohup_a_hang_up_stops_no_training() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_flag() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_said_to_a_terminal_that_is_gone_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        with stop_flag() as stop:
            os.close(ours)
            signal.raise_signal(signal.SIGHUP)
            stream.write("saved")
            stream.flush()
        assert stop.is_set


def test_signal_handlers_are_put_back(tmp_path: Path, make_config: MakeConfig) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(make_config(n_steps=1), tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


KILLED = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.loop import train
from lrope_interp.training.steps import learning_rate_share
def on_event(event):
    if type(event).__name__ == "Step" and event.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], on_event=on_event)
"""


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    folder, told = tmp_path / "run", []
    config = json.dumps(make_config().to_dict())
    process = subprocess.run([sys.executable, "-c", KILLED, config, str(folder)], check=False, env=os.environ)
    assert process.returncode == -signal.SIGKILL
    train(None, folder, resume=True, on_event=told.append)
    assert next(event for event in told if isinstance(event, Started)).step == 4
    assert outcome(folder) == outcome(uninterrupted)


def test_stopped_within_a_checkpoint_write_the_one_before_counts(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, right = tmp_path / "run", checkpoints._write_state

    def stopping(partial: Path, step: int, *rest: object) -> None:
        if step == 8:
            raise KeyboardInterrupt  # after the tensors, before their checksums
        right(partial, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "_write_state", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), folder)
    monkeypatch.undo()
    assert any(path.name.startswith(".step-") for path in (folder / "checkpoints").iterdir())
    train(None, folder, resume=True)
    assert outcome(folder) == outcome(uninterrupted)
    assert not any(path.name.startswith(".") for path in (folder / "checkpoints").iterdir())


def test_a_torn_checkpoint_costs_steps_but_not_the_run(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    folder, told = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), folder, on_event=at(10, Step, interrupt()))
    (folder / "checkpoints" / "step-00000010" / "optimiser.safetensors").write_bytes(b"torn")
    train(None, folder, resume=True, on_event=told.append)
    (warning,) = [event for event in told if isinstance(event, Warned)]
    assert "step-00000010 is torn" in warning.message
    assert next(event for event in told if isinstance(event, Started)).step == 8
    assert outcome(folder) == outcome(uninterrupted)


def test_without_any_checkpoint_it_begins_again(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    def crash() -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        train(make_config(), tmp_path / "run", on_event=at(3, Step, crash))
    train(None, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_a_finished_run_is_returned_at_once(uninterrupted: Path) -> None:
    before, told = outcome(uninterrupted), []
    run = train(None, uninterrupted, resume=True, on_event=told.append)
    assert run.is_finished
    assert [type(event) for event in told] == [Finished]
    assert outcome(uninterrupted) == before


def test_a_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="there is no run folder"):
        train(None, tmp_path / "nowhere", resume=True)


@pytest.fixture
def stopped(tmp_path: Path, make_config: MakeConfig) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(4, Checkpointed, interrupt()))
    return tmp_path / "run"


def test_other_options_are_refused_and_shown(stopped: Path, make_config: MakeConfig) -> None:
    with pytest.raises(LRopeError, match=r"seed was 0, now 5; device was cpu, now mps"):
        train(make_config(seed=5, device="mps"), stopped, resume=True)
    assert train(make_config(device="auto"), stopped, resume=True).is_finished


def stop(folder: Path, config: TrainConfig, step: int, number: int = signal.SIGTERM) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, on_event=at(step, Step, interrupt(number)))


def test_under_wsd_a_run_that_is_made_longer_equals_one_that_was_asked_for_it_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    short, long = (make_config(schedule="wsd", n_steps=n) for n in (12, 20))
    train(long, tmp_path / "long")
    stop(tmp_path / "run", short, 9)
    with pytest.raises(KeyboardInterrupt):  # and it may be stopped again
        train(long, tmp_path / "run", resume=True, on_event=at(14, Step, interrupt()))
    told: list[Event] = []
    run = train(None, tmp_path / "run", resume=True, on_event=told.append)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "long")
    assert run.summary["step"] == run.n_steps == 20
    assert run.steps_changed == [{"step": 9, "from": 12, "to": 20}]
    assert not [event for event in told if isinstance(event, Warned)]


def test_under_wsd_a_run_that_is_made_shorter_equals_one_that_was_asked_for_it(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    train(make_config(schedule="wsd", n_steps=12), tmp_path / "short")
    stop(tmp_path / "run", make_config(schedule="wsd", n_steps=20), 9)
    train(make_config(schedule="wsd", n_steps=12), tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "short")


@pytest.mark.parametrize(("schedule", "step"), [("cosine", 4), ("wsd", 11)])
def test_other_steps_after_the_learning_rate_began_to_fall_are_warned_of_with_both_rates(
    tmp_path: Path, make_config: MakeConfig, schedule: str, step: int
) -> None:
    before, after = (make_config(schedule=schedule, n_steps=n, lr=0.01) for n in (12, 20))
    stop(tmp_path / "run", before, step)
    told: list[Event] = []
    train(after, tmp_path / "run", resume=True, on_event=told.append)
    (warning,) = [event for event in told if isinstance(event, Warned)]
    was, now = (learning_rate_share(step, one) * 0.01 for one in (before, after))
    assert f"from {was:.2g} to {now:.2g}, so the outcome is not that of" in warning.message
    assert now > was


def test_steps_that_lie_behind_or_of_a_finished_run_are_refused_and_nothing_changes(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    stop(tmp_path / "run", make_config(), 9)
    kept = [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "run.json")]
    for n_steps in (8, 9):
        with pytest.raises(LRopeError, match=f"at step 9 already: --steps {n_steps} would"):
            train(make_config(n_steps=n_steps), tmp_path / "run", resume=True)
    assert kept == [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "run.json")]
    train(None, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    with pytest.raises(LRopeError, match="finished after 12 steps, so it is too late for 20"):
        train(make_config(n_steps=20), tmp_path / "run", resume=True)


def test_a_kill_between_the_two_files_of_a_changed_length_loses_nothing(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "run", loop.write_json_atomically
    train(make_config(schedule="wsd", n_steps=20), tmp_path / "long")
    stop(folder, make_config(schedule="wsd"), 6)

    def dying(path: Path, payload: dict[str, object]) -> None:
        if path.name == "run.json":
            raise KeyboardInterrupt
        write(path, payload)

    monkeypatch.setattr(loop, "write_json_atomically", dying)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(schedule="wsd", n_steps=20), folder, resume=True)
    monkeypatch.undo()
    assert train(None, folder, resume=True).n_steps == 20
    assert outcome(folder) == outcome(tmp_path / "long")


def test_steps_asked_for_lift_the_cap_on_epochs_and_nothing_else_may_change_with_them(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    stop(tmp_path / "run", replace(make_config(n_steps=5_000), max_epochs=0.05), 1)
    for given in ({"n_steps": 9, "lr": 0.1}, {"schedule": "wsd"}):
        asked, folder = _resumed(Request(given, tmp_path / "run", True, False, Recorded(None, ())))
        with pytest.raises(LRopeError, match=r"lr was 0\.003, now 0\.1|schedule was cosine, now wsd"):
            train(asked, folder, resume=True)
    asked, folder = _resumed(Request({"n_steps": 9}, tmp_path / "run", True, False, Recorded(None, ())))
    assert train(asked, folder, resume=True).summary["step"] == 9


def test_two_processes_cannot_train_in_one_folder(stopped: Path) -> None:
    with locked(stopped), pytest.raises(LRopeError, match="another process is training"):
        train(None, stopped, resume=True)


def test_a_run_in_training_cannot_be_overwritten(stopped: Path, make_config: MakeConfig) -> None:
    with locked(stopped), pytest.raises(LRopeError, match="another process is training"):
        train(make_config(), stopped, overwrite=True)


def test_a_text_that_has_changed_is_refused_and_the_copy_in_the_cache_is_not(
    tmp_path: Path, make_config: MakeConfig, text_file: Path, uninterrupted: Path
) -> None:
    copy, folder = tmp_path / "copy.txt", tmp_path / "run"
    copy.write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(KeyboardInterrupt):
        train(make_config(data=f"file:{copy}"), folder, on_event=at(4, Checkpointed, interrupt()))
    copy.write_text(copy.read_text(encoding="utf-8").replace("why", "how"), encoding="utf-8")
    with pytest.raises(LRopeError, match="has changed since"):
        train(None, folder, resume=True, data=f"file:{copy}")
    train(None, folder, resume=True)
    assert outcome(folder) == outcome(uninterrupted)


def test_a_run_folder_does_not_decide_which_file_is_opened_to_resume_it(
    tmp_path: Path, make_config: MakeConfig, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "one"))
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(4, Checkpointed, interrupt()))
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "other"))
    with pytest.raises(LRopeError, match=f"--data file:{text_file}"):
        train(None, tmp_path / "run", resume=True)
    assert train(None, tmp_path / "run", resume=True, data=f"file:{text_file}").is_finished


def test_another_number_of_threads_is_told(stopped: Path) -> None:
    info = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps(info | {"threads": 64}))
    told: list[Event] = []
    train(None, stopped, resume=True, on_event=told.append)
    assert "64 threads" in next(event for event in told if isinstance(event, Warned)).message


def test_a_checkpoint_of_a_newer_format_is_refused(stopped: Path) -> None:
    path = stopped / "checkpoints" / "step-00000004" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(LRopeError, match="Upgrade lrope-interp"):
        train(None, stopped, resume=True)


@pytest.mark.slow
def test_killed_again_and_again_by_the_command_line_nothing_is_lost_or_different(repository: Path) -> None:
    """`benchmarks/kills.py` at a tenth of its size; some kills fall within the write of a checkpoint."""
    words = [sys.executable, "benchmarks/kills.py", "--kills", "4", "--steps", "12", "--every", "1"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills 4 " in done.stdout
    assert done.stdout.rstrip().endswith("lost 0  different 0")
