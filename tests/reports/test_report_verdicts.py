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
from concept_results import concepts_result
from study_samples import CLOSER, definitions_result

from lrope_interp.commands.output import Voice
from lrope_interp.commands.probe import print_claims
from lrope_interp.reports.ablations.attention import attention_sentence
from lrope_interp.reports.ablations.frames import BETTER, OPEN, UNKNOWN, WORSE, shown_by
from lrope_interp.reports.ablations.page import render_ablations
from lrope_interp.reports.ablations.page import sentences as ablation_sentences
from lrope_interp.reports.concepts import erasures, heat_map
from lrope_interp.reports.concepts.erasures import erasure_sentence
from lrope_interp.reports.concepts.frames import best_claims
from lrope_interp.reports.concepts.names import BEYOND, UNMEASURED, WINS
from lrope_interp.reports.concepts.structure import CONTRASTS, structure_sentence, told_units
from lrope_interp.reports.concepts.words import adding_sentence, best_sentence, standing_sentence
from lrope_interp.reports.concepts.words import sentences as concept_sentences
from lrope_interp.reports.definitions.page import verdicts as definition_verdicts
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


# --- concepts ------------------------------------------------------------------------------------------


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


def test_the_headline_counts_what_stands_and_names_it(result_of: ResultOf) -> None:
    said = dict(concept_sentences(result_of("concepts")))
    assert said["Increments"].startswith("3 of 9 claims stand against every control")
    assert "+0.060 [+0.040, +0.080] for person (layer 1)" in said["Increments"]
    assert said["What they add"].startswith("3 of 9 claims add")
    assert "n-grams 6 of 6" in said["What beats them"]
    assert "increments tell a concept less in 3 of 3 places" in erasure_sentence(result_of("concepts"))


def test_the_best_claim_of_a_concept_is_one_that_stands_before_one_that_is_higher(
    result_of: ResultOf,
) -> None:
    best = best_claims(result_of("concepts")).set_index("concept")["place"]
    assert best["person"] == "layer 1"
    table = result_of("concepts").tables["claims"]
    stands = (table["concept"] == "person") & (table["layer"] == 0).fillna(False)
    other = _with(result_of("concepts"), claims=table.assign(verdict=np.where(stands, BEYOND, WINS)))
    assert best_claims(other).set_index("concept")["place"]["person"] == "layer 0"


@pytest.mark.parametrize(
    ("low", "said"),
    [(1.09, "word 2 of 2 (2 above"), (1.01, "word 2 of 2 (0 above"), (0.99, "word 0 of 2 (0 above")],
)
def test_units_are_told_by_the_lower_bound_and_not_by_the_value(
    result_of: ResultOf, low: float, said: str
) -> None:
    changed = _where(result_of("concepts"), "contrasts", "control == ''", ci_low=low)
    assert said in told_units(_where(changed, "contrasts", "control == 'lexical'", ratio=1.05))
    assert "clause 1.110 (behind entropy 1.300)" in structure_sentence(changed, CONTRASTS)


@pytest.mark.parametrize("has_intervals", [True, False])
def test_a_claim_whose_interval_holds_zero_or_is_none_stands_nowhere(
    result_of: ResultOf, has_intervals: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The value lies above the best control, the lower bound below it, on page, map and terminal."""
    if has_intervals:
        table = result_of("concepts").tables["claims"].assign(above=0.01, above_low=-0.01, above_high=0.03)
        table = table.assign(gain=0.01, gain_low=-0.01, verdict=WINS, is_adding=False)
        result = _with(result_of("concepts"), claims=table)
        counts = {"n_beyond_controls": 0.0, "n_adding": 0.0}
        result = dataclasses.replace(result, headline=result.headline | counts)
    else:
        result = concepts_result(has_intervals=False, suite="default")
    said = dict(concept_sentences(result))
    wins = "A control wins everywhere: none of 9 claims stands"
    assert said["Increments"].startswith(wins if has_intervals else "Nothing can be claimed")
    assert "better by its interval" not in said["Increments"]
    assert ("add nothing that could be shown" if has_intervals else "no verdict") in said["What they add"]
    best = best_sentence("increments", best_claims(result).iloc[0])
    assert best.endswith("A control wins." if has_intervals else "[no interval]. No verdict.")
    marks = set(heat_map.heat_map_frame(result, "increments")["mark"])
    assert marks == ({heat_map.BEHIND} if has_intervals else {heat_map.OPEN, ""})
    print_claims(result, Voice())
    printed = capsys.readouterr().out
    assert ("[ ] 95 % interval" in printed) is has_intervals
    assert not any("]*" in line or "]+" in line for line in printed.splitlines())


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


# --- studies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "beyond", "said"),
    [
        (CLOSER, -0.1, "are drawn together beyond every matched pair"),
        (CLOSER | {"roles": 0.0}, -0.1, "are not shown to be drawn together"),
        (CLOSER, 0.0, "are not shown to be drawn together"),
        (CLOSER | {"roles": -0.005}, -0.1, "are not shown to be drawn together"),
        (CLOSER, -0.005, "are not shown to be drawn together"),
        (dict.fromkeys(CLOSER, 0.005), 0.1, "are not shown to be drawn together"),
        (dict.fromkeys(CLOSER, 0.1), 0.1, "are pushed apart"),
    ],
)
def test_only_what_beats_every_control_is_said_to_be_drawn_together(
    differences: dict[str, float], beyond: float, said: str
) -> None:
    calls, methods = definition_verdicts(definitions_result(differences, beyond))
    assert said in calls
    assert methods == "Methods: not measured, with 0 pairs that a window holds."
    assert f"{2 if differences['names'] < 0 else 0} of 2 layers are closer" in calls


@pytest.mark.parametrize(
    ("column", "name"), [("control", "same_name"), ("control", "roles"), ("model", "trained - untrained")]
)
def test_what_was_not_measured_is_not_said_to_be_beaten(column: str, name: str) -> None:
    result = definitions_result()
    table = result.tables["definitions"]
    unbounded = table.assign(ci_low=table["ci_low"].where(table[column] != name))
    for left in (table[table[column] != name], unbounded):
        told = definition_verdicts(_with(result, definitions=left))[0]
        assert "are not shown to be drawn together" in told
