"""Arms of a seed start alike and read alike; a paired experiment goes on where it was stopped."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from run_samples import MakeConfig, slow_nats

from lrope_interp.data import Corpus, CorpusPart, Document, cache, load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.folders import locked
from lrope_interp.models import LRopeTransformer
from lrope_interp.runs import Run
from lrope_interp.tokenizers import ByteTokenizer
from lrope_interp.training import events, replication
from lrope_interp.training.config import TrainConfig, train_config
from lrope_interp.training.events import Event, Started, Step
from lrope_interp.training.preparation import build_model, prepare
from lrope_interp.training.replication import (
    ARMS,
    DEFAULT_ARMS,
    PlannedRun,
    Replication,
    arm_config,
    as_begun,
    at_default_place,
    check,
    check_reference,
    extra_units,
    n_extra_parameters,
    opened,
    parse_arms,
    train_missing,
)

SHORT = {"n_steps": 4, "eval_every": 2, "checkpoint_every": 2, "log_every": 1, "validation_bytes": 400}


@pytest.fixture(scope="session")
def base(make_config: MakeConfig) -> TrainConfig:
    return make_config(**SHORT)


@pytest.fixture
def asked(tmp_path: Path, base: TrainConfig) -> Replication:
    return Replication(tmp_path / "pairs", ("fixed", "fixed_wide", "per_layer"), 2, base)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, base: TrainConfig) -> Replication:
    """Two arms and one seed, trained; tests only read it."""
    made = Replication(tmp_path_factory.mktemp("pairs") / "x", ("fixed", "per_layer"), 1, base)
    with opened(made):
        train_missing(made, ignore)
    return made


def ignore(planned: PlannedRun, event: Event) -> None:
    del planned, event


def test_arms_of_a_seed_share_every_initial_weight_that_both_have(base: TrainConfig) -> None:
    models = {arm: build_model(arm_config(arm, base, 1)) for arm in ARMS}
    fixed = dict(models.pop("fixed").named_parameters())
    for arm, model in models.items():
        weights = dict(model.named_parameters())
        assert fixed.keys() <= weights.keys()
        for name, weight in fixed.items():
            shared = weights[name][tuple(slice(length) for length in weight.shape)]
            assert torch.equal(shared, weight), (arm, name)


def test_learned_arms_begin_as_fixed_rope(base: TrainConfig) -> None:
    tokens = torch.arange(30)[None] % 257
    with torch.no_grad():
        fixed = build_model(arm_config("fixed", base, 3))(tokens)
        for arm in ("shared", "per_layer", "per_layer_per_head"):
            assert torch.equal(build_model(arm_config(arm, base, 3))(tokens), fixed)


def test_arms_of_a_seed_read_the_same_batches_and_other_seeds_read_others(base: TrainConfig) -> None:
    def batch(arm: str, seed: int) -> np.ndarray:
        return prepare(arm_config(arm, base, seed), events.ignore).sampler.batch(2)

    for arm in ARMS:
        assert np.array_equal(batch(arm, 0), batch("fixed", 0))
    assert not np.array_equal(batch("fixed", 1), batch("fixed", 0))


def test_the_widened_arm_comes_nearest_to_the_size_of_the_per_layer_arm(base: TrainConfig) -> None:
    def size(arm: str) -> int:
        model = build_model(arm_config(arm, base, 0))
        return sum(weight.numel() for weight in model.parameters())

    for arm in ARMS:
        assert size(arm) - size("fixed") == n_extra_parameters(arm, base)
    a_unit = 3 * base.d_model * base.n_layers
    assert abs(size("fixed_wide") - size("per_layer")) <= a_unit / 2
    assert arm_config("fixed_wide", base, 0).widened == extra_units(base)
    assert arm_config("fixed_wide", train_config("tiny"), 0).widened == 6
    assert n_extra_parameters("per_layer", train_config("tiny")) == 4_484


def test_arms_are_parsed_as_they_are_spoken_and_others_are_refused() -> None:
    assert parse_arms("fixed,fixed-wide, shared,per_layer") == DEFAULT_ARMS
    assert check_reference("fixed-wide", DEFAULT_ARMS) == "fixed_wide"
    for text, said in (
        ("fixed,per-lair", "Did you mean 'per-layer'"),
        ("fixed,shared,fixed", "named twice"),
        ("fixed,", "unknown arm ''"),
    ):
        with pytest.raises(LRopeError, match=said):
            parse_arms(text)
    for reference, arms, said in (
        ("fixed", ("shared", "per_layer"), "not among the arms shared, per-layer"),
        ("fixed", ("fixed",), "nothing to be compared with"),
        ("fixt", ("fixed", "shared"), "Did you mean 'fixed'"),
    ):
        with pytest.raises(LRopeError, match=said):
            check_reference(reference, arms)


def test_stopped_and_called_again_it_trains_only_what_is_missing(asked: Replication) -> None:
    def stop(planned: PlannedRun, event: Event) -> None:
        if planned.name == "fixed_wide-s0" and isinstance(event, Step) and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    names = [f"{arm}-s{seed}" for seed in (0, 1) for arm in ("fixed", "fixed_wide", "per_layer")]
    assert [planned.name for planned in asked.runs()] == names  # pairs are complete seed by seed
    with pytest.raises(KeyboardInterrupt), opened(asked):
        train_missing(asked, stop)
    assert [planned.is_begun for planned in asked.runs()] == [True, True, False, False, False, False]
    before = asked.runs()[0].folder.joinpath("model.safetensors").stat().st_mtime_ns
    begun: list[tuple[str, int]] = []

    def note(planned: PlannedRun, event: Event) -> None:
        if isinstance(event, Started):
            begun.append((planned.name, event.step))

    check(asked)
    with opened(asked):
        runs = train_missing(asked, note)
    assert begun == [
        ("fixed_wide-s0", 3), ("per_layer-s0", 0), ("fixed-s1", 0), ("fixed_wide-s1", 0), ("per_layer-s1", 0)
    ]  # fmt: skip
    assert all(run.is_finished for run in runs)
    assert asked.runs()[0].folder.joinpath("model.safetensors").stat().st_mtime_ns == before
    assert [run.seed for run in runs] == [0, 0, 0, 1, 1, 1]

    told: list[Event] = []
    train_missing(asked, lambda planned, event: told.append(event))
    assert told == []


def test_an_arm_alone_equals_the_same_run_by_train(finished: Replication, tmp_path: Path) -> None:
    from lrope_interp.training.loop import train

    planned = finished.runs()[1]
    alone = train(planned.config, tmp_path / "alone").folder
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (alone / name).read_bytes() == (planned.folder / name).read_bytes()


def test_runs_with_other_options_or_another_text_are_refused_and_more_seeds_and_arms_may_join(
    finished: Replication, make_config: MakeConfig
) -> None:
    other = Replication(finished.folder, finished.arms, 1, make_config(**SHORT | {"batch_size": 2}))
    with pytest.raises(LRopeError, match=r"fixed-s0 .*batch_size was 4, now 2"):
        check(other)
    longer = Replication(finished.folder, finished.arms, 1, make_config(**SHORT | {"n_steps": 5}))
    with pytest.raises(LRopeError, match=r"n_steps was 4, now 5"):
        check(longer)
    check(other, is_replaced=True)
    check(Replication(finished.folder, ("fixed", "shared", "per_layer"), 3, finished.base))
    manifest = json.loads((finished.runs()[0].folder / "data.json").read_text())
    check(finished, manifest)
    manifest["splits"]["dev"]["sha256"] = manifest["splits"]["dev"]["sha256"][1:]
    with pytest.raises(LRopeError, match="has changed since"):
        check(finished, manifest)


@pytest.mark.parametrize("name", ["notes.txt", "runs/model-s0/x"])
def test_a_folder_of_something_else_is_refused(asked: Replication, name: str) -> None:
    path = asked.folder / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(LRopeError, match="no folder of `replicate`"):
        check(asked)
    refused = pytest.raises(LRopeError, match=r"not ours to replace|does not replace")
    with refused, opened(asked, overwrite=True):
        pass
    assert path.read_text() == "mine"


def test_without_out_other_options_begin_beside(finished: Replication, make_config: MakeConfig) -> None:
    assert at_default_place(finished) == finished
    other = Replication(finished.folder, finished.arms, 1, make_config(**SHORT | {"lr": 1e-4}))
    assert at_default_place(other).folder == finished.folder.with_name("x-2")


def test_two_processes_cannot_hold_one_experiment_and_a_folder_in_which_nothing_came_to_be_goes_away(
    asked: Replication,
) -> None:
    with opened(asked), pytest.raises(LRopeError, match="another process"), opened(asked):
        pass
    assert not asked.folder.exists()


def test_overwriting_begins_from_nothing_but_never_under_a_training(asked: Replication) -> None:
    run = asked.folder / "runs" / "fixed-s0"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    refused = pytest.raises(LRopeError, match="another process is training")
    with locked(run), refused, opened(asked, overwrite=True):
        pass
    assert run.exists()
    new = asked.folder.with_name("pairs.new")
    assert not new.exists()
    with opened(asked, overwrite=True) as place:
        assert place.folder == new
        assert not (new / "runs").exists()
        (new / "runs" / "per_layer-s0").mkdir(parents=True)
    assert run.exists()
    assert as_begun(asked).folder == new
    with opened(as_begun(asked)) as place:
        place.settle()
    assert [path.name for path in (asked.folder / "runs").iterdir()] == ["per_layer-s0"]
    assert not new.exists()


def test_the_full_validation_set_is_every_dev_document_by_language() -> None:
    parts = (
        CorpusPart(one, one, tuple(Document(f"{k}", f"{one} {k}", one, one) for k in range(60)), 0.5)
        for one in ("zh", "en")
    )
    corpus = Corpus("two", tuple(parts))
    documents = replication.full_validation(corpus)
    assert {corpus.split_of(one) for one in documents} == {"dev"}
    assert len(documents) == len(corpus.documents("dev")) > 4
    order = [(one.language, one.sha256) for one in documents]
    assert order == sorted(order)


def test_weights_that_are_replaced_while_they_are_scored_have_no_score(
    finished: Replication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Replication(tmp_path / "x", ("fixed",), 1, finished.base)
    shutil.copytree(finished.folder / "runs", asked.folder / "runs")
    planned, other = asked.runs()[0], finished.runs()[1].folder / "model.safetensors"

    def replaced(*_: object) -> tuple[dict[str, float], dict[str, int]]:
        (planned.folder / "model.safetensors").write_bytes(other.read_bytes())
        return {"en": 1.0}, {"en": 1}

    monkeypatch.setattr(replication, "_nats_by_language", replaced)
    with pytest.raises(LRopeError, match="was replaced while it was scored"):
        replication.score(planned, _run(planned), _documents({"en": "some text"}), device="cpu")
    assert not (asked.folder / "scores").exists()


def test_the_score_is_that_of_a_byte_at_a_time_over_all_languages(finished: Replication) -> None:
    run = _run(finished.runs()[1])
    model = LRopeTransformer.from_pretrained(run.folder)
    texts = {"en": "forty bytes of English in several windows", "zh": "中文"}
    scored = replication.score(_elsewhere(finished.runs()[1]), run, _documents(texts), device="cpu")
    assert scored["n_bytes"] == {language: len(text.encode()) for language, text in texts.items()}
    nats = {language: slow_nats(model, text) for language, text in texts.items()}
    assert scored["nats"] == pytest.approx(nats, rel=1e-5)
    rows = replication.rows_of(finished.runs()[1], run, scored)
    assert rows["runs"][0]["nats_per_byte"] == pytest.approx(sum(nats.values()) / 47, rel=1e-5)
    documents = replication.full_validation(load_corpus(finished.base.data))
    scored = replication.score(finished.runs()[1], run, documents, device="cpu")
    assert sum(scored["n_bytes"].values()) == sum(document.n_bytes for document in documents)
    assert sum(scored["n_bytes"].values()) > finished.base.validation_bytes


def _documents(texts: Mapping[str, str]) -> list[Document]:
    return [Document(name=one, text=text, corpus="test", language=one) for one, text in texts.items()]


def _run(planned: PlannedRun) -> Run:
    run = planned.trained()
    assert run is not None
    return run


def _elsewhere(planned: PlannedRun) -> PlannedRun:
    """The same run under another name, so that its kept score is another."""
    return PlannedRun(planned.arm, 9, planned.config, planned.folder.with_name(f"{planned.arm}-s9"))


def test_a_score_is_kept_while_every_part_of_its_key_is_the_same(
    finished: Replication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def counted(*_: object) -> tuple[dict[str, float], dict[str, int]]:
        computed.append("once more")
        return {"en": 1.0}, {"en": 1}

    monkeypatch.setattr(replication, "_nats_by_language", counted)
    asked = Replication(tmp_path / "x", ("fixed",), 1, finished.base)
    shutil.copytree(finished.folder / "runs", asked.folder / "runs")
    planned = asked.runs()[0]

    def n_computed(text: str = "some text", language: str = "en") -> int:
        documents = [Document("one", text, "test", language)]
        first, again = (replication.score(planned, _run(planned), documents, device="cpu") for _ in range(2))
        assert first == again
        return len(computed)

    assert n_computed() == 1
    assert n_computed("some other text") == 2
    assert n_computed("some other text", "zh") == 3
    for number, name in enumerate(("model.safetensors", "config.json", "tokenizer.json")):
        path = planned.folder / name
        path.write_bytes(path.read_bytes() + b" ")
        if name == "tokenizer.json":
            other = type("Other", (ByteTokenizer,), {"fingerprint": "other"})
            monkeypatch.setattr(replication, "load_tokenizer", lambda _, other=other: other())
        assert n_computed("some other text", "zh") == 4 + number
    for number, room in enumerate(("data", "models", "tokenizers", "training")):
        monkeypatch.setitem(cache._DIGESTS, room, "of other code")
        assert n_computed("some other text", "zh") == 7 + number
    (asked.folder / "scores" / "fixed-s0.json").write_text("torn")
    assert n_computed("some other text", "zh") == 11


def test_text_that_was_trained_on_is_not_scored(finished: Replication) -> None:
    planned = _elsewhere(finished.runs()[0])
    trained_on = load_corpus(finished.base.data).documents("train")
    with pytest.raises(LRopeError):
        replication.score(planned, _run(finished.runs()[0]), trained_on, device="cpu")


def test_the_rows_are_what_the_run_logged(finished: Replication) -> None:
    planned = finished.runs()[1]
    run = _run(planned)
    scored = {"model_sha256": "ab", "nats": {"en": 3.0, "zh": 5.0}, "n_bytes": {"en": 2, "zh": 2}}
    rows = replication.rows_of(planned, run, scored)
    (row,) = rows["runs"]
    assert (row["arm"], row["seed"], row["nats_per_byte"]) == ("per_layer", 0, 2.0)
    model = LRopeTransformer.from_pretrained(run.folder)
    assert row["n_parameters"] == sum(weight.numel() for weight in model.parameters())
    assert (row["n_steps"], row["train_loss"]) == (4, run.summary["train_loss"])
    languages = [(line["language"], line["nats_per_byte"], line["n_bytes"]) for line in rows["languages"]]
    assert languages == [("en", 1.5, 2), ("zh", 2.5, 2)]
    curves = rows["curves"]
    assert [line["step"] for line in curves if line["split"] == "validation"] == [2, 4]
    assert curves[-1]["loss"] == run.summary["validation_nats_per_byte"]


def test_runs_under_other_conditions_are_named(finished: Replication) -> None:
    run = _run(finished.runs()[0])
    other = Run(run.folder, {**run.info, "threads": 64, "versions": {**run.info["versions"], "torch": "1.0"}})
    assert replication.differing_conditions([run, run]) == []
    said = replication.differing_conditions([run, other])
    assert any("same threads" in line for line in said)
    assert any("same version of torch" in line and "1.0" in line for line in said)
