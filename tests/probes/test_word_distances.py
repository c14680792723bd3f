"""Distances between the words of a text: those of `perceived_distance`, beside what is usual."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.distances.distances import LEAST_PAIRS, MEASURES, distance

MakeModel = Callable[..., LRopeTransformer]
TEXT = "one two, three é four"


@pytest.mark.parametrize("per_head", [False, True])
def test_every_cell_is_the_perceived_distance_of_its_words(make_model: MakeModel, per_head: bool) -> None:
    model = make_model(per_head=per_head)
    result = distance(model, TEXT, a="one", b=(9, 14))
    words = result.tables["words"]
    assert words["word"].tolist() == ["one", "two", "three", "é", "four"]
    matrix = result.tables["matrix"]
    assert len(matrix) == 10 * 2 * 2 * (2 if per_head else 1)
    for row in matrix.to_dict("records"):
        a, b = (
            (int(words["start"][one]), int(words["end"][one])) for one in (row["index_a"], row["index_b"])
        )
        found = model.perceived_distance(TEXT, a, b)
        value = getattr(found, row["measure"])[row["layer"]]
        expected = value[row["head"]] if per_head else value
        assert row["value"] == pytest.approx(float(expected), rel=1e-9)
        assert row["n_tokens"] == found.n_tokens
    asked = result.tables["distances"]
    own = matrix[(matrix["word_a"] == "one") & (matrix["word_b"] == "three")]
    assert asked["value"].tolist() == own["value"].tolist()
    assert result.tables["asked"]["text"].tolist() == ["one", "three"]


def test_what_is_expected_is_the_mean_over_all_tokens_as_far_apart(make_model: MakeModel) -> None:
    model = make_model(n_ctx=64)
    text = "ab cd " * 8
    result = distance(model, text, layers=1, a=0, b=3)
    row = result.tables["distances"].iloc[0]
    assert result.tables["distances"]["layer"].unique().tolist() == [1]
    n = len(text)
    every = [float(model.perceived_distance(text, at, at + 3).normalised[1]) for at in range(n - 3)]
    assert len(every) >= LEAST_PAIRS
    assert row["expected"] == pytest.approx(np.mean(every))
    assert [row["low"], row["high"]] == pytest.approx(np.quantile(every, [0.025, 0.975]).tolist())
    assert row["is_outside"] == bool(not row["low"] <= row["value"] <= row["high"])


def test_an_unusual_pair_is_marked_and_few_pairs_give_no_range(make_model: MakeModel) -> None:
    matrix = distance(make_model(n_ctx=64), "ab cd " * 8).tables["matrix"]
    is_known = matrix["low"].notna()
    assert (~is_known).any()
    assert matrix.loc[~is_known, "is_outside"].isna().all()
    outside = (matrix["value"] < matrix["low"]) | (matrix["value"] > matrix["high"])
    assert (matrix.loc[is_known, "is_outside"].astype(bool) == outside[is_known]).all()
    assert matrix["is_outside"].any()


def test_a_fixed_model_finds_nothing_unusual(make_model: MakeModel) -> None:
    result = distance(make_model(increments="fixed", n_ctx=64), "ab cd " * 8)
    normalised = result.tables["matrix"].query("measure == 'normalised'")
    assert (normalised["value"] == normalised["n_tokens"]).all()
    assert (normalised["value"] == normalised["expected"]).all()
    assert not normalised["is_outside"].any()


def test_chinese_words_are_jiebas_and_gold_words_are_kept(make_model: MakeModel) -> None:
    pytest.importorskip("jieba")
    model = make_model()
    silver = distance(model, "中国人民 ok")
    assert silver.tables["words"]["word"].tolist() == ["中国", "人民", "ok"]
    assert "jieba" in silver.warnings[0]
    gold = Document("d", "中国人民", "x", "zh", words=((0, 1), (1, 4)))
    found = distance(model, gold)
    assert found.tables["words"]["word"].tolist() == ["中", "国人民"]
    assert found.warnings == ()


def test_where_there_are_no_words_characters_stand_in(make_model: MakeModel) -> None:
    found = distance(make_model(), "?! …")
    assert found.tables["words"]["word"].tolist() == ["?", "!", "…"]
    assert "characters stand in" in found.warnings[0]


def test_a_matrix_of_many_words_is_cut_and_says_so(make_model: MakeModel) -> None:
    found = distance(make_model(n_ctx=300), "a " * 125, layers=0, a=(240, 241), b=(248, 249))
    assert len(found.tables["words"]) == 120
    assert "first 120 of 125" in found.warnings[0]
    assert found.tables["distances"]["n_tokens"].tolist() == [8] * len(MEASURES)


@pytest.mark.parametrize(
    ("text", "places", "said"),
    [
        ("", (None, None), "empty"),
        (" \n", (None, None), "blank"),
        ("word", (None, None), "has 1 of them"),
        ("a b " * 20, (None, None), "reads 31 of them at once"),
        (TEXT, ("six", "two"), "occurs 0 times"),
        (TEXT, ("one", (10, 99)), "outside"),
        (TEXT, ("one", None), "two ends"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    make_model: MakeModel, text: str, places: tuple, said: str
) -> None:
    with pytest.raises(LRopeError, match=said):
        distance(make_model(), text, a=places[0], b=places[1])


def test_a_text_may_fill_the_window(make_model: MakeModel) -> None:
    full = "a b " * 7 + "a b"
    assert len(distance(make_model(), full).tables["words"]) == 16
    with pytest.raises(LRopeError, match="has 32 tokens, and the model reads 31"):
        distance(make_model(), full + "c")


def test_a_layer_that_is_not_there_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(LRopeError, match="layers 0 to 1"):
        distance(make_model(), TEXT, layers=2)
