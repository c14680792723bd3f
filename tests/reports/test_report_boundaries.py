"""The boundary report shows every score as it is, the controls first of all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_samples import boundaries_result

from lrope_interp.commands.boundaries import print_scores
from lrope_interp.commands.output import Output
from lrope_interp.reports.boundaries.figures import _apart
from lrope_interp.reports.boundaries.frames import labels_and_strata
from lrope_interp.reports.boundaries.page import (
    auc_frame,
    by_layer_frame,
    classes_frame,
    headline,
    plot_by_layer,
    plot_classes,
    plot_curves,
    render_boundaries,
    roc_frame,
    table_frame,
)
from lrope_interp.results import Result, load_result, save_result


@pytest.fixture(scope="module")
def result() -> Result:
    return boundaries_result(n_layers=3, is_older=True)


def _changed(result: Result, **tables: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **tables})


def _scored(result: Result, **values: float) -> Result:
    """Set the whitespace AUC of signals, intervals 0.01 to either side."""
    scores = result.tables["scores"].copy()
    for signal, value in values.items():
        where = (
            (scores["signal"] == signal) & (scores["label"] == "whitespace") & (scores["metric"] == "roc_auc")
        )
        scores.loc[where, ["value", "ci_low", "ci_high"]] = [value, value - 0.01, value + 0.01]
    return _changed(result, scores=scores)


def test_lines_over_layers_draw_the_frame(result: Result):
    frame = by_layer_frame(result, "whitespace", "characters")
    figure = plot_by_layer(result, "whitespace", "characters")
    lines = {trace.name: trace for trace in figure.data if trace.fill is None}
    layers = frame[frame["signal"] == "increments"]
    np.testing.assert_array_equal(lines["increments"].y, layers["value"])
    np.testing.assert_allclose(lines["increments"].error_y.array, layers["high"] - layers["value"])
    np.testing.assert_allclose(lines["increments"].error_y.arrayminus, layers["value"] - layers["low"])
    control = frame.loc[frame["signal"] == "byte_mean", "value"]
    np.testing.assert_array_equal(lines["byte's mean increment"].y, control)
    assert set(frame["layer"]) == {0, 1, 2}


def test_seeds_fold_into_mean_and_range_and_are_counted_once(result: Result):
    scores = result.tables["scores"]
    seeds = scores[
        (scores["signal"] == "untrained") & (scores["layer"] == 1) & scores["seed"].notna()
        & (scores["label"] == "words") & (scores["stratum"] == "han") & (scores["metric"] == "roc_auc")
    ]  # fmt: skip
    frame = auc_frame(result, "words", "han")
    line = frame[(frame["signal"] == "untrained") & (frame["layer"] == 1)]
    assert len(line) == 1
    assert line["n_seeds"].item() == 5
    assert line["value"].item() == pytest.approx(seeds["value"].mean())
    assert (line["low"].item(), line["high"].item()) == (seeds["value"].min(), seeds["value"].max())
    band = next(trace for trace in plot_by_layer(result, "words", "han").data if trace.fill == "toself")
    assert band.y[1] == seeds["value"].max()
    assert band.y[::-1][1] == seeds["value"].min()


def test_a_mean_over_seeds_without_its_seeds_keeps_its_numbers(result: Result):
    scores = result.tables["scores"]
    frame = auc_frame(_changed(result, scores=scores[scores["seed"].isna()]), "words", "han")
    full = auc_frame(result, "words", "han")
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(frame[name], full[name])


def test_strata_without_a_score_are_left_out(result: Result):
    found = dict(labels_and_strata(result))
    assert found["whitespace"] == ["characters", "bytes"]
    assert found["words"] == ["characters", "nondelimiter", "han", "bytes"]


def test_roc_curves_are_the_table_s(result: Result):
    curves = roc_frame(result, "words", "characters")
    assert curves["signal"].iloc[0] == "increments"
    assert curves.groupby("signal")[["layer", "head"]].nunique().max().max() == 1
    drawn = [trace for trace in plot_curves(result, "words", "characters").data if trace.name != "chance"]
    groups = curves.groupby(["signal", "layer", "head", "name"], sort=False)
    for trace, (key, curve) in zip(drawn, groups, strict=True):
        np.testing.assert_allclose(trace.x, curve["fpr"], atol=1e-6)
        np.testing.assert_allclose(trace.y, curve["tpr"], atol=1e-6)
        assert trace.name == key[3]


def test_of_heads_the_best_has_a_curve():
    result = boundaries_result(n_layers=2, n_heads=3, is_older=True)
    curves = roc_frame(result, "words", "characters")
    scores = auc_frame(result, "words", "characters")
    best = scores.loc[scores.loc[scores["signal"] == "increments", "value"].idxmax()]
    (place,) = set(
        curves.loc[curves["signal"] == "increments", ["layer", "head"]].itertuples(index=False, name=None)
    )
    assert place == (best["layer"], best["head"])


def test_classes_draw_the_normalised_means(result: Result):
    frame = classes_frame(result, "zh").set_index(["byte_class", "place"])["mean_normalised"]
    heat = plot_classes(result, "zh").data[0]
    for i, name in enumerate(heat.y):
        for j, place in enumerate(heat.x):
            assert heat.customdata[i][j] == frame[name, place]
            assert heat.z[i][j] == pytest.approx(np.log2(frame[name, place]))
    assert "other" not in heat.y  # no byte of that class


def test_the_table_is_sorted_and_shows_what_was_scored(result: Result):
    table, kinds = table_frame(result, "whitespace", "characters")
    shown = [float(value) for value in table["ROC-AUC"] if value != "–"]
    assert shown == sorted(shown, reverse=True)
    assert kinds.count("layer") == 3
    assert "p (shift)" not in table  # nothing there yet
    line = table[table["Signal"] == "prevalence (knows nothing)"].iloc[0]
    assert (line["ROC-AUC"], line["Av. precision"], line["Prevalence"]) == ("–", "0.160", "0.160")


def test_the_same_signal_in_two_alignments_has_two_names(result: Result):
    scores = result.tables["scores"]
    again = scores[scores["signal"] == "surprisal"].assign(align="lead")
    frame = auc_frame(
        _changed(result, scores=pd.concat([scores, again], ignore_index=True)), "words", "characters"
    )
    assert set(frame.loc[frame["signal"] == "surprisal", "name"]) == {"surprisal, last", "surprisal, lead"}


def test_a_text_in_two_languages_is_told_in_each():
    html = render_boundaries(boundaries_result(n_layers=1, n_seeds=1, languages=("en", "zh")))
    assert html.count("English alone: layer 0") == html.count("Chinese alone: layer 0") == 3
    assert html.count("Whitespace, gaps between characters, English documents") > 0


def test_the_headline_says_when_a_control_wins(result: Result):
    text = headline(_scored(result, increments=0.9, entropy=0.95, byte_mean=0.9), "whitespace", "characters")
    assert "reaches ROC-AUC 0.900 [0.890, 0.910]" in text
    assert "The control wins: entropy" in text


def test_the_headline_says_when_a_control_does_as_well(result: Result):
    text = headline(_scored(result, increments=0.97, byte_mean=0.969), "whitespace", "characters")
    assert "no more than the byte's mean increment detects" in text


def test_the_headline_says_when_every_control_is_below(result: Result):
    weak = _scored(result, increments=0.97, byte_mean=0.6, entropy=0.7, surprisal=0.6, entropy_next=0.6)
    assert "Above every control here by at least 0.270" in headline(weak, "whitespace", "characters")


@pytest.mark.parametrize(("control", "side"), [(0.6, "ahead of"), (0.99, "behind")])
def test_without_an_interval_the_headline_gives_no_verdict(result: Result, control: float, side: str):
    weak = _scored(result, increments=0.97, byte_mean=0.5, entropy=control, surprisal=0.5, entropy_next=0.5)
    scores = weak.tables["scores"].assign(ci_low=np.nan, ci_high=np.nan)
    text = headline(_changed(weak, scores=scores), "whitespace", "characters")
    assert f"It is {side} the strongest control, entropy, by" in text
    assert "without an interval that is no verdict" in text
    assert "Above every" not in text and "wins" not in text


def test_an_interval_that_reaches_the_control_is_no_win(result: Result):
    near = _scored(result, increments=0.97, byte_mean=0.962, entropy=0.5, surprisal=0.5, entropy_next=0.5)
    assert "the layer is not shown to add anything" in headline(near, "whitespace", "characters")


def test_the_headline_without_controls_calls_it_no_result(result: Result):
    scores = result.tables["scores"]
    alone = _changed(result, scores=scores[scores["signal"] == "increments"])
    assert "Without a control this number is not a result" in headline(alone, "whitespace", "characters")


def test_nulls_and_missing_tables_render():
    result = boundaries_result(n_layers=1, is_older=True)
    scores = result.tables["scores"].assign(ci_low=np.nan, ci_high=np.nan, p_shift=np.nan)
    assert "ROC-AUC" in render_boundaries(dataclasses.replace(result, tables={"scores": scores}))
    nothing = scores.assign(value=np.nan)
    html = render_boundaries(dataclasses.replace(result, tables={"scores": nothing}))
    assert "no score could be computed" in html
    empty = {name: table.iloc[:0] for name, table in result.tables.items()}
    assert "<h1>" in render_boundaries(dataclasses.replace(result, tables=empty))


def test_the_lead_names_the_strongest_controls_and_the_untrained_one(result: Result):
    scores = result.tables["scores"]
    entropy = scores[scores["signal"] == "entropy"]
    more = [entropy.assign(signal=f"mine_{i}", value=0.81 + i / 100) for i in range(5)]
    text = headline(
        _changed(result, scores=pd.concat([scores, *more], ignore_index=True)), "words", "characters"
    )
    assert "mine 4 0.850" in text
    assert "mine 0" not in text
    assert "untrained model" in text
    assert "more in the table" in text


def test_hostile_names_and_warnings_are_escaped():
    html = render_boundaries(boundaries_result(n_layers=1, n_seeds=1, hostile=True))
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert(1)" not in html


def test_a_saved_result_renders_the_same_page(tmp_path):
    result = boundaries_result(n_layers=1, n_seeds=2)
    save_result(result, tmp_path)
    assert render_boundaries(load_result(tmp_path)) == render_boundaries(result)


def test_labels_at_line_ends_are_pushed_apart_within_the_plot():
    heights = _apart([0.5, 0.501, 0.502, 0.99, 1.0], 0.03, 0.4, 1.01)
    assert min(np.diff(heights)) > 0.0299
    assert max(heights) <= 1.01


@pytest.mark.parametrize("has_intervals", [True, False])
def test_intervals_are_explained_where_there_are_some(
    result: Result, has_intervals: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = result
    if not has_intervals:
        scores = result.tables["scores"]
        bare = scores["seed"].isna() & (scores["signal"] != "untrained")
        shown = _changed(result, scores=scores.assign(ci_low=np.nan, ci_high=np.nan)[bare])
    print_scores(shown, Output())
    said, page = capsys.readouterr().out, render_boundaries(shown)
    assert ("[ ] 95 % interval" in said) is has_intervals
    assert ("Whiskers are 95 % intervals" in page) is has_intervals
    assert ("too few documents for intervals" in page) is not has_intervals
    if not has_intervals:
        assert "( ) range" not in said
