"""The page of probe: which claim stands by which bound, and figures that draw their frames."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from concept_results import AREAS, UNITS, above, concepts_result
from pages import drawn_in, text_of

from lrope_interp.commands.analysis import print_verdicts
from lrope_interp.commands.output import Voice
from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.concepts import figures, tables, verdicts
from lrope_interp.reports.concepts.tables import BEYOND, PARTLY
from lrope_interp.results import LOSES, TIES, WINS, Result

ResultOf = Callable[[str], Result]
LOST, UNMEASURED = "control wins", "not measured"  # as the table of claims says


@pytest.fixture(scope="module")
def probed() -> Result:
    return concepts_result()


def _with(result: Result, **changed: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **changed})


def _claims(result: Result, **values: Any) -> Result:
    """Return a result whose every claim has some values."""
    return _with(result, claims=result.tables["claims"].assign(**values))


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


@pytest.mark.parametrize(
    ("low", "high", "claimed", "shown", "mark"),
    [
        (0.1, 0.3, BEYOND, WINS, "▲"),
        (0.1, 0.3, LOST, PARTLY, "△"),
        (-0.1, 0.3, LOST, TIES, "="),
        (-0.3, -0.1, LOST, LOSES, "▼"),
        (np.nan, np.nan, UNMEASURED, "", ""),
    ],
)
def test_a_claim_stands_by_every_test_and_a_control_is_better_by_the_upper_bound(
    probed: Result, low: float, high: float, claimed: str, shown: str, mark: str
) -> None:
    changed = _claims(probed, above=0.2, above_low=low, above_high=high, verdict=claimed)
    found = verdicts(changed)
    assert set(found.frame["verdict"]) == {shown}
    assert len(found.headline.split()) <= 25
    if mark:
        assert all(row.cells[-1] == f"{mark} {shown}" for row in found.rows)
    drawn: Any = figures.plot_map(changed)
    assert {text[:1] for text in drawn.data[0].text.ravel()} == {mark or "<"}


def test_the_headline_says_who_wins_and_what_is_added(probed: Result) -> None:
    found = verdicts(probed)
    said = "Increments beat every control for person and lose to a control for place; 1 adds to all controls"
    assert found.headline.startswith(said)
    assert found.frame[["what", "where", "verdict", "adds"]].to_numpy().tolist() == [
        ["person", "layer 1", WINS, "layer 0, layer 1, all layers"],
        ["place", "layer 1", LOSES, ""],
        ["rare", "", "", ""],
    ]
    assert found.rows[0].cells[4] == "+0.060 [+0.040, +0.080]"
    lost = _claims(probed, above=-0.1, above_low=-0.2, above_high=-0.05, verdict=LOST, is_adding=False)
    assert (
        verdicts(lost).headline
        == "Increments lose to a control for all 3 concepts; none add to all controls together."
    )
    untested = verdicts(_claims(lost, gain=np.nan)).headline
    assert untested == "Increments lose to a control for all 3 concepts.", "no sum of controls was asked"
    assert verdicts(_claims(probed, above=np.nan)).headline == "No claim could be measured."


@pytest.mark.parametrize("n", [2, 3])
def test_other_features_have_rows_of_their_own_and_are_named_in_the_headline(n: int) -> None:
    result = concepts_result(features=("increments", "positions", "resid")[:n])
    found = verdicts(result)
    assert found.frame["what"].tolist()[3:5] == ["person, positions", "place, positions"]
    assert len(found.headline.split()) <= 25
    assert found.headline.startswith("Increments beat")
    lost = result.tables["claims"]["features"].to_numpy() == "increments"
    table = result.tables["claims"]
    table = table.assign(
        verdict=table["verdict"].mask(lost, LOST), above_high=table["above_high"].mask(lost, -0.01)
    )
    table["above_low"] = table["above_low"].mask(lost, -0.2)
    said = verdicts(_with(result, claims=table)).headline
    assert re.search("(positions|other features) beat every control for", said), "a win is not left out"
    own = tables.verdicts_from(found, "positions")
    assert own.frame["what"].tolist() == ["person", "place", "rare"]


def test_the_best_claim_of_a_concept_is_one_that_stands_before_one_that_is_higher(probed: Result) -> None:
    table = probed.tables["claims"]
    stands = (table["concept"] == "person") & (table["layer"] == 0).fillna(False)
    other = _claims(probed, verdict=np.where(stands, BEYOND, LOST))
    assert tables.claim_of(probed, "person", None)["place"] == "layer 1"
    assert tables.claim_of(other, "person", None)["place"] == "layer 0"


@pytest.mark.parametrize("has_intervals", [True, False])
def test_a_claim_whose_interval_holds_zero_or_is_none_stands_nowhere(
    probed: Result, has_intervals: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The value lies above the best control, the lower bound below it: on page, notebook and terminal."""
    result = _claims(probed, above=0.01, above_low=-0.01, above_high=0.03, verdict=LOST, is_adding=False)
    result = result if has_intervals else concepts_result(has_intervals=False, suite="default")
    print_verdicts(result, Voice())
    page = render(result)
    page = text_of(page) + str(drawn_in(page))
    for shown in (capsys.readouterr().out, repr(result), result._repr_html_(), page):
        assert "▲ the layer" not in shown and "▲ <b>" not in shown
        assert ("= no difference shown" in shown or "= neither" in shown) is has_intervals
        assert ("No verdict without intervals" in shown) is not has_intervals


def test_the_terminal_and_the_notebook_show_the_rows_of_the_page(
    probed: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    print_verdicts(probed, Voice())
    printed = capsys.readouterr().out
    assert printed.startswith("Increments beat") and "+0.060 [+0.040, +0.080]" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert len(repr(probed).splitlines()) <= 15
    assert len(concepts_result([f"c{k}" for k in range(40)]).__repr__().splitlines()) <= 15
    assert "+0.060 [+0.040, +0.080]" in probed._repr_html_()
    assert probed.frame()["difference"].iloc[0] == pytest.approx(0.06)


def test_a_figure_is_drawn_by_its_name_and_of_what_was_claimed(probed: Result) -> None:
    assert probed.plot().data[0].name == "minus the best control"
    assert list(traces(probed.plot("controls", concept="place"))["claimed"].x) == pytest.approx([0.71])
    assert probed.plot("structure", table="trees").layout.yaxis.title.text == "F1 of brackets"
    with pytest.raises(LRopeError, match="nothing is claimed of 'city': choose from person, place, rare"):
        probed.plot("layers", concept="city")
    with pytest.raises(LRopeError, match="choose from increments"):
        probed.plot(features="resid")


@pytest.mark.parametrize("split", ["document", "type"])
def test_the_cells_of_the_map_are_the_claims(probed: Result, split: str) -> None:
    frame = tables.map_frame(probed, "increments", split)
    drawn: Any = figures.plot_map(probed, split=split)
    coloured, grey = drawn.data
    columns = ["layer 0", "layer 1", "all layers"]
    for row in frame.itertuples():
        at = ["person", "place", "rare"].index(str(row.what)), columns.index(str(row.place))
        if row.what == "rare":
            assert np.isnan(coloured.z[at]) and grey.text[at] == "not<br>measured"
        else:
            less = 0.02 if split == "type" else 0.0
            assert coloured.z[at] == row.value
            assert row.value == pytest.approx(above(row.what, max(row.layer, 0)) - less)
            assert "n-grams" in coloured.hovertext[at]
    two: Any = figures.plot_map(concepts_result(families=("entities", "titles")))
    assert [two.layout.yaxis.ticktext[i] for i in (0, 4)] == ["<b>entities</b> ", "<b>titles</b> "]
    assert two.layout.yaxis.ticktext[1] == two.layout.yaxis.ticktext[5] == "person "
    assert "titles: person" in two.data[0].hovertext[5, 0], "a name of two families is told apart"


@pytest.mark.parametrize("split", ["document", "type"])
def test_every_control_stands_beside_the_claim_with_its_own_number(probed: Result, split: str) -> None:
    claim = tables.claim_of(probed, "place", None)
    frame = tables.controls_frame(probed, claim, split)
    value = dict(zip(frame["control"], frame["value"], strict=True))
    own = value.pop("none")
    assert value == AREAS and list(value) == sorted(AREAS, key=lambda name: -AREAS[name])
    ahead = frame["is_ahead"]
    assert set(frame.loc[ahead, "control"]) == {name for name, area in AREAS.items() if area >= own}
    drawn = traces(figures.plot_controls(probed, "place"))
    if split == "document":
        assert list(drawn[figures.OWN].x) == [own]
        assert list(drawn[figures.AHEAD].x) == frame.loc[ahead, "value"].tolist()
        assert len(drawn[figures.UNDER].x) == len(frame) - 1 - ahead.sum()
    else:
        assert list(drawn[figures.WORDS].x) == frame["value"].tolist()


def _panels(result: Result) -> list[tuple[Any, pd.DataFrame, dict[str, Any]]]:
    claim = tables.claim_of(result, "person", None)
    return [
        (figures.plot_layers(result, "person"), tables.layers_frame(result, claim), figures._LAYERS),
        (
            figures.plot_selectivity(result),
            tables.selectivity_frame(result, "increments"),
            figures._SELECTIVITY,
        ),
        (figures.plot_codes(result), tables.codes_frame(result, "increments"), figures._CODES),
        (figures.plot_sparse(result), tables.sparse_frame(result), figures._SPARSE),
        (figures.plot_erasure(result, "person"), tables.erasure_frame(result, claim), figures._ERASED),
        *(
            (figures.plot_structure(result, name), tables.structure_frame(result, name), figures._STRUCTURE)
            for name in tables.STRUCTURE
        ),
    ]


def test_every_panel_draws_its_frame_over_the_names_of_its_axis(probed: Result) -> None:
    for figure, frame, looks in _panels(probed):
        data = [trace for trace in figure.data if trace.name != "reference"]
        drawn = [(trace.name, float(value)) for trace in data for value in trace.y]
        names = [looks[series].name for series in frame["series"]]
        assert sorted(drawn) == sorted(zip(names, frame["value"], strict=True)) != []
        assert sorted(trace.name for trace in data if trace.showlegend) == sorted(set(names)), "named once"
    figure, frame, looks = _panels(probed)[0]
    own = frame[(frame["panel"] == tables.ABOVE) & (frame["series"] == "document")]
    points = next(trace for trace in figure.data if trace.name == "unseen documents" and trace.xaxis == "x2")
    assert [figure.layout.xaxis2.ticktext[round(x)] for x in points.x] == own["x"].tolist()
    assert points.mode == "markers"
    np.testing.assert_allclose(points.error_y.array, own["high"] - own["value"])
    np.testing.assert_allclose(points.error_y.arrayminus, own["value"] - own["low"])


def test_controls_of_selectivity_and_structure_have_their_own_rows(probed: Result) -> None:
    frame = tables.selectivity_frame(probed, "increments").set_index(["series", "x"])
    task = frame.loc[("control_task", "0")]
    assert (task["low"], task["value"], task["high"]) == pytest.approx((0.45, 0.5, 0.55))
    assert frame.loc[("majority", "all"), "value"] == 0.55
    structure = tables.structure_frame(probed, "contrasts")
    assert list(dict.fromkeys(structure["panel"])) == list(UNITS)
    word = structure[structure["panel"] == "word"]
    assert word["x"].tolist() == ["0", "0", "0", "1", "1", "1", "entropy", "surprisal"]
    assert word.loc[word["signal"] == "increments", "value"].tolist() == [1.1, 1.11]
    table = probed.tables["contrasts"]
    turned = table.sort_values("layer", ascending=False, kind="stable", na_position="first")
    again = tables.structure_frame(
        dataclasses.replace(probed, tables={**probed.tables, "contrasts": turned}), "contrasts"
    )
    assert again[["panel", "x"]].to_numpy().tolist() == structure[["panel", "x"]].to_numpy().tolist()


def test_tables_of_claims_say_what_the_claims_say_and_what_leaks(probed: Result) -> None:
    table = tables.claims_table(probed, "increments")
    assert len(table) == len(probed.tables["claims"])
    person = table[(table["Concept"] == "person") & (table["Layer"] == "layer 1")].iloc[0]
    assert (person["Minus control"], person["Gain"]) == ("0.0600 [0.0400, 0.0800]", "0.0300 [0.0100, 0.0500]")
    assert (person["Gain, untrained"], person["Adds"], person["Verdict"]) == ("0.00100", "yes", WINS)
    leaks = tables.leakage_table(probed, "increments").set_index("Concept").loc["person"]
    assert leaks["Leakage"] == "0.0200" and abs(float(leaks["Its leakage"])) < 1e-9


@pytest.mark.parametrize(
    ("low", "said"),
    [(1.09, "word 2 of 2 (2 above"), (1.01, "word 2 of 2 (0 above"), (0.99, "word 0 of 2 (0 above")],
)
def test_units_are_told_by_the_lower_bound_and_not_by_the_value(
    probed: Result, low: float, said: str
) -> None:
    table = probed.tables["contrasts"].copy()
    table.loc[table["control"] == "", "ci_low"] = low
    table.loc[table["control"] == "lexical", "ratio"] = 1.05
    changed = _with(probed, contrasts=table)
    assert said in tables.units_words(changed)
    assert "clause 1.110, behind entropy 1.300" in tables.structure_words(changed, "contrasts")


def test_an_erasure_takes_from_a_contrast_what_points_towards_zero(probed: Result) -> None:
    assert "increments tell a concept less in 3 of 3 places" in tables.erasure_words(probed)
    rows = [
        ("up", "leace", "contrast_before", 1.0, np.nan, np.nan),
        ("up", "beyond_shuffled", "contrast_after", -0.5, -0.7, -0.2),
        ("down", "leace", "contrast_before", -1.0, np.nan, np.nan),
        ("down", "beyond_shuffled", "contrast_after", -0.5, -0.7, -0.2),
    ]
    columns = ["concept", "arm", "metric", "value", "ci_low", "ci_high"]
    erased = pd.DataFrame(rows, columns=columns).assign(family="f", layer=0)
    said = tables.erasure_words(_with(probed, erasures=erased))
    assert "less in 1 of 2 places, most for up, layer 0 (+0.500 [+0.200, +0.700])" in said
    assert "nowhere is it shown that more is lost" in said
    nothing = tables.erasure_words(_with(probed, erasures=erased.assign(ci_low=np.nan)))
    assert nothing == "Without intervals that is no verdict."


def test_a_table_has_the_units_of_every_text_and_what_was_erased(probed: Result) -> None:
    table = probed.tables["contrasts"]
    both = pd.concat([table, table.assign(language="zh", ratio=1.2345)], ignore_index=True)
    shown = tables.structure_table(_with(probed, contrasts=both), "contrasts")
    assert {*shown["Text"]} == {"all", "zh"}
    assert {*shown.loc[shown["Text"] == "zh", "Value"].str.split().str[0]} == {"1.234"}
    assert len(tables.structure_table(_with(probed, contrasts=table.iloc[:0]), "contrasts")) == 0
    rows = [
        ("up", "leace", "contrast_before", 0.5),
        ("up", "beyond_shuffled", "contrast_after", -0.25),
        ("all", "leace", "nats_per_byte", 0.125),
    ]
    erased = pd.DataFrame(rows, columns=["concept", "arm", "metric", "value"])
    found = tables.erasures_table(_with(probed, erasures=erased.assign(family="f", layer=2)))
    assert found[["Concept", "Layer"]].to_numpy().tolist() == [["up", "2"]]
    assert found.iloc[0][["Contrast before", "Less shuffled", "Loss"]].tolist() == ["0.500", "−0.250", "–"]


def test_strips_mark_the_span_and_shade_by_the_value(probed: Result) -> None:
    layer, strips = tables.example_strips(probed, tables.claim_of(probed, "person", None))
    assert layer == 1, "the best single layer"
    cells = strips[0].cells
    assert [cell.is_boundary for cell in cells[:5]] == [False, False, True, True, False]
    assert [cell.is_warm for cell in cells[:4]] == [False, False, True, True]
    assert [cell.is_marked for cell in cells[:4]] == [False, False, True, False]
