"""The two suites of boundaries, ablate and probe: what they hold, how they agree, and how much they read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ablation_runs import spread_out
from concept_samples import random_by_type, spans_by, words
from probe_samples import chinese, english, select

from lrope_interp.data import Document, evaluation_documents, load_corpus
from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.ablations import ablate
from lrope_interp.probes.boundaries.boundaries import boundaries
from lrope_interp.probes.capture import capture as capture_module
from lrope_interp.probes.capture.selection import HELD_OUT, Selection, select_corpus
from lrope_interp.probes.capture.suites import OVERLAPS, SUITES, amounts
from lrope_interp.probes.concepts.claims import UNMEASURED
from lrope_interp.probes.concepts.concepts import probe
from lrope_interp.reports import render
from lrope_interp.results import Result, load_result, save_result

MakeModel = Callable[..., LRopeTransformer]
ANALYSES: dict[str, Callable[..., Result]] = {"boundaries": boundaries, "ablate": ablate, "probe": probe}
GAPS = ("signal", "layer", "head", "label", "stratum", "metric", "align", "sign", "seed")
ARMS = ("intervention", "parameter", "design", "layers", "where", "language", "metric", "byte_class")


def colours(documents: Sequence[Document]) -> Spans:
    return spans_by(tuple(documents), lambda _, text: random_by_type(text), ("blue", "red"))


@pytest.fixture(scope="module")
def made(make_model: MakeModel) -> dict[str, dict[str, Result]]:
    """Every analysis with both suites, on the same text, cut into the same windows."""
    model = spread_out(make_model(seed=1, n_ctx=64))
    few = select(lambda number: [english(number, 25), chinese(number, 20)], n=6)
    coloured = {
        split: [words(1_000 * k + n, 7, 30) for n in range(8)]
        for k, split in enumerate(("fit", "dev", "test"))
    }
    how: dict[str, dict[str, Any]] = {
        "boundaries": {"data": few, "labels": ["words"]},
        "ablate": {"data": few},
        "probe": {"data": Selection.of("made up", coloured), "spans": colours},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OVERLAPS, "default", OVERLAPS["full"])
        return {
            name: {suite: analysis(model, **how[name], suite=suite) for suite in SUITES}
            for name, analysis in ANALYSES.items()
        }


def test_the_three_have_one_option_with_one_meaning(
    made: dict[str, dict[str, Result]], make_model: MakeModel
) -> None:
    for name, analysis in ANALYSES.items():
        known = inspect.signature(analysis).parameters
        assert (known["suite"].default, known["max_bytes"].default) == ("default", None)
        with pytest.raises(LRopeError, match="Did you mean 'full'"):
            analysis(make_model(), suite="ful")
        assert [made[name][suite].provenance["suite"] for suite in SUITES] == [*SUITES]


def test_default_boundaries_hold_layers_and_cheap_controls_and_no_fitted_ones(
    made: dict[str, dict[str, Result]],
) -> None:
    default, full = (made["boundaries"][suite] for suite in SUITES)
    scores = default.tables["scores"]
    own = scores[scores["stratum"] == "characters"]
    wanted = {"increments", "entropy", "rise", "surprisal", "entropy_next", "byte_mean", "untrained"}
    assert set(own["signal"]) == wanted | {"random_head", "prevalence", "everything", "length_prior"}
    for name, n_seeds in (("untrained", 2), ("random_head", 2)):
        assert set(own.loc[own["signal"] == name, "seed"].dropna()) == set(range(n_seeds))
    assert {"verdicts", "differences", "errors"} <= set(default.tables)
    assert set(full.tables) - set(default.tables) == {"nulls", "shares", "beyond", "stride"}
    assert len(default.tables["verdicts"]) == len(full.tables["verdicts"]) > 0
    assert default.tables["verdicts"]["verdict"].str.len().gt(0).any()


def test_shared_rows_of_the_default_suite_are_those_of_the_full_one(
    made: dict[str, dict[str, Result]],
) -> None:
    """Signals, controls and their intervals; not the means over seeds, of which the full suite has more."""
    for name, table, keys in (
        ("boundaries", "scores", GAPS),
        ("boundaries", "differences", ("signal", "layer", "head", "control", "label", "stratum")),
        ("ablate", "ablations", ARMS),
        ("probe", "probes", ("concept", "features", "layer", "split", "control", "metric", "seed")),
    ):  # fmt: skip
        one, other = (made[name][suite].tables[table] for suite in SUITES)
        if "control" in keys:
            one = one[~one["control"].isin(["untrained", "random_head"])]
        elif name == "boundaries":
            one = one[~(one["signal"].isin(["untrained", "random_head"]) & one["seed"].isna())]
        both = one.merge(other, on=[*keys], suffixes=("", "_full"), how="left", indicator=True)
        assert (both["_merge"] == "both").all() and len(one) > 20, table
        for column in ("value", "ci_low", "ci_high"):
            columns = (both[column].to_numpy(float), both[f"{column}_full"].to_numpy(float))
            np.testing.assert_allclose(*columns, atol=1e-6, err_msg=f"{name} {column}")


def test_default_ablations_are_the_split_and_default_probes_have_no_joint_controls(
    made: dict[str, dict[str, Result]],
) -> None:
    table = made["ablate"]["default"].tables["ablations"]
    split = {"split_scale", "split_lexical", "split_contextual", "split_total"}
    assert set(table["intervention"]) == {"one", "mean", "lexical"} | split
    assert set(table["layers"]) == {"0", "1", "all"}
    default = made["probe"]["default"]
    controls = {"none", "majority", "byte_window", "untrained", "random_head", "control_task"}
    assert set(default.tables["probes"]["control"]) == controls
    assert set(default.tables["probes"]["split"]) == {"document", "type"}
    claims = default.tables["claims"]
    assert np.isfinite(claims[["above", "type_above", "selectivity"]].to_numpy(float)).all()
    assert claims[["gain", "ngram_auc", "mdl_bits"]].isna().all(axis=None)
    assert claims["is_adding"].isna().all() and default.headline["n_adding"] is None
    assert UNMEASURED not in set(claims["verdict"])
    more = set(made["probe"]["full"].tables) - set(default.tables)
    assert more == {"contrasts", "pairs", "trees", "sparse", "erasures"}


def test_the_page_says_what_the_full_suite_adds(made: dict[str, dict[str, Result]], tmp_path: Path) -> None:
    for name, suite in [*((name, "default") for name in ANALYSES), ("ablate", "full")]:
        save_result(made[name][suite], tmp_path / name / suite)
        page = render(load_result(tmp_path / name / suite))
        assert ("--suite full</code> adds" in page) == (suite == "default"), name


def test_ones_are_written_without_reading_what_would_be_fitted_on(
    make_model: MakeModel, few: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = make_model(n_layers=3), []
    original = capture_module._forward

    def watched(model: LRopeTransformer, tokens: Any, layers: Any, predictions: bool, *more: Any) -> Any:
        seen.append((layers, predictions))
        return original(model, tokens, layers, predictions, *more)

    monkeypatch.setattr(capture_module, "_forward", watched)
    found = ablate(model, data=few, freeze="1")
    assert not seen and "fit" not in found.provenance and "increments" not in found.tables
    found = ablate(model, data=few, freeze="mean", layers=1)
    assert seen and set(seen) == {((0, 1), False)}
    assert found.tables["increments"]["layer"].tolist() == [0, 1]
    seen.clear()
    boundaries(model, data=few, layers=1, labels=["words"])
    assert set(seen) == {((1,), True), ((1,), False)}, "what predicts runs whole, all else stops"


@pytest.fixture
def manifest(tmp_path: Path) -> dict:
    path = tmp_path / "speeches.txt"
    path.write_text("\n\n".join(english(n, n_words=900).text.replace("\n", " ") for n in range(90)))
    return load_corpus(f"file:{path}").manifest()


@pytest.mark.parametrize("name", ANALYSES)
def test_a_suite_reads_pieces_of_every_document_and_max_bytes_bounds_each_split(
    manifest: dict, name: str
) -> None:
    corpus = load_corpus(manifest["name"])
    given = amounts(name, "default")
    found = select_corpus(manifest, **given)
    for split in HELD_OUT:
        own, every = getattr(found, split), corpus.documents(split)
        assert sum(one.n_bytes for one in own) <= given["max_bytes"][split]
        assert {one.source_sha256 for one in own} == {one.source_sha256 for one in every}, split
    for suite in SUITES:
        small = select_corpus(manifest, **amounts(name, suite, 3_000))
        for split in HELD_OUT:
            assert 0 < sum(one.n_bytes for one in getattr(small, split)) <= 3_000


def test_pieces_are_the_same_each_time_and_not_where_documents_begin(manifest: dict) -> None:
    corpus = load_corpus(manifest["name"])
    one, again = (evaluation_documents(corpus, "test", 3_000, spread=True) for _ in range(2))
    assert [piece.text for piece in one] == [piece.text for piece in again]
    starts = [int(piece.name.rpartition("[")[2].partition(":")[0]) for piece in one]
    assert len(set(starts)) == len(starts) >= 3 and max(starts) > 500
