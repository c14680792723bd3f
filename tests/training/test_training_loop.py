from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrope_interp.data import Corpus, WindowSampler, load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.runs import read_run
from lrope_interp.tokenizers import ByteTokenizer, load_tokenizer
from lrope_interp.training import preparation, steps
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.events import Checkpointed, Event, Finished, Started, Step, Validated, Warned
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import JsonLines, read_lines, validation_documents

MakeConfig = Callable[..., TrainConfig]


def metrics(folder: Path) -> bytes:
    return (folder / "metrics.jsonl").read_bytes()


def weights_sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_run_folder_holds_all_that_a_run_needs(tmp_path: Path, make_config: MakeConfig) -> None:
    config, folder = make_config(), tmp_path / "run"
    run = train(config, folder)
    assert run.is_finished
    assert {path.name for path in folder.iterdir()} == {
        "run.json", "config.json", "data.json", "tokenizer.json", "model.safetensors", "metrics.jsonl",
        "timing.jsonl", "checkpoints", ".lrope-interp.json",
    }  # fmt: skip
    payload = json.loads((folder / "config.json").read_text())
    assert payload["format"] == 1
    assert TrainConfig.from_dict(payload["training"]) == config
    assert isinstance(load_tokenizer(folder), ByteTokenizer)
    model = LRopeTransformer.from_pretrained(folder)
    assert (model.cfg.increments, model.cfg.n_ctx) == ("per_layer", 32)
    assert run.summary["validation_nats_per_byte"] < math.log(257)
    assert {"torch", "lrope-interp", "python"} <= run.versions.keys()
    assert (run.threads, run.n_steps, run.seed, run.finished >= run.info["started"]) == (1, 12, 0, True)


def test_the_events_tell_the_whole_story(tmp_path: Path, make_config: MakeConfig) -> None:
    told: list[Event] = []
    train(make_config(), tmp_path / "run", on_event=told.append)
    assert isinstance(told[0], Started)
    assert isinstance(told[-1], Finished)
    assert [event.step for event in of(Step, told)] == list(range(1, 13))
    assert [event.step for event in of(Validated, told)] == [5, 10, 12]
    assert [event.step for event in of(Checkpointed, told)] == [4, 8]
    logged = [event.step for event in of(Step, told) if event.increments]
    assert logged == [1, 3, 6, 9, 12]
    last = of(Step, told)[-1]
    assert last.bits == pytest.approx(last.loss / math.log(2))
    assert last.seconds_left == 0
    assert last.bytes_per_second > 0


def test_the_lines_of_metrics_say_what_happened(tmp_path: Path, make_config: MakeConfig) -> None:
    told: list[Event] = []
    train(make_config(), tmp_path / "run", on_event=told.append)
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    where = [(line["step"], line["split"]) for line in lines]
    assert where == [
        (1, "train"), (3, "train"), (5, "validation"), (6, "train"), (9, "train"), (10, "validation"),
        (12, "train"), (12, "validation"),
    ]  # fmt: skip
    losses = [event.loss for event in of(Step, told)]
    assert lines[3]["loss"] == pytest.approx(np.mean(losses[3:6]))
    assert lines[0]["loss"] == pytest.approx(math.log(257), abs=0.1)
    assert lines[0]["increments"] == [{"layer": layer, "mean": 1.0, "sd": 0.0} for layer in range(2)]
    assert lines[6]["bytes"] <= 12 * 4 * 32
    assert lines[7]["nats_per_byte"] == of(Validated, told)[-1].nats_per_byte
    timing = read_lines(tmp_path / "run" / "timing.jsonl")
    assert [line["step"] for line in timing] == [1, 3, 6, 9, 12]
    assert timing[-1].keys() == {"step", "seconds", "bytes_per_second"}


def test_the_same_seed_gives_the_same_losses_and_weights_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(make_config(seed=seed), tmp_path / name)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert weights_sha256(tmp_path / "a") == weights_sha256(tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")
    assert weights_sha256(tmp_path / "a") != weights_sha256(tmp_path / "c")


def test_training_takes_nothing_from_the_global_generators(tmp_path: Path, make_config: MakeConfig) -> None:
    torch.manual_seed(0)
    train(make_config(), tmp_path / "a")
    state = torch.get_rng_state()
    torch.manual_seed(99)
    np.random.default_rng(99)
    train(make_config(), tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "options", [{"increments": "shared"}, {"increments": "fixed"}, {"per_head": True}, {"dtype": "bfloat16"}]
)
def test_every_kind_of_increments_trains(
    tmp_path: Path, make_config: MakeConfig, options: dict[str, Any]
) -> None:
    run = train(make_config(lr=0.02, n_steps=40, eval_every=100, **options), tmp_path / "run")
    lines = read_lines(run.folder / "metrics.jsonl")
    assert lines[-2]["loss"] < lines[0]["loss"] - 1
    n_statistics = {"fixed": 0}.get(options.get("increments", ""), 4 if options.get("per_head") else 2)
    assert len(lines[-2]["increments"]) == n_statistics


@pytest.mark.parametrize("split", ["fit", "dev", "test"])
def test_held_out_text_in_the_training_stream_is_noticed(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """The assertion runs in `train`, on the stream itself, and it can fail."""
    right = preparation.training_streams

    def leaking(corpus: Any, tokenizer: Any) -> Any:
        ((name, stream),) = right(corpus, tokenizer)
        held_out = tokenizer.encode(corpus.documents(split)[0].text).astype(stream.dtype)
        return [(name, np.concatenate([stream, held_out, stream[:1]]))]

    monkeypatch.setattr(preparation, "training_streams", leaking)
    with pytest.raises(LRopeError, match="was in the training text"):
        train(make_config(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_names_exactly_the_documents_of_the_stream(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    run = train(make_config(n_steps=1), tmp_path / "run")
    manifest = json.loads((run.folder / "data.json").read_text())
    corpus = load_corpus(make_config().data)
    trained = {document.sha256 for document in corpus.documents("train")}
    assert set(manifest["splits"]["train"]["sha256"]) == trained
    assert trained.isdisjoint(document.sha256 for document in corpus.documents("dev"))


def test_a_corpus_is_read_as_the_config_says(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, corpus = list[tuple[str, dict[str, Any]]](), load_corpus(make_config().data)

    def load(name: str, **how: Any) -> Corpus:
        asked.append((name, how))
        return corpus

    monkeypatch.setattr(preparation, "load_corpus", load)
    how = {"encoding_errors": "replace", "text_column": "body", "max_train_bytes": 777, "despaced": True}
    preparation.training_corpus(make_config(**how))
    assert asked == [(make_config().data, how)]


def test_the_seed_decides_the_batches_and_the_first_weights_and_not_the_text(make_config: MakeConfig) -> None:
    one, other = (preparation.prepare(make_config(seed=seed), lambda event: None) for seed in (3, 4))
    assert (one.sampler.seed, other.sampler.seed) == (3, 4)
    assert not np.array_equal(one.sampler.batch(0), other.sampler.batch(0))
    assert np.array_equal(one.validation.tokens, other.validation.tokens)
    first, second = (preparation.build_model(prepared.config) for prepared in (one, other))
    assert first.cfg.seed == 3
    assert not torch.equal(first.W_E, second.W_E)


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


@pytest.mark.parametrize("n_bytes", [700, 1500])
def test_validation_reads_as_many_bytes_as_the_config_says(make_config: MakeConfig, n_bytes: int) -> None:
    prepared = preparation.prepare(make_config(validation_bytes=n_bytes), lambda event: None)
    documents = validation_documents(load_corpus(make_config().data), n_bytes)
    assert prepared.validation.n_bytes == sum(one.n_bytes for one in documents) <= n_bytes


def test_steps_that_validate_log_and_save_are_three_settings(tmp_path: Path, make_config: MakeConfig) -> None:
    folder, events = tmp_path / "run", list[Event]()
    train(make_config(log_every=3, eval_every=5, checkpoint_every=4), folder, on_event=events.append)
    lines = read_lines(folder / "metrics.jsonl")
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 3, 6, 9, 12]
    assert [event.step for event in of(Validated, events)] == [5, 10, 12]
    assert [event.step for event in of(Checkpointed, events)] == [4, 8]


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
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000004"]
    model = LRopeTransformer.from_pretrained(tmp_path / "run" / "checkpoints" / "step-00000004")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_steps_are_capped_at_the_epochs_of_the_preset(tmp_path: Path, make_config: MakeConfig) -> None:
    told: list[Event] = []
    config = make_config(max_epochs=0.02, n_steps=10_000)
    run = train(config, tmp_path / "run", on_event=told.append)
    n_tokens = sum(one.n_bytes + 1 for one in load_corpus(config.data).documents("train")) + 1
    assert run.n_steps == int(0.02 * n_tokens / (4 * 32))
    assert "lowered to" in of(Warned, told)[0].message
    assert json.loads((run.folder / "config.json").read_text())["training"]["n_steps"] == run.n_steps


def test_an_explicit_number_of_steps_is_obeyed_with_a_warning(make_config: MakeConfig) -> None:
    told: list[Event] = []
    prepared = preparation.prepare(make_config(n_steps=10_000), told.append)
    assert prepared.config.n_steps == 10_000
    assert "by heart" in of(Warned, told)[0].message


def test_bad_input_leaves_no_folder(tmp_path: Path, make_config: MakeConfig) -> None:
    (tmp_path / "short.txt").write_text("too short")
    wrong = [
        make_config(data="bilingul"),
        make_config(data=f"file:{tmp_path / 'nowhere.txt'}"),
        make_config(data=f"file:{tmp_path / 'short.txt'}"),
        make_config(n_ctx=100_000),
    ]
    for config in wrong:
        with pytest.raises(LRopeError):
            train(config, tmp_path / "runs" / "run")
    with pytest.raises(LRopeError, match="needs a config"):
        train(None, tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_a_folder_in_use_is_refused_and_ours_replaced_when_asked(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    folder = tmp_path / "run"
    train(make_config(n_steps=1), folder)
    with pytest.raises(LRopeError, match="--overwrite"):
        train(make_config(n_steps=2), folder)
    assert train(make_config(n_steps=2), folder, overwrite=True).n_steps == 2


def test_a_full_disk_is_said_in_words_and_the_run_goes_on_later(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, line: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(JsonLines, "write", full)
    with pytest.raises(LRopeError, match=r"No space left on device.*--resume --out"):
        train(make_config(n_steps=3), tmp_path / "run")
    monkeypatch.undo()
    assert train(None, tmp_path / "run", resume=True).is_finished


def test_the_front_door_leads_to_train() -> None:
    from lrope_interp import training

    assert training.train is train
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = training.trian


def test_configs_and_events_load_neither_torch_nor_the_models() -> None:
    code = (
        "import sys\n"
        "from lrope_interp.training import config, events, process\n"
        "print([name for name in ('torch', 'transformer_lens', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
