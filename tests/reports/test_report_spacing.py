"""The spacing figure draws the result's numbers, scaled row by row and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_samples import HOSTILE, spacing_result

from lrope_interp.errors import LRopeError
from lrope_interp.reports.spacing.layout import attention_frame, spacing_frame, summary_frame, words_frame
from lrope_interp.reports.spacing.page import plot_spacing, render_spacing
from lrope_interp.results import load_result, save_result

ENGLISH = "The state of our union is strong, and the people know it."
CHINESE = "新华社北京十二月三十一日电，新年好。"


def _text_traces(figure, name: str | None = None):
    traces = [t for t in figure.data if t.mode == "text" and "keys" not in t.name]
    return [t for t in traces if name is None or t.name == name]


def test_the_figure_draws_the_frame():
    result = spacing_result(ENGLISH, n_layers=3)
    frame = spacing_frame(result)
    figure = plot_spacing(result, width=10_000)  # one block
    assert len(_text_traces(figure)) == 4
    for trace, (_, row) in zip(_text_traces(figure), frame.groupby("row"), strict=True):
        np.testing.assert_array_equal(trace.x, row["x_left"])
        assert list(trace.customdata[:, 2]) == list(row["increment"])
        assert list(trace.customdata[:, 4]) == list(row["position"])


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "a😀b " * 30])
def test_every_row_has_the_same_mean_step(text: str):
    frame = spacing_frame(spacing_result(text, n_layers=3))
    for _, row in frame.groupby("row"):
        assert row["x"].iloc[0] == 0
        assert row["x"].iloc[-1] == pytest.approx(len(text) - 1)
        assert row["relative"].iloc[1:].mean() == pytest.approx(1)


def test_x_is_the_position_at_the_last_byte_over_the_mean_step():
    result = spacing_result(CHINESE, n_layers=1)
    table = result.tables["characters"]
    row = spacing_frame(result, ordinary=False)
    position = table["position"].to_numpy()
    mean = (position[-1] - position[0]) / (len(position) - 1)
    np.testing.assert_allclose(row["x"], (position - position[0]) / mean)
    np.testing.assert_allclose(np.diff(row["x"]) * mean, table["increment"].iloc[1:])


def test_ordinary_rope_steps_by_the_bytes_of_each_character():
    ordinary = spacing_frame(spacing_result("a中b", n_layers=1)).query("layer == -1")
    assert list(ordinary["increment"]) == [1, 3, 1]
    assert list(ordinary["position"]) == [1, 4, 5]
    assert spacing_frame(spacing_result("a中b", n_layers=1), ordinary=False)["layer"].min() == 0


def test_blocks_hold_every_character_once_and_respect_the_width():
    frame = spacing_frame(spacing_result(ENGLISH * 5, n_layers=1), block_width=40.0, ordinary=False)
    assert list(frame["character"]) == list(range(len(ENGLISH) * 5))
    assert frame["block"].is_monotonic_increasing
    assert frame["block"].max() > 3
    assert frame["x_left"].max() <= 41
    last = frame.groupby("block").last()
    assert last["is_delimiter"].mean() > 0.5  # most blocks end at a word's end


def test_a_wrapped_block_begins_with_the_gap_before_it():
    frame = spacing_frame(spacing_result(ENGLISH * 3, n_layers=1), block_width=40.0, ordinary=False)
    first = frame[frame["block"] > 0].groupby("block").first()
    np.testing.assert_allclose(first["x_left"], first["relative"])


def test_one_layer_can_be_chosen_and_an_unknown_one_is_named():
    result = spacing_result(ENGLISH, n_layers=3)
    assert set(spacing_frame(result, 1)["layer"]) == {-1, 1}
    with pytest.raises(LRopeError, match="unknown layer '7'"):
        spacing_frame(result, 7)


def test_heads_have_rows_of_their_own():
    frame = spacing_frame(spacing_result(ENGLISH, n_layers=2, n_heads=2))
    assert list(dict.fromkeys(frame["row_label"]))[1:3] == ["layer 0 · head 0", "layer 0 · head 1"]
    assert render_spacing(spacing_result(ENGLISH, n_layers=4, n_heads=4)).count('class="plot"') == 4


def test_attention_bars_stand_at_the_keys_of_their_layer():
    result = spacing_result(ENGLISH, n_layers=2, attention=(1, 3, 20))
    frame = spacing_frame(result)
    bars = attention_frame(result, frame)
    assert list(bars["key_character"]) == list(range(21))
    shown = frame[(frame["layer"] == 1) & (frame["character"] <= 20)]
    np.testing.assert_array_equal(bars["x_left"], shown["x_left"])
    assert bars["weight_eos"].iloc[0] == pytest.approx(1 - bars["weight"].sum())
    figure = plot_spacing(result, width=10_000)
    bar = next(trace for trace in figure.data if trace.type == "bar")
    np.testing.assert_array_equal(bar.customdata[:, 1].astype(float), bars["weight"])
    np.testing.assert_allclose(-bar.y / bars["weight"], -bar.y[0] / bars["weight"][0])
    assert [trace.x[0] for trace in figure.data if trace.name == "query"] == [bars["x_left"].iloc[20]]


def test_attention_of_a_layer_that_is_not_drawn_is_left_out():
    result = spacing_result(ENGLISH, n_layers=2, attention=(1, 0, 5))
    assert attention_frame(result, spacing_frame(result, 0)).empty
    assert plot_spacing(result, 0).data


def test_weight_outside_the_characters_shown_is_told_apart_from_eos():
    result = spacing_result(ENGLISH, n_layers=1, attention=(0, 0, 20))
    table = result.tables["characters"]
    part = dataclasses.replace(
        result, tables={**result.tables, "characters": table[table["character"] >= 10]}
    )
    bars = attention_frame(part, spacing_frame(part))
    weights = result.tables["attention"].set_index("key_character")["weight"]
    assert bars["weight_elsewhere"].iloc[0] == pytest.approx(weights.loc[0:9].sum())
    assert bars["weight_eos"].iloc[0] == weights.loc[-1]


def test_texts_reach_plotly_escaped():
    figure = plot_spacing(spacing_result(HOSTILE, n_layers=1))
    texts = [text for trace in _text_traces(figure) for text in trace.text]
    assert "&lt;" in texts
    assert not any("<" in text or "$" in text for text in texts)
    assert not any("<" in hover[0] for trace in _text_traces(figure) for hover in trace.customdata)


@pytest.mark.parametrize("text", ["a", "ab", "\n", "中", "\x00\u200d\u0301"])
def test_the_shortest_texts_are_drawn(text: str):
    assert "main" in render_spacing(spacing_result(text, n_layers=2))


def test_no_characters_is_an_error():
    result = spacing_result("a", n_layers=1)
    empty = dataclasses.replace(result, tables={"characters": result.tables["characters"].iloc[:0]})
    with pytest.raises(LRopeError, match="no characters"):
        spacing_frame(empty)


def test_the_summary_counts_without_the_first_character():
    frame = spacing_frame(spacing_result("a b c", n_layers=1))
    line = summary_frame(frame).iloc[0]
    steps = frame[frame["layer"] == 0]["relative"].to_numpy()[1:]
    assert (line["n"], line["n_delimiters"]) == (4, 2)
    assert line["at_delimiters"] == pytest.approx(steps[[0, 2]].mean())
    assert line["elsewhere"] == pytest.approx(steps[[1, 3]].mean())


def test_ordinary_rope_steps_the_same_a_byte_on_characters_of_any_width():
    frame = spacing_frame(spacing_result("ab 中文。c", n_layers=1))
    ordinary = frame[frame["layer"] == -1].assign(layer=0)
    line = summary_frame(ordinary).iloc[0]
    assert line[["at_delimiters", "elsewhere"]].tolist() == pytest.approx([1, 1])
    assert line["sd"] == pytest.approx(0)


def test_a_saved_result_renders_the_same_page(tmp_path):
    result = spacing_result(ENGLISH + "\n\u2028", n_layers=2, attention=(1, 0, 5))
    save_result(result, tmp_path)
    assert render_spacing(load_result(tmp_path)) == render_spacing(result)


def test_a_result_without_attention_table_or_heads_column_renders():
    result = spacing_result(ENGLISH, n_layers=1)
    table = result.tables["characters"].drop(columns="head")
    bare = dataclasses.replace(result, tables={"characters": pd.DataFrame(table)}, provenance={})
    assert "layer 0" in render_spacing(bare)


def _with_words(text: str, grade: str, name: str = "text"):
    """Mark a word start at every letter after a space, and say who marked it."""
    result = spacing_result(text, n_layers=2)
    table = result.tables["characters"]
    is_start = [i for i, one in enumerate(text) if one.isalpha() and (i == 0 or not text[i - 1].isalpha())]
    table = table.assign(is_word_start=table["character"].isin(is_start), word_grade=grade)
    provenance = result.provenance | {"data": {"name": name}}
    marked = dataclasses.replace(result, tables={"characters": table}, provenance=provenance)
    return marked, is_start


def _ticks(figure):
    return [trace for trace in figure.data if trace.showlegend]


def test_ticks_stand_half_way_before_each_word_of_the_reference():
    result, starts = _with_words(ENGLISH, "gold", "my <file>.txt")
    frame = spacing_frame(result)
    words = words_frame(result, frame)
    assert words["character"].tolist() == starts
    x = frame[frame["row"] == 0].set_index("character")["x_left"]
    assert words["x_left"].tolist() == [-0.5, *[(x[i - 1] + x[i]) / 2 for i in starts[1:]]]
    (ticks,) = _ticks(plot_spacing(result, width=10_000))
    assert list(ticks.x[::3]) == words["x_left"].tolist()
    assert ticks.name == "word starts (gold: my &lt;file&gt;.txt)"
    assert "Ticks above" in render_spacing(result)


def test_ticks_are_in_the_block_of_their_word():
    result, starts = _with_words(ENGLISH * 4, "silver")
    frame = spacing_frame(result, block_width=40.0)
    words = words_frame(result, frame)
    assert words["block"].nunique() == frame["block"].nunique() > 1
    assert len(words) == len(starts)
    assert (words["x_left"].iloc[1:] >= 0).all()
    assert _ticks(plot_spacing(result))[0].name == "word starts (silver: jieba)"


def test_a_result_that_does_not_say_who_marked_words_has_no_ticks():
    result, _ = _with_words(ENGLISH, "rule")
    table = result.tables["characters"].drop(columns="word_grade")
    older = dataclasses.replace(result, tables={"characters": table})
    assert words_frame(older, spacing_frame(older)).empty
    assert not _ticks(plot_spacing(older))
    assert plot_spacing(older).layout.height < plot_spacing(result).layout.height
    assert "Ticks above" not in render_spacing(older)
