"""The page of `show`: every character in its place, and what is said of a row."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from report_samples import HOSTILE, spacing_result

from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.spacing.figures import plot_spacing
from lrope_interp.reports.spacing.tables import (
    attention_frame,
    spacing_frame,
    summary_frame,
    verdicts,
    words_frame,
)

ENGLISH = "The state of our union is strong, and the people know it."
CHINESE = "新华社北京十二月三十一日电，新年好。"


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_characters_stand_at_their_position_over_the_mean_step() -> None:
    result = spacing_result(CHINESE, n_layers=1)
    table, row = result.tables["characters"], spacing_frame(result, ordinary=False)
    position = table["position"].to_numpy()
    mean = (position[-1] - position[0]) / (len(position) - 1)
    np.testing.assert_allclose(row["x"], (position - position[0]) / mean)
    np.testing.assert_allclose(np.diff(row["x"]) * mean, table["increment"].iloc[1:])
    figure = plot_spacing(result, width=10_000)  # one block
    (own,) = [one for one in figure.data if one.mode == "text" and "layer 0" in str(one.name)][:1]
    np.testing.assert_array_equal(own.x, row["x_left"])
    assert list(own.customdata[:, 2]) == list(row["increment"])
    assert list(own.customdata[:, 4]) == list(row["position"])


@pytest.mark.parametrize("text", [ENGLISH, "a😀b " * 30])
def test_every_row_has_the_same_mean_step_and_ordinary_rope_counts_bytes(text: str) -> None:
    frame = spacing_frame(spacing_result(text, n_layers=3))
    for _, row in frame.groupby("row"):
        assert row["x"].iloc[-1] == pytest.approx(len(text) - 1)
        assert row["relative"].iloc[1:].mean() == pytest.approx(1)
    ordinary = frame.query("layer == -1")
    assert list(ordinary["increment"]) == [len(one.encode()) for one in text]
    line = summary_frame(ordinary.assign(layer=0)).iloc[0]
    assert line[["at_delimiters", "elsewhere"]].tolist() == pytest.approx([1, 1])


def test_the_summary_counts_without_the_first_character() -> None:
    frame = spacing_frame(spacing_result("a b c", n_layers=1))
    line = summary_frame(frame).iloc[0]
    steps = frame[frame["layer"] == 0]["relative"].to_numpy()[1:]
    assert (line["n"], line["n_delimiters"]) == (4, 2)
    assert line["at_delimiters"] == pytest.approx(steps[[0, 2]].mean())
    assert line["elsewhere"] == pytest.approx(steps[[1, 3]].mean())


def test_blocks_hold_every_character_once_and_begin_with_the_gap_before_them() -> None:
    frame = spacing_frame(spacing_result(ENGLISH * 5, n_layers=1), block_width=40.0, ordinary=False)
    assert list(frame["character"]) == list(range(len(ENGLISH) * 5))
    assert frame["block"].is_monotonic_increasing and frame["block"].max() > 3
    assert frame["x_left"].max() <= 41
    assert frame.groupby("block").last()["is_delimiter"].mean() > 0.5  # most end at a word's end
    first = frame[frame["block"] > 0].groupby("block").first()
    np.testing.assert_allclose(first["x_left"], first["relative"])


def test_layers_and_heads_have_rows_and_an_unknown_layer_is_named() -> None:
    result = spacing_result(ENGLISH, n_layers=2, n_heads=2)
    rows = list(dict.fromkeys(spacing_frame(result)["row_label"]))
    assert rows[1:3] == ["head 0.0", "head 0.1"]
    assert set(spacing_frame(result, 1)["layer"]) == {-1, 1}
    with pytest.raises(LRopeError, match="unknown layer '7'"):
        spacing_frame(result, 7)
    empty = dataclasses.replace(result, tables={"characters": result.tables["characters"].iloc[:0]})
    with pytest.raises(LRopeError, match="no characters"):
        spacing_frame(empty)


@pytest.mark.parametrize("text", ["a", "\n", "\x00\u200d\u0301"])
def test_the_shortest_texts_are_drawn(text: str) -> None:
    result = spacing_result(text, n_layers=2)
    assert "main" in render(result) and "<svg" in result._repr_html_()
    assert "delimiters cannot be told from the rest" in repr(result)


def test_rows_of_many_heads_are_drawn_a_layer_at_a_time_that_of_the_attention_first() -> None:
    html = render(spacing_result(ENGLISH, n_layers=7, n_heads=2, attention=(3, 1, 20)))
    picked = re.findall(r'data-pick="\[&#34;(\d)', html)
    assert picked == ["3", "0", "1", "2", "4", "5", "6"]


@pytest.mark.parametrize(
    ("factor", "said"), [(1.5, "open most in layer 1"), (0.5, "contract most"), (1.001, "alike")]
)
def test_delimiters_are_said_to_differ_only_where_they_do(factor: float, said: str) -> None:
    result = spacing_result(ENGLISH, n_layers=2)
    table = result.tables["characters"]
    planted = np.where((table["layer"] == 1) & ~table["text"].str.isalpha(), factor, 1.0)
    table = table.assign(increment=planted)
    table["position"] = table.groupby("layer")["increment"].cumsum()
    found = verdicts(dataclasses.replace(result, tables={"characters": table}))
    assert said in found.headline and len(found.headline.split()) <= 25
    line = found.frame.iloc[1]
    mean = planted[table["layer"] == 1][1:].mean()
    assert line["difference"] == pytest.approx((factor - 1) / mean)
    assert line["value"] == pytest.approx(mean)
    assert (found.frame["where"] == "").tolist() == [True, said == "alike"]


def test_a_notebook_shows_the_text_as_bars_without_a_script_and_below_100_kb() -> None:
    html = spacing_result(HOSTILE + "中😀", n_layers=2)._repr_html_()
    assert "<script" not in html and "&lt;" in html and "onerror" not in html
    svg = html[html.index("<svg") : html.index("</svg>")]
    bars = re.findall(r"M\d+ \d+h\d+v-([\d.]+)", svg)
    frame = spacing_frame(spacing_result(HOSTILE + "中😀", n_layers=2), ordinary=False)
    assert len(bars) == frame["step"].notna().sum()
    long = spacing_result(ENGLISH * 60, n_layers=6)._repr_html_()
    assert len(long.encode()) < 100_000 and "Shown: 400 of 3,420 characters." in long


def test_attention_stands_at_its_keys_and_what_is_not_shown_is_told_apart_from_eos() -> None:
    result = spacing_result(ENGLISH, n_layers=2, attention=(1, 3, 20))
    frame, weights = spacing_frame(result), result.tables["attention"].set_index("key_character")["weight"]
    bars = attention_frame(result, frame)
    shown = frame[(frame["layer"] == 1) & (frame["character"] <= 20)]
    np.testing.assert_array_equal(bars["x_left"], shown["x_left"])
    assert bars["weight_eos"].iloc[0] == weights.loc[-1]
    figure = plot_spacing(result, width=10_000)
    bar = next(trace for trace in figure.data if trace.type == "bar")
    np.testing.assert_array_equal(bar.customdata[:, 1].astype(float), bars["weight"])
    np.testing.assert_allclose(-bar.y / bars["weight"], -bar.y[0] / bars["weight"][0])
    assert traces(figure)["query"].x[0] == bars["x_left"].iloc[20]
    part = result.tables["characters"].query("character >= 10")
    cut = dataclasses.replace(result, tables={**result.tables, "characters": part})
    assert attention_frame(cut, spacing_frame(cut))["weight_elsewhere"].iloc[0] == pytest.approx(
        weights.loc[0:9].sum()
    )
    assert attention_frame(result, spacing_frame(result, 0)).empty


def test_ticks_stand_half_way_before_each_word_of_the_reference() -> None:
    result = spacing_result(ENGLISH, n_layers=2)
    starts = [i for i, c in enumerate(ENGLISH) if c.isalpha() and (i == 0 or not ENGLISH[i - 1].isalpha())]
    table = result.tables["characters"]
    table = table.assign(is_word_start=table["character"].isin(starts), word_grade="gold")
    known = result.provenance | {"data": {"name": "my <file>.txt"}}
    marked = dataclasses.replace(result, tables={"characters": table}, provenance=known)
    frame = spacing_frame(marked)
    words = words_frame(marked, frame)
    x = frame[frame["row"] == 0].set_index("character")["x_left"]
    assert words["x_left"].tolist() == [-0.5, *[(x[i - 1] + x[i]) / 2 for i in starts[1:]]]
    (ticks,) = [trace for trace in plot_spacing(marked, width=10_000).data if trace.showlegend]
    assert list(ticks.x[::3]) == words["x_left"].tolist()
    assert ticks.name == "word starts (gold: my &lt;file&gt;.txt)"
    assert words_frame(result, spacing_frame(result)).empty
