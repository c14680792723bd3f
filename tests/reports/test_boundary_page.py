"""The page of boundaries: who wins by which bound, and figures that draw their frames."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import numpy as np
import pandas as pd
import pytest
from boundary_samples import boundaries_result
from pages import text_of

from lrope_interp.commands.analysis import print_verdicts
from lrope_interp.commands.output import Voice
from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.boundaries import findings, tables, verdicts
from lrope_interp.reports.boundaries.figures import (
    NULL,
    PROBE,
    SEEDS,
    _apart,
    plot_by_layer,
    plot_curves,
    plot_differences,
    plot_labels,
    plot_leaderboard,
)
from lrope_interp.reports.kit.glyphs import N_SHADES
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS, Result, verdict_on

HERE = ("words", "characters")
ResultOf = Callable[[str], Result]


@pytest.fixture(scope="module")
def scored() -> Result:
    return boundaries_result(n_layers=4, n_seeds=3, strata=("characters", "nondelimiter"))


def _with(result: Result, **changed: pd.DataFrame) -> Result:
    return dataclasses.replace(result, tables={**result.tables, **changed})


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def assert_bars(trace: Any, frame: pd.DataFrame, axis: str = "error_x") -> None:
    """The bars of a trace reach from its values to the bounds of the frame."""
    np.testing.assert_allclose(trace[axis].array, frame["high"] - frame["value"])
    np.testing.assert_allclose(trace[axis].arrayminus, frame["value"] - frame["low"])


def drawn_rows(figure: Any) -> dict[int, tuple[float, float]]:
    """Return the value and the upper bar of each row that has a dot with a bar."""
    found: dict[int, tuple[float, float]] = {}
    for trace in figure.data:
        if trace.error_x.array is not None:
            found |= dict(zip(trace.y, zip(trace.x, trace.error_x.array, strict=True), strict=True))
    return found


@pytest.mark.parametrize(
    ("bounds", "verdict", "said"),
    [
        ((-0.11, -0.13, -0.09), LOSES, "A control beats every layer for all 3 labels."),
        ((0.02, 0.01, 0.03), WINS, "A layer beats every control for all 3 labels."),
        ((0.01, -0.01, 0.03), TIES, "No difference from the strongest control is shown for all 3 labels."),
        ((0.01, 0.0, 0.02), TIES, "No difference from the strongest control is shown for all 3 labels."),
        (
            (-0.2, np.nan, np.nan),
            "",
            "No verdict without intervals; a control lies ahead of every layer for 3 of 3 labels.",
        ),
    ],
)
def test_the_verdict_is_that_of_the_paired_interval(
    scored: Result, bounds: tuple[float, float, float], verdict: str, said: str
) -> None:
    value, low, high = bounds
    table = scored.tables["differences"].assign(value=value, ci_low=low, ci_high=high)
    found = verdicts(_with(scored, differences=table))
    row = found.frame.iloc[0]
    assert row[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
        bounds, nan_ok=True
    )
    assert row["verdict"] == verdict
    assert found.headline.startswith(said)
    assert "▲▼="[[WINS, LOSES, TIES].index(verdict)] in found.rows[0].cells[-1] if verdict else True


def test_the_strongest_control_is_the_one_that_leaves_least(scored: Result) -> None:
    table = scored.tables["differences"].assign(value=0.2, ci_low=0.1, ci_high=0.3)
    pmi = (table["control"] == "pmi") & (table["label"] == "words")
    table.loc[pmi, ["value", "ci_low", "ci_high"]] = [-0.2, -0.3, -0.1]
    found = verdicts(_with(scored, differences=table))
    words = found.frame.set_index("what").loc["words"]
    assert words[["control", "difference", "verdict"]].tolist() == ["PMI", -0.2, LOSES]
    beaten = "a control beats every layer for words"
    assert found.headline == f"A layer beats every control for whitespace and punctuation; {beaten}."
    scores, best = scored.tables["scores"], table.loc[table["signal"] == "increments", "layer"].max()
    one = scores[~((scores["signal"] == "increments") & (scores["layer"] != best))]
    alone = verdicts(_with(scored, scores=one, differences=table))
    assert alone.headline.startswith(f"Layer {best} beats every control for"), "no other was asked"
    written = verdicts(_with(scored, differences=table.assign(verdict=TIES)))
    assert {*written.frame["verdict"]} == {TIES}, "as the analysis wrote it"
    unbounded = table.assign(verdict=TIES, ci_low=np.nan, ci_high=np.nan)
    assert {*verdicts(_with(scored, differences=unbounded)).frame["verdict"]} == {""}


def test_the_page_shows_the_layer_and_the_control_that_dev_chose(scored: Result) -> None:
    places = {"label": ["words", "whitespace"], "stratum": HERE[1], "layer": [2, 1], "head": [pd.NA, pd.NA]}
    bounds = {"value": 0.6, "ci_low": 0.5, "ci_high": 0.7}
    beside = {"control": "pmi", "control_layer": pd.NA, "control_head": pd.NA, "control_value": 0.61}
    found = {"difference": -0.01, "difference_low": -0.015, "difference_high": 0.0, "p_holm": 0.06}
    table = pd.DataFrame(places | bounds | beside | found | {"margin": 0.02, "verdict": [AS_GOOD, TIES]})
    result = _with(scored, verdicts=table)
    shown = verdicts(result)
    words = shown.frame.set_index("what").loc["words"]
    assert words[["where", "control", "difference", "verdict"]].tolist() == ["layer 2", "PMI", -0.01, AS_GOOD]
    unpicked = shown.frame.set_index("what").loc["punctuation"]
    assert [unpicked[name] for name in ("where", "control", "verdict")] == ["", "", ""], "dev chose no layer"
    assert words["value"] == tables.auc_frame(result, *HERE).set_index("name").loc["layer 2", "value"]
    assert words["value"] < tables.auc_frame(result, *HERE).query("signal == 'increments'")["value"].max()
    assert "≈" in shown.rows[[*shown.frame["what"]].index("words")].cells[-1]
    assert "as good as the strongest control for words" in shown.headline
    assert "picked on dev" in shown.caption and "0.02" in shown.caption
    assert set(tables.differences_frame(result, *HERE)["layer"]) == {2}, "figures are of the same layer"
    assert "picked on the text that is scored" in verdicts(scored).caption


def test_without_an_interval_there_is_no_verdict() -> None:
    assert verdict_on(float("nan"), float("nan")) == ""
    assert [verdict_on(*one) for one in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))] == [WINS, LOSES, TIES]


def test_a_number_without_a_control_is_no_result(scored: Result) -> None:
    alone = scored.tables["scores"].query("signal == 'increments'")
    found = verdicts(_with(scored, scores=alone, differences=scored.tables["differences"].iloc[:0]))
    assert found.headline == "Without a control these numbers are not a result."
    none = verdicts(_with(scored, scores=scored.tables["scores"].query("signal != 'increments'")))
    assert none.headline == "No layer has a score."


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_the_headline_has_at_most_25_words(n_labels: int) -> None:
    labels = ("words", "whitespace", "punctuation")[:n_labels]
    result = boundaries_result(n_layers=2, n_seeds=1, labels=labels, strata=("characters",))
    assert len(verdicts(result).headline.split()) <= 25


def test_layer_0_is_said_to_be_a_table_of_bytes_once(scored: Result) -> None:
    assert "layer 0" in verdicts(scored).frame["where"].tolist()
    assert verdicts(scored).caption.count("by construction") == 1


def test_an_interval_that_holds_zero_is_a_win_of_nobody_on_the_page(result_of: ResultOf) -> None:
    result = result_of("boundaries")
    even = _with(
        result, differences=result.tables["differences"].assign(value=0.01, ci_low=-0.01, ci_high=0.03)
    )
    assert {trace.name for trace in plot_differences(even, *HERE).data} == {"reference", TIES}
    page = text_of(render(even))
    assert TIES in page and LOSES not in page and WINS not in page


def test_a_layer_is_beyond_surprisal_only_by_every_test(scored: Result) -> None:
    assert findings.beyond_words(scored, *HERE) == "3; 1, 2 by some tests only"
    assert findings.beyond_words(scored, "whitespace", "characters") == "none"
    unknown = scored.tables["beyond"].assign(
        is_beyond=pd.array([pd.NA] * len(scored.tables["beyond"]), "boolean")
    )
    assert findings.beyond_words(_with(scored, beyond=unknown), *HERE) == "too few documents"
    assert findings.beyond_words(scored, "words", "nondelimiter") == ""


def test_matches_say_where_the_runs_agree(scored: Result) -> None:
    frame = tables.matches_frame(scored)
    said = tables.matches_words(frame)
    assert "each other's match for 2 of 3 labels" in said and "words" not in said
    shown = tables.matches_table(frame)
    assert shown["This run"].tolist() == [f"layer {i}" for i in range(4)]


def test_the_terminal_and_the_notebook_show_the_rows_of_the_page(
    result_of: ResultOf, capsys: pytest.CaptureFixture[str]
) -> None:
    result = result_of("boundaries")
    print_verdicts(result, Voice())
    said, page, note = capsys.readouterr().out, text_of(render(result)), result._repr_html_()
    rows = verdicts(result).rows
    assert len(rows) == 3 and len(repr(result).splitlines()) <= 15
    for row in rows:
        assert row.cells[0] in said and row.cells[-2] in said  # the label, the difference
        assert all(
            str(cell).replace("'", "&#39;") in page and str(cell).replace("'", "&#39;") in note
            for cell in row.cells
        )
    assert note.count("<svg") == 3 and len(note) < 100_000 and "<script" not in note


def test_a_figure_is_drawn_by_its_name_and_of_what_was_scored(scored: Result) -> None:
    assert scored.plot().to_json() == plot_labels(scored).to_json()
    own, whole = scored.plot("controls", label="words"), plot_leaderboard(scored, *HERE)
    assert own.to_json() == whole.to_json()
    with pytest.raises(LRopeError, match="no figure 'roc': choose from labels, layers"):
        scored.plot("roc")
    with pytest.raises(LRopeError, match="scored were whitespace: characters"):
        scored.plot("controls", label="wordz")
    with pytest.raises(LRopeError, match="cannot be drawn of layer: it is of label, stratum"):
        scored.plot("controls", layer=1)
    assert scored.frame("scores").equals(scored.tables["scores"])
    with pytest.raises(LRopeError, match="no table 'score': choose from scores"):
        scored.frame("score")


def test_every_language_can_be_picked() -> None:
    result = boundaries_result(
        1, n_seeds=1, languages=("en", "zh"), labels=("words",), strata=("characters",)
    )
    html = render(result)
    picked = [json.loads(unescape(one)) for one in re.findall(r'data-pick="([^"]*)"', html)]
    assert picked[:3] == [["words", "characters"], ["words", "en"], ["words", "zh"]]
    assert all(f">{name}</option>" in html for name in ("in English documents", "in Chinese documents"))


def test_the_labels_figure_draws_best_layers_with_their_bounds(scored: Result) -> None:
    best = traces(plot_labels(scored))["best layer"]
    frame = verdicts(scored).frame
    np.testing.assert_array_equal(best.x, frame["value"])
    assert_bars(best, frame)


def test_lines_over_layers_have_their_bounds_and_seeds_their_range(scored: Result) -> None:
    frame, scores = tables.by_layer_frame(scored, *HERE), scored.tables["scores"]
    figure = plot_by_layer(scored, *HERE)
    lines = {trace.name: trace for trace in figure.data if trace.fill is None}
    layers = frame[frame["signal"] == "increments"]
    np.testing.assert_array_equal(lines["increments"].y, layers["value"])
    assert_bars(lines["increments"], layers, "error_y")
    byte = frame.loc[frame["signal"] == "byte_mean", "value"]
    np.testing.assert_array_equal(lines["byte's mean increment"].y, byte)
    seeds = scores.query(
        "signal == 'untrained' and layer == 1 and seed.notna() and metric == 'roc_auc' "
        "and label == 'words' and stratum == 'characters'"
    )
    (line,) = tables.auc_frame(scored, *HERE).query("signal == 'untrained' and layer == 1").to_dict("records")
    assert (line["n_seeds"], line["value"]) == (3, pytest.approx(seeds["value"].mean()))
    assert (line["low"], line["high"]) == (seeds["value"].min(), seeds["value"].max())
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert (band.y[1], band.y[::-1][1]) == (seeds["value"].max(), seeds["value"].min())


def test_the_leaderboard_draws_its_frame_in_order(scored: Result) -> None:
    frame, figure = tables.leaderboard_frame(scored, *HERE), plot_leaderboard(scored, *HERE)
    drawn = drawn_rows(figure)
    assert [drawn[place][0] for place in range(len(frame))] == frame["value"].tolist()
    assert frame["value"].is_monotonic_decreasing
    is_layer, is_probe = frame["signal"] == "increments", frame["kind"] == "ceiling"
    for name, own in (
        ("layer, by depth", is_layer), ("control", ~is_layer & ~is_probe), ("probe (ceiling)", is_probe)
    ):  # fmt: skip
        assert own.any() and list(traces(figure)[name].x) == frame.loc[own, "value"].tolist()
    bar, ranged = traces(figure)[NULL], frame[frame["spread"] == "range"]
    np.testing.assert_array_equal(bar.base, frame["null_low"].dropna())
    np.testing.assert_allclose(np.add(bar.base, bar.x).astype(float), frame["null_high"].dropna())
    np.testing.assert_array_equal(traces(figure)[SEEDS].base, ranged["low"])
    np.testing.assert_array_equal(traces(figure)[PROBE].x, frame["probe"].dropna())
    assert ranged["p_shift"].isna().all(), "a mean over seeds has no p value"
    scores = tables.auc_frame(scored, *HERE)
    for signal in ("byte_mean", "ceiling", "untrained"):
        (best,) = frame[frame["signal"] == signal].to_dict("records")
        assert (best["value"], best["n_places"]) == (scores.query("signal == @signal")["value"].max(), 4)
    layers = frame[frame["signal"] == "increments"]
    probes = scores[scores["kind"] == "ceiling"].set_index("layer")["value"]
    assert layers["probe"].tolist() == [probes[layer] for layer in layers["layer"]]


def test_differences_are_of_the_best_layer_and_in_order(scored: Result) -> None:
    frame, scores = tables.differences_frame(scored, *HERE), tables.auc_frame(scored, *HERE)
    layers = scores[scores["signal"] == "increments"]
    assert set(frame["layer"]) == {layers.loc[layers["value"].idxmax(), "layer"]}
    assert frame["value"].is_monotonic_increasing and frame["control"].is_unique
    judged = [verdict_on(*row) for row in zip(frame["low"], frame["high"], strict=True)]
    assert frame["verdict"].tolist() == judged, "an older table is judged by the rule of a new one"
    drawn = drawn_rows(plot_differences(scored, *HERE))
    np.testing.assert_array_equal([drawn[i][0] for i in range(len(frame))], frame["value"])
    np.testing.assert_allclose([drawn[i][1] for i in range(len(frame))], frame["high"] - frame["value"])


def test_curves_and_errors_are_those_of_the_tables(scored: Result) -> None:
    figure = plot_curves(scored, *HERE)
    for axis, table, name in (("x", "roc", "tpr"), ("x2", "precision_recall", "precision")):
        drawn = [trace for trace in figure.data if trace.xaxis == axis][1:]
        groups = tables.curves_frame(scored, table, *HERE).groupby("name", sort=False)
        for trace, (title, curve) in zip(drawn, groups, strict=True):
            assert trace.name == title
            np.testing.assert_allclose(trace.y, curve[name], atol=1e-6)
    chance, prevalence = (next(one for one in figure.data if one.xaxis == axis) for axis in ("x", "x2"))
    assert (chance.x, chance.y) == ((0, 1), (0, 1))
    assert (prevalence.x, prevalence.y) == ((0, 1), (0.2, 0.2))
    (counted, strips), errors = tables.error_strips(scored, *HERE), tables.errors_frame(scored, *HERE)
    assert counted == "7 misses, 3 false alarms" and len(strips) == 10
    assert errors.loc[errors["value"].idxmax(), "shade"] == N_SHADES - 1
    for strip in strips:
        assert [cell.is_marked for cell in strip.cells].index(True) == 24
        assert sum(cell.is_boundary for cell in strip.cells) == 10
    table, kinds = tables.score_table(scored, *HERE)
    shown = [float(value) for value in table["ROC-AUC"] if value != "–"]
    assert shown == sorted(shown, reverse=True) and kinds.count("layer") == 4
    nothing = table[table["Signal"] == "prevalence (knows nothing)"].iloc[0]
    assert (nothing["ROC-AUC"], nothing["Av. precision"]) == ("–", "0.200")


def test_of_heads_the_best_has_a_curve_and_two_alignments_have_two_names() -> None:
    result = boundaries_result(n_layers=2, n_heads=3, n_seeds=1, labels=("words",), strata=("characters",))
    curves, scores = tables.curves_frame(result, "roc", *HERE), tables.auc_frame(result, *HERE)
    best = scores.loc[scores.loc[scores["signal"] == "increments", "value"].idxmax()]
    own = curves.loc[curves["signal"] == "increments", ["layer", "head"]].drop_duplicates()
    assert own.to_numpy().tolist() == [[best["layer"], best["head"]]]
    table = result.tables["scores"]
    again = table[table["signal"] == "surprisal"].assign(align="lead")
    both = _with(result, scores=pd.concat([table, again], ignore_index=True))
    frame = tables.auc_frame(both, *HERE)
    assert set(frame.loc[frame["signal"] == "surprisal", "name"]) == {"surprisal, last", "surprisal, lead"}
    scores["value"] = 0.0
    assert tables.auc_frame(result, *HERE)["value"].max() > 0.5, "a frame is handed out as a copy"


def test_labels_at_line_ends_are_pushed_apart_within_the_plot() -> None:
    heights = _apart([0.5, 0.501, 0.502, 0.99, 1.0], 0.03, 0.4, 1.01)
    assert min(np.diff(heights)) > 0.0299
    assert max(heights) <= 1.01
