"""What is remembered is remembered of these inputs and this code alone: each part of each key counts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from concept_samples import sample_of
from erasure_samples import marked
from probe_samples import english

import lrope_interp
from lrope_interp.data import cache
from lrope_interp.models import LRopeTransformer
from lrope_interp.models import controls as control_models
from lrope_interp.models.frozen import ContextualIncrements, LexicalIncrements, attach_increments
from lrope_interp.probes.ablations.passes import run_arms
from lrope_interp.probes.ablations.plan import AblationArm
from lrope_interp.probes.boundaries import tables
from lrope_interp.probes.boundaries.tables import stride_frame
from lrope_interp.probes.capture import cache as remembered
from lrope_interp.probes.capture import controls
from lrope_interp.probes.capture.cache import model_identity
from lrope_interp.probes.capture.capture import COSINE, capture, lay_out
from lrope_interp.probes.capture.controls import untrained
from lrope_interp.probes.capture.increment_statistics import capture_increments, fit_increments
from lrope_interp.probes.concepts import reads as reads_module
from lrope_interp.probes.concepts.erasing import fit_layers
from lrope_interp.probes.concepts.erasures import run_erased
from lrope_interp.probes.concepts.features import JOINT_PLUS, NONE, FeatureSet
from lrope_interp.probes.concepts.probes import run_probes
from lrope_interp.probes.concepts.reads import ModelReader
from lrope_interp.probes.statistics.erasure import LeaceEraser
from lrope_interp.tokenizers import ByteTokenizer

MakeModel = Callable[..., LRopeTransformer]
DOCUMENTS = tuple(english(number, 12) for number in range(2))
OTHERS = tuple(english(number, 12) for number in range(2, 4))
SAME_LENGTH = tuple(replace(one, text=one.text.swapcase()) for one in DOCUMENTS)
ORDERS = [OTHERS, SAME_LENGTH, DOCUMENTS[::-1], DOCUMENTS[:1]]


class _OtherTokens(ByteTokenizer):
    __module__ = ByteTokenizer.__module__  # as if it were the package's: of others nothing is remembered
    fingerprint = "other"


class _Asked(BaseException):
    """Raised with the key of the first entry that is looked up, before anything is computed."""


@pytest.fixture
def key_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], str]:
    def asked(kind: str, identity: Mapping[str, Any], *_: object) -> None:
        raise _Asked(f"{kind} {json.dumps(identity, sort_keys=True)}")

    monkeypatch.setattr(remembered, "cached", asked)

    def key(call: Callable[[], object]) -> str:
        with pytest.raises(_Asked) as caught:
            call()
        return str(caught.value)

    return key


KeyOf = Callable[[Callable[[], object]], str]


def assert_every_part_counts(
    key_of: KeyOf, call: Callable[..., object], parts: Mapping[str, tuple[object, list[object]]]
) -> None:
    """Change one argument after the other, to every other value that is given for it."""
    base = {name: value for name, (value, _) in parts.items()}
    keys = {"": key_of(lambda: call(**base))}
    assert key_of(lambda: call(**base)) == keys[""]
    for name, (_, others) in parts.items():
        for number, value in enumerate(others):
            keys[f"{name} {number}"] = key_of(lambda more={name: value}: call(**base | more))
    same = {name: [other for other in keys if keys[other] == key] for name, key in keys.items()}
    assert [names for names in same.values() if len(names) > 1] == []


@pytest.fixture
def models(make_model: MakeModel) -> tuple[object, list[object]]:
    """A model, and those that differ from it in one thing each."""
    tokens, device, norm = make_model(), make_model(), make_model()
    norm.blocks[0].ln1.eps = 5.0
    tokens.tokenizer = _OtherTokens()
    device.cfg.device = "meta"
    return make_model(), [make_model(seed=1), make_model(rope_base=50.0), norm, tokens, device]


def test_models_differ_by_attached_increments_too(make_model: MakeModel) -> None:
    found = []
    for frozen in (
        None,
        LexicalIncrements(torch.ones(2, 257)),
        LexicalIncrements(torch.full((2, 257), 2.0)),
        ContextualIncrements(make_model()),
        ContextualIncrements(make_model(seed=1)),
    ):
        model = make_model(increments="fixed")
        if frozen is not None:
            attach_increments(model, frozen)
        assert not model_identity(model)["is_hooked"]
        found.append(json.dumps(model_identity(model)))
    assert len(set(found)) == len(found)


def test_increments_of_the_fit_text(key_of: KeyOf, models: Any) -> None:
    parts = {"model": models, "documents": (DOCUMENTS, ORDERS), "overlap": (0.5, [0.25])}
    assert_every_part_counts(key_of, fit_increments, parts)


def test_the_training_sample(key_of: KeyOf, models: Any) -> None:
    parts = {"model": models, "documents": (DOCUMENTS, [OTHERS]), "layers": ((0, 1), [(1,), (0,)])}
    assert_every_part_counts(key_of, lambda **given: capture_increments(**given, batch_size=4), parts)


def test_the_stride_check(key_of: KeyOf, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(model: LRopeTransformer, of: LRopeTransformer, documents: Any, layers: Any, n: int) -> None:
        monkeypatch.setattr(tables, "CHECKED_TOKENS", n)
        stride_frame(model, capture(of, documents, layers=layers, predictions=False), batch_size=8)

    parts = {
        "model": models,
        "of": (models[0], []),
        "documents": (DOCUMENTS, [OTHERS, SAME_LENGTH]),
        "layers": ((0, 1), [(1,)]),
        "n": (9, [10]),
    }
    assert_every_part_counts(key_of, call, parts)


def test_untrained_models(key_of: KeyOf, models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(model: Any, fit: Any, documents: Any, layers: Any, number: int, overlap: float) -> None:
        monkeypatch.setattr(controls, "UNTRAINED_OVERLAP", overlap)
        captured = lay_out(model, documents, layers, predictions=False)
        untrained(model, fit, batch_size=8)[number].function(captured)

    parts = {
        "model": (models[0], models[1][:-1]),  # nothing is computed on the device of the last
        "fit": (DOCUMENTS, [OTHERS, DOCUMENTS[:1]]),
        "documents": (DOCUMENTS, ORDERS),
        "layers": ((0, 1), [(1,)]),
        "number": (0, [1, 2]),
        "overlap": (0.125, [0.5]),
    }
    assert_every_part_counts(key_of, call, parts)


def test_what_models_do_at_spans(
    key_of: KeyOf, models: Any, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads_module, "random_head_readout", lambda *_: COSINE)  # which takes less time
    hidden = (np.array([1, 5]), [np.array([1, 6]), np.zeros(0, dtype=np.int64)])
    parts = {"model": (models[0], models[1][:-1]), "documents": (DOCUMENTS, ORDERS), "hidden": hidden}
    twins = (make_model(increments="fixed"), [make_model(seed=1, increments="fixed")])

    def call(
        model: Any, documents: Any, hidden: Any, fit: Any, seed: int | None = None, twin: Any = None
    ) -> Any:
        reader = ModelReader(documents, hidden)
        if twin is not None:
            return reader.twin(twin, model, fit)
        return reader.trained(model, fit) if seed is None else reader.untrained(model, fit, seed)

    fit = (OTHERS, [DOCUMENTS])
    assert_every_part_counts(key_of, call, parts | {"fit": fit, "seed": (None, [0, 1])})
    assert_every_part_counts(key_of, call, parts | {"fit": fit, "twin": twins})


def test_erasers_that_were_fitted(key_of: KeyOf, models: Any) -> None:
    text = marked(0, 2, 8)
    moved = replace(text.spans, concept=text.spans.concept[::-1].copy())
    parts = {
        "model": models,
        "marked": (
            text,
            [
                marked(5, 2, 8),
                replace(
                    text, documents=tuple(replace(one, text=one.text.swapcase()) for one in text.documents)
                ),
                replace(text, spans=text.spans.take(np.arange(len(text.spans)) > 0)),
                replace(text, spans=moved),
                replace(text, spans=replace(text.spans, concepts=("soft", "other"))),
            ],
        ),
        "layers": ([0, 1], [[1]]),
        "shuffles": ((0,), [(), (1,), (0, 1)]),
    }
    assert_every_part_counts(key_of, fit_layers, parts)


def test_passes_with_something_erased(key_of: KeyOf, models: Any) -> None:
    def eraser(at: int = -1) -> LeaceEraser:
        numbers = [torch.zeros(shape, dtype=torch.float64) for shape in ((16,), (16, 1), (16, 1))]
        if at >= 0:
            numbers[at] = numbers[at] + 1
        return LeaceEraser(*numbers)

    parts = {
        "model": models,
        "documents": (DOCUMENTS, ORDERS),
        "erasers": ({1: [eraser()]}, [{1: [eraser(0)]}, {1: [eraser(1)]}, {1: [eraser(2)]}, {0: [eraser()]}]),
        "batch_size": (4, [5]),
    }

    def call(model: Any, documents: Any, erasers: Any, batch_size: int) -> None:
        run_erased(model, lay_out(model, documents, (), predictions=False), erasers, batch_size)

    assert_every_part_counts(key_of, call, parts)


def test_ablation_passes(
    key_of: KeyOf, models: Any, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("LROPE_INTERP_CACHE", str(tmp_path))
        patch.setattr(remembered, "cached", cache.cached)
        fitted = fit_increments(make_model(), DOCUMENTS)
    n = len(lay_out(make_model(), DOCUMENTS, (), predictions=False).tokens)
    few, many = np.arange(n) < 5, np.arange(n) < 6
    arm = AblationArm("mean", "single", (0,), layer=0)

    def call(
        model: Any, documents: Any, masks: Any, words: Any, fitted: Any, arms: Any, seed: int, **how: Any
    ) -> None:
        captured = lay_out(model, documents, (), predictions=False)
        run_arms(model, fitted, captured, masks, words, arms, seed=seed, **how)

    arms = [
        replace(arm, intervention="one"),
        replace(arm, layers=(1,)),
        replace(arm, design="restore"),
        replace(arm, head=1),
        replace(arm, parameter=2.0),
        replace(arm, where="space"),
    ]
    parts = {
        "model": (models[0], models[1][:-1]),
        "documents": (DOCUMENTS, [SAME_LENGTH, DOCUMENTS[::-1]]),
        "masks": ({"space": few}, [{"space": many}, {"words": few}]),
        "words": (np.zeros(n, dtype=np.int64), [np.ones(n, dtype=np.int64)]),
        "fitted": (
            fitted,
            [replace(fitted, values=fitted.values + 1), replace(fitted, first=fitted.first + 1)],
        ),
        "arms": ([arm], [[one] for one in arms] + [[arm, arms[0]]]),
        "seed": (0, [1]),
        "batch_size": (64, [65]),
        "overlap": (0.5, [0.25]),
    }
    assert_every_part_counts(key_of, call, parts)


def test_probes_that_were_fitted(key_of: KeyOf, make_model: MakeModel) -> None:
    sample = sample_of(6)

    def spans(**columns: np.ndarray) -> Any:
        return replace(sample, spans=replace(sample.spans, **columns))

    flipped, document = 1 - sample.spans.concept, sample.spans.document
    samples = [
        sample_of(7),
        spans(document=np.append(document[1:], document[-1])),
        spans(start=sample.spans.start + 1),
        spans(end=sample.spans.end - 1),
        spans(concept=flipped),
        replace(sample, is_test=~sample.is_test),
        replace(sample, spans=replace(sample.spans, concepts=("blue", "other", "more"))),
    ]
    known = {"model": model_identity(make_model()), "layers": [0, 1]}
    sets = [
        FeatureSet(*key, (lambda: np.zeros((1, 1)),))
        for key in ((NONE, "increments", 0), (NONE, "increments", None), (NONE, "positions", 0))
    ]
    sets.append(FeatureSet(JOINT_PLUS, "increments", 0, sets[0].matrices))
    others = [known | {"model": model_identity(make_model(seed=1))}, known | {"layers": [0]}]
    parts = {
        "sample": (sample, samples),
        "sets": (sets[:1], [[one] for one in sets[1:]]),
        "identity": (known, others),
        "with_codes": (False, [True]),
        "seed": (0, [1]),
    }
    assert_every_part_counts(key_of, run_probes, parts)


def _hook_of_torch(model: LRopeTransformer) -> None:
    model.blocks[0].mlp.register_forward_hook(lambda *given: given[-1] * 2)


def _hook_of_torch_on_a_hook_point(model: LRopeTransformer) -> None:
    model.blocks[0].hook_mlp_out.register_forward_hook(lambda *given: given[-1] * 2)


def _hook(model: LRopeTransformer) -> None:
    model.add_hook("blocks.1.hook_mlp_out", lambda values, hook: values * 2)


def _own_model(model: LRopeTransformer) -> None:
    model.__class__ = type("Own", (LRopeTransformer,), {})


def _own_norm(model: LRopeTransformer) -> None:
    model.blocks[0].ln1.__class__ = type("Norm", (type(model.blocks[0].ln1),), {})


def _own_forward(model: LRopeTransformer) -> None:
    vars(model.blocks[0].mlp)["forward"] = lambda x: x


def _own_tokenizer(model: LRopeTransformer) -> None:
    model.set_tokenizer(type("Bytes", (ByteTokenizer,), {"__module__": "mine"})())


STEERING = (
    *(_hook_of_torch, _hook_of_torch_on_a_hook_point, _hook),
    *(_own_model, _own_norm, _own_forward, _own_tokenizer),
)


@pytest.mark.parametrize("steer", STEERING)
def test_nothing_is_remembered_of_a_model_that_something_else_steers(
    steer: Callable[[LRopeTransformer], None], make_model: MakeModel
) -> None:
    known, steered, reads_it = make_model(), make_model(), make_model(increments="fixed")
    steer(steered)
    attach_increments(reads_it, ContextualIncrements(steered))
    assert not remembered._is_hooked({"run": [1], "model": model_identity(known)})
    for model in (steered, reads_it):
        assert remembered._is_hooked({"model": model_identity(known), "twin": model_identity(model)})


def test_nothing_is_remembered_while_torch_changes_every_module(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model()
    with torch.autocast("cpu", torch.bfloat16):
        assert model_identity(model)["is_hooked"]
    handle = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert model_identity(model)["is_hooked"]
    handle.remove()
    assert not model_identity(model)["is_hooked"]
    monkeypatch.setattr(type(model.blocks[0].mlp), "forward", lambda self, x: x)
    assert model_identity(model)["is_hooked"]


def edited(folder: Path, was: str, becomes: str) -> str:
    """Copy the package's models with one line edited, and return the digest of the copy."""
    copied = folder / "models"
    shutil.copytree(Path(lrope_interp.__file__).parent / "models", copied)
    path = copied / "controls.py"
    text, n = re.subn(f"^{re.escape(was)}$", becomes, path.read_text(), flags=re.MULTILINE)
    assert n == 1
    path.write_text(text)
    return cache.folder_digest(copied)


def test_an_edited_control_is_made_again(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "cache"))
    captured = lay_out(make_model(), DOCUMENTS, (0, 1), predictions=False)

    def read() -> np.ndarray:
        return untrained(make_model(), OTHERS, batch_size=8)[0].function(captured)

    before = read()
    digest = edited(tmp_path, "_RANDOM_GAIN_STD = 0.2", "_RANDOM_GAIN_STD = 2.0")
    monkeypatch.setattr(control_models, "_RANDOM_GAIN_STD", 2.0)  # as a process that starts now would have it
    monkeypatch.setitem(cache._DIGESTS, "models", digest)
    after = read()
    assert np.abs(after - before).max() > 0.01
    monkeypatch.setattr(control_models, "randomised_control", None)
    assert np.array_equal(read(), after)
    assert len(list((tmp_path / "cache" / "increments").glob("[!.]*"))) == 1  # the old one makes room
