"""The page of ablations draws the numbers of its tables, and gives no verdict without an interval."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ablation_samples import COSTS, SPLIT, ablations_result, one_row_result
from report_samples import HOSTILE

from lrope_interp.reports.ablations.attention import attention_sentence
from lrope_interp.reports.ablations.details import group_blocks
from lrope_interp.reports.ablations.frames import BETTER, OPEN, UNKNOWN, WORSE, shown_by
from lrope_interp.reports.ablations.heat_map import _narrow
from lrope_interp.reports.ablations.numbers import LINEAR, change, squeezed, squeezed_ticks
from lrope_interp.reports.ablations.page import (
    attention_frame,
    classes_change_frame,
    cumulative_frame,
    distances_frame,
    examples_frame,
    heat_map_frame,
    languages_change_frame,
    places_frame,
    plot_attention,
    plot_cumulative,
    plot_groups,
    plot_heat_map,
    plot_scale,
    plot_split,
    render_ablations,
    scale_frame,
    sentences,
    split_frame,
    waterfall_frame,
)
from lrope_interp.reports.ablations.split import split_table
from lrope_interp.reports.ablations.strips import example_strips
from lrope_interp.results import Result, load_result, save_result


@pytest.fixture(scope="module")
def result() -> Result:
    return ablations_result(has_heads=True)


@pytest.fixture(scope="module")
def small() -> Result:
    return ablations_result(2, 2, has_heads=True)


@pytest.fixture(scope="module")
def page(small: Result) -> str:
    return render_ablations(small)


def _text(html: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)


def _changed(result: Result, **tables: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **tables})


def _set(result: Result, intervention: str, value: float, low: float, high: float) -> Result:
    """Give the all-layer rows of an intervention another change and interval."""
    table = result.tables["ablations"].copy()
    where = (table["intervention"] == intervention) & (table["design"] == "all")
    table.loc[where, ["value", "ci_low", "ci_high"]] = [value, low, high]
    return _changed(result, ablations=table)


def _cells(heat_map: Any) -> dict[tuple[int, int], float]:
    """Return the filled cells of a heat map by row and column."""
    values = np.asarray(heat_map.customdata, dtype=float)
    return {(i, j): values[i, j] for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True)}


@pytest.mark.parametrize("metric", ["nats_per_byte", "kl", "flips"])
@pytest.mark.parametrize("is_heads", [False, True])
def test_the_cells_of_the_heat_map_are_the_frame(result: Result, metric: str, is_heads: bool):
    frame = heat_map_frame(result, metric, is_heads=is_heads)
    grey, coloured = plot_heat_map(result, metric, is_heads=is_heads).data
    rows, columns = list(dict.fromkeys(frame["place"])), list(dict.fromkeys(frame["column"]))
    assert rows[0] == ("head 0.0" if is_heads else "layer 0")
    assert rows[-1] == ("head 5.3" if is_heads else "all layers")
    for trace, own in ((grey, frame[frame["shows"] == OPEN]), (coloured, frame[frame["shows"] != OPEN])):
        found = _cells(trace)
        assert len(found) == len(own)
        for row in own.itertuples():
            at = rows.index(row.place), columns.index(row.column)
            assert found[at] == row.value
            assert np.sinh(trace.z[at]) * LINEAR == pytest.approx(row.value)
            assert trace.text[at].startswith("· ") == (row.shows == OPEN)


def test_the_heat_map_has_every_intervention_once_and_the_scale_by_two(result: Result):
    frame = heat_map_frame(result)
    assert frame.groupby("place")["column"].nunique().eq(11).all()
    assert set(frame.loc[frame["intervention"] == "scale", "parameter"]) == {2.0}
    cell = frame[(frame["place"] == "all layers") & (frame["intervention"] == "mean")]
    assert cell["value"].item() == COSTS["mean"]


def test_an_interval_in_a_cell_loses_no_digit_but_the_nought_before_the_point():
    assert _narrow("−0.0101 … +10.05") == "−.0101 … +10.05"
    assert [change(value) for value in (2.184, 0.1704, -0.00004, -0.0019)] == [
        "+2.18", "+0.170", "0.0000", "−0.0019"
    ]  # fmt: skip


def test_the_scale_of_the_page_is_linear_near_nothing_and_its_ticks_stand_at_their_values():
    assert squeezed(LINEAR / 50) == pytest.approx(1 / 50, rel=1e-3)
    places, words = squeezed_ticks(-0.2, 2.5)
    assert words == [
        "−0.1",
        "−0.03",
        "−0.01",
        "−0.003",
        "0",
        "+0.003",
        "+0.01",
        "+0.03",
        "+0.1",
        "+0.3",
        "+1",
    ]
    assert places[-1] == squeezed(1.0)


def test_the_waterfall_stands_on_what_went_before_and_ends_at_its_total(result: Result):
    frame = waterfall_frame(result)
    bars, whiskers = plot_split(result).data
    assert list(frame["value"]) == [SPLIT[name] for name in frame["intervention"]]
    np.testing.assert_array_equal(bars.y, frame["value"])
    np.testing.assert_array_equal(bars.base, frame["start"])
    np.testing.assert_allclose(whiskers.y, frame["start"] + frame["value"])
    np.testing.assert_array_equal(whiskers.error_y.array, frame["high"] - frame["value"])
    np.testing.assert_array_equal(whiskers.error_y.arrayminus, frame["value"] - frame["low"])
    np.testing.assert_allclose(frame["end"].iloc[2], frame["end"].iloc[3])
    np.testing.assert_array_equal(plot_split(result, is_whole=False).data[0].y, frame["value"][:2])


def test_the_split_has_a_row_a_layer(result: Result):
    assert list(split_table(result)["Where"]) == [*[f"Layer {k}" for k in range(6)], "All layers"]
    assert split_table(result)["Scale"].iloc[-1].startswith("+2.01 [")
    assert len(split_frame(result)) == 7 * 4


def test_the_scale_curve_draws_the_frame_and_passes_through_nothing_at_one(result: Result):
    frame, figure = scale_frame(result), plot_scale(result)
    lines = {trace.name: trace for trace in figure.data if trace.fill is None}
    assert set(lines) == set(frame["place"])
    for place, own in frame.groupby("place"):
        np.testing.assert_array_equal(lines[place].x, [0.25, 0.5, 1.0, 2.0, 4.0])
        np.testing.assert_array_equal(lines[place].customdata, own["value"])
        np.testing.assert_allclose(np.sinh(lines[place].y) * LINEAR, own["value"], atol=1e-12)
    assert (frame.loc[frame["parameter"] == 1.0, ["value", "low", "high"]] == 0.0).all(axis=None)


def test_one_factor_is_no_curve():
    assert scale_frame(ablations_result(2, 2, suite="default")).empty


@pytest.mark.parametrize("intervention", ["one", "mean"])
def test_lines_over_sets_of_layers_draw_the_frame(result: Result, intervention: str):
    frame = cumulative_frame(result, intervention)
    words = {"up": "layers 0 to this one", "down": "this layer to the last"}
    words |= {"restore": "all layers but this one", "single": "this layer alone"}
    lines = {trace.name: trace for trace in plot_cumulative(result, intervention).data}
    for design, name in words.items():
        own = frame[frame["design"] == design]
        np.testing.assert_array_equal(lines[name].y, own["value"])
        np.testing.assert_array_equal(np.rint(lines[name].x), own["layer"])
        np.testing.assert_array_equal(lines[name].error_y.array, own["high"] - own["value"])


def _group_frames(result: Result) -> list[pd.DataFrame]:
    return [classes_change_frame(result), distances_frame(result, "words"), languages_change_frame(result)]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_bars_of_groups_are_the_frame(result: Result, which: int):
    frame = _group_frames(result)[which]
    figure = plot_groups(frame, "group")
    titles = [note.text for note in figure.layout.annotations]  # pyright: ignore[reportAttributeAccessIssue]
    assert titles[:3] == ["to layer's mean", "to 1", "to byte's mean"]
    for trace, name in zip(figure.data, ("mean", "one", "lexical"), strict=True):
        own = frame[frame["intervention"] == name]
        np.testing.assert_array_equal(trace.x, own["value"])
        np.testing.assert_array_equal(trace.y, own["at"])
        np.testing.assert_array_equal(trace.error_x.arrayminus, own["value"] - own["low"])


def test_groups_are_in_reading_order_and_name_every_bin(result: Result):
    classes, distances, languages = (list(dict.fromkeys(f["group"])) for f in _group_frames(result))
    assert classes[:3] == ["space", "newline", "punctuation .!?"]
    assert distances == ["0", "1", "2 to 3", "4 to 7", "8 to 15", "16 or more"]
    assert languages == ["English", "Chinese"]


@pytest.mark.parametrize("metric", ["look_back", "within_word"])
def test_attention_before_after_and_change_are_the_frame(result: Result, metric: str):
    frame = attention_frame(result, "one", metric)
    before, after, grey, coloured = plot_attention(result, "one", metric).data
    for trace, name in ((before, "before"), (after, "value")):
        np.testing.assert_array_equal(np.ravel(trace.z), frame[name])
    both = np.where(np.isnan(grey.z), coloured.z, grey.z)
    np.testing.assert_array_equal(np.ravel(both), frame["change"])
    np.testing.assert_array_equal(~np.isnan(np.ravel(grey.z)), frame["shows"] == OPEN)
    np.testing.assert_allclose(frame["value"] - frame["before"], frame["change"])
    counts = frame["shows"].value_counts()
    assert f"{counts[WORSE]} of 24 heads" in attention_sentence(result, "one", metric)


def test_strips_show_each_character_by_its_change(result: Result):
    frame = examples_frame(result)
    (title, first), *others = example_strips(result)
    assert title == "To layer's mean, all layers: the 8 targets that lose most"
    assert len(others) == 2
    own = frame[(frame["intervention"] == "mean") & (frame["rank"] == 1)]
    assert [cell.is_warm for cell in first.strips[0].cells] == (own["value"] > 0).tolist()
    assert [cell.is_marked for cell in first.strips[0].cells] == [False] * 24 + [True] + [False] * 24
    target = own[own["offset"] == 0].iloc[0]
    assert first.strips[0].kind == f"{target['loss']:.2f} → {target['ablated']:.2f} (+6.00) nats"
    assert first.strips[0].cells[24].shade == 8
    html = first.html(None)  # pyright: ignore[reportArgumentType]
    assert 'class="w8 marked"' in html
    assert ">&lt;</bdi>" in html


def test_an_interval_says_worse_better_or_neither_and_none_says_nothing():
    low, high = [0.1, -0.2, -0.1, np.nan, 0.0], [0.2, -0.1, 0.1, 0.3, 0.0]
    assert shown_by(low, high) == [WORSE, BETTER, OPEN, UNKNOWN, OPEN]


def test_the_lead_says_what_freezing_costs_and_where(result: Result):
    said = dict(sentences(result))
    assert (
        "the loss rises by 0.170 [0.155, 0.185] nats per byte (+8.7 % of the untouched"
        in said["To layer's mean"]
    )
    assert "the loss rises by 2.18 [2.00, 2.36]" in said["To 1"]
    assert "layers 0 (+0.156 [+0.142, +0.170])" in said["Where"]
    assert "3 of 6 layers have intervals that hold 0" in said["Where"]
    assert "layer 5 (−0.0087 [−0.0109, −0.0065]) helps" in said["Where"]
    assert "scale +2.01 [+1.85, +2.17] + lexical +0.150 [" in said["The split"]
    assert "order in which they are taken away is a choice" in said["The split"]
    assert "is above zero in all layers at once: +0.0200 [" in said["Context"]


def test_nothing_reads_as_nothing_and_a_gain_as_a_gain(result: Result):
    nothing = dict(sentences(_set(result, "mean", 0.001, -0.002, 0.004)))["To layer's mean"]
    assert "The interval holds 0: no effect is shown." in nothing
    gain = dict(sentences(_set(result, "mean", -0.02, -0.03, -0.01)))["To layer's mean"]
    assert "the loss falls by 0.0200 [0.0100, 0.0300]" in gain
    exact = dict(sentences(_set(result, "one", 0.0, 0.0, 0.0)))["To 1"]
    assert exact.endswith("nothing changes, exactly.")
    context = dict(sentences(_set(result, "split_contextual", 0.001, -0.002, 0.004)))["Context"]
    assert "not shown to be above zero" in context
    below = dict(sentences(_set(result, "split_contextual", -0.02, -0.03, -0.01)))["Context"]
    assert "below zero" in below


def test_without_intervals_there_is_no_verdict_anywhere(small: Result):
    bounds = ("ci_low", "ci_high", "change_low", "change_high")
    tables = {
        name: table.assign(**{c: np.nan for c in bounds if c in table})
        for name, table in small.tables.items()
    }
    bare = _changed(small, **tables)
    said = dict(sentences(bare))
    assert "No interval could be had, so there is no verdict." in said["To layer's mean"]
    assert "nothing is said of where" in said["Where"]
    assert "without an interval that is no verdict" in said["Context"]
    assert "No interval could be had" in attention_sentence(bare, "mean", "look_back")
    text = _text(render_ablations(bare))
    assert not re.search(r"the loss (rises|falls)|is above zero", text)
    assert "nan" not in text.lower()


def test_the_page_is_made_from_the_saved_result_alone(small: Result, page: str, tmp_path: Path):
    save_result(small, tmp_path)
    assert render_ablations(load_result(tmp_path)) == page
    assert not re.search(r"\b(nan|None)\b|&lt;NA&gt;", _text(page))


def test_every_figure_says_how_it_is_read_and_what_it_does_not_show(page: str):
    captions = re.findall(r"<figcaption>(.*?)<span class=\"limits\">(.*?)</span>", page, flags=re.DOTALL)
    assert len(captions) == page.count("<figure>") >= 12
    assert all(reads.strip() and limits.strip() for reads, limits in captions)


@pytest.mark.parametrize("has_interval", [False, True])
@pytest.mark.parametrize("where", ["", "words"])
def test_a_single_row_is_a_page(tmp_path: Path, has_interval: bool, where: str):
    result = one_row_result(has_interval=has_interval, where=where)
    save_result(result, tmp_path)
    text = _text(render_ablations(load_result(tmp_path)))
    assert "in layer 2" in text
    assert ("no verdict" in text) != has_interval
    assert ("at word starts only" in text) == bool(where)
    assert "The split" not in text


def test_heads_alone_are_a_page():
    result = ablations_result(2, 2, ("en",), has_heads=True)
    table = result.tables["ablations"]
    alone = _changed(result, ablations=table[table["head"].notna()])
    assert heat_map_frame(alone).empty
    text = _text(render_ablations(alone))
    assert "in head 0.0" in text
    assert "Each head alone" not in text


def test_one_language_has_no_bars_by_language_and_no_all_is_needed():
    result = ablations_result(2, 2, ("en",), suite="default")
    assert languages_change_frame(result).empty
    tables = {
        name: table[table["language"] == "en"]
        for name, table in result.tables.items()
        if name in ("ablations", "base", "attention")
    }
    assert "the loss rises by" in dict(sentences(_changed(result, **tables)))["To layer's mean"]


def test_one_layer_in_two_ways_is_shown_at_that_layer():
    table = ablations_result(3, 2).tables["ablations"]
    asked = table[
        (table["layer"] == 1) & (table["design"] == "single") & table["intervention"].isin(["one", "mean"])
    ]
    result = dataclasses.replace(one_row_result(), tables={"ablations": asked})
    assert "in layer 1" in dict(sentences(result))["To 1"]
    (block,) = group_blocks(result)[:1]
    assert "layer 1" in block.reads  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("has_changes", [False, True])
def test_missing_and_empty_tables_leave_their_parts_out(is_empty: bool, has_changes: bool):
    result = ablations_result(2, 1, ("en",), suite="default")
    kept = {"ablations"} if has_changes else {"base", "passes"}
    tables = {name: table for name, table in result.tables.items() if name in kept}
    if is_empty:
        tables |= {name: table.iloc[:0] for name, table in result.tables.items() if name not in kept}
    html = render_ablations(dataclasses.replace(result, tables=tables))
    assert html.count(".csv</a>") == len(kept)
    assert ("The split" in html) == has_changes
    assert not re.search(r"Which predictions.*distance|attention</h2>|lose most</h2>", _text(html))


def test_a_result_without_a_table_says_so():
    html = render_ablations(dataclasses.replace(one_row_result(), tables={}))
    assert "holds no change that could be measured" in html


def test_texts_of_a_user_are_never_markup():
    html = render_ablations(ablations_result(1, 1, ("en",), "default", hostile=HOSTILE))
    assert "<script>alert(1)" not in html
    assert "<b>x</b>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_places_stand_beside_as_many_random_gaps_and_not_in_the_heat_map() -> None:
    result = ablations_result()
    rows = result.tables["ablations"]
    whole = rows[(rows["intervention"] == "mean") & (rows["design"] == "all")]
    at_words, at_random = (
        whole.assign(where=where, value=value, ci_low=value - 0.01, ci_high=value + 0.01)
        for where, value in (("words", 0.02), ("random:words", 0.05))
    )
    difference = at_words.assign(intervention="beyond_random", value=-0.03, ci_low=-0.04, ci_high=-0.02)
    places = pd.DataFrame({"where": ["words", "random:words"], "n_gaps": [70, 70]})
    more = {
        "ablations": pd.concat([rows, at_words, at_random, difference], ignore_index=True),
        "places": places,
    }
    suite = dataclasses.replace(result, tables={**result.tables, **more})
    found = places_frame(suite)
    names = ["where", "n_gaps", "value", "random_value", "more_value"]
    assert found[names].to_numpy().tolist() == [["words", 70, 0.02, 0.05, -0.03]]
    assert heat_map_frame(suite)["column"].tolist() == heat_map_frame(result)["column"].tolist()
    page = render_ablations(suite)
    assert "Not drawn" not in page
    assert "At some gaps only" in page and "+0.0500 [+0.0400, +0.0600]" in page
    assert places_frame(result).empty and "At some gaps only" not in render_ablations(result)
