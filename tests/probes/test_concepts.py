"""The whole probe analysis on tiny models: nulls, resuming, batches, files of spans, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ablation_runs import spread_out
from concept_samples import random_by_type, spans_by, words

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.concepts import concepts as concepts_module
from lrope_interp.probes.concepts import reads as reads_module
from lrope_interp.probes.concepts.claims import WINS
from lrope_interp.probes.concepts.concepts import probe
from lrope_interp.probes.concepts.reads import ModelReader
from lrope_interp.probes.concepts.spans import select_spans
from lrope_interp.results import Result

MakeModel = Callable[..., LRopeTransformer]
DEFAULT: dict[str, Any] = {"layers": 1, "features": ("increments", "positions")}
OPTIONS = DEFAULT | {"suite": "full"}
N = 22


def colours(documents: Sequence[Document]) -> Spans:
    """Label words at random by type."""
    return spans_by(tuple(documents), lambda _, text: random_by_type(text), ("blue", "red"))


@pytest.fixture(scope="module")
def selection() -> Selection:
    splits = {
        split: [words(1_000 * k + n, 7, 30) for n in range(N)]
        for k, split in enumerate(("fit", "dev", "test"))
    }
    return Selection.of("made up", splits)


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> LRopeTransformer:
    return spread_out(make_model(seed=1, n_ctx=64))


@pytest.fixture(scope="module")
def result(model: LRopeTransformer, selection: Selection) -> Result:
    return probe(model, data=selection, **OPTIONS, spans=colours)


def test_labels_random_by_type_are_won_by_a_control_in_every_row(result: Result) -> None:
    claims = result.tables["claims"]
    assert len(claims) == 2 * 2  # kinds of features, concepts
    assert claims["verdict"].tolist() == [WINS] * len(claims)
    assert result.headline["n_beyond_controls"] == 0
    names = ["selectivity", "type_auc", "untrained_auc", "random_head_auc", "ngram_auc", "byte_window_auc"]
    names += ["entropy_auc", "gain", "type_gain", "gain_untrained", "above_low", "type_above_low"]
    assert np.isfinite(claims[names].to_numpy(float)).all()


def test_examples_show_the_increments_at_their_own_characters(
    model: LRopeTransformer, selection: Selection, result: Result
) -> None:
    documents = {one.name: one for one in selection.test}
    ratios = []
    for name, own in result.tables["examples"].groupby("document"):
        own_increments = capture(model, [documents[str(name)]], predictions=False).increments[1].mean(axis=0)
        ratios += (own["value"] / own_increments[own["character"]]).tolist()
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)  # one over the layer's mean


class _Enough(Exception):
    """Raised where a test has seen what it wants to see."""


def _stop(*_: object, **__: object) -> None:
    raise _Enough


def test_spans_of_which_training_text_has_a_part_are_not_scored(
    model: LRopeTransformer, selection: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = tuple(np.arange(one.n_bytes) % 37 < 5 for one in selection.test)
    shared = {"dev": tuple(np.ones(one.n_bytes, dtype=bool) for one in selection.dev), "test": masks}
    seen: list[Any] = []
    monkeypatch.setattr(concepts_module, "sample_spans", lambda *given: (seen.extend(given), _stop()))
    with pytest.raises(_Enough):
        probe(model, data=replace(selection, shared=shared), **OPTIONS, spans=colours)
    _, documents, found, is_test, *_ = seen
    assert documents == (*selection.fit, *selection.dev, *selection.test)
    n_train = len(selection.fit) + len(selection.dev)
    assert is_test.tolist() == [False] * n_train + [True] * len(selection.test)
    every = colours(documents)
    kept = [
        (number, start, end)
        for number, start, end in zip(every.document, every.start, every.end, strict=True)
        if number < n_train or not masks[number - n_train][start:end].any()
    ]
    assert list(zip(found.document, found.start, found.end, strict=True)) == kept
    assert 0 < len(kept) < len(every)


def test_controls_are_calibrated_on_fit_alone(
    model: LRopeTransformer, selection: Selection, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = make_model(seed=4, n_ctx=64, increments="fixed")
    seen: dict[str, list[Any]] = {"trained": [], "untrained": [], "twin": [], "probes": []}
    for name in ("trained", "untrained", "twin"):
        monkeypatch.setattr(ModelReader, name, lambda *given, of=name: seen[of].append(given[1:]) or {})
    monkeypatch.setattr(
        concepts_module, "run_probes", lambda *given, **_: (seen["probes"].append(given), _stop())
    )
    with pytest.raises(_Enough):
        probe(model, data=selection, **OPTIONS, spans=colours, fixed_model=twin)
    assert seen["trained"] == [(model, selection.fit)]
    assert seen["untrained"] == [(model, selection.fit, seed) for seed in range(5)]
    assert seen["twin"] == [(twin, model, selection.fit)]
    assert seen["probes"][0][2]["calibration"] == [one.sha256 for one in selection.fit]
    assert seen["probes"][0][2]["layers"] == [1]


def test_the_batch_size_changes_nothing_that_is_read(
    model: LRopeTransformer, selection: Selection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "a"))
    at = np.array([0, 3, 40, 90], dtype=np.int64)
    wanted = ModelReader(selection.test, at).trained(model, selection.fit)
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "b"))
    found = ModelReader(selection.test, at, batch_size=3).trained(model, selection.fit)
    assert found.keys() == wanted.keys() == {"increments", "predictions", "random_head", "hidden"}
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_killed_and_gone_on_gives_the_same_numbers_without_reading_again(
    model: LRopeTransformer,
    selection: Selection,
    result: Result,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path))
    seen: list[str] = []

    def kill(stage: str, done: int, total: int) -> None:
        del total
        seen.append(stage)
        if stage.startswith("probing") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probe(model, data=selection, **OPTIONS, spans=colours, on_progress=kill)
    assert sum(stage.startswith("reading: untrained") for stage in seen) == 5
    monkeypatch.setattr(reads_module, "capture", None)  # whoever reads again fails
    again = probe(model, data=selection, **OPTIONS, spans=colours)
    for name, frame in result.tables.items():
        pd.testing.assert_frame_equal(again.tables[name], frame)


def test_a_fixed_model_has_hidden_states_to_probe_and_no_increments(
    make_model: MakeModel, selection: Selection
) -> None:
    fixed = make_model(increments="fixed", n_ctx=64)
    with pytest.raises(LRopeError, match="increments of this model are all 1"):
        probe(fixed, data=selection, **OPTIONS, spans=colours)
    found = probe(fixed, data=selection, layers=1, features="resid", max_spans=300, spans=colours)
    claims = found.tables["claims"]
    assert set(claims["features"]) == {"resid"} and set(claims["layer"]) == {1}
    assert any("no untrained model" in warning for warning in found.warnings)
    assert not claims["is_adding"].any()


def test_a_fixed_twin_is_one_more_control(
    make_model: MakeModel, model: LRopeTransformer, selection: Selection
) -> None:
    twin = make_model(seed=4, increments="fixed", n_ctx=64)
    how = OPTIONS | {"features": "increments", "max_spans": 200}
    claims = probe(model, data=selection, **how, spans=colours, fixed_model=twin).tables["claims"]
    assert np.isfinite(claims["fixed_auc"]).all()


@pytest.mark.parametrize(
    ("config", "words"),
    [({"n_layers": 1}, "n_layers=1"), ({"d_model": 24}, "d_model=24"), ({"increments": "shared"}, "shared")],
)
def test_a_twin_that_cannot_be_one_is_refused(
    make_model: MakeModel, model: LRopeTransformer, selection: Selection, config: dict, words: str
) -> None:
    twin = make_model(**{"increments": "fixed", "n_ctx": 64} | config)
    with pytest.raises(LRopeError, match=words):
        probe(model, data=selection, **OPTIONS, spans=colours, fixed_model=twin)


def test_the_full_suite_measures_codes_paths_and_erasures(
    model: LRopeTransformer, selection: Selection
) -> None:
    tables = probe(model, data=selection, layers=1, suite="full", spans=colours).tables
    assert np.isfinite(tables["claims"]["mdl_bits"]).all()
    assert set(tables["sparse"]["concept"]) == {"blue", "red"}
    assert {"leace", "random", "difference"} <= set(tables["erasures"]["arm"])
    assert set(tables["erasures"]["layer"]) == {1}


def test_unknown_names_and_layers_are_refused(model: LRopeTransformer, selection: Selection) -> None:
    with pytest.raises(LRopeError, match=r"persom.*person"):
        probe(model, data=selection, concepts=["persom"])
    with pytest.raises(LRopeError, match="layers 0 to 1"):
        probe(model, data=selection, layers=(7,), spans=colours)
    with pytest.raises(LRopeError, match="features"):
        probe(model, data=selection, features="incremnts", spans=colours)


def write_spans(path: Path, n: int) -> Path:
    lines = []
    for number in range(n):
        document = words(number, 9)
        spans = spans_by((document,), lambda _, text: random_by_type(text), ("blue", "red"))
        rows = zip(spans.start.tolist(), spans.end.tolist(), spans.names, strict=True)
        typed = [{"start": start + 2, "end": end + 2, "type": name} for start, end, name in rows]
        lines.append(json.dumps({"text": "😀 " + document.text, "spans": typed}, ensure_ascii=False))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> dict:
    (tmp_path / "text.txt").write_text("\n\n".join(f"paragraph {n} " * 20 for n in range(80)))
    return {
        "format": 1,
        "name": f"file:{tmp_path / 'text.txt'}",
        "encoding_errors": "strict",
        "text_column": "text",
        "max_train_bytes": 0,
        "despaced": False,
        "sources": [],
        "splits": {"train": {"sha256": []}},
    }


def test_spans_of_a_file_follow_their_texts(manifest: dict, tmp_path: Path) -> None:
    path = write_spans(tmp_path / "spans.jsonl", 40)
    selection, given = select_spans(manifest, path)
    documents = (*selection.fit, *selection.dev, *selection.test)
    assert sorted(one.text for one in documents) == sorted(one.text for one in given.documents)
    spans = given(documents)
    assert len(spans) == 40 * 9
    for text, name in zip(spans.texts(documents), spans.names, strict=True):
        assert name == ("blue", "red")[random_by_type(text)]
    limited, _ = select_spans(manifest, path, max_bytes=200)
    assert any("left out by max_bytes 200" in warning for warning in limited.warnings)
    lines = path.read_text(encoding="utf-8")
    long = [{"text": f"{number} " + "on and on. " * 5_000, "spans": []} for number in range(6)]
    path.write_text(lines + "\n" + "".join(json.dumps(one) + "\n" for one in long), encoding="utf-8")
    selection, _ = select_spans(manifest, path, max_bytes=20_000)
    assert len((*selection.fit, *selection.dev, *selection.test)) == 40
    [said] = [one for one in selection.warnings if "left out" in one]
    assert "6 of 46 texts" in said and "spans.jsonl#41 (55,00" in said and said.endswith(" ...")


def test_spans_inside_words_are_warned_of(manifest: dict, tmp_path: Path) -> None:
    path = write_spans(tmp_path / "spans.jsonl", 40)
    assert not any("inside a word" in one for one in select_spans(manifest, path)[0].warnings)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["spans"] = [one | {"end": one["end"] - 1} for one in row["spans"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    warnings = select_spans(manifest, path)[0].warnings
    assert any("360 of 360 spans" in one and "inclusive ends, none would" in one for one in warnings)


def test_few_texts_and_one_that_was_trained_on_are_refused(manifest: dict, tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match="12 different texts"):
        select_spans(manifest, write_spans(tmp_path / "few.jsonl", 12))
    path = write_spans(tmp_path / "spans.jsonl", 30)
    _, given = select_spans(manifest, path)
    manifest["splits"]["train"]["sha256"] = [given.documents[3].sha256]
    with pytest.raises(LRopeError, match="training text"):
        select_spans(manifest, path)
