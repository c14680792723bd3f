"""Training on increments that another run has learned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lrope_interp.commands.training import Recorded, Request, _resumed, run_name
from lrope_interp.data import load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import load_weights, save_weights
from lrope_interp.models.frozen import attached_increments
from lrope_interp.results import file_sha256
from lrope_interp.runs import read_run
from lrope_interp.training import events
from lrope_interp.training.config import Recording, TrainConfig
from lrope_interp.training.distribution import joined
from lrope_interp.training.events import Event, Step
from lrope_interp.training.frozen import lexical_table
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import read_lines, run_logs
from lrope_interp.training.preparation import build_model, prepare
from lrope_interp.training.process import StopFlag
from lrope_interp.training.steps import Sitting, TrainingLoop

MakeConfig = Callable[..., TrainConfig]
KINDS = {"lexical": "frozen", "contextual": "frozen-contextual"}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    """A finished run whose increments are random: what 12 steps learn is too close to 1."""
    folder = tmp_path_factory.mktemp("source") / "learned"
    train(make_config(), folder)
    _randomise(folder)
    return folder


@pytest.fixture(scope="session")
def source_per_head(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> Path:
    folder = tmp_path_factory.mktemp("source") / "learned-per-head"
    train(make_config(per_head=True, n_steps=1), folder)
    _randomise(folder)
    return folder


def _randomise(folder: Path) -> None:
    model = LRopeTransformer.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for _, parameter in model.increment_parameters():
            parameter.add_(torch.randn_like(parameter))
    save_weights(model, folder / "model.safetensors")


def outcome(folder: Path) -> tuple[str, bytes]:
    return file_sha256(folder / "model.safetensors"), (folder / "metrics.jsonl").read_bytes()


def stop_at(step: int) -> Callable[[Event], None]:
    def on_event(event: Event) -> None:
        if isinstance(event, Step) and event.step == step:
            raise KeyboardInterrupt

    return on_event


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_increments_alone(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    config = make_config(increments=f"{KINDS[kind]}:{source}", n_steps=30, seed=1)
    before = prepare(config, events.ignore).frozen
    run = train(config, tmp_path / "run")
    losses = [line["loss"] for line in read_lines(run.folder / "metrics.jsonl") if line["split"] == "train"]
    assert losses[-1] < losses[0] - 0.1
    model = LRopeTransformer.from_pretrained(run.folder)
    tokens = torch.arange(20)[None]
    plain = build_model(make_config(increments="fixed", seed=1))
    assert run.n_parameters == sum(parameter.numel() for parameter in plain.parameters())
    for layer in range(2):
        hook = f"blocks.{layer}.hook_increments"
        _, cache = model.run_with_cache(tokens, names_filter=hook)
        fresh = build_model(make_config(increments="fixed", seed=1), frozen=before)
        _, unmoved = fresh.run_with_cache(tokens, names_filter=hook)
        assert torch.equal(cache[hook], unmoved[hook])
        assert cache[hook].std() > 0.01


def test_the_weights_are_those_of_training_under_a_hook_written_by_hand(
    tmp_path: Path, make_config: MakeConfig, source: Path
) -> None:
    config = make_config(increments=f"frozen:{source}", n_steps=3)
    run = train(config, tmp_path / "run")
    table = attached_increments(LRopeTransformer.from_pretrained(run.folder)).table  # type: ignore[union-attr]
    prepared = prepare(make_config(increments="fixed", n_steps=3), events.ignore)
    model = build_model(prepared.config)
    for layer in range(2):
        model.add_hook(
            f"blocks.{layer}.hook_increments",
            lambda old, hook, layer=layer: table[layer][hook.ctx["stream"].tokens],
        )
    (tmp_path / "by-hand").mkdir()
    with joined(prepared.config) as processes:
        sitting = Sitting(tmp_path / "by-hand", processes, Recording(), events.ignore)
        with run_logs(sitting.folder, processes, sitting.emit) as logs:
            TrainingLoop(sitting, prepared, model, logs, StopFlag()).run()
    trained = build_model(prepared.config)
    load_weights(trained, run.folder / "model.safetensors")
    wanted = dict(trained.named_parameters())
    assert all(torch.equal(value, wanted[name]) for name, value in model.named_parameters())


def test_the_table_holds_the_mean_of_every_token_and_the_layer_mean_where_there_is_none(
    make_config: MakeConfig, source: Path, source_per_head: Path
) -> None:
    sampler = prepare(make_config(), events.ignore).sampler
    for folder, heads in ((source, ()), (source_per_head, (2,))):
        model = LRopeTransformer.from_pretrained(folder)
        table = lexical_table(model, sampler, n_batches=3)
        assert table.shape == (2, 257, *heads)
        windows = torch.from_numpy(np.concatenate([sampler.batch(step)[:, :-1] for step in range(3)]))
        hook = "blocks.1.hook_increments"
        _, cache = model.run_with_cache(windows, names_filter=hook)
        increments, ids = cache[hook][:, 1:].double(), windows[:, 1:]
        for token in (32, 97, 256):
            assert (ids == token).any()
            assert torch.allclose(table[1][token].double(), increments[ids == token].mean(0), atol=1e-6)
        assert not (ids == 1).any()
        assert torch.allclose(table[1][1].double(), increments.flatten(0, 1).mean(0), atol=1e-6)
        assert torch.equal(lexical_table(model, sampler, n_batches=3), table)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_configs_give_equal_runs_wherever_the_source_lies(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    moved = tmp_path / "elsewhere" / source.name
    shutil.copytree(source, moved)
    runs = [
        train(make_config(increments=f"{KINDS[kind]}:{folder}", n_steps=3), tmp_path / f"run{at}")
        for at, folder in enumerate((source, moved))
    ]
    assert outcome(runs[0].folder) == outcome(runs[1].folder)
    configs = [json.loads((run.folder / "config.json").read_text()) for run in runs]
    assert configs[0] == configs[1]
    assert str(tmp_path) not in json.dumps(configs[0]["training"]["frozen_from"])
    sha256 = file_sha256(source / "model.safetensors")
    assert configs[0]["training"]["frozen_from"] == f"learned@{sha256}"


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_without_the_source_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, source_per_head: Path, kind: str
) -> None:
    own = tmp_path / "own"
    shutil.copytree(source_per_head, own)
    config = make_config(increments=f"{KINDS[kind]}:{own}")
    assert train(config, tmp_path / "whole").per_head
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run", on_event=stop_at(7))
    shutil.rmtree(own)
    train(config, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    loaded = LRopeTransformer.from_pretrained(tmp_path / "run")
    checkpoint = LRopeTransformer.from_pretrained(tmp_path / "run" / "checkpoints" / "step-00000008")
    hook, tokens = "blocks.0.hook_increments", torch.arange(9)[None]
    found = [model.run_with_cache(tokens, names_filter=hook)[1][hook] for model in (loaded, checkpoint)]
    assert torch.equal(*found)


def test_options_repeated_with_resume_must_name_the_same_source(
    tmp_path: Path, make_config: MakeConfig, source: Path, source_per_head: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(make_config(increments=f"frozen:{source}"), folder, on_event=stop_at(5))
    for words, differing in [
        (f"frozen-contextual:{source}", "frozen was lexical, now contextual"),
        (f"frozen:{source_per_head}", "frozen_from was learned@"),
        ("per-layer", "increments was fixed, now per_layer"),
        ("fixed", "frozen was lexical"),
    ]:
        request = Request({"increments": words}, folder, True, False, Recorded(None, ()))
        config, _ = _resumed(request)
        with pytest.raises(LRopeError, match=differing):
            train(config, folder, resume=True)
    request = Request({"increments": f"frozen:{source}"}, folder, True, False, Recorded(None, ()))
    assert train(_resumed(request)[0], folder, resume=True).is_finished


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_says_what_it_was_trained_on(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    config = make_config(increments=f"{KINDS[kind]}:{source}", n_steps=1, log_every=1)
    assert run_name(config) == f"tiny-file-sentences-frozen_{kind}-s0"
    run = train(config, tmp_path / "run")
    assert run.increments == f"frozen_{kind}"
    assert run.frozen_from.startswith("learned@")
    assert f"--increments {KINDS[kind]}:learned " in run.command
    (line,) = [line for line in read_lines(run.folder / "metrics.jsonl") if line["split"] == "train"]
    assert [one["layer"] for one in line["increments"]] == [0, 1]
    stored = TrainConfig.from_dict(json.loads((run.folder / "config.json").read_text())["training"])
    assert TrainConfig.from_dict(stored.to_dict()) == stored


def test_a_stored_config_finds_its_source_again_and_refuses_other_weights(
    tmp_path: Path, make_config: MakeConfig, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(make_config(increments=f"frozen:{source}", n_steps=1), tmp_path / "run")
    stored = TrainConfig.from_dict(json.loads((run.folder / "config.json").read_text())["training"])
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, Path("runs") / source.name)
    assert outcome(train(stored, tmp_path / "again").folder) == outcome(run.folder)
    _randomise(Path("runs") / source.name)
    with pytest.raises(LRopeError, match="has other weights"):
        train(stored, tmp_path / "more")


@pytest.mark.parametrize(
    ("words", "other", "message"),
    [
        ("frozen:", {}, "names no run"),
        ("frozen", {}, "names no run"),
        ("frozen-contextual:", {}, "names no run"),
        ("frozen:missing", {}, "there is no run folder"),
        ("frozen:SOURCE", {"n_layers": 3}, "n_layers is 2 there and 3 here"),
        ("frozen-contextual:SOURCE", {"n_layers": 1}, "n_layers is 2 there and 1 here"),
        ("frozen:SOURCE", {"n_ctx": 40}, "n_ctx is 32 there and 40 here"),
        ("frozen:SOURCE", {"per_head": True}, "leave out --per-head"),
        ("frozen:HEADS", {"n_heads": 1}, "n_heads is 2 there and 1 here"),
        ("frozen:SOURCE", {"tokenizer": "bpe:300"}, "another tokenizer"),
        ("frozen:FIXED", {}, "has fixed increments"),
        ("frozen-contextual:UNFINISHED", {}, "is not finished"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    tmp_path: Path,
    make_config: MakeConfig,
    source: Path,
    source_per_head: Path,
    words: str,
    other: dict[str, object],
    message: str,
) -> None:
    fixed, unfinished = tmp_path / "fixed", tmp_path / "unfinished"
    if "FIXED" in words:
        train(make_config(increments="fixed", n_steps=1), fixed)
    if "UNFINISHED" in words:
        with pytest.raises(KeyboardInterrupt):
            train(make_config(), unfinished, on_event=stop_at(1))
    places = {"SOURCE": source, "HEADS": source_per_head, "FIXED": fixed, "UNFINISHED": unfinished}
    for name, folder in places.items():
        words = words.replace(name, str(folder))
    with pytest.raises(LRopeError, match=message):
        train(make_config(increments=words, **other), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_frozen_run_is_no_source(tmp_path: Path, make_config: MakeConfig, source: Path) -> None:
    train(make_config(increments=f"frozen:{source}", n_steps=1), tmp_path / "first")
    with pytest.raises(LRopeError, match="has frozen lexical increments, which it did not learn"):
        train(make_config(increments=f"frozen:{tmp_path / 'first'}"), tmp_path / "second")


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_that_has_read_held_out_text_is_refused(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    leaky = tmp_path / "leaky"
    shutil.copytree(source, leaky)
    config = make_config(increments=f"{KINDS[kind]}:{leaky}", n_steps=1)
    manifest = json.loads((leaky / "data.json").read_text(encoding="utf-8"))
    (held_out, *_) = load_corpus(config.data).documents("test")
    manifest["splits"]["train"]["sha256"].append(held_out.sha256)
    (leaky / "data.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(LRopeError, match="was trained on text that the new run holds out"):
        train(config, tmp_path / "run")


def test_a_run_that_lost_its_increments_cannot_go_on(
    tmp_path: Path, make_config: MakeConfig, source: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(make_config(increments=f"frozen:{source}"), folder, on_event=stop_at(5))
    (folder / "increments.safetensors").unlink()
    with pytest.raises(LRopeError, match="copy the whole folder"):
        train(None, folder, resume=True)
    assert not read_run(folder, allow_unfinished=True).is_finished


def test_a_frozen_run_of_a_bpe_takes_the_tokenizer_file_of_its_source(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    learned = tmp_path / "learned"
    train(make_config(tokenizer="bpe:300", n_ctx=16, n_steps=1), learned)
    tokenizer = str(learned / "tokenizer.json")
    config = make_config(increments=f"frozen-contextual:{learned}", tokenizer=tokenizer, n_ctx=16, n_steps=1)
    run = train(config, tmp_path / "run")
    shutil.rmtree(learned)
    assert LRopeTransformer.from_pretrained(run.folder)("why? 位置").isfinite().all()


@pytest.mark.parametrize(
    "values",
    [
        {"increments": "per_layer", "frozen": "lexical", "frozen_from": "x"},
        {"increments": "fixed", "frozen": "lexical"},
        {"increments": "fixed", "frozen_from": "x"},
        {"increments": "fixed", "frozen": "lexicl", "frozen_from": "x"},
    ],
)
def test_half_a_frozen_config_is_refused(values: dict[str, str]) -> None:
    with pytest.raises(LRopeError, match="frozen"):
        TrainConfig.from_dict(values)
