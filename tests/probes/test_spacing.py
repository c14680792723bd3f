"""The spacing result: sums over a character's bytes, one attention row, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.spacing.spacing import EOS_CHARACTER, show

MakeModel = Callable[..., LRopeTransformer]
TEXT = "Peace, 中国 é\r\n!"


def test_a_character_has_the_sum_of_its_bytes(tiny_model: LRopeTransformer) -> None:
    result = show(tiny_model, TEXT)
    table = result.tables["characters"]
    captured = capture(tiny_model, [Document("d", TEXT, "x", "und")])
    assert result.kind == "show"
    assert table["text"].tolist() == list(TEXT) * 2
    assert table["character"].tolist() == list(range(len(TEXT))) * 2
    assert table["layer"].tolist() == [0] * len(TEXT) + [1] * len(TEXT)
    assert table["head"].isna().all()
    row = table[(table["layer"] == 1) & (table["text"] == "中")].iloc[0]
    assert (row["byte_start"], row["bytes_hex"]) == (7, "e4 b8 ad")
    steps = captured.increments[1, 0].astype(np.float64)
    assert row["increment"] == pytest.approx(steps[7:10].sum(), rel=1e-5)
    assert row["increment_last"] == pytest.approx(steps[9], rel=1e-5)
    assert row["position"] == pytest.approx(steps[:10].sum(), rel=1e-5)
    assert row["position_normalised"] == pytest.approx(steps[:10].sum() / steps.mean(), rel=1e-5)
    assert table[table["is_whitespace"]]["text"].unique().tolist() == [" ", "\r", "\n"]
    assert table[table["is_punctuation"]]["text"].unique().tolist() == [",", "!"]
    assert table[(table["layer"] == 0) & table["is_word_start"]]["text"].tolist()[0] == "P"
    assert result.headline["L1 mean increment"] == pytest.approx(steps.mean(), rel=1e-5)
    assert result.tables["attention"].empty


def test_a_document_brings_its_gold_words_and_its_name(tiny_model: LRopeTransformer) -> None:
    text = "中国人民 abc"
    gold = Document("gold.txt", text, "gold", "zh", words=((0, 2), (2, 4), (5, 8)))
    result = show(tiny_model, gold, layers=0)
    table = result.tables["characters"]
    assert table.loc[table["is_word_start"], "character"].tolist() == [0, 2, 5]
    assert set(table["word_grade"]) == {"gold"}
    assert result.provenance["data"]["name"] == "gold.txt"
    assert set(show(tiny_model, "abc d", layers=0).tables["characters"]["word_grade"]) == {"rule"}


def test_a_slice_starts_at_zero_and_reads_what_stands_before(tiny_model: LRopeTransformer) -> None:
    text = "The gap before a word is wider than the gap within it, or so they say."
    whole = show(tiny_model, text, layers=1, length=len(text)).tables["characters"]
    part = show(tiny_model, text, layers=1, start=40, length=8).tables["characters"]
    assert part["character"].tolist() == list(range(40, 48))
    same = whole.iloc[40:48]
    for name in ("increment", "position", "byte_start"):
        np.testing.assert_allclose(part[name], same[name], rtol=1e-5)
    steps = part["increment"].to_numpy()
    assert part["position_normalised"].iloc[0] == pytest.approx(steps[0] / steps.mean())
    assert part["position_normalised"].iloc[-1] == pytest.approx(8)


def test_a_long_text_is_cut_and_says_so(tiny_model: LRopeTransformer) -> None:
    result = show(tiny_model, "ab " * 100)
    assert len(result.tables["characters"]) == 2 * 120
    assert any("characters 0 to 119 of 300" in said for said in result.warnings)
    assert any("windows" in said for said in result.warnings)
    assert show(tiny_model, "ab").warnings == ()


def test_the_attention_row_is_the_patterns_by_character(tiny_model: LRopeTransformer) -> None:
    table = show(tiny_model, TEXT, attention="1.0", at=8).tables["attention"]
    with torch.no_grad():
        _, cache = tiny_model.run_with_cache(torch.tensor([[256, *TEXT.encode()]]))
    row = cache["pattern", 1][0, 0, 13].numpy()  # 国 ends at byte 12
    assert table["key_character"].tolist() == [EOS_CHARACTER, *range(9)]
    assert (table["query_character"] == 8).all()
    wanted = [row[0], *row[1:8], row[8:11].sum(), row[11:14].sum()]
    np.testing.assert_allclose(table["weight"], wanted, atol=1e-5)
    assert table["weight"].sum() == pytest.approx(1, abs=1e-5)


def test_attention_stays_in_its_window(tiny_model: LRopeTransformer) -> None:
    text = "x" * 100
    table = show(tiny_model, text, attention="0.1", at=90).tables["attention"]
    assert table["key_character"].min() > 50
    assert table["key_character"].max() == 90
    assert table["weight"].sum() == pytest.approx(1, abs=1e-5)


def test_heads_and_fixed_models_can_be_shown(make_model: MakeModel) -> None:
    heads = show(make_model(per_head=True), "ab c", layers=0).tables["characters"]
    assert heads["head"].tolist() == [0] * 4 + [1] * 4
    fixed = show(make_model(increments="fixed"), "aé").tables["characters"]
    assert fixed["increment"].tolist() == [1, 2, 1, 2]
    assert fixed["position_normalised"].tolist() == [1, 3, 1, 3]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "it is empty"),
        ("abc", {"layers": 2}, "layers 0 to 1, not 2"),
        ("abc", {"layers": True}, "layers are whole numbers; got True"),
        ("abc", {"layers": []}, "no layer"),
        ("abc", {"start": 3}, "characters 0 to 2"),
        ("abc", {"start": -1}, "characters 0 to 2"),
        ("abc", {"length": 0}, "at least 1"),
        ("abc", {"attention": "0.0"}, "go together"),
        ("abc", {"at": 1}, "go together"),
        ("abc", {"attention": "0-1", "at": 1}, "LAYER.HEAD"),
        ("abc", {"attention": "7.0", "at": 1}, "layers 0 to 1, not 7"),
        ("abc", {"attention": "0.2", "at": 1}, "heads 0 to 1, not 2"),
        ("abc", {"attention": "0.0", "at": 3}, "not among the characters shown, 0 to 2"),
        ("ab\ud800", {}, "lone surrogate|no UTF-8 form"),
    ],
)
def test_what_is_not_there_is_refused(
    tiny_model: LRopeTransformer, text: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(LRopeError, match=said):
        show(tiny_model, text, **options)  # pyright: ignore[reportArgumentType]


def test_more_than_a_page_can_hold_is_refused(make_model: Callable[..., LRopeTransformer]) -> None:
    model = make_model()
    with pytest.raises(LRopeError, match="show at most 30,000 at a time"):
        show(model, "heron " * 20_000, length=100_000)
    with pytest.raises(LRopeError, match="show at most 60,000 at a time"):
        show(model, "heron " * 20_000, layers=0, length=100_000)
    with pytest.raises(LRopeError, match="reads at most 2,000,000"):
        show(model, "heron " * 400_000, start=2_300_000)
