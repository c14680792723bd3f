"""Training on increments that another run has learned."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import MakeConfig, at, fail, logged, outcome

from lrope_interp.commands.train import resumed
from lrope_interp.data import load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import load_weights, save_weights
from lrope_interp.models.frozen import attached_increments
from lrope_interp.results import file_sha256
from lrope_interp.runs import read_run
from lrope_interp.training import events
from lrope_interp.training.config import Recording, TrainConfig, run_name
from lrope_interp.training.distribution import joined
from lrope_interp.training.frozen import lexical_table
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import RunLogs
from lrope_interp.training.preparation import build_model, prepare
from lrope_interp.training.process import StopFlag
from lrope_interp.training.steps import Sitting, TrainingLoop

KINDS = {"lexical": "frozen", "contextual": "frozen-contextual"}


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, make_config: MakeConfig) -> dict[str, Path]:
    """Runs by what is told of them below; the increments of the finished ones are random.

    What so few steps learn is too close to 1.
    """
    root = tmp_path_factory.mktemp("sources")
    for name, options in (("learned", {}), ("heads", {"per_head": True}), ("fixed", {"increments": "fixed"})):
        train(make_config(n_steps=1, **options), root / name)
        _randomise(root / name)
    interrupt(make_config(), root / "unfinished", 1)
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def source(sources: dict[str, Path]) -> Path:
    return sources["learned"]


def _randomise(folder: Path) -> None:
    model = LRopeTransformer.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.no_grad():
        for _, parameter in model.increment_parameters():
            parameter.add_(torch.randn_like(parameter))
    save_weights(model, folder / "model.safetensors")


def interrupt(config: TrainConfig, folder: Path, step: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, on_event=at(step, fail(KeyboardInterrupt)))


@pytest.mark.parametrize("kind", KINDS)
def test_training_lowers_the_loss_and_leaves_the_increments_alone(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    config = make_config(increments=f"{KINDS[kind]}:{source}", n_steps=30, seed=1)
    before = prepare(config, events.ignore).frozen
    run = train(config, tmp_path / "run")
    losses = logged(run.folder)
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
    with joined(prepared.config) as processes, RunLogs(tmp_path, processes, events.ignore) as logs:
        sitting = Sitting(tmp_path, processes, Recording(), events.ignore)
        TrainingLoop(sitting, prepared, model, logs, StopFlag()).run()
    trained = build_model(prepared.config)
    load_weights(trained, run.folder / "model.safetensors")
    wanted = dict(trained.named_parameters())
    assert all(torch.equal(value, wanted[name]) for name, value in model.named_parameters())


def test_the_table_holds_the_mean_of_every_token_and_the_layer_mean_where_there_is_none(
    make_config: MakeConfig, sources: dict[str, Path]
) -> None:
    sampler = prepare(make_config(), events.ignore).sampler
    for folder, heads in ((sources["learned"], ()), (sources["heads"], (2,))):
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
def test_equal_configs_give_equal_runs_wherever_the_source_lies_and_a_run_says_what_it_was_trained_on(
    tmp_path: Path, make_config: MakeConfig, source: Path, kind: str
) -> None:
    moved = Path(shutil.copytree(source, tmp_path / "elsewhere" / source.name))
    configs = [make_config(increments=f"{KINDS[kind]}:{folder}", n_steps=3) for folder in (source, moved)]
    run, other = (train(config, tmp_path / f"run{at}") for at, config in enumerate(configs))
    assert outcome(run.folder) == outcome(other.folder)
    stored = [json.loads((one.folder / "config.json").read_text()) for one in (run, other)]
    assert stored[0] == stored[1]
    sha256 = file_sha256(source / "model.safetensors")
    assert stored[0]["training"]["frozen_from"] == run.frozen_from == f"learned@{sha256}"
    assert run_name(configs[0]) == f"tiny-file-sentences-frozen_{kind}-s0"
    assert run.increments == f"frozen_{kind}"
    assert f"--increments {KINDS[kind]}:learned " in run.command
    assert [one["layer"] for one in logged(run.folder, name="increments")[0]] == [0, 1]
    config = TrainConfig.from_dict(stored[0]["training"])
    assert TrainConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_without_the_source_equals_uninterrupted_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, sources: dict[str, Path], kind: str
) -> None:
    own = Path(shutil.copytree(sources["heads"], tmp_path / "own"))
    config = make_config(increments=f"{KINDS[kind]}:{own}")
    assert train(config, tmp_path / "whole").per_head
    interrupt(config, tmp_path / "run", 7)
    shutil.rmtree(own)
    train(config, tmp_path / "run", resume=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    loaded = LRopeTransformer.from_pretrained(tmp_path / "run")
    checkpoint = LRopeTransformer.from_pretrained(tmp_path / "run" / "checkpoints" / "step-00000008")
    hook, tokens = "blocks.0.hook_increments", torch.arange(9)[None]
    found = [model.run_with_cache(tokens, names_filter=hook)[1][hook] for model in (loaded, checkpoint)]
    assert torch.equal(*found)


def test_options_repeated_with_resume_must_name_the_same_source(
    tmp_path: Path, make_config: MakeConfig, source: Path, sources: dict[str, Path]
) -> None:
    folder = tmp_path / "run"
    interrupt(make_config(increments=f"frozen:{source}"), folder, 5)
    for words, differing in [
        (f"frozen-contextual:{source}", "frozen was lexical, now contextual"),
        (f"frozen:{sources['heads']}", "frozen_from was learned@"),
        ("per-layer", "increments was fixed, now per_layer"),
        ("fixed", "frozen was lexical"),
    ]:
        with pytest.raises(LRopeError, match=differing):
            train(asked_again(words, folder), folder, resume=True)
    assert train(asked_again(f"frozen:{source}", folder), folder, resume=True).is_finished


def asked_again(increments: str, folder: Path) -> TrainConfig | None:
    return resumed({"increments": increments}, folder)[0]


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
        ("frozen-contextual", {}, "names no run"),
        ("frozen:missing", {}, "there is no run folder"),
        ("frozen-contextual:learned", {"n_layers": 3}, "n_layers is 2 there and 3 here"),
        ("frozen:learned", {"n_ctx": 40}, "n_ctx is 32 there and 40 here"),
        ("frozen:learned", {"per_head": True}, "leave out per_head"),
        ("frozen:heads", {"n_heads": 1}, "n_heads is 2 there and 1 here"),
        ("frozen:learned", {"tokenizer": "bpe:300"}, "another tokenizer"),
        ("frozen:fixed", {}, "has fixed increments"),
        ("frozen-contextual:unfinished", {}, "is not finished"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(
    tmp_path: Path,
    make_config: MakeConfig,
    sources: dict[str, Path],
    words: str,
    other: dict[str, object],
    message: str,
) -> None:
    kind, _, name = words.partition(":")
    words = f"{kind}:{sources.get(name, name)}" if name else words
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
    interrupt(make_config(increments=f"frozen:{source}"), folder, 5)
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
