"""Stopped, killed or torn anywhere and resumed, a run equals the uninterrupted one bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from run_samples import MakeConfig, MakeModel, at, contents, fail, of, outcome, send, stop
from safetensors import SafetensorError

from lrope_interp.commands.train import resumed
from lrope_interp.errors import LRopeError
from lrope_interp.folders import locked
from lrope_interp.models import LRopeTransformer, checkpoint
from lrope_interp.runs import read_run
from lrope_interp.training import checkpoints, loop
from lrope_interp.training.checkpoints import (
    CHECKPOINT_FORMAT,
    newest_checkpoint,
    optimiser_tensors,
    remove_partial_checkpoints,
    save_checkpoint,
)
from lrope_interp.training.config import Recording
from lrope_interp.training.events import Checkpointed, Event, Finished, Started, Warned
from lrope_interp.training.loop import train
from lrope_interp.training.process import stop_flag
from lrope_interp.training.steps import build_optimiser, learning_rate_share


def resume(folder: Path) -> list[Event]:
    """Resume a run to its end, and return what it told."""
    told: list[Event] = []
    assert train(None, folder, resume=True, on_event=told.append).is_finished
    return told


@pytest.mark.parametrize(
    ("step", "number"),
    [(5, signal.SIGINT), (7, signal.SIGTERM), (8, signal.SIGINT), (12, signal.SIGTERM)],
)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path, step: int, number: int
) -> None:
    """Step 5 stops within its validation, 8 at a checkpoint that is due, 12 is the last."""
    folder = tmp_path / "run"
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop(folder, make_config(), step, number)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert read_run(folder, allow_unfinished=True).status == "running"
    assert of(Started, resume(folder))[0].step == step
    assert outcome(folder) == outcome(uninterrupted)


@pytest.mark.parametrize(
    ("twice", "saved"), [(signal.SIGINT, []), (signal.SIGHUP, ["step-00000003"])], ids=["Ctrl-C", "hang-up"]
)
def test_a_second_ctrl_c_stops_at_once_and_a_terminal_that_closes_hangs_up_twice_and_training_saves(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path, twice: int, saved: list[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(3, send(twice, twice)))
    kept = tmp_path / "run" / "checkpoints"
    assert (contents(kept) if kept.exists() else []) == saved
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_under_nohup_a_hang_up_stops_no_training() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_flag() as flag:
            signal.raise_signal(signal.SIGHUP)
        assert not flag.is_set
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_said_to_a_terminal_that_is_gone_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, terminal = os.openpty()
    with os.fdopen(terminal, "w") as stream:
        monkeypatch.setattr(sys, "__stderr__", stream)
        with stop_flag() as flag:
            os.close(ours)
            signal.raise_signal(signal.SIGHUP)
            stream.write("saved")
            stream.flush()
        assert flag.is_set


KILLED = """
import json, os, signal, sys, torch
torch.set_num_threads(1)
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.loop import train
def on_event(event):
    if type(event).__name__ == "Step" and event.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2], on_event=on_event)
"""


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    config = json.dumps(make_config().to_dict())
    call = [sys.executable, "-c", KILLED, config, str(tmp_path / "run")]
    assert subprocess.run(call, check=False, env=os.environ).returncode == -signal.SIGKILL
    assert of(Started, resume(tmp_path / "run"))[0].step == 4
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_stopped_within_a_checkpoint_write_the_one_before_counts(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, right = tmp_path / "run", checkpoints.write_json_atomically

    def stopping(path: Path, payload: dict[str, object]) -> None:
        if payload["step"] == 8:
            raise KeyboardInterrupt  # after the tensors, before their checksums
        right(path, payload)

    monkeypatch.setattr(checkpoints, "write_json_atomically", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), folder)
    monkeypatch.undo()
    assert any(name.startswith(".step-") for name in contents(folder / "checkpoints"))
    resume(folder)
    assert outcome(folder) == outcome(uninterrupted)
    assert contents(folder / "checkpoints") == ["step-00000004", "step-00000008"]


def test_a_torn_checkpoint_costs_steps_but_not_the_run(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    stop(tmp_path / "run", make_config(), 10)
    (tmp_path / "run" / "checkpoints" / "step-00000010" / "optimiser.safetensors").write_bytes(b"torn")
    told = resume(tmp_path / "run")
    (warning,) = of(Warned, told)
    assert "step-00000010 is torn" in warning.message
    assert of(Started, told)[0].step == 8
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_without_any_checkpoint_it_begins_again_and_a_finished_run_is_returned_at_once(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    with pytest.raises(RuntimeError):
        train(make_config(), tmp_path / "run", on_event=at(3, fail()))
    assert of(Started, resume(tmp_path / "run"))[0].step == 0
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    assert [type(event) for event in resume(tmp_path / "run")] == [Finished]
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    with pytest.raises(LRopeError, match="there is no run folder"):
        train(None, tmp_path / "nowhere", resume=True)


def test_checkpoints_by_time_change_nothing_and_a_run_that_crashed_goes_on_from_one(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    config, always = make_config(checkpoint_every=1000), Recording(checkpoint_minutes=1e-9)
    told: list[Event] = []
    train(config, tmp_path / "never", on_event=told.append, recording=Recording(checkpoint_minutes=0.0))
    assert of(Checkpointed, told) == []
    with pytest.raises(RuntimeError):  # step 5 was validated before it was saved
        train(config, tmp_path / "run", recording=always, on_event=at(6, fail(), told))
    told += resume(tmp_path / "run")  # with its own recording
    saved = [event.step for event in of(Checkpointed, told)]
    assert saved == [*range(1, 6), *range(6, 12)]
    assert outcome(tmp_path / "never") == outcome(tmp_path / "run") == outcome(uninterrupted)


# What may have changed between two sittings


@pytest.fixture
def stopped(tmp_path: Path, make_config: MakeConfig) -> Path:
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), tmp_path / "run", on_event=at(4, send(signal.SIGINT), kind=Checkpointed))
    return tmp_path / "run"


def test_other_options_are_refused_and_shown(stopped: Path, make_config: MakeConfig) -> None:
    with pytest.raises(LRopeError, match=r"seed was 0, now 5; device was cpu, now mps"):
        train(make_config(seed=5, device="mps"), stopped, resume=True)
    info = json.loads((stopped / "run.json").read_text())
    said = {"threads": 64, "recording": {"log_to": ["wandb"], "checkpoint_minutes": 10.0}}
    (stopped / "run.json").write_text(json.dumps(info | said))
    told: list[Event] = []
    assert train(make_config(device="auto"), stopped, resume=True, on_event=told.append).is_finished
    warned = [event.message for event in of(Warned, told)]
    assert any("64 threads" in message for message in warned)
    assert any("wandb is told nothing" in message for message in warned)  # nothing is sent unasked


@pytest.mark.parametrize(("first", "step", "second"), [(12, 9, 20), (20, 9, 12)])
def test_under_wsd_a_run_that_gets_another_length_equals_one_that_was_asked_for_it_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, first: int, step: int, second: int
) -> None:
    before, after = (make_config(schedule="wsd", n_steps=n) for n in (first, second))
    train(after, tmp_path / "whole")
    stop(tmp_path / "run", before, step)
    with pytest.raises(KeyboardInterrupt):  # and it may be stopped again
        train(after, tmp_path / "run", resume=True, on_event=at(11, send(signal.SIGINT)))
    assert not of(Warned, resume(tmp_path / "run"))
    run = read_run(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert run.summary["step"] == run.n_steps == second
    assert run.steps_changed == [{"step": step, "from": first, "to": second}]


@pytest.mark.parametrize(("schedule", "step"), [("cosine", 4), ("wsd", 11)])
def test_other_steps_after_the_learning_rate_began_to_fall_are_warned_of_with_both_rates(
    tmp_path: Path, make_config: MakeConfig, schedule: str, step: int
) -> None:
    before, after = (make_config(schedule=schedule, n_steps=n, lr=0.01) for n in (12, 20))
    stop(tmp_path / "run", before, step)
    told: list[Event] = []
    train(after, tmp_path / "run", resume=True, on_event=told.append)
    (warning,) = of(Warned, told)
    was, now = (learning_rate_share(step, one) * 0.01 for one in (before, after))
    assert f"from {was:.2g} to {now:.2g}, so the outcome is not that of" in warning.message
    assert now > was


def test_steps_that_lie_behind_or_of_a_finished_run_are_refused_and_nothing_changes(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    stop(tmp_path / "run", make_config(), 9)
    kept = [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "run.json")]
    for n_steps in (8, 9):
        with pytest.raises(LRopeError, match=f"at step 9 already: {n_steps} steps would"):
            train(make_config(n_steps=n_steps), tmp_path / "run", resume=True)
    assert kept == [(tmp_path / "run" / name).read_bytes() for name in ("config.json", "run.json")]
    with pytest.raises(LRopeError, match="finished after 12 steps, so it is too late for 20"):
        train(make_config(n_steps=20), uninterrupted, resume=True)


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
    resume(folder)
    assert outcome(folder) == outcome(tmp_path / "long")


def test_steps_asked_for_lift_the_cap_on_epochs_and_nothing_else_may_change_with_them(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    stop(tmp_path / "run", replace(make_config(n_steps=5_000), max_epochs=0.05), 1)
    for given in ({"n_steps": 9, "lr": 0.1}, {"schedule": "wsd"}):
        asked, folder = resumed(given, tmp_path / "run")
        with pytest.raises(LRopeError, match=r"lr was 0\.003, now 0\.1|schedule was cosine, now wsd"):
            train(asked, folder, resume=True)
    asked, folder = resumed({"n_steps": 9}, tmp_path / "run")
    assert train(asked, folder, resume=True).summary["step"] == 9


def test_two_processes_cannot_train_in_one_folder(uninterrupted: Path, make_config: MakeConfig) -> None:
    ways: list[tuple[Any, Any]] = [(None, {"resume": True}), (make_config(), {"overwrite": True})]
    for config, how in ways:
        with locked(uninterrupted), pytest.raises(LRopeError, match="another process is training"):
            train(config, uninterrupted, **how)


def test_a_text_that_has_changed_is_refused_and_the_run_does_not_decide_which_file_is_opened(
    tmp_path: Path,
    make_config: MakeConfig,
    text_file: Path,
    uninterrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy, folder = tmp_path / "copy.txt", tmp_path / "run"
    copy.write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    stop(folder, make_config(data=f"file:{copy}"), 4)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("LROPE_INTERP_CACHE", str(tmp_path / "other"))
        with pytest.raises(LRopeError, match=f"--data file:{copy}"):
            train(None, folder, resume=True)
        stop_again = at(5, send(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            train(None, folder, resume=True, data=f"file:{copy}", on_event=stop_again)
    copy.write_text(copy.read_text(encoding="utf-8").replace("why", "how"), encoding="utf-8")
    with pytest.raises(LRopeError, match="has changed since"):
        train(None, folder, resume=True, data=f"file:{copy}")
    resume(folder)  # from the copy in the cache
    assert outcome(folder) == outcome(uninterrupted)


@pytest.mark.slow
def test_killed_again_and_again_by_the_command_line_nothing_is_lost_or_different(repository: Path) -> None:
    """`benchmarks/kills.py` at a tenth of its size; some kills fall within the write of a checkpoint."""
    words = [sys.executable, "benchmarks/kills.py", "--kills", "4", "--steps", "12", "--every", "1"]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills 4 " in done.stdout
    assert done.stdout.rstrip().endswith("lost 0  different 0")


# Checkpoints


class Trained(NamedTuple):
    model: LRopeTransformer
    optimiser: torch.optim.AdamW


@pytest.fixture
def trained(make_config: MakeConfig, make_model: MakeModel) -> Trained:
    model = make_model()
    optimiser = build_optimiser(model, make_config())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    return Trained(model, optimiser)


def never(message: str) -> None:
    raise AssertionError(message)


def test_a_checkpoint_gives_back_weights_moments_and_state_and_is_a_model_without_a_pickle(
    tmp_path: Path, trained: Trained, make_config: MakeConfig, make_model: MakeModel
) -> None:
    save_checkpoint(tmp_path, 7, *trained, {"losses": [0.1]})
    folder = save_checkpoint(tmp_path, 7, *trained, {"losses": [0.1 + 0.2]})  # a step reached again
    model = make_model(seed=1)
    optimiser = build_optimiser(model, make_config())
    found = newest_checkpoint(tmp_path, never)
    assert found is not None
    found.load(model, optimiser)
    assert (found.step, found.state) == (7, {"losses": [0.1 + 0.2]})
    for name, value in trained.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    moments, again = optimiser_tensors(*trained), optimiser_tensors(model, optimiser)
    assert "blocks.0.attn.W_Q/exp_avg_sq" in moments
    assert moments.keys() == again.keys()
    assert all(torch.equal(moments[name], value) for name, value in again.items())
    tokens = torch.arange(6).unsqueeze(0)
    assert torch.equal(LRopeTransformer.from_pretrained(folder)(tokens), trained.model(tokens))
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_the_newest_two_are_kept_and_what_a_killed_process_left_is_not(
    tmp_path: Path, trained: Trained
) -> None:
    for step in (4, 8, 12):
        save_checkpoint(tmp_path, step, *trained, {})
    (tmp_path / "checkpoints" / ".step-00000016.0123abcd").mkdir()
    remove_partial_checkpoints(tmp_path)
    assert contents(tmp_path / "checkpoints") == ["step-00000008", "step-00000012"]


def flip_first_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["model.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("tear", [flip_first_byte, Path.unlink])
def test_a_torn_checkpoint_is_noticed_and_the_one_before_it_used(
    tmp_path: Path, trained: Trained, name: str, tear: Callable[[Path], None]
) -> None:
    assert newest_checkpoint(tmp_path, never) is None
    first = save_checkpoint(tmp_path, 4, *trained, {})
    tear(save_checkpoint(tmp_path, 8, *trained, {}) / name)
    warnings: list[str] = []
    found = newest_checkpoint(tmp_path, warnings.append)
    assert found is not None
    assert found.step == 4
    (warning,) = warnings
    assert "step-00000008 is torn" in warning
    tear(first / name)
    assert newest_checkpoint(tmp_path, warnings.append) is None


def test_a_newer_format_is_refused_rather_than_passed_over(tmp_path: Path, trained: Trained) -> None:
    path = save_checkpoint(tmp_path, 4, *trained, {}) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": CHECKPOINT_FORMAT + 1}))
    with pytest.raises(LRopeError, match="Upgrade lrope-interp"):
        newest_checkpoint(tmp_path, never)


def test_a_write_that_fails_keeps_the_checkpoints_before_it_and_names_the_file(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*rest: object, **how: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    save_checkpoint(tmp_path, 4, *trained, {})
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        LRopeError, match=r"step 8 could not.*No space left on device: '.*/model\.safetensors'"
    ):
        save_checkpoint(tmp_path, 8, *trained, {})
    assert contents(tmp_path / "checkpoints") == ["step-00000004"]
    with pytest.raises(LRopeError, match="the checkpoint of step 4 could not be written"):
        save_checkpoint(tmp_path / "moved", 4, *trained, {})  # a run does not come apart in two
    assert contents(tmp_path) == ["checkpoints"]


def position(journal: list[tuple[str, str]], what: str, start: str, end: str) -> int:
    """Return where the last such entry stands that begins and ends so."""
    wanted = ((k, path) for k, (did, path) in enumerate(journal) if did == what)
    return max(k for k, path in wanted if path.startswith(start) and path.endswith(end))


def test_a_checkpoint_and_a_finished_run_are_on_the_disk_before_they_count(
    tmp_path: Path, make_config: MakeConfig, journal: list[tuple[str, str]]
) -> None:
    folder, before = tmp_path / "run", os.umask(0o027)
    try:
        train(make_config(n_steps=3, checkpoint_every=2), folder)
    finally:
        os.umask(before)
    root = folder / "checkpoints"
    appears = position(journal, "rename", f"{root}/.step-00000002.", f"-> {root / 'step-00000002'}")
    for name in ("model.safetensors", "optimiser.safetensors", "config.json", "state.json", ""):
        assert position(journal, "fsync", f"{root}/.step-00000002.", name) < appears
    assert position(journal, "fsync", f"{root}", "checkpoints") > appears
    weights = position(journal, "rename", f"{folder}/.model.safetensors", f"{folder}/model.safetensors")
    assert position(journal, "fsync", f"{folder}/.model.safetensors", "") < weights
    assert position(journal, "fsync", f"{folder}/metrics.jsonl", "metrics.jsonl") < weights
    finished = position(journal, "rename", f"{folder}/.run.json", f"{folder}/run.json")
    assert weights < position(journal, "fsync", f"{folder}/.run.json", "") < finished
    assert str(folder) in [path for what, path in journal[weights:finished] if what == "fsync"]
    assert journal[-1] == ("fsync", str(folder))
    renamed = [path for what, path in journal if what == "rename" and path.startswith(f"{root}/.step")]
    assert [path.rpartition("/")[2] for path in renamed[:2]] == ["config.json", "model.safetensors"]
    paths = [*folder.rglob("*")]  # with the permissions that the user wants
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {0o640}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o750}
