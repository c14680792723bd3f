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
from report_samples import write_run

from lrope_interp.reports.ablations import page as ablations
from lrope_interp.reports.ablations.frames import OPEN
from lrope_interp.reports.ablations.numbers import LINEAR, change, squeezed, squeezed_ticks
from lrope_interp.reports.ablations.strips import example_strips as ablation_strips
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


def test_the_scale_of_changes_is_linear_near_nothing_and_its_ticks_stand_at_their_values() -> None:
    assert squeezed(LINEAR / 50) == pytest.approx(1 / 50, rel=1e-3)
    places, words = squeezed_ticks(-0.2, 2.5)
    assert words[:5] == ["−0.1", "−0.03", "−0.01", "−0.003", "0"] and words[-1] == "+1"
    assert places[-1] == squeezed(1.0)
    found = [change(value) for value in (2.184, 0.1704, -0.00004, -0.0019)]
    assert found == ["+2.18", "+0.170", "0.0000", "−0.0019"]


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
