"""Definitions and uses against matched pairs: a planted closeness is found, and none where there is none."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import lay_out, most_tokens, window_sums
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.studies.definitions.definitions import (
    BEYOND,
    NORMALISED,
    STRATIFIED,
    TRAINED,
    UNTRAINED,
    definition_uses,
    distance_rows,
    effect_rows,
    log_ratios,
    matched_mean,
)
from lrope_interp.probes.studies.definitions.pairs import CONTROLS, USES, Found, find_pairs, whole_files

MakeModel = Callable[..., LRopeTransformer]
PLACES = [{"layer": 0, "head": None}, {"layer": 1, "head": None}, {"layer": None, "head": None}]
YARDSTICK = (np.full((2, 1), 0.8), np.full((2, 1, 4), 0.25), 10.0 ** -np.arange(4.0))


def source(number: int, n: int = 6) -> Document:
    """Functions that define a variable and read it three times, among other names."""
    rng = np.random.default_rng([3, number])
    words = ["al", "gamma", "delta", "omegaomega", "sigma"]
    lines = []
    for at in range(n):
        name, a, b = rng.choice(words, 3)
        lines += [f"def f_{number}_{at}():", f"    {name}x = {a}({at})", f"    {b}({a}, {name}x)"]
        lines += [f"    {a}({name}x)", f"    return {b} + {name}x", ""]
    return Document(f"file-{number}.py", "\n".join(lines), "made up", "code")


@pytest.fixture(scope="module")
def planted(make_model: MakeModel) -> tuple[Captured, Found]:
    captured = lay_out(make_model(n_ctx=128), [source(one) for one in range(60)], (0, 1), predictions=False)
    masks = [np.zeros(one.n_bytes, dtype=bool) for one in captured.documents]
    return captured, find_pairs(captured, masks, most_tokens=most_tokens(128), seed=0)


def rows_of(found: Found, factor: float, seed: int = 0, factor_untrained: float = 1.0) -> list[dict]:
    """Return the effects where layer 1 takes definition-use pairs for `factor` times as far apart."""
    rng, n_tokens = np.random.default_rng([seed, 9]), found.pairs["n_tokens"].to_numpy()
    is_use = (found.pairs["control"] == USES).to_numpy()
    readings = {}
    for model, own in ((TRAINED, factor), (UNTRAINED, factor_untrained)):
        sums = 0.8 * n_tokens[:, None, None] * rng.lognormal(0, 0.1, (len(n_tokens), 2, 1))
        sums[is_use, 1] *= own
        readings[model] = [log_ratios(sums, n_tokens, *YARDSTICK)]
    return effect_rows(found.pairs, readings, PLACES, seed=0)


def pick(rows: list[dict], **wanted: object) -> dict:
    (found,) = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    return found


def test_pairs_and_controls_are_what_they_are_said_to_be(planted: tuple[Captured, Found]) -> None:
    captured, found = planted
    texts = [one.text for one in captured.documents]

    def name_at(row: Any, end: str) -> str:
        text = texts[row.document][: getattr(row, end) + 1]
        return text[len(text.rstrip("abcdefghijklmnopqrstuvwxyz_0123456789")) :]

    pairs = found.pairs
    uses = pairs[pairs["control"] == USES]
    assert len(uses) > 500 and list(uses.index) == list(uses["owner"]) == list(range(len(uses)))
    assert {row["kind"]: row["n_measured"] for row in found.counts}["variable"] == len(uses)
    assert all(name_at(row, "first") == name_at(row, "last") for row in uses.head(50).itertuples())
    for control in CONTROLS:
        matched = pairs[pairs["control"] == control]
        real = uses.loc[matched["owner"]]
        for same in ("document", "group", "kind"):
            assert (matched[same].to_numpy() == real[same].to_numpy()).all()
        apart = np.abs(matched["n_tokens"].to_numpy() - real["n_tokens"].to_numpy())
        assert (apart <= (0 if control == "names" else 0.1) * real["n_tokens"].to_numpy()).all()
        assert matched["owner"].value_counts().max() <= 5
        for row in matched.head(50).itertuples():
            assert (name_at(row, "first") == name_at(row, "last")) == (control == "same_name")


def test_a_planted_closeness_is_found_with_its_size(planted: tuple[Captured, Found]) -> None:
    rows = rows_of(planted[1], 0.9)
    for control in ("names", "same_name", "roles", STRATIFIED):
        row = pick(rows, control=control, measure=NORMALISED, model=TRAINED, layer=1)
        assert row["difference"] == pytest.approx(math.log(0.9), abs=0.02)
        assert row["ci_low"] < row["difference"] < row["ci_high"] < 0
        assert row["real"] / row["matched"] == pytest.approx(math.exp(row["difference"]))
        other = pick(rows, control=control, measure=NORMALISED, model=TRAINED, layer=0)
        assert abs(other["difference"]) < 0.02
    beyond = pick(rows, control="names", measure=NORMALISED, model=BEYOND, layer=1)
    assert beyond["ci_high"] < 0
    overall = pick(rows, control="names", measure=NORMALISED, model=TRAINED, layer=None)
    assert overall["difference"] == pytest.approx(math.log(0.9) / 2, abs=0.02)
    assert overall["n_documents"] == overall["n_units"] == 60


def test_where_nothing_is_planted_nothing_is_found(planted: tuple[Captured, Found]) -> None:
    tests = [
        (row["ci_low"] > 0 or row["ci_high"] < 0)
        for seed in range(6)
        for row in rows_of(planted[1], 1.0, seed)
        if row["measure"] == NORMALISED and row["layer"] is not None
    ]
    assert len(tests) > 0
    assert np.mean(tests) < 0.12


def test_what_the_untrained_model_does_too_is_not_beyond_it(planted: tuple[Captured, Found]) -> None:
    rows = rows_of(planted[1], 0.9, factor_untrained=0.9)
    beyond = pick(rows, control="names", measure=NORMALISED, model=BEYOND, layer=1)
    assert beyond["ci_low"] < 0 < beyond["ci_high"]
    assert math.isnan(beyond["real"]) or beyond["real"] == pytest.approx(1, abs=0.05)


def test_bins_of_distance_hold_every_pair_once(planted: tuple[Captured, Found]) -> None:
    pairs = planted[1].pairs
    n_tokens = pairs["n_tokens"].to_numpy()
    reading = log_ratios(0.8 * n_tokens[:, None, None] * np.ones((1, 2, 1)), n_tokens, *YARDSTICK)
    rows = distance_rows(pairs, reading, PLACES, seed=0)
    own = [row for row in rows if row["layer"] == 1]
    assert sum(row["n"] for row in own) == pairs.loc[pairs["control"] == "names", "owner"].nunique()
    assert all(row["difference"] == pytest.approx(0) for row in rows)
    assert all(a["distance_high"] < b["distance"] for a, b in pairwise(own))


def test_the_mean_of_controls_is_each_pairs_own() -> None:
    values = np.array([[1.0], [3.0], [7.0]])
    assert matched_mean(values, np.array([0, 0, 2]), 3).ravel().tolist()[::2] == [2.0, 7.0]
    assert math.isnan(matched_mean(values, np.array([0, 0, 2]), 3)[1, 0])


def test_sums_within_a_window_are_those_of_perceived_distance(make_model: MakeModel) -> None:
    model = make_model(n_ctx=64)
    text = "alpha = 1\nbeta(alpha, 2)\n"
    laid_out = lay_out(model, [Document("d", text, "x", "code")], (0, 1), predictions=False)
    ends = np.array([[4, 19], [4, 13]])
    sums = window_sums(model, laid_out, np.zeros(2, dtype=np.int64), ends[:, 0], ends[:, 1])
    for row, (first, last) in enumerate(ends.tolist()):
        expected = model.perceived_distance(text, first, last).summed
        assert sums[row, :, 0] == pytest.approx(expected.numpy(), rel=1e-5)


def test_a_pair_far_into_a_file_is_read_in_one_window(make_model: MakeModel) -> None:
    model = make_model(n_ctx=32)
    text = "abcdefgh" * 20
    laid_out = lay_out(model, [Document("d", text, "x", "code")], (0, 1), predictions=False)
    first, last = np.array([100]), np.array([112])
    found = window_sums(model, laid_out, np.zeros(1, dtype=np.int64), first, last)
    stop = -(-114 // 8) * 8
    tokens = model.to_tokens(text[stop - 32 - 1 : stop - 1], prepend_bos=False)
    _, cache = model.run_with_cache(tokens)
    here = 101 - (stop - 32)
    for layer in range(2):
        expected = float(cache["increments", layer][0, here + 1 : here + 13].double().sum())
        assert found[0, layer, 0] == pytest.approx(expected, rel=1e-5)


def code_selection(n: int = 3) -> Selection:
    splits = {
        split: [source(one + 100 * place, 3) for one in range(n)]
        for place, split in enumerate(("fit", "dev", "test"))
    }
    return Selection.of("made up", splits)


def test_a_result_has_every_table_and_the_same_numbers_twice(make_model: MakeModel) -> None:
    model = make_model(n_ctx=128)
    selection = code_selection()
    one, two = (definition_uses(model, selection, most_pairs=20) for _ in range(2))
    assert one.provenance["data"]["n_documents"] == len(selection.dev) + len(selection.test) == 6
    read = dataclasses.replace(selection, training=(*selection.dev, *selection.test))
    with pytest.raises(LRopeError, match="not shared with training text"):
        definition_uses(model, read, most_pairs=20)
    assert one.kind == "definitions"
    assert set(one.tables) == {"definitions", "by_distance", "counts", "matches", "pairs"}
    assert len(one.tables["pairs"]) == 20
    for name, frame in one.tables.items():
        assert frame.equals(two.tables[name])
    effects = one.tables["definitions"]
    assert set(effects["model"]) == {"trained", "untrained", "trained - untrained"}
    assert effects["layer"].isna().sum() == len(effects) / 3
    assert any("fewer than 500" in warning for warning in one.warnings)
    assert effects["ci_low"].notna().any(), "six files are enough for intervals"
    few = definition_uses(model, code_selection(2), most_pairs=20)
    assert any("fewer than 5 files" in warning for warning in few.warnings)
    assert few.tables["definitions"]["ci_low"].isna().all()


def test_a_piece_is_read_as_the_whole_file() -> None:
    whole = source(0)
    piece = dataclasses.replace(
        whole, name="file[5:9]", text=whole.text[5:9], cut_from=whole.sha256, whole=(whole.text, 5)
    )
    assert [one.text for one in whole_files([piece, piece])] == [whole.text]
    assert whole_files([piece])[0].name == "file"
    other = dataclasses.replace(piece, cut_from="0" * 64)
    assert whole_files([other]) == (other,)


def test_prose_and_fixed_models_are_refused(make_model: MakeModel) -> None:
    prose = {split: [Document(split, f"No code {split}.", "x", "en")] for split in ("fit", "dev", "test")}
    with pytest.raises(LRopeError, match="the corpus code"):
        definition_uses(make_model(), Selection.of("prose", prose))
    with pytest.raises(LRopeError, match="fixed"):
        definition_uses(make_model(increments="fixed"), code_selection())
