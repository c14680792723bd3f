"""The page of names draws the numbers of its tables, and says where a control does as well."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_samples import HOSTILE, PROVENANCE

from lrope_interp.reports.entities.frames import TESTS, named_test
from lrope_interp.reports.entities.page import (
    plot_test,
    render_entities,
    sentence,
    sentences,
    test_frame,
    together,
)
from lrope_interp.reports.entities.tables import REGRESSION_STEPS, p_value, pairs_table, steps_table
from lrope_interp.results import Result, load_result, save_result

test_frame.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]

VERDICTS = ("constant", "smaller", "control finds it too", "not shown")
SIGNALS = [("increments", None), ("lexical", None)] + [
    (n, s) for n in ("untrained", "random_head") for s in range(3)
]


def _rows(value: str, where: dict[str, list[str]], null: float) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    (first, firsts), (second, seconds) = where.items()
    for a in firsts:
        for b in seconds:
            for layer, verdict in enumerate(VERDICTS):
                for signal, seed in SIGNALS:
                    own = null + (0.0 if layer == 0 else rng.normal(0, 0.02) - 0.1 * (signal == "increments"))
                    rows.append(
                        {
                            first: a, second: b, "signal": signal, "layer": layer, "head": None, "seed": seed,
                            value: own, "ci_low": own - 0.05 * (layer > 0),
                            "ci_high": own + 0.05 * (layer > 0),
                            "p": 0.03, "n": 90, "n_first_words": 60, "p_first_words": 0.2,
                            "difference": own - null,
                            "verdict": verdict if signal == "increments" else "",
                        }
                    )  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.astype({"layer": "Int64", "head": "Int64", "seed": "Int64", "n": "Int64"})


def entities_result() -> Result:
    places, designs = ["inner_space", "second_word", "per_byte"], ["raw", "matched"]
    models = ["raw", "controls", "first_words"]
    tables = {
        "reversed": _rows(
            "share", {"context": ["alone", "carriers"], "measure": ["pair", "inner", "first_word"]}, 0.5
        ),
        "regression": _rows("coefficient", {"response": places[:2], "model": models}, 0.0),
        "matched": _rows("difference", {"response": places, "design": designs}, 0.0),
        "chinese": _rows("difference", {"response": ["inner", "per_byte"], "design": designs}, 0.0),
        "balance": pd.DataFrame(
            {"language": ["en"], "covariate": ["log_p"], "before": [1.9], "after": [0.04], "n_names": [40]}
            | {"n_others": [900], "n_matched": [30]}
        ),
        "pairs": pd.DataFrame(
            {"first": ["New", HOSTILE], "second": ["York", "x"], "kind": ["place", "given"]}
            | {"training_count": [134, 2], "is_common": [True, False], "test_count": [9, 0]}
            | {"matched_with": ["Old Friends", ""]}
        ),
    }
    headline: dict[str, float | None] = {
        "n_pairs": 2.0,
        "n_first_words": 2.0,
        "coverage": 0.5,
        "test_occurrences": 9.0,
    }
    return Result("entities", PROVENANCE, headline, tables, (HOSTILE,))


@pytest.fixture
def result(tmp_path: Path) -> Result:
    save_result(entities_result(), tmp_path)
    return load_result(tmp_path)


def test_the_page_holds_every_test_and_no_markup_of_the_text(result: Result) -> None:
    page = render_entities(result)
    for test in TESTS:
        assert test.title in page
    assert "<script>alert" not in page
    assert "New York" in page
    assert "Old Friends" in page


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.name)
def test_a_figure_draws_its_frame(result: Result, test: Any) -> None:
    frame = test_frame(result, test)
    figure: Any = plot_test(result, test)
    drawn = {trace.name: trace for trace in figure.data}
    for name, signal in (("increments", "increments"), ("untrained model", "untrained")):
        rows = frame[frame["signal"] == signal]
        assert len(rows) == len(VERDICTS)
        np.testing.assert_allclose(np.asarray(drawn[name].x, dtype=float), rows["value"])
        np.testing.assert_allclose(np.asarray(drawn[name].error_x.array, float), rows["high"] - rows["value"])


def test_seeds_are_one_row_with_their_range(result: Result) -> None:
    frame = test_frame(result, named_test("matched"))
    table = result.tables["matched"].query("response == 'inner_space' and design == 'matched' and layer == 2")
    seeds = table.loc[table["signal"] == "untrained", "difference"]
    row = frame[(frame["layer"] == 2) & (frame["signal"] == "untrained")].iloc[0]
    assert (row["low"], row["value"], row["high"]) == pytest.approx((seeds.min(), seeds.mean(), seeds.max()))


def test_sentences_say_what_each_verdict_means(result: Result) -> None:
    said = sentence(result, named_test("matched"))
    assert "layer 1: increments are smaller in names" in said
    assert "layer 2: the interval leaves 0 out, but a control does as much" in said
    assert "which is no evidence" in said
    assert "layer 3: not shown" in said
    assert "layer 0: nothing varies" in said
    assert "finds names in layer 0, layer 1, layer 2 and layer 3 by its own measure" in together(result)
    assert together(result).endswith("both corrected English tests show an effect in layer 1 (smaller).")


def test_tests_that_disagree_are_not_said_to_agree(result: Result) -> None:
    matched = result.tables["matched"].assign(verdict="not shown")
    other = dataclasses.replace(result, tables={**result.tables, "matched": matched})
    assert "in no layer do both corrected English tests" in together(other)


def test_a_result_without_english_or_without_numbers_still_has_a_page(result: Result) -> None:
    empty = {name: result.tables[name].iloc[:0] for name in ("reversed", "regression", "matched", "pairs")}
    page = render_entities(dataclasses.replace(result, tables={**result.tables, **empty}, headline={}))
    assert "not made: the text has no English pairs of words" in page
    unknown = result.tables["regression"].assign(
        coefficient=np.nan, ci_low=np.nan, ci_high=np.nan, verdict="not measured"
    )
    other = dataclasses.replace(result, tables={**result.tables, "regression": unknown})
    assert "too few names for an interval" in dict(sentences(other))["Corrected test: regression"]
    assert render_entities(other).count('class="plot"') == render_entities(result).count('class="plot"') - 1


def test_steps_stand_beside_each_other_and_names_are_counted(result: Result) -> None:
    table = steps_table(result, named_test("regression"), "model", REGRESSION_STEPS)
    assert list(table.columns) == [
        "Increments",
        *(heading for _, heading in REGRESSION_STEPS),
        "n",
        "Verdict",
    ]
    assert pairs_table(result).iloc[0].tolist() == ["New York", "place", "134", "9", "Old Friends"]
    assert (p_value(0.03), p_value(3e-5), p_value(float("nan"))) == ("0.030", "3e-05", "–")
