"""The page of ablations: what an interval shows of a cost, and figures that draw their frames."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ablation_samples import COSTS, SPLIT, ablations_result
from pages import drawn_in, text_of

from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.ablations import FIGURES, figures, tables, verdicts
from lrope_interp.reports.ablations.tables import BETTER, OPEN, UNKNOWN, WORSE, shown_by
from lrope_interp.reports.kit.changes import LINEAR, change, squeezed, squeezed_ticks
from lrope_interp.results import Result

ResultOf = Callable[[str], Result]
BOUNDS = ("ci_low", "ci_high", "change_low", "change_high")
WHOLE = "metric == 'nats_per_byte' and language == 'all' and byte_class == 'all'"


@pytest.fixture(scope="module")
def ablated() -> Result:
    return ablations_result(has_heads=True)


@pytest.fixture(scope="module")
def places(ablated: Result) -> Result:
    """Freezing at word starts costs less than at as many random gaps."""
    rows = ablated.tables["ablations"]
    whole = rows[(rows["intervention"] == "mean") & (rows["design"] == "all")]
    at_words, at_random, difference = (
        whole.assign(
            where=where, intervention=name, value=value, ci_low=value - 0.01, ci_high=value + 0.01
        )
        for name, where, value in (
            ("mean", "words", 0.02), ("mean", "random:words", 0.05), ("beyond_random", "words", -0.03)
        )
    )  # fmt: skip
    more = {"ablations": pd.concat([rows, at_words, at_random, difference], ignore_index=True)}
    more["places"] = pd.DataFrame({"where": ["words", "random:words"], "n_gaps": [70, 70]})
    return dataclasses.replace(ablated, tables={**ablated.tables, **more})


def planted(result: Result, intervention: str, value: float, low: float, high: float) -> Result:
    """Give an intervention on all layers another change."""
    table = result.tables["ablations"].copy()
    rows = table.query(f"intervention == '{intervention}' and design == 'all'").index
    table.loc[rows, ["value", "ci_low", "ci_high"]] = value, low, high
    return dataclasses.replace(result, tables={**result.tables, "ablations": table})


def bare(result: Result) -> Result:
    """Take every interval away."""
    found = {
        name: table.assign(**{column: np.nan for column in BOUNDS if column in table})
        for name, table in result.tables.items()
    }
    return dataclasses.replace(result, tables=found)


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def assert_bars(trace: Any, frame: pd.DataFrame, axis: str) -> None:
    """The bars of a trace reach from its values to the bounds of the frame."""
    np.testing.assert_allclose(trace[axis].array, frame["high"] - frame["value"])
    np.testing.assert_allclose(trace[axis].arrayminus, frame["value"] - frame["low"])


def told(words: str) -> list[float]:
    """The numbers that are written in some words."""
    return [float(one.replace("−", "-")) for one in re.findall(r"[+−]?\d*\.?\d+", words)]


def test_an_interval_says_worse_better_or_neither_and_none_says_nothing() -> None:
    low, high = [0.1, -0.2, -0.1, np.nan, 0.0], [0.2, -0.1, 0.1, 0.3, 0.0]
    assert shown_by(low, high) == [WORSE, BETTER, OPEN, UNKNOWN, OPEN]


def test_the_verdicts_are_of_all_layers_with_the_layer_that_costs_most(ablated: Result) -> None:
    frame = verdicts(ablated).frame.set_index("intervention")
    table = ablated.tables["ablations"].query(f"{WHOLE} and design == 'all' and where == ''")
    own = table[table["intervention"].isin(frame.index)].query("parameter.isna()").set_index("intervention")
    for column, name in (
        ("difference", "value"),
        ("difference_low", "ci_low"),
        ("difference_high", "ci_high"),
    ):
        np.testing.assert_array_equal(frame.loc[own.index, column], own[name])
    assert frame.loc["scale", "difference"] == COSTS["scale"]
    assert frame.loc[["mean", "one"], "where"].tolist() == ["layer 0", "layer 0"]
    assert frame.loc["lexical", "verdict"] == "costs"
    assert verdicts(ablated).headline == (
        "Freezing increments to their layer's mean costs 0.170 nats per byte, most in layer 0; what context "
        "adds to the byte is worth 0.0200."
    )


@pytest.mark.parametrize(
    ("intervention", "bounds", "verdict", "said"),
    [
        ("mean", (0.001, -0.002, 0.004), "not shown", "is not shown to change the loss"),
        ("mean", (-0.02, -0.03, -0.01), "helps", "lowers the loss by 0.0200"),
        ("one", (0.0, 0.0, 0.0), "not shown", "costs 0.170"),
        ("lexical", (0.001, -0.002, 0.004), "not shown", "nothing shows that context adds to the byte"),
        ("lexical", (-0.02, -0.03, -0.01), "helps", "what context adds to the byte does harm"),
    ],
)
def test_nothing_reads_as_nothing_and_a_gain_as_a_gain(
    ablated: Result, intervention: str, bounds: tuple[float, float, float], verdict: str, said: str
) -> None:
    found = verdicts(planted(ablated, intervention, *bounds))
    assert found.frame.set_index("intervention").loc[intervention, "verdict"] == verdict
    assert said in found.headline and len(found.headline.split()) <= 25


def test_some_gaps_stand_against_as_many_random_ones_and_not_in_the_heat_map(
    ablated: Result, places: Result
) -> None:
    names = ["where", "n_gaps", "value", "random_value", "more_value"]
    assert tables.places_frame(places)[names].to_numpy().tolist() == [["words", 70, 0.02, 0.05, -0.03]]
    row = verdicts(places).frame.iloc[-1]
    assert row[["difference", "verdict"]].tolist() == [-0.03, "costs less"]
    columns = tables.heat_map_frame(ablated)["column"].tolist()
    assert tables.heat_map_frame(places)["column"].tolist() == columns
    assert "+0.0500 [+0.0400, +0.0600]" in render(places)


def test_without_intervals_nothing_has_a_verdict(result_of: ResultOf) -> None:
    result = bare(result_of("ablations"))
    found = verdicts(result)
    assert (found.frame["where"] == "").all()
    assert found.headline.startswith("Without intervals no verdict:")
    text = text_of(render(result))
    assert "No interval could be had for any of 4 heads" in text
    assert not found.has("verdict") and "▲ costs" not in text


def test_layers_that_were_not_changed_together_have_a_row_each(ablated: Result) -> None:
    table = ablated.tables["ablations"].query("intervention == 'lexical' and design == 'single'")
    found = verdicts(dataclasses.replace(ablated, tables={"ablations": table}))
    assert found.frame["what"].tolist() == [f"to byte's mean, layer {k}" for k in range(6)]
    assert found.headline.startswith("Freezing increments to the mean of their byte costs in 1 of 6 places")
    assert "+0.0184 in layer 0" in found.headline
    heads = ablated.tables["ablations"].query("head.notna()")
    assert len(verdicts(dataclasses.replace(ablated, tables={"ablations": heads})).frame) == 48


@pytest.mark.parametrize(("metric", "is_heads"), [("nats_per_byte", False), ("flips", True)])
def test_the_cells_of_the_heat_map_are_the_frame(ablated: Result, metric: str, is_heads: bool) -> None:
    frame = tables.heat_map_frame(ablated, metric, is_heads=is_heads)
    grey, coloured = figures.plot_heat_map(ablated, metric, is_heads).data
    rows, columns = list(dict.fromkeys(frame["place"])), list(dict.fromkeys(frame["column"]))
    assert rows[0] == ("head 0.0" if is_heads else "layer 0")
    for row in frame.itertuples():
        at = rows.index(row.place), columns.index(row.column)
        trace = grey if row.shows == OPEN else coloured
        assert trace.customdata[at[0]][at[1]] == row.value
        assert np.sinh(trace.z[at[0]][at[1]]) * LINEAR == pytest.approx(row.value)
        value, *bounds = told(trace.text[at[0]][at[1]])
        scale, near = (
            (100, {"rel": 0, "abs": 0.051}) if metric == "flips" else (1, {"rel": 0.05, "abs": 6e-5})
        )
        assert value == pytest.approx(scale * row.value, **near)
        if is_heads or row.shows == UNKNOWN:
            assert bounds == [], "a small cell has room for a number alone"
        else:
            assert bounds == pytest.approx([row.low, row.high], rel=0.05, abs=1e-4)
        value, *_ = told(trace.hovertext[at[0]][at[1]].split("<br>")[1])
        assert value == pytest.approx(scale * row.value, **near)
    if not is_heads:
        cell = frame.query("place == 'all layers' and intervention == 'mean'")
        assert cell["value"].item() == COSTS["mean"]
        assert set(frame.loc[frame["intervention"] == "scale", "parameter"]) == {2.0}


def test_the_waterfall_stands_on_what_went_before_and_ends_at_its_total(ablated: Result) -> None:
    frame = tables.waterfall_frame(ablated)
    bars, whiskers = figures.plot_split(ablated).data
    assert list(frame["value"]) == [SPLIT[name] for name in frame["intervention"]]
    np.testing.assert_array_equal(bars.y, frame["value"])
    np.testing.assert_array_equal(bars.base, frame["start"])
    np.testing.assert_allclose(whiskers.y, frame["start"] + frame["value"])
    assert_bars(whiskers, frame, "error_y")
    np.testing.assert_allclose(frame["end"].iloc[2], frame["end"].iloc[3])


def test_the_scale_curve_passes_through_nothing_at_one_and_one_factor_is_no_curve(ablated: Result) -> None:
    frame, figure = tables.scale_frame(ablated), figures.plot_scale(ablated)
    lines = {trace.name: trace for trace in figure.data if trace.fill is None}
    for place, own in frame.groupby("place"):
        np.testing.assert_array_equal(lines[place].x, [0.25, 0.5, 1.0, 2.0, 4.0])
        np.testing.assert_allclose(np.sinh(lines[place].y) * LINEAR, own["value"], atol=1e-12)
    assert (frame.loc[frame["parameter"] == 1.0, ["value", "low", "high"]] == 0.0).all(axis=None)
    assert tables.scale_frame(ablations_result(2, 2, suite="default")).empty


def test_lines_over_sets_of_layers_and_bars_of_groups_are_the_frames(ablated: Result) -> None:
    frame = tables.cumulative_frame(ablated, "one")
    lines = traces(figures.plot_cumulative(ablated, "one"))
    words = {"up": "layers 0 to this one", "down": "this layer to the last"}
    for design, name in (words | {"restore": "all layers but this one"}).items():
        own = frame[frame["design"] == design]
        np.testing.assert_array_equal(lines[name].y, own["value"])
        np.testing.assert_array_equal(np.rint(lines[name].x), own["layer"])
    for of, first in (
        ("byte_class", ["space", "newline", "punctuation .!?"]),
        ("words", ["0", "1", "2 to 3", "4 to 7"]),
        ("language", ["English", "Chinese"]),
    ):
        made = tables.groups_frame(ablated, of)
        assert list(dict.fromkeys(made["group"]))[: len(first)] == first
        for trace, name in zip(
            figures.plot_groups(ablated, of).data, ("mean", "one", "lexical"), strict=True
        ):
            own = made[made["intervention"] == name]
            np.testing.assert_array_equal(trace.x, own["value"])
            assert_bars(trace, own, "error_x")


def test_attention_is_drawn_before_after_and_by_its_change(ablated: Result) -> None:
    frame = tables.attention_frame(ablated, "mean", "look_back")
    before, after, *changes = figures.plot_attention(ablated, "mean", "look_back").data
    np.testing.assert_array_equal(before.z.ravel(), frame["before"])
    np.testing.assert_array_equal(after.z.ravel(), frame["value"])
    np.testing.assert_allclose(frame["value"] - frame["before"], frame["change"])
    cells = np.stack([trace.z.ravel() for trace in changes])
    assert (np.isfinite(cells).sum(axis=0) == 1).all(), "grey or coloured"
    np.testing.assert_array_equal(np.nanmax(cells, axis=0), frame["change"])
    counted = tables.count(frame)
    assert counted[OPEN] == np.isfinite(changes[0].z).sum() and sum(counted.values()) == len(frame) == 24
    for metric, places in (("look_back", 1), ("within_word", 2)):
        cells = figures.plot_attention(ablated, "mean", metric).data[0].text.ravel()
        assert {len(cell.partition(".")[2]) for cell in cells} == {places}


def test_strips_mark_the_target_and_shade_by_its_loss(ablated: Result) -> None:
    frame = tables.examples_frame(ablated, "mean")
    ((place, strips),) = tables.example_strips(ablated, "mean")
    assert (place, len(strips)) == ("all layers", 8)
    cells = strips[0].cells
    assert [cell.is_warm for cell in cells] == (frame.loc[frame["rank"] == 1, "value"] > 0).tolist()
    assert [at for at, cell in enumerate(cells) if cell.is_marked] == [24]
    assert cells[24].shade == 8


def test_a_figure_of_something_else_is_refused_with_what_there_is(ablated: Result) -> None:
    for name, which in (
        ("layers", {"intervention": "lexical"}), ("attention", {"metric": "entropy"}),
        ("groups", {"of": "lines"}), ("changes", {"metric": "loss"}),
    ):  # fmt: skip
        with pytest.raises(LRopeError, match=r"choose from|known are"):
            FIGURES[name](ablated, **which)
    assert {type(draw(ablated)).__name__ for draw in FIGURES.values()} == {"Figure"}


def test_a_change_of_exactly_nothing_is_a_sentence(ablated: Result) -> None:
    table = ablated.tables["ablations"].assign(value=0.0, ci_low=0.0, ci_high=0.0)
    page = render(dataclasses.replace(ablated, tables={"ablations": table}))
    assert "Nothing changes, exactly." in page and "No group changes." in page
    assert all("data" not in one for one in drawn_in(page).values())


def test_the_scale_of_changes_is_linear_near_nothing_and_its_ticks_stand_at_their_values() -> None:
    assert squeezed(LINEAR / 50) == pytest.approx(1 / 50, rel=1e-3)
    places, words = squeezed_ticks(-0.2, 2.5)
    assert words[:5] == ["−0.1", "−0.03", "−0.01", "−0.003", "0"] and words[-1] == "+1"
    assert places[-1] == squeezed(1.0)
    found = [change(value) for value in (2.184, 0.1704, -0.00004, -0.0019)]
    assert found == ["+2.18", "+0.170", "0.0000", "−0.0019"]
