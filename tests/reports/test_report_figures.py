"""A figure draws its frame: each value in its place, with its own bounds, and an order that can be read."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ablation_samples import COSTS, SPLIT, ablations_result
from concept_results import AREAS, UNITS, above, concepts_result
from report_samples import write_run

from lrope_interp.reports.ablations import page as ablations
from lrope_interp.reports.ablations.frames import OPEN
from lrope_interp.reports.ablations.numbers import LINEAR, change, squeezed, squeezed_ticks
from lrope_interp.reports.ablations.strips import example_strips as ablation_strips
from lrope_interp.reports.concepts.beside import AHEAD, OWN, UNDER, beside_table, plot_beside
from lrope_interp.reports.concepts.codes import codes_panels, sparse_panels
from lrope_interp.reports.concepts.erasures import ERASURES, erasure_panels
from lrope_interp.reports.concepts.frames import beside_frame, best_claims
from lrope_interp.reports.concepts.gain import gain_panels
from lrope_interp.reports.concepts.heat_map import heat_map_frame, plot_heat_map, rows_of
from lrope_interp.reports.concepts.panels import plot_panels
from lrope_interp.reports.concepts.selectivity import leakage_table, selectivity_frame, selectivity_panels
from lrope_interp.reports.concepts.strips import example_strips as concept_strips
from lrope_interp.reports.concepts.structure import CONTRASTS, MEASURES, structure_frame, structure_panels
from lrope_interp.reports.training.page import plot_increments, plot_loss
from lrope_interp.results import Result

HERE = ("words", "characters")
ResultOf = Callable[[str], Result]


@pytest.fixture(scope="module")
def ablated() -> Result:
    return ablations_result(has_heads=True)


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def assert_bars(trace: Any, frame: pd.DataFrame, axis: str = "error_x") -> None:
    """The bars of a trace reach from its values to the bounds of the frame."""
    np.testing.assert_allclose(trace[axis].array, frame["high"] - frame["value"])
    np.testing.assert_allclose(trace[axis].arrayminus, frame["value"] - frame["low"])


# --- ablations -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "is_heads"), [("nats_per_byte", False), ("flips", True)])
def test_the_cells_of_the_heat_map_of_ablations_are_the_frame(
    ablated: Result, metric: str, is_heads: bool
) -> None:
    frame = ablations.heat_map_frame(ablated, metric, is_heads=is_heads)
    grey, coloured = ablations.plot_heat_map(ablated, metric, is_heads=is_heads).data
    rows, columns = list(dict.fromkeys(frame["place"])), list(dict.fromkeys(frame["column"]))
    assert rows[0] == ("head 0.0" if is_heads else "layer 0")
    for row in frame.itertuples():
        at = rows.index(row.place), columns.index(row.column)
        trace = grey if row.shows == OPEN else coloured
        assert trace.customdata[at[0]][at[1]] == row.value
        assert np.sinh(trace.z[at[0]][at[1]]) * LINEAR == pytest.approx(row.value)
    if not is_heads:
        cell = frame.query("place == 'all layers' and intervention == 'mean'")
        assert cell["value"].item() == COSTS["mean"]
        assert set(frame.loc[frame["intervention"] == "scale", "parameter"]) == {2.0}


def test_the_waterfall_stands_on_what_went_before_and_ends_at_its_total(ablated: Result) -> None:
    frame = ablations.waterfall_frame(ablated)
    bars, whiskers = ablations.plot_split(ablated).data
    assert list(frame["value"]) == [SPLIT[name] for name in frame["intervention"]]
    np.testing.assert_array_equal(bars.y, frame["value"])
    np.testing.assert_array_equal(bars.base, frame["start"])
    np.testing.assert_allclose(whiskers.y, frame["start"] + frame["value"])
    assert_bars(whiskers, frame, "error_y")
    np.testing.assert_allclose(frame["end"].iloc[2], frame["end"].iloc[3])


def test_the_scale_curve_passes_through_nothing_at_one_and_one_factor_is_no_curve(ablated: Result) -> None:
    frame, figure = ablations.scale_frame(ablated), ablations.plot_scale(ablated)
    lines = {trace.name: trace for trace in figure.data if trace.fill is None}
    for place, own in frame.groupby("place"):
        np.testing.assert_array_equal(lines[place].x, [0.25, 0.5, 1.0, 2.0, 4.0])
        np.testing.assert_allclose(np.sinh(lines[place].y) * LINEAR, own["value"], atol=1e-12)
    assert (frame.loc[frame["parameter"] == 1.0, ["value", "low", "high"]] == 0.0).all(axis=None)
    assert ablations.scale_frame(ablations_result(2, 2, suite="default")).empty


def test_lines_over_sets_of_layers_and_bars_of_groups_are_the_frames(ablated: Result) -> None:
    frame = ablations.cumulative_frame(ablated, "one")
    lines = traces(ablations.plot_cumulative(ablated, "one"))
    words = {"up": "layers 0 to this one", "down": "this layer to the last"}
    for design, name in (words | {"restore": "all layers but this one"}).items():
        own = frame[frame["design"] == design]
        np.testing.assert_array_equal(lines[name].y, own["value"])
        np.testing.assert_array_equal(np.rint(lines[name].x), own["layer"])
    for made, first in (
        (ablations.classes_change_frame(ablated), ["space", "newline", "punctuation .!?"]),
        (ablations.distances_frame(ablated, "words"), ["0", "1", "2 to 3", "4 to 7"]),
        (ablations.languages_change_frame(ablated), ["English", "Chinese"]),
    ):
        assert list(dict.fromkeys(made["group"]))[: len(first)] == first
        figure = ablations.plot_groups(made, "group")
        for trace, name in zip(figure.data, ("mean", "one", "lexical"), strict=True):
            own = made[made["intervention"] == name]
            np.testing.assert_array_equal(trace.x, own["value"])
            np.testing.assert_array_equal(trace.error_x.arrayminus, own["value"] - own["low"])


def test_places_stand_beside_as_many_random_gaps_and_not_in_the_heat_map(ablated: Result) -> None:
    rows = ablated.tables["ablations"]
    whole = rows[(rows["intervention"] == "mean") & (rows["design"] == "all")]
    at_words, at_random = (
        whole.assign(where=where, value=value, ci_low=value - 0.01, ci_high=value + 0.01)
        for where, value in (("words", 0.02), ("random:words", 0.05))
    )
    difference = at_words.assign(intervention="beyond_random", value=-0.03, ci_low=-0.04, ci_high=-0.02)
    more = {"ablations": pd.concat([rows, at_words, at_random, difference], ignore_index=True)}
    more["places"] = pd.DataFrame({"where": ["words", "random:words"], "n_gaps": [70, 70]})
    suite = dataclasses.replace(ablated, tables={**ablated.tables, **more})
    names = ["where", "n_gaps", "value", "random_value", "more_value"]
    assert ablations.places_frame(suite)[names].to_numpy().tolist() == [["words", 70, 0.02, 0.05, -0.03]]
    columns = ablations.heat_map_frame(ablated)["column"].tolist()
    assert ablations.heat_map_frame(suite)["column"].tolist() == columns
    assert "+0.0500 [+0.0400, +0.0600]" in ablations.render_ablations(suite)


def test_strips_mark_the_character_and_shade_by_the_value(ablated: Result, result_of: ResultOf) -> None:
    frame = ablations.examples_frame(ablated)
    (title, first), *_ = ablation_strips(ablated)
    assert title == "To layer's mean, all layers: the 8 targets that lose most"
    own = frame[(frame["intervention"] == "mean") & (frame["rank"] == 1)]
    cells = first.strips[0].cells
    assert [cell.is_warm for cell in cells] == (own["value"] > 0).tolist()
    assert [place for place, cell in enumerate(cells) if cell.is_marked] == [24]
    assert cells[24].shade == 8
    title, strips = concept_strips(result_of("concepts"))[0]
    assert title == "entities: person, layer 1", "the best single layer"
    cells = strips.strips[0].cells
    assert [cell.is_boundary for cell in cells[:5]] == [False, False, True, True, False]
    assert [cell.is_warm for cell in cells[:4]] == [False, False, True, True]


def test_the_scale_of_changes_is_linear_near_nothing_and_its_ticks_stand_at_their_values() -> None:
    assert squeezed(LINEAR / 50) == pytest.approx(1 / 50, rel=1e-3)
    places, words = squeezed_ticks(-0.2, 2.5)
    assert words[:5] == ["−0.1", "−0.03", "−0.01", "−0.003", "0"] and words[-1] == "+1"
    assert places[-1] == squeezed(1.0)
    found = [change(value) for value in (2.184, 0.1704, -0.00004, -0.0019)]
    assert found == ["+2.18", "+0.170", "0.0000", "−0.0019"]


# --- concepts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["document", "type"])
def test_the_cells_of_the_heat_map_of_concepts_are_the_claims(result_of: ResultOf, split: str) -> None:
    result = result_of("concepts")
    frame = heat_map_frame(result, "increments", split)
    coloured, grey = plot_heat_map(result, "increments", split).data
    rows, columns = rows_of(frame), list(dict.fromkeys(frame["place"]))
    assert columns == ["layer 0", "layer 1", "all layers"]
    for row in frame.itertuples():
        at = rows.index((row.family, row.concept)), columns.index(row.place)
        if row.concept == "rare":
            assert np.isnan(coloured.z[at]) and grey.text[at] == "not<br>measured"
        else:
            less = 0.02 if split == "type" else 0.0
            assert coloured.customdata[at] == coloured.z[at] == row.value
            assert row.value == pytest.approx(above(row.concept, max(row.layer, 0)) - less)
            assert coloured.text[at].startswith(row.mark) and "n-grams" in coloured.text[at]
    two = rows_of(heat_map_frame(concepts_result(families=("entities", "titles")), "increments"))
    assert (two[0], two[4]) == (("entities", ""), ("titles", ""))


@pytest.mark.parametrize("split", ["document", "type"])
def test_every_control_stands_beside_the_claim_with_its_own_number(result_of: ResultOf, split: str) -> None:
    best = best_claims(result_of("concepts"))
    claim: Any = best[best["concept"] == "place"].iloc[0]
    frame = beside_frame(result_of("concepts"), claim, split)
    value = dict(zip(frame["control"], frame["value"], strict=True))
    own = value.pop("none")
    assert value == AREAS and list(value) == sorted(AREAS, key=lambda name: -AREAS[name])
    ahead = {name for name, area in AREAS.items() if area >= own}
    assert set(frame.loc[frame["is_ahead"], "control"]) == ahead
    drawn = {name: list(t.x) for name, t in traces(plot_beside(result_of("concepts"), claim, split)).items()}
    assert drawn[OWN] == [own]
    assert drawn[AHEAD] == frame.loc[frame["is_ahead"], "value"].tolist()
    assert sorted([own, *drawn[AHEAD], *drawn[UNDER]]) == sorted(frame["value"])


def test_every_panel_draws_its_frame_over_the_names_of_its_axis(result_of: ResultOf) -> None:
    result = result_of("concepts")
    for panels in (
        selectivity_panels(result, "increments"), gain_panels(result, "increments", "entities"),
        codes_panels(result, "increments"), sparse_panels(result),
        *(structure_panels(result, measure) for measure in MEASURES),
        *(erasure_panels(result, erasure, "entities") for erasure in ERASURES),
    ):  # fmt: skip
        data = [trace for trace in plot_panels(panels).data if trace.name != "reference"]
        drawn = [(trace.name, float(value)) for trace in data for value in trace.y]
        names = [panels.looks[name].name for name in panels.frame["series"]]
        assert sorted(drawn) == sorted(zip(names, panels.frame["value"], strict=True)) != []
    panels = gain_panels(result, "increments", "entities")
    figure, frame = plot_panels(panels), panels.frame
    own = frame[(frame["panel"] == "person") & (frame["series"] == "gain")]
    first = next(trace for trace in figure.data if trace.name == "unseen documents")
    layout: Any = figure.layout
    assert [layout.xaxis.ticktext[round(x)] for x in first.x] == own["x"].tolist()
    assert_bars(first, own, "error_y")
    assert panels.notes == {"person": "adds: 0, 1, all"}


def test_tables_of_concepts_mark_who_wins_and_what_leaks_between_splits(result_of: ResultOf) -> None:
    table = beside_table(result_of("concepts"), "increments").set_index(["Concept", "Spans of"])["n-grams"]
    assert (table["place", "unseen documents"], table["person", "unseen documents"]) == ("▲ 0.850", "0.850")
    leaks = leakage_table(result_of("concepts"), "increments").set_index("Concept").loc["person"]
    assert (leaks["Leakage"], leaks["Its leakage"]) == ("+0.020", "0.000")


def test_controls_of_selectivity_and_structure_have_their_own_rows(result_of: ResultOf) -> None:
    frame = selectivity_frame(result_of("concepts"), "increments").set_index(["series", "x"])
    task = frame.loc[("control_task", "0")]
    assert (task["low"], task["value"], task["high"]) == pytest.approx((0.45, 0.5, 0.55))
    assert frame.loc[("majority", "all"), "value"] == 0.55
    structure = structure_frame(result_of("concepts"), CONTRASTS)
    assert list(dict.fromkeys(structure["panel"])) == list(UNITS)
    word = structure[structure["panel"] == "word"]
    assert word["x"].tolist() == ["0", "0", "0", "1", "1", "1", "entropy", "surprisal"]
    assert word.loc[word["signal"] == "increments", "value"].tolist() == [1.1, 1.11]


# --- studies, distances, training ----------------------------------------------------------------------


def test_a_run_is_drawn_with_bits_beside_nats_and_its_spread(tmp_path: Any) -> None:
    folder = write_run(tmp_path / "run")
    layout: Any = plot_loss(folder).layout
    np.testing.assert_allclose(np.array(layout.yaxis.range) / math.log(2), layout.yaxis2.range)
    drawn = plot_increments(folder).data
    upper = [trace for trace in drawn if trace.name == "mean + s.d."]
    lines = [trace for trace in drawn if str(trace.name).startswith("layer")]
    assert len(upper) == len(lines) == 3
    np.testing.assert_allclose(upper[0].y, np.add(lines[0].y, lines[0].customdata))
