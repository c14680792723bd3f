"""The page of concepts draws the numbers of its tables, and says plainly where a control wins."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from concept_results import AREAS, HALF, UNITS, above, concepts_result
from report_samples import HOSTILE

from lrope_interp.commands.output import Output
from lrope_interp.commands.probe import print_claims
from lrope_interp.reports.concepts.beside import AHEAD, OWN, UNDER, beside_table, plot_beside
from lrope_interp.reports.concepts.codes import codes_frame, codes_panels, sparse_frame, sparse_panels
from lrope_interp.reports.concepts.computed import MEANINGS, fits_table, spans_table
from lrope_interp.reports.concepts.erasures import ERASURES, erasure_panels, erasure_sentence
from lrope_interp.reports.concepts.frames import (
    beside_frame,
    best_claims,
    claims_of,
    features_of,
    layers_of,
)
from lrope_interp.reports.concepts.gain import gain_frame, gain_panels
from lrope_interp.reports.concepts.heat_map import (
    ABOVE,
    BEHIND,
    OPEN,
    STANDS,
    heat_map_frame,
    plot_heat_map,
    rows_of,
)
from lrope_interp.reports.concepts.page import render_concepts
from lrope_interp.reports.concepts.panels import Panels, plot_panels
from lrope_interp.reports.concepts.selectivity import leakage_table, selectivity_frame, selectivity_panels
from lrope_interp.reports.concepts.strips import example_strips, examples_frame
from lrope_interp.reports.concepts.structure import (
    CONTRASTS,
    MEASURES,
    TREES,
    structure_frame,
    structure_panels,
    structure_sentence,
    told_units,
)
from lrope_interp.reports.concepts.words import best_sentence, control_sentence, sentences
from lrope_interp.results import Result, load_result, save_result

SPLITS = ["document", "type"]


@pytest.fixture(scope="module")
def result() -> Result:
    return concepts_result()


@pytest.fixture(scope="module")
def small() -> Result:
    return concepts_result(("person",), n_layers=1)


@pytest.fixture(scope="module")
def page(result: Result) -> str:
    return render_concepts(result)


def _text(html: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)


def _claim(result: Result, concept: str) -> Any:
    best = best_claims(result)
    return best[best["concept"] == concept].iloc[0]


def _changed(result: Result, **values: object) -> Result:
    """Give every claim other values."""
    claims = result.tables["claims"].assign(**values)
    return dataclasses.replace(result, tables={**result.tables, "claims": claims})


def test_claims_are_in_the_order_of_the_file_with_all_layers_last():
    result = concepts_result(features=("positions", "increments"), n_layers=3)
    assert features_of(result) == ["increments", "positions"]
    claims = claims_of(result, "increments")
    places = ["layer 0", "layer 1", "layer 2", "all layers"]
    assert claims["place"].tolist() == places * 3
    assert list(dict.fromkeys(claims["concept"])) == ["person", "place", "rare"]
    assert layers_of(claims) == places
    assert claims["above"].iloc[1] == above("person", 1)


@pytest.mark.parametrize("split", SPLITS)
def test_the_cells_of_the_heat_map_are_the_claims(result: Result, split: str):
    frame = heat_map_frame(result, "increments", split)
    coloured, grey = plot_heat_map(result, "increments", split).data
    rows, columns = rows_of(frame), list(dict.fromkeys(frame["place"]))
    for row in frame.itertuples():
        at = rows.index((row.family, row.concept)), columns.index(row.place)
        if row.concept == "rare":
            assert np.isnan(coloured.z[at])
            assert np.isnan(row.value)
            assert grey.text[at] == "not<br>measured"
        else:
            less = 0.02 if split == "type" else 0.0
            assert coloured.customdata[at] == coloured.z[at] == row.value
            assert row.value == pytest.approx(above(row.concept, max(row.layer, 0)) - less)
            assert np.isnan(grey.z[at])
            assert coloured.text[at].startswith(row.mark)
            assert "n-grams" in coloured.text[at]


def test_a_cell_is_marked_by_who_wins_and_not_by_colour_alone(result: Result):
    marks = heat_map_frame(result, "increments").set_index(["concept", "place"])["mark"]
    assert marks["person", "layer 0"] == STANDS
    assert marks["place", "layer 0"] == BEHIND
    assert marks["rare", "layer 0"] == ""
    failed = _changed(result, verdict="control wins")
    marks = heat_map_frame(failed, "increments").set_index(["concept", "place"])["mark"]
    assert marks["person", "layer 0"] == ABOVE
    even = _changed(failed, above=0.01, above_low=-0.01, above_high=0.03)
    assert set(heat_map_frame(even, "increments")["mark"]) == {BEHIND}
    bare = concepts_result(has_intervals=False)
    assert set(heat_map_frame(bare, "increments")["mark"]) == {OPEN, ""}


def test_families_stand_under_headings_and_one_alone_does_not():
    two = concepts_result(families=("entities", "titles"))
    rows = rows_of(heat_map_frame(two, "increments"))
    assert rows[0] == ("entities", "")
    assert rows[4] == ("titles", "")
    one = heat_map_frame(concepts_result(), "increments")
    assert all(concept for _, concept in rows_of(one))


@pytest.mark.parametrize("split", SPLITS)
def test_every_control_stands_beside_the_claim_with_its_own_number(result: Result, split: str):
    claim = _claim(result, "place")
    frame = beside_frame(result, claim, split)
    value = dict(zip(frame["control"], frame["value"], strict=True))
    own = value.pop("none")
    assert value == AREAS
    assert list(value) == sorted(AREAS, key=lambda name: -AREAS[name])
    ahead = set(frame.loc[frame["is_ahead"], "control"])
    assert ahead == {name for name, area in AREAS.items() if area >= own}
    spread = frame.set_index("control")["spread"]
    assert spread["untrained"] == ("range" if split == "document" else "interval")
    drawn = {t.name: list(t.x) for t in plot_beside(result, claim, split).data if t.name != "reference"}
    assert drawn[OWN] == [own]
    assert drawn[AHEAD] == frame.loc[frame["is_ahead"], "value"].tolist()
    assert sorted([own, *drawn[AHEAD], *drawn[UNDER]]) == sorted(frame["value"])


def test_the_table_of_controls_marks_those_that_win(result: Result):
    table = beside_table(result, "increments").set_index(["Concept", "Spans of"])
    assert table.loc[("place", "unseen documents"), "n-grams"] == "▲ 0.850"
    assert table.loc[("person", "unseen documents"), "n-grams"] == "0.850"


def test_the_best_claim_of_a_concept_is_one_that_stands_before_one_that_is_higher(result: Result):
    best = best_claims(result)
    assert best.loc[best["concept"] == "person", "place"].item() == "layer 1"
    claims = result.tables["claims"]
    stands = (claims["concept"] == "person") & (claims["layer"] == 0).fillna(False)
    changed = _changed(result, verdict=np.where(stands, "beyond controls", "control wins"))
    assert _claim(changed, "person")["place"] == "layer 0"


def _drawn(panels: Panels) -> list[tuple[str, float]]:
    """Return every point of a figure: the name of its series and its height."""
    return [
        (trace.name, float(value))
        for trace in plot_panels(panels).data
        if trace.name != "reference"
        for value in trace.y
    ]


def _wanted(panels: Panels) -> list[tuple[str, float]]:
    names = [panels.looks[name].name for name in panels.frame["series"]]
    return list(zip(names, panels.frame["value"], strict=True))


def test_every_panel_draws_its_frame(result: Result):
    every = [
        selectivity_panels(result, "increments"), gain_panels(result, "increments", "entities"),
        codes_panels(result, "increments"), sparse_panels(result),
        *(structure_panels(result, measure) for measure in MEASURES),
        *(erasure_panels(result, erasure, "entities") for erasure in ERASURES),
    ]  # fmt: skip
    for panels in every:
        assert len(panels.frame) > 0
        assert sorted(_drawn(panels)) == sorted(_wanted(panels))


def test_points_stand_over_the_names_of_their_axis_and_bars_are_the_bounds(result: Result):
    panels = gain_panels(result, "increments", "entities")
    figure = plot_panels(panels)
    first = next(trace for trace in figure.data if trace.name == "unseen documents")
    own = panels.frame[(panels.frame["panel"] == "person") & (panels.frame["series"] == "gain")]
    ticks = figure.layout.xaxis.ticktext
    assert [ticks[round(x)] for x in first.x] == own["x"].tolist()
    assert np.allclose(first.error_y.array, own["high"] - own["value"])
    assert np.allclose(first.error_y.arrayminus, own["value"] - own["low"])


def test_selectivity_is_drawn_with_the_range_of_control_tasks_and_the_commonest_class(result: Result):
    frame = selectivity_frame(result, "increments").set_index(["series", "x"])
    task = frame.loc[("control_task", "0")]
    assert (task["low"], task["value"], task["high"]) == pytest.approx((0.45, 0.5, 0.55))
    assert frame.loc[("majority", "all"), "value"] == 0.55
    assert frame.loc[("selectivity", "1"), "low"] == pytest.approx(0.2 - HALF)
    assert frame.loc[("selectivity", "1"), "panel"] == "entities: selectivity"


def test_leakage_is_the_difference_of_the_splits_for_claim_and_control(result: Result):
    row = leakage_table(result, "increments").set_index("Concept").loc["person"]
    assert (row["Leakage"], row["Its leakage"]) == ("+0.020", "0.000")


def test_gains_come_with_that_of_the_untrained_model_and_name_where_something_is_added(result: Result):
    frame = gain_frame(result, "increments", "entities")
    assert set(frame.loc[frame["series"] == "gain_untrained", "value"]) == {0.001}
    assert gain_panels(result, "increments", "entities").notes == {"person": "adds: 0, 1, all"}


def test_code_lengths_of_layers_stand_beside_those_of_the_text(result: Result):
    frame = codes_frame(result, "increments")
    assert frame[["x", "value"]].to_numpy().tolist() == [
        ["0", 1.5], ["1", 1.5], ["all", 1.5], ["n-grams", 0.9]
    ]  # fmt: skip
    assert sparse_frame(result)["note"].iloc[0] == "L0 first; L1 last"


def test_structure_shows_one_class_and_one_metric_with_its_controls(result: Result):
    frame = structure_frame(result, CONTRASTS)
    assert list(dict.fromkeys(frame["panel"])) == list(UNITS)
    word = frame[frame["panel"] == "word"]
    assert word["x"].tolist() == ["0", "0", "0", "1", "1", "1", "entropy", "surprisal"]
    assert word.loc[word["signal"] == "increments", "value"].tolist() == [1.1, 1.11]
    trees = structure_frame(result, TREES)
    assert {"right", "left", "balanced", "random"} <= set(trees.loc[trees["series"] == "single", "signal"])
    assert "clause 1.110 (behind entropy 1.300)" in structure_sentence(result, CONTRASTS)
    assert "word 2 of 2 (1 above what the last bytes tell)" in told_units(result)


@pytest.mark.parametrize(
    ("low", "said"),
    [(1.09, "word 2 of 2 (2 above"), (1.01, "word 2 of 2 (0 above"), (0.99, "word 0 of 2 (0 above")],
)
def test_units_are_told_by_the_lower_bound_and_not_by_the_value(result: Result, low: float, said: str):
    contrasts = result.tables["contrasts"]
    own = contrasts["control"] == ""
    assert own.any()
    changed = contrasts.assign(ci_low=contrasts["ci_low"].where(~own, low))
    changed["ratio"] = changed["ratio"].where(contrasts["control"] != "lexical", 1.05)
    assert said in told_units(dataclasses.replace(result, tables={**result.tables, "contrasts": changed}))


def test_heads_have_names_of_their_own_on_the_axis(result: Result):
    table = result.tables["contrasts"].assign(
        head=pd.array([3] * len(result.tables["contrasts"]), dtype="Int64")
    )
    changed = dataclasses.replace(result, tables={**result.tables, "contrasts": table})
    assert structure_frame(changed, CONTRASTS)["x"].iloc[0] == "0.3"


def test_examples_mark_the_span_in_the_best_single_layer(result: Result):
    frame = examples_frame(result)
    assert set(frame.loc[frame["concept"] == "person", "layer"]) == {1}
    title, strips = example_strips(result)[0]
    assert title == "entities: person, layer 1"
    cells = strips.strips[0].cells
    assert [cell.is_boundary for cell in cells[:5]] == [False, False, True, True, False]
    assert [cell.is_marked for cell in cells[:5]] == [False, False, True, False, False]
    assert [cell.is_warm for cell in cells[:4]] == [False, False, True, True]


def test_the_headline_counts_what_stands_and_names_it(result: Result):
    said = dict(sentences(result))
    assert said["Increments"].startswith("3 of 9 claims stand against every control")
    assert "+0.060 [+0.040, +0.080] for person (layer 1)" in said["Increments"]
    assert said["What they add"].startswith("3 of 9 claims add")
    assert "Nothing is shown to be added for place and rare" in said["What they add"]
    assert "n-grams 6 of 6" in said["What beats them"]
    assert "increments tell a concept less in 3 of 3 places" in erasure_sentence(result)


def test_where_no_claim_stands_the_page_says_that_a_control_wins_everywhere(result: Result):
    lost = _changed(result, verdict="control wins", is_adding=False, above_high=-0.01)
    said = dict(sentences(lost))
    assert said["Increments"].startswith("A control wins everywhere: none of 9 claims")
    assert "add nothing that could be shown" in said["What they add"]


def test_without_intervals_nothing_is_claimed():
    result = concepts_result(has_intervals=False, suite="default")
    said = dict(sentences(result))
    assert said["Increments"].startswith("Nothing can be claimed")
    assert "no verdict" in said["What they add"]
    assert "Units of the text" not in said
    claim = best_claims(result).iloc[0]
    assert best_sentence("increments", claim).endswith("[no interval]. No verdict.")


def test_a_claim_whose_interval_holds_zero_stands_nowhere(result: Result, capsys: pytest.CaptureFixture[str]):
    """The value lies above the best control, the lower bound below it, on page, map and terminal."""
    open_ = {"above": 0.01, "above_low": -0.01, "above_high": 0.03, "gain": 0.01, "gain_low": -0.01}
    even = _changed(result, **open_, verdict="control wins", is_adding=False)
    even = dataclasses.replace(even, headline=even.headline | {"n_beyond_controls": 0.0, "n_adding": 0.0})
    said = dict(sentences(even))
    assert said["Increments"].startswith("A control wins everywhere: none of 9 claims stands")
    assert "better by its interval" not in said["Increments"]
    assert "add nothing that could be shown" in said["What they add"]
    assert best_sentence("increments", best_claims(even).iloc[0]).endswith("A control wins.")
    assert set(heat_map_frame(even, "increments")["mark"]) == {BEHIND}
    print_claims(even, Output())
    cells = [line for line in capsys.readouterr().out.splitlines() if "0.010 [-0.010, 0.030]" in line]
    assert len(cells) == 3 and not any("]*" in line or "]+" in line for line in cells)


def test_the_default_suite_lacks_codes_sparse_paths_and_erasures(small: Result, page: str):
    tables = {name: table for name, table in small.tables.items() if name not in ("sparse", "erasures")}
    probes = small.tables["probes"]
    tables["probes"] = probes.loc[probes["metric"] != "mdl_bits"]
    short = _text(render_concepts(dataclasses.replace(small, tables=tables)))
    for heading in ("How much has to be said", "Erased from what a head reads"):
        assert f"<h2>{heading}</h2>" in page
        assert f"<h2>{heading}</h2>" not in short


@pytest.mark.parametrize("kept", [("claims",), ("claims", "probes"), ("claims", "contrasts", "erasures")])
def test_a_page_that_lacks_tables_is_drawn_from_the_others(small: Result, kept: tuple[str, ...]):
    tables = {name: small.tables[name] for name in kept}
    html = render_concepts(dataclasses.replace(small, tables=tables))
    assert "<h2>Every concept" in html
    assert ("<h2>What beats what" in html) == ("probes" in kept)
    assert ("<h2>Units of the text" in html) == ("contrasts" in kept)


def test_a_result_without_any_table_says_so(result: Result):
    text = _text(render_concepts(dataclasses.replace(result, tables={})))
    assert "holds no claim that could be measured" in text


def test_one_layer_and_one_concept_make_a_page(small: Result):
    assert layers_of(claims_of(small, "increments")) == ["layer 0"]
    assert "<h2>What beats what</h2>" in render_concepts(small)
    assert control_sentence(claims_of(small, "increments")).startswith("The best control")


def test_names_that_are_markup_are_shown_as_text():
    html = render_concepts(concepts_result(hostile=HOSTILE))
    assert "<script>alert(1)</script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_same_numbers_are_read_back_from_disk(tmp_path: Path, small: Result):
    save_result(small, tmp_path / "saved")
    assert _text(render_concepts(load_result(tmp_path / "saved"))) == _text(render_concepts(small))


def test_tables_of_what_was_computed_hold_every_row_and_every_file_has_a_meaning(result: Result, page: str):
    assert len(spans_table(result)) == 3
    assert len(fits_table(result)) == len(result.tables["fits"])
    assert set(result.tables) <= set(MEANINGS)
    assert all(f'href="{name}.csv"' in page for name in result.tables)


@pytest.mark.parametrize("has_intervals", [True, False])
def test_the_terminal_explains_intervals_and_marks_where_there_are_some(
    has_intervals: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    print_claims(concepts_result(has_intervals=has_intervals), Output())
    said = capsys.readouterr().out
    assert ("[ ] 95 % interval" in said) is has_intervals
    assert ("stands against every control" in said) is has_intervals
    assert "claims." in said
