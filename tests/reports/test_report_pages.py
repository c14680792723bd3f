"""What holds for every page: saved results alone make it, its numbers are its tables', nothing is missing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pages import RENDER, Shape, drawn, text_of

from lrope_interp.results import Result, load_result, save_result

ResultOf = Callable[[str], Result]
PageOf = Callable[[str], str]
HERE = "label == 'words' and stratum == 'characters'"
MATCHED = "design == 'matched' and response == 'inner_space'"
WHOLE = "metric == 'nats_per_byte' and language == 'all' and byte_class == 'all'"

WHOLE_PAGES = ("boundaries", "ablations", "concepts")  # of many tables, each of which is linked and may lack
# What a reader must be able to find in the figures: columns of a table, and of which rows.
DRAWN = [
    ("spacing", "characters", "", ["increment", "position"]),
    ("spacing", "attention", "key_character >= 0", ["weight"]),
    ("boundaries", "scores", f"metric == 'roc_auc' and signal == 'increments' and {HERE}", ["value"]),
    ("boundaries", "scores", "metric == 'roc_auc' and signal == 'entropy' and value.notna()", ["value"]),
    ("boundaries", "nulls", f"signal == 'increments' and {HERE}", ["null_low"]),
    ("boundaries", "beyond", f"baseline == 'M0' and {HERE}", ["bits"]),
    ("boundaries", "classes", "language == 'zh' and n > 0", ["mean_normalised"]),
    ("ablations", "ablations", f"{WHOLE} and design == 'single' and intervention == 'lexical'", ["value"]),
    ("ablations", "ablations", f"{WHOLE} and intervention == 'mean' and design == 'restore'", ["value"]),
    ("ablations", "distances", "label == 'words'", ["value"]),
    ("ablations", "attention", "intervention == 'mean' and language == 'all'", ["value", "change"]),
    ("concepts", "claims", "concept != 'rare'", ["auc", "above", "gain", "gain_untrained"]),
    ("concepts", "contrasts", "byte_class == 'all'", ["ratio"]),
    ("concepts", "sparse", "", ["value"]),
    ("distances", "matrix", "", ["value"]),
    ("definitions", "definitions", "model == 'trained' and measure == 'normalised'", ["difference"]),
    ("entities", "matched", f"signal == 'increments' and {MATCHED} and layer > 0", ["difference"]),
    ("replicate", "differences", "", ["mean", "ci90_low", "ci95_high"]),
    ("replicate", "curves", "split == 'validation'", ["loss"]),
    ("bench", "costs", "phase == 'forward' and arm == 'per_layer'", ["ratio_to_fixed", "peak_ratio"]),
    ("bench", "angles", "", ["max_error"]),
]


@pytest.mark.parametrize("kind", RENDER)
def test_a_page_is_made_from_the_saved_result_alone(
    result_of: ResultOf, page_of: PageOf, kind: str, tmp_path: Path
) -> None:
    save_result(result_of(kind), tmp_path)
    page = page_of(kind)
    assert RENDER[kind](load_result(tmp_path)) == page
    assert not re.search(r"\b(nan|None)\b|&lt;NA&gt;", text_of(page))
    if kind in WHOLE_PAGES:
        assert all(f'href="{name}.csv"' in page for name in result_of(kind).tables)
    figures = re.findall(r"<figure>.*?</figure>", page, flags=re.DOTALL)
    assert figures or kind == "eval"
    assert all(re.search(r"<h3>[^<]+</h3>", figure) for figure in figures), "what it is"
    assert "How it was computed" in page and "Command" in page


@pytest.mark.parametrize(("kind", "table", "rows", "columns"), DRAWN)
def test_the_numbers_of_the_figures_are_those_of_the_tables(
    result_of: ResultOf, page_of: PageOf, kind: str, table: str, rows: str, columns: list[str]
) -> None:
    found = np.sort(drawn([one["data"] for one in Shape(page_of(kind)).figures if "data" in one]))
    frame = result_of(kind).tables[table]
    own = frame.query(rows) if rows else frame
    assert len(own)
    for column in columns:
        values = own[column].dropna().to_numpy(dtype=float)
        if kind == "definitions":  # shown in per cent
            values = 100 * np.expm1(values)
        at = np.searchsorted(found, values - 1e-9).clip(max=len(found) - 1)
        np.testing.assert_allclose(found[at], values, atol=2e-9, err_msg=column)


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("kind", WHOLE_PAGES)
def test_a_page_leaves_out_what_its_tables_lack(
    result_of: ResultOf, page_of: PageOf, kind: str, is_empty: bool
) -> None:
    main, *others = result_of(kind).tables.items()
    tables = dict([main, *((name, table.iloc[:0]) for name, table in others if is_empty)])
    page = RENDER[kind](dataclasses.replace(result_of(kind), tables=tables))
    assert 0 < page.count("<figure>") < page_of(kind).count("<figure>")
    assert page.count(".csv</a>") == 1, "an empty table is no file to read"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("boundaries", "no score could be computed"),
        ("ablations", "holds no change that could be measured"),
        ("concepts", "No claim could be measured"),
        ("entities", "No test was made: the text has no English pairs of words"),
    ],
)
def test_a_result_that_holds_nothing_says_so(result_of: ResultOf, kind: str, said: str) -> None:
    result = result_of(kind)
    tables = {name: table.iloc[:0] for name, table in result.tables.items() if kind == "entities"}
    if kind == "boundaries":
        tables = {"scores": result.tables["scores"].assign(value=np.nan)}
    text = text_of(RENDER[kind](dataclasses.replace(result, tables=tables, headline={})))
    assert said in text and "<figure>" not in text
