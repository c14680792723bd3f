"""The rules behind the verdicts, at their edges: which bound decides, and against which control."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_samples import boundaries_result

from lrope_interp.reports.boundaries import verdicts
from lrope_interp.reports.boundaries.verdicts import paired_verdict
from lrope_interp.reports.concepts import erasures, heat_map
from lrope_interp.reports.concepts.names import BEYOND, UNMEASURED, WINS
from lrope_interp.reports.concepts.words import adding_sentence, standing_sentence
from lrope_interp.results import Result


@pytest.mark.parametrize(
    ("low", "high", "control", "said"),
    [
        (0.75, 0.85, 0.86, "The control wins"),
        (0.75, 0.85, 0.82, "That is no more than"),
        (0.75, 0.85, 0.77, "That is no more than"),
        (0.75, 0.85, 0.74, "Above every control here by at least 0.060"),
        (0.799, 0.801, 0.797, "That is no more than"),
        (0.799, 0.801, 0.794, "Above every control here by at least 0.006"),
        (np.nan, np.nan, 0.86, "It is behind the strongest control"),
        (np.nan, np.nan, 0.74, "It is ahead of the strongest control"),
    ],
)
def test_a_layer_is_above_a_control_that_its_interval_leaves_below(
    low: float, high: float, control: float, said: str
) -> None:
    best: Any = pd.Series({"value": 0.8, "low": low, "high": high})
    controls = pd.DataFrame(
        {"signal": ["byte_mean", "pmi"], "layer": [0, -1], "name": ["x", "PMI"], "value": [control, 0.5]}
    )
    assert verdicts._verdict(best, controls).startswith(said)


def test_the_paired_verdict_is_that_of_the_control_that_leaves_least() -> None:
    result = boundaries_result(n_layers=1, n_seeds=1)
    table = result.tables["differences"].assign(value=0.2, ci_low=0.1, ci_high=0.3)
    is_strong = table["control"] == "pmi"
    assert is_strong.any() and not is_strong.all()
    table.loc[is_strong, ["value", "ci_low", "ci_high"]] = -0.2, -0.3, -0.1
    told = paired_verdict(_with(result, differences=table), "words", "characters")
    assert told.startswith("The control wins: PMI beats every layer, the best one by 0.200 [0.100, 0.300]")


def _with(result: Result, **tables: pd.DataFrame) -> Result:
    return Result(result.kind, result.provenance, result.headline, {**result.tables, **tables})


@pytest.mark.parametrize(
    ("low", "value", "verdict", "mark"),
    [
        (0.1, 0.2, BEYOND, heat_map.STANDS),
        (0.1, 0.2, WINS, heat_map.ABOVE),
        (-0.1, 0.2, WINS, heat_map.BEHIND),
        (np.nan, 0.2, UNMEASURED, heat_map.OPEN),
        (np.nan, np.nan, UNMEASURED, ""),
    ],
)
def test_a_mark_is_that_of_the_lower_bound_and_of_every_control(
    low: float, value: float, verdict: str, mark: str
) -> None:
    row: Any = pd.Series({"value": value, "low": low, "high": 0.3, "verdict": verdict})
    assert heat_map._mark(row) == mark


def claims(**columns: list[Any]) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    text = {"family": ["f"] * n, "concept": [f"c{k}" for k in range(n)], "place": ["layer 0"] * n}
    return pd.DataFrame(text | columns)


def test_claims_stand_by_their_verdict_and_controls_are_better_by_their_upper_bound() -> None:
    bounds = {"above": [-0.2, -0.1, 0.2], "above_low": [-0.3, -0.2, 0.1], "above_high": [-0.1, 0.1, 0.3]}
    lost = standing_sentence(claims(**bounds, verdict=[WINS] * 3), "increments")
    assert lost.startswith("A control wins everywhere: none of 3 claims")
    assert "in 1 of them it is better by its interval" in lost
    won = standing_sentence(claims(**bounds, verdict=[WINS, WINS, BEYOND]), "increments")
    assert won.startswith("1 of 3 claims stand") and "In 2 a control wins." in won and "c2" in won
    open_ = standing_sentence(claims(**bounds, verdict=[UNMEASURED] * 3), "increments")
    assert "as good or better than increments in 2 of 3 claims" in open_


def test_claims_add_something_where_all_tests_say_so() -> None:
    gains = {"gain": [0.1, 0.2], "gain_low": [0.01, 0.02], "gain_high": [0.2, 0.3]}
    nothing = adding_sentence(claims(**gains, is_adding=[False, False]), "increments")
    assert "add nothing that could be shown, in any of 2 claims" in nothing
    one = adding_sentence(claims(**gains, is_adding=[True, False]), "increments")
    assert one.startswith("1 of 2 claims add") and "Nothing is shown to be added for c1" in one
    unknown = claims(**gains | {"gain_low": [np.nan, np.nan]}, is_adding=[False, False])
    assert "without an interval that is no verdict" in adding_sentence(unknown, "increments")


def test_an_erasure_takes_from_a_contrast_what_points_towards_zero() -> None:
    rows = [
        ("up", "leace", "contrast_before", 1.0, np.nan, np.nan),
        ("up", "beyond_shuffled", "contrast_after", -0.5, -0.7, -0.2),
        ("down", "leace", "contrast_before", -1.0, np.nan, np.nan),
        ("down", "beyond_shuffled", "contrast_after", -0.5, -0.7, 0.2),
    ]
    columns = ["concept", "arm", "metric", "value", "ci_low", "ci_high"]
    taken = erasures._taken(pd.DataFrame(rows, columns=columns).assign(family="f", layer=0))
    assert taken[["value", "ci_low", "ci_high"]].to_numpy().tolist() == [[0.5, 0.2, 0.7], [-0.5, -0.7, 0.2]]
    told = erasures._told(taken.assign(value=[0.5, 0.1], ci_low=[0.2, -0.1]), "it is less")
    assert told.startswith("it is less in 1 of 2 places, most for up, layer 0")
    assert erasures._told(taken[1:], "it is less") == "nowhere is it shown that it is less"
