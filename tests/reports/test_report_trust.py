"""The report shows what a score can be believed by: nulls, paired differences, and what surprisal knows."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from boundary_samples import CONTEXT
from report_samples import boundaries_result

from lrope_interp.reports.boundaries.contrasts import beyond_places
from lrope_interp.reports.boundaries.error_strips import error_strips
from lrope_interp.reports.boundaries.layer_matches import matches_sentence, matches_table
from lrope_interp.reports.boundaries.leaderboard_figure import NULL, PROBE, SEEDS
from lrope_interp.reports.boundaries.page import (
    auc_frame,
    beyond_frame,
    differences_frame,
    errors_frame,
    headline,
    leaderboard_frame,
    matches_frame,
    plot_beyond,
    plot_curves,
    plot_differences,
    plot_leaderboard,
    precision_recall_frame,
    render_boundaries,
    table_frame,
)
from lrope_interp.reports.boundaries.sections import beyond_table
from lrope_interp.reports.boundaries.verdicts import beyond_sentence, paired_verdict, standing
from lrope_interp.reports.kit.strips import N_SHADES
from lrope_interp.results import TIES, WINS, Result, verdict_on

HERE = ("words", "characters")
NEW_TABLES = ("nulls", "differences", "shares", "beyond", "errors", "precision_recall", "matches")


@pytest.fixture(scope="module")
def result() -> Result:
    return boundaries_result(n_layers=4, n_seeds=3)


@pytest.fixture(scope="module")
def small() -> Result:
    return boundaries_result(n_layers=2, n_seeds=2)


@pytest.fixture(scope="module")
def page(small: Result) -> str:
    return render_boundaries(small)


def _with(result: Result, **tables: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **tables})


def _traces(figure) -> dict[str, object]:
    return {trace.name: trace for trace in figure.data}


def _differing(result: Result, value: float, low: float, high: float) -> Result:
    """Set every difference of a result alike."""
    table = result.tables["differences"].assign(value=value, ci_low=low, ci_high=high)
    return _with(result, differences=table)


def test_the_leaderboard_draws_its_frame(result: Result):
    frame = leaderboard_frame(result, *HERE)
    figure = plot_leaderboard(result, *HERE)
    drawn = {}
    for trace in figure.data:
        if trace.error_x.array is not None:
            drawn |= dict(zip(trace.y, trace.x, strict=True))
    assert [drawn[place] for place in range(len(frame))] == frame["value"].tolist()
    assert frame["value"].is_monotonic_decreasing
    traces = _traces(figure)
    np.testing.assert_array_equal(traces[NULL].base, frame["null_low"].dropna())
    reached = np.asarray(traces[NULL].base, dtype=float) + np.asarray(traces[NULL].x, dtype=float)
    np.testing.assert_allclose(reached, frame["null_high"].dropna().astype(float))
    np.testing.assert_array_equal(traces[PROBE].x, frame["probe"].dropna())
    ranged = frame[frame["spread"] == "range"]
    np.testing.assert_array_equal(traces[SEEDS].base, ranged["low"])


def test_the_leaderboard_names_rows_and_columns_in_order(result: Result):
    frame = leaderboard_frame(result, *HERE)
    layout = plot_leaderboard(result, *HERE).layout
    for name, left, right in zip(frame["name"], layout.yaxis.ticktext, layout.yaxis2.ticktext, strict=True):
        assert name in left.replace("&#39;", "'")
        assert right
    values = [float(text.split("\u00a0")[0]) for text in layout.yaxis2.ticktext]
    np.testing.assert_allclose(values, frame["value"], atol=0.0005)
    assert "p\u00a0shift" in layout.annotations[0].text


def test_of_a_control_with_a_value_a_layer_its_best_layer_stands_for_it(result: Result):
    frame = leaderboard_frame(result, *HERE)
    scores = auc_frame(result, *HERE)
    for signal in ("byte_mean", "ngram_5", "ceiling", "untrained"):
        own = scores[scores["signal"] == signal]
        (line,) = frame[frame["signal"] == signal].to_dict("records")
        assert line["value"] == own["value"].max()
        assert line["n_places"] == 4
    assert (frame["signal"] == "increments").sum() == 4
    assert "byte 5-gram's mean increment, layer" in " ".join(frame["name"])


def test_the_probe_stands_in_the_row_of_its_own_layer(result: Result):
    frame = leaderboard_frame(result, *HERE)
    scores = auc_frame(result, *HERE)
    probes = scores[scores["kind"] == "ceiling"].set_index("layer")["value"]
    layers = frame[frame["signal"] == "increments"]
    assert layers["probe"].tolist() == [probes[layer] for layer in layers["layer"]]
    assert frame.loc[frame["signal"] != "increments", "probe"].isna().all()


def test_the_mean_over_seeds_has_no_p_value(result: Result):
    frame = leaderboard_frame(result, *HERE)
    assert frame.loc[frame["spread"] == "range", "p_shift"].isna().all()
    assert frame.loc[frame["signal"] == "increments", "p_shift"].notna().all()


def test_differences_are_of_the_best_layer_and_in_order(result: Result):
    frame = differences_frame(result, *HERE)
    scores = auc_frame(result, *HERE)
    layers = scores[scores["signal"] == "increments"]
    assert set(frame["layer"]) == {layers.loc[layers["value"].idxmax(), "layer"]}
    assert frame["value"].is_monotonic_increasing
    assert frame["control"].is_unique
    drawn = {}
    for trace in plot_differences(result, *HERE).data[1:]:
        drawn |= dict(zip(trace.y, zip(trace.x, trace.error_x.array, strict=True), strict=True))
    np.testing.assert_array_equal([drawn[i][0] for i in range(len(frame))], frame["value"])
    np.testing.assert_allclose([drawn[i][1] for i in range(len(frame))], frame["high"] - frame["value"])


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        (
            (-0.11, -0.13, -0.09),
            "The control wins: branching entropy beats every layer, the best one by 0.110",
        ),
        ((-0.11, -0.13, -0.09), "[0.090, 0.130] (paired; layer and control both picked on this text)"),
        ((0.02, 0.01, 0.03), "Above the strongest control, branching entropy, by 0.020 [0.010, 0.030]"),
        ((-0.002, -0.01, 0.006), "No difference from the strongest control is shown"),
        ((0.01, -0.01, 0.03), "No difference from the strongest control is shown"),
        ((0.01, -0.01, 0.03), "is +0.010 [−0.010, +0.030] (paired"),
        ((0.01, 0.0, 0.02), "No difference from the strongest control is shown"),
        ((-0.002, -0.01, 0.006), "is −0.002 [−0.010, +0.006] (paired"),
        (
            (-0.2, np.nan, np.nan),
            "behind the strongest control, branching entropy, by 0.200; without an interval",
        ),
    ],
)
def test_the_verdict_says_who_wins_by_paired_resamples(result: Result, bounds, said: str):
    table = result.tables["differences"]
    only = _with(result, differences=table[table["control"] == "branching_entropy"])
    assert said in paired_verdict(_differing(only, *bounds), *HERE)
    assert said in headline(_differing(only, *bounds), *HERE)


@pytest.mark.parametrize("bounds", [(0.01, -0.01, 0.03), (-0.01, -0.03, 0.01)])
def test_an_interval_that_holds_zero_is_a_win_of_nobody_on_the_page(small: Result, bounds):
    even = _differing(small, *bounds)
    assert set(_traces(plot_differences(even, *HERE))) == {"reference", TIES}
    page = render_boundaries(even)
    assert "No difference from the strongest control is shown" in page
    assert "Above the strongest control" not in page and "The control wins" not in page


def test_the_verdict_is_the_tables_and_that_of_an_older_table_is_made_by_the_same_rule(small: Result):
    old = differences_frame(small, *HERE)
    assert old["verdict"].tolist() == [verdict_on(*row) for row in zip(old["low"], old["high"], strict=True)]
    table = small.tables["differences"]
    told = differences_frame(_with(small, differences=table.assign(verdict=WINS)), *HERE)
    assert set(told["verdict"]) == {WINS}


def test_p_values_and_the_share_of_the_ceiling_are_told(result: Result):
    text = standing(result, *HERE)
    assert "p = 0.001 under circular shifts and p = 0.043 among gaps of the same byte (family-wise" in text
    assert re.search(r"\d+ % \[\d+, \d+\] of that of a supervised probe on the same hidden state", text)
    unknown = _with(result, shares=result.tables["shares"].assign(share=np.nan))
    assert "probe" not in standing(unknown, *HERE)


def test_precision_and_roc_show_the_same_signals(result: Result):
    curves = precision_recall_frame(result, *HERE)
    figure = plot_curves(result, *HERE)
    right = [trace for trace in figure.data if trace.xaxis == "x2"]
    left = [trace for trace in figure.data if trace.xaxis == "x"]
    assert [trace.name for trace in left[1:]] == [trace.name for trace in right[1:]]
    for trace, (_, curve) in zip(right[1:], curves.groupby("name", sort=False), strict=True):
        np.testing.assert_allclose(trace.y, curve["precision"], atol=1e-6)
    assert list(right[0].y) == [0.2, 0.2]


def test_beyond_draws_the_bits_of_both_baselines(result: Result):
    frame = beyond_frame(result, *HERE)
    traces = _traces(plot_beyond(result, *HERE))
    for baseline, name in (("M0", "over M0"), ("M0_lexical", "over M0 and lexical log-odds")):
        np.testing.assert_array_equal(traces[name].x, frame.loc[frame["baseline"] == baseline, "bits"])
    assert len(beyond_table(frame)) == len(frame) == 12


def test_a_layer_is_beyond_surprisal_only_by_every_test(result: Result):
    assert beyond_places(beyond_frame(result, *HERE)) == (["layer 3"], ["layer 1", "layer 2"])
    assert beyond_sentence(result, *HERE).startswith("Layer 3 carries something beyond surprisal")
    assert "Layers 1 and 2: by some of the tests only" in beyond_sentence(result, *HERE)
    assert beyond_sentence(result, "whitespace", "characters") == "Nothing beyond surprisal is shown."
    unknown = result.tables["beyond"].assign(is_beyond=pd.NA)
    assert "too few documents" in beyond_sentence(_with(result, beyond=unknown), *HERE)
    assert beyond_sentence(result, "words", "nondelimiter") == ""


def test_errors_are_strips_of_every_character_with_the_gap_marked(result: Result):
    strips = error_strips(result, *HERE)
    assert strips is not None
    assert len(strips.strips) == 10
    frame = errors_frame(result, *HERE)
    assert frame["shade"].between(0, N_SHADES - 1).all()
    assert frame.loc[frame["value"].idxmax(), "shade"] == N_SHADES - 1
    for strip in strips.strips:
        assert len(strip.cells) == 49
        assert [cell.is_marked for cell in strip.cells].index(True) == 24
        assert sum(cell.is_boundary for cell in strip.cells) == 10


def test_error_strips_show_hostile_text_as_text(page: str):
    html = page
    assert "<b>&" not in html
    assert ">&lt;</bdi>" in html
    assert "speech &lt;1&gt;.txt" in html
    assert ">␀</bdi>" in html
    assert ">◌\u0301</bdi>" in html
    assert ">⏎</bdi>" in html
    assert "中" in CONTEXT
    assert ">中</bdi>" in html


def test_matches_say_where_the_runs_agree(result: Result):
    frame = matches_frame(result, "characters")
    text = matches_sentence(frame)
    assert "each other's match for whitespace (layer 0 here, layer 1 there)" in text
    assert re.search(r"They are not for words \(layer 0 here, layer \d there\)", text)
    table = matches_table(frame)
    assert table["This run"].tolist() == [f"layer {i}" for i in range(4)]
    assert table["Other run"].tolist() == ["layer 1", "layer 2", "layer 3", "layer 0"]


def test_the_table_has_the_metrics_that_there_are(result: Result):
    words, _ = table_frame(result, *HERE)
    spaces, _ = table_frame(result, "whitespace", "characters")
    assert {"MCC", "Precision", "Recall", "Token F1", "Pk"} <= set(words)
    assert "Token F1" not in spaces
    assert "WindowDiff" not in words


def test_every_table_is_named_and_linked(small: Result, page: str):
    for name in small.tables:
        assert f'<a href="{name}.csv">{name}.csv</a>' in page
    assert "gaps.parquet" not in page
    assert "less is better" in page


BLOCKS = (
    "Paired differences", "Beyond surprisal", "errors in context", "layers of another run",
    "ROC and precision",
)  # fmt: skip


def test_a_page_leaves_out_what_its_tables_lack(small: Result, page: str):
    assert all(block in page for block in BLOCKS)
    without = {name: table for name, table in small.tables.items() if name not in NEW_TABLES}
    emptied = small.tables | {name: small.tables[name].iloc[:0] for name in NEW_TABLES}
    for tables in (without, emptied):
        html = render_boundaries(dataclasses.replace(small, tables=tables))
        assert not any(block in html for block in BLOCKS)
        assert "surprisal is shown" not in html
        assert "(paired" not in html
        assert "ROC curves" in html


def test_a_frame_is_made_once_and_handed_out_as_a_copy(small: Result):
    first = auc_frame(small, *HERE)
    first["value"] = 0.0
    assert auc_frame(small, "words", stratum="characters")["value"].max() > 0.5
    changed = _with(small, scores=small.tables["scores"].assign(value=0.25))
    assert auc_frame(changed, *HERE)["value"].eq(0.25).all()
