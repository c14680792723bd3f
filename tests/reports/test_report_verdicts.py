"""The rules behind the verdicts, at their edges: which bound decides, and against which control."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ablation_samples import ablations_result

from lrope_interp.reports.ablations.attention import attention_sentence
from lrope_interp.reports.ablations.frames import BETTER, OPEN, UNKNOWN, WORSE, shown_by
from lrope_interp.reports.ablations.page import render_ablations
from lrope_interp.reports.ablations.page import sentences as ablation_sentences
from lrope_interp.results import Result

HERE = ("words", "characters")
ResultOf = Callable[[str], Result]


@pytest.fixture(scope="module")
def ablated() -> Result:
    return ablations_result(has_heads=True)


def _with(result: Result, **tables: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **tables})


def _where(result: Result, table: str, rows: str, **values: Any) -> Result:
    """Set columns of the rows of a table that a query names."""
    changed = result.tables[table].copy()
    changed.loc[changed.query(rows).index, list(values)] = list(values.values())
    return _with(result, **{table: changed})


# --- ablations -----------------------------------------------------------------------------------------


def test_an_interval_says_worse_better_or_neither_and_none_says_nothing() -> None:
    low, high = [0.1, -0.2, -0.1, np.nan, 0.0], [0.2, -0.1, 0.1, 0.3, 0.0]
    assert shown_by(low, high) == [WORSE, BETTER, OPEN, UNKNOWN, OPEN]


def test_the_lead_says_what_freezing_costs_and_where(ablated: Result) -> None:
    said = dict(ablation_sentences(ablated))
    assert "rises by 0.170 [0.155, 0.185] nats per byte (+8.7 % of the untouched" in said["To layer's mean"]
    assert "the loss rises by 2.18 [2.00, 2.36]" in said["To 1"]
    assert "layers 0 (+0.156 [+0.142, +0.170])" in said["Where"]
    assert "3 of 6 layers have intervals that hold 0" in said["Where"]
    assert "layer 5 (−0.0087 [−0.0109, −0.0065]) helps" in said["Where"]
    assert "scale +2.01 [+1.85, +2.17] + lexical +0.150 [" in said["The split"]
    assert "is above zero in all layers at once: +0.0200 [" in said["Context"]


@pytest.mark.parametrize(
    ("intervention", "bounds", "about", "said"),
    [
        ("mean", (0.001, -0.002, 0.004), "To layer's mean", "The interval holds 0: no effect is shown."),
        ("mean", (-0.02, -0.03, -0.01), "To layer's mean", "the loss falls by 0.0200 [0.0100, 0.0300]"),
        ("one", (0.0, 0.0, 0.0), "To 1", "nothing changes, exactly."),
        ("split_contextual", (0.001, -0.002, 0.004), "Context", "not shown to be above zero"),
        ("split_contextual", (-0.02, -0.03, -0.01), "Context", "below zero"),
    ],
)
def test_nothing_reads_as_nothing_and_a_gain_as_a_gain(
    ablated: Result, intervention: str, bounds: tuple[float, float, float], about: str, said: str
) -> None:
    rows = f"intervention == '{intervention}' and design == 'all'"
    value, low, high = bounds
    changed = _where(ablated, "ablations", rows, value=value, ci_low=low, ci_high=high)
    assert said in dict(ablation_sentences(changed))[about]


def test_without_intervals_no_ablation_has_a_verdict(result_of: ResultOf) -> None:
    bounds = ("ci_low", "ci_high", "change_low", "change_high")
    tables = result_of("ablations").tables.items()
    bare = {name: t.assign(**{c: np.nan for c in bounds if c in t}) for name, t in tables}
    result = dataclasses.replace(result_of("ablations"), tables=bare)
    said = dict(ablation_sentences(result))
    assert "No interval could be had, so there is no verdict." in said["To layer's mean"]
    assert "nothing is said of where" in said["Where"]
    assert "without an interval that is no verdict" in said["Context"]
    assert "No interval could be had" in attention_sentence(result, "mean", "look_back")
    assert not re.search(r"the loss (rises|falls)|is above zero", render_ablations(result))


# --- studies -------------------------------------------------------------------------------------------
