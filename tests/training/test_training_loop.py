"""A run from its config to its folder: what it reads, how it learns, what it logs and tells trackers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_samples import MakeConfig, MakeModel, contents, logged, of, outcome

from lrope_interp.data import WindowSampler
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.runs import read_run
from lrope_interp.tokenizers import ByteTokenizer, load_tokenizer
from lrope_interp.training import metrics, steps
from lrope_interp.training.config import Recording, TrainConfig
from lrope_interp.training.distribution import decided, joined
from lrope_interp.training.events import (
    Checkpointed,
    Event,
    Finished,
    Started,
    Step,
    Validated,
    Warned,
    ignore,
)
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import (
    METRICS_FILE,
    RunLogs,
    cut_back,
    figures,
    increment_statistics,
    read_lines,
    watch_increments,
)
from lrope_interp.training.preparation import build_model, prepare
from lrope_interp.training.process import StopFlag
from lrope_interp.training.steps import (
    Clock,
    Sitting,
    TrainingLoop,
    build_optimiser,
    learning_rate_share,
    set_learning_rate,
)

Story = tuple[Path, list[Event]]


def test_a_run_folder_holds_all_that_a_run_needs(uninterrupted: Path, make_config: MakeConfig) -> None:
    run = read_run(uninterrupted)
    assert {path.name for path in run.folder.iterdir()} == {
        "run.json", "config.json", "data.json", "tokenizer.json", "model.safetensors", "metrics.jsonl",
        "timing.jsonl", "checkpoints", ".lrope-interp.json",
    }  # fmt: skip
    payload = json.loads((run.folder / "config.json").read_text())
    assert payload["format"] == 1
    assert TrainConfig.from_dict(payload["training"]) == make_config()
    assert isinstance(load_tokenizer(run.folder), ByteTokenizer)
    model = LRopeTransformer.from_pretrained(run.folder)
    assert (model.cfg.increments, model.cfg.n_ctx) == ("per_layer", 32)
    assert run.summary["validation_nats_per_byte"] < math.log(257)
    assert {"torch", "lrope-interp", "python"} <= run.versions.keys()
    assert (run.threads, run.n_steps, run.seed, run.finished >= run.info["started"]) == (1, 12, 0, True)


def test_the_events_tell_the_whole_story(story: Story) -> None:
    told = story[1]
    assert isinstance(told[0], Started)
    assert isinstance(told[-1], Finished)
    assert [event.step for event in of(Step, told)] == list(range(1, 13))
    assert [event.step for event in of(Validated, told)] == [5, 10, 12]
    assert [event.step for event in of(Checkpointed, told)] == [4, 8]
    assert [event.step for event in of(Step, told) if event.increments] == [1, 3, 6, 9, 12]
    last = of(Step, told)[-1]
    assert last.bits == pytest.approx(last.loss / math.log(2))
    assert last.seconds_left == 0
    assert last.bytes_per_second > 0


def test_the_lines_of_metrics_say_what_happened(story: Story) -> None:
    folder, told = story
    lines = read_lines(folder / "metrics.jsonl")
    assert [(line["step"], line["split"]) for line in lines] == [
        (1, "train"), (3, "train"), (5, "validation"), (6, "train"), (9, "train"), (10, "validation"),
        (12, "train"), (12, "validation"),
    ]  # fmt: skip
    losses = [event.loss for event in of(Step, told)]
    assert lines[3]["loss"] == pytest.approx(np.mean(losses[3:6]))
    assert lines[0]["loss"] == pytest.approx(math.log(257), abs=0.1)
    assert lines[0]["increments"] == [{"layer": layer, "mean": 1.0, "sd": 0.0} for layer in range(2)]
    assert lines[6]["bytes"] <= 12 * 4 * 32
    assert lines[7]["nats_per_byte"] == of(Validated, told)[-1].nats_per_byte
    timing = read_lines(folder / "timing.jsonl")
    assert [line["step"] for line in timing] == [1, 3, 6, 9, 12]
    assert timing[-1].keys() == {"step", "seconds", "bytes_per_second"}


def test_the_seed_alone_decides_losses_and_weights_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, uninterrupted: Path
) -> None:
    torch.manual_seed(99)
    state = torch.get_rng_state()
    train(make_config(), tmp_path / "again")
    assert torch.equal(state, torch.get_rng_state())
    assert outcome(tmp_path / "again") == outcome(uninterrupted)
    train(make_config(seed=1), tmp_path / "other")
    for one, other in zip(outcome(tmp_path / "other"), outcome(uninterrupted), strict=True):
        assert one != other


@pytest.mark.parametrize(
    "options", [{"increments": "shared"}, {"increments": "fixed"}, {"per_head": True}, {"dtype": "bfloat16"}]
)
def test_every_kind_of_increments_trains(
    tmp_path: Path, make_config: MakeConfig, options: dict[str, Any]
) -> None:
    run = train(make_config(lr=0.02, n_steps=40, eval_every=100, **options), tmp_path / "run")
    losses, increments = logged(run.folder), logged(run.folder, name="increments")
    assert losses[-1] < losses[0] - 1
    n_statistics = {"fixed": 0}.get(options.get("increments", ""), 4 if options.get("per_head") else 2)
    assert len(increments[-1]) == n_statistics


def test_every_step_reads_its_own_batch_and_counts_its_targets(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, right = [], WindowSampler.batch

    def batch(self: WindowSampler, step: int) -> Any:
        read.append((step, right(self, step)))
        return read[-1][1]

    monkeypatch.setattr(WindowSampler, "batch", batch)
    run = train(make_config(n_steps=7), tmp_path / "run")
    assert [step for step, _ in read] == list(range(7))
    eos = ByteTokenizer().eos_id
    assert run.summary["bytes"] == sum(int((tokens[:, 1:] != eos).sum()) for _, tokens in read)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_the_step(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = steps.TrainingLoop._loss

    def broken(self: Any, tokens: torch.Tensor) -> torch.Tensor:
        return right(self, tokens) * (math.nan if self.step == 7 else 1.0)

    monkeypatch.setattr(steps.TrainingLoop, "_loss", broken)
    with pytest.raises(LRopeError, match=r"loss is nan at step 7.*keeps the checkpoint of step 4"):
        train(make_config(), tmp_path / "run")
    assert read_run(tmp_path / "run", allow_unfinished=True).status == "running"
    assert contents(tmp_path / "run" / "checkpoints") == ["step-00000004"]
    model = LRopeTransformer.from_pretrained(tmp_path / "run" / "checkpoints" / "step-00000004")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_bad_input_leaves_no_folder(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / "short.txt").write_text("too short")
    for wrong in ("bilingul", f"file:{tmp_path / 'nowhere.txt'}", f"file:{tmp_path / 'short.txt'}"):
        with pytest.raises(LRopeError):
            train(make_config(data=wrong), tmp_path / "runs" / "run")
    with pytest.raises(LRopeError):
        train(make_config(n_ctx=100_000), tmp_path / "runs" / "run")
    with pytest.raises(LRopeError, match="needs a config"):
        train(None, tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_a_full_disk_is_said_in_words_and_the_run_goes_on_later(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, name: object, line: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunLogs, "write", full)
    with pytest.raises(LRopeError, match=r"No space left on device.*--resume --out"):
        train(make_config(n_steps=3), tmp_path / "run")
    monkeypatch.undo()
    assert train(None, tmp_path / "run", resume=True).is_finished


def test_the_command_line_and_what_it_reads_of_a_training_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from lrope_interp import cli\n"
        "from lrope_interp.training import config, events, process\n"
        "print([name for name in ('torch', 'transformer_lens', 'pandas') if name in sys.modules])\n"
        "print(cli.set_malloc_thresholds())\n"
        "sys.platform = 'darwin'\n"
        "assert cli.set_malloc_thresholds() is False"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() in (["[]", "True"], ["[]", "False"])


# The optimiser

EXEMPT = ("ln1.w", "ln2.w", "ln_final.w", "ln.w", "b_in", "b_out", "increments.W_out")


@pytest.mark.parametrize("increments", ["per_layer", "shared"])
def test_weight_decay_spares_norms_biases_and_the_heads_last_layer(
    make_config: MakeConfig, make_model: MakeModel, increments: str
) -> None:
    config = make_config(increments=increments, weight_decay=0.5, lr=0.1)
    model = make_model(increments=increments)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimiser = build_optimiser(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()  # zero gradients: only the decay acts, by 1 - 0.1 * 0.5
    for name, parameter in model.named_parameters():
        shrunk = before[name] * (1.0 if name.endswith(EXEMPT) else 0.95)
        torch.testing.assert_close(parameter.detach(), shrunk)


def test_the_heads_learn_at_their_own_rate(make_config: MakeConfig, make_model: MakeModel) -> None:
    model = make_model()
    optimiser = build_optimiser(model, make_config(lr=0.01, head_lr_multiplier=3.0, weight_decay=0.0))
    set_learning_rate(optimiser, 0.5)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()  # Adam's first step has the length of the learning rate
    heads = {name for name, _ in model.increment_parameters()}
    assert heads
    for name, parameter in model.named_parameters():
        step = (before[name] - parameter.detach()).mean().item()
        assert step == pytest.approx(0.015 if name in heads else 0.005, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # cos(pi/4) = 0.70711: 0.1 + 0.45 * (1 + 0.70711) = 0.86820 a quarter of the way down
        ({"n_steps": 6, "warmup": 2, "min_lr_share": 0.1}, [0.5, 1.0, 0.868198, 0.55, 0.231802, 0.1]),
        ({"n_steps": 2, "warmup": 0, "min_lr_share": 0.0}, [0.5, 0.0]),
        (
            {"n_steps": 10, "warmup": 2, "min_lr_share": 0.1, "schedule": "wsd"},
            [0.5, *[1.0] * 7, 0.55, 0.1],
        ),
    ],
)
def test_the_schedule_is_what_one_gets_by_hand(
    make_config: MakeConfig, options: dict[str, Any], expected: list[float]
) -> None:
    config = make_config(**options)
    shares = [learning_rate_share(step, config) for step in range(1, config.n_steps + 1)]
    assert shares == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("grad_clip", [0.01, 1e6])
def test_only_longer_gradients_are_shortened_to_the_clip(
    tmp_path: Path, make_config: MakeConfig, grad_clip: float
) -> None:
    config = make_config(n_steps=1, grad_clip=grad_clip)
    prepared, model = prepare(config, ignore), build_model(config)
    with joined(prepared.config) as processes, RunLogs(tmp_path, processes, ignore) as logs:
        sitting = Sitting(tmp_path, processes, Recording(), ignore)
        TrainingLoop(sitting, prepared, model, logs, StopFlag()).run()
    gradients = [one.grad.flatten() for one in model.parameters() if one.grad is not None]
    (before,) = logged(tmp_path, name="grad_norm")
    assert before > 0.1
    assert torch.cat(gradients).norm().item() == pytest.approx(min(before, grad_clip), rel=1e-4)


# What is measured


def test_statistics_leave_the_first_token_out_and_every_head_has_its_own() -> None:
    (found,) = increment_statistics(4, torch.tensor([[100.0, 1.0, 3.0], [100.0, 5.0, 7.0]]))
    assert (found.layer, found.head, found.mean) == (4, None, pytest.approx(4.0))
    assert found.sd == pytest.approx(5**0.5)  # deviations 3, 1, 1, 3
    assert found.to_dict() == {"layer": 4, "mean": found.mean, "sd": found.sd}
    first, second = increment_statistics(0, torch.tensor([[[9.0, 9.0], [1.0, 2.0], [3.0, 2.0]]]))
    assert (first.head, first.mean, first.sd) == (0, 2.0, 1.0)
    assert (second.head, second.mean, second.sd) == (1, 2.0, 0.0)
    assert second.to_dict()["head"] == 1


@pytest.mark.parametrize(("increments", "n_found"), [("per_layer", 2), ("shared", 2), ("fixed", 0)])
def test_the_hooks_read_the_pass_that_trains_and_go_away(
    make_model: MakeModel, increments: str, n_found: int
) -> None:
    model, tokens = make_model(increments=increments), torch.arange(12).reshape(2, 6)
    plain = model(tokens)
    with watch_increments(model, False) as found:
        assert not any(point._forward_hooks for point in model.hook_dict.values())
        model(tokens)
    assert found == []
    with watch_increments(model, True) as found:
        watched = model(tokens)
    assert torch.equal(plain, watched)
    assert [one.layer for one in found] == list(range(n_found))
    model(tokens)
    assert len(found) == n_found


def test_a_log_is_cut_back_to_its_checkpoint_and_loses_a_line_cut_short(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    path, where = tmp_path / METRICS_FILE, [(3, "train"), (5, "train"), (5, "validation"), (6, "train")]
    cut_back(path, 3)
    assert read_lines(path) == []
    lines = [{"step": step, "split": split} for step, split in where]
    with joined(make_config()) as processes, RunLogs(tmp_path, processes, ignore) as logs:
        for line in lines:
            logs.write(METRICS_FILE, line)
        assert read_lines(path) == lines  # with the system as soon as it is written
    with path.open("a") as file:
        file.write(json.dumps({"step": 6, "split": "train"}))  # whole, but for its line end
    assert read_lines(path) == lines
    cut_back(path, 6)
    assert path.read_bytes().endswith(b"}\n")
    cut_back(path, 5)  # the validation of step 5 comes after its checkpoint, and again
    assert read_lines(path) == lines[:2]
    cut_back(path, 0)
    assert path.read_bytes() == b""


def test_the_clock_counts_steps_and_leaves_validation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 12.0, 15.0, 19.0, 20.0])
    monkeypatch.setattr("lrope_interp.training.steps.time.perf_counter", lambda: next(times))
    clock = Clock(seconds=100.0)  # at 0
    clock.restart()  # at 10
    clock.stepped(600)  # at 12: 2 s
    clock.restart()  # at 15
    clock.validated()  # at 19 (and restarts at 20): 4 s
    assert clock.seconds == 102.0
    assert clock.bytes_per_second == 300.0
    assert clock.seconds_left(10, 2) == 10 * 2.0 + 2 * 4.0


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
