"""The page of context costs says what is in the tables, and whether what was asked is met."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from context_cost_samples import cost_result

from lrope_interp.reports.context.figures import plot_angles, plot_memory, plot_time
from lrope_interp.reports.context.frames import flops_frame, phase_frame
from lrope_interp.reports.context.page import render_context_cost
from lrope_interp.reports.context.words import sentences, signed
from lrope_interp.results import Result, load_result, save_result


@pytest.fixture(scope="module")
def result() -> Result:
    return cost_result()


def _text(html: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)


@pytest.mark.parametrize("phase", ["forward", "train_step", "decode", "increment_path"])
def test_lines_and_bars_of_time_are_the_ratios_of_the_table(result: Result, phase: str) -> None:
    figure, frame = plot_time(result, [phase]), phase_frame(result, phase)
    assert [trace.name for trace in figure.data] == ["shared", "per layer"]
    for trace, arm in zip(figure.data, ("shared", "per_layer"), strict=True):
        own = frame[frame["arm"] == arm]
        np.testing.assert_array_equal(trace.y, own["ratio_to_fixed"])
        above = np.nan_to_num(own["ratio_q3"] - own["ratio_to_fixed"])
        np.testing.assert_array_equal(trace.error_y.array, above)


def test_lines_of_memory_and_angles_are_those_of_the_tables(result: Result) -> None:
    frame = phase_frame(result, "decode")
    drawn = plot_memory(result, ["decode"]).data[1]
    np.testing.assert_array_equal(drawn.y, frame[frame["arm"] == "per_layer"]["peak_ratio"])
    angles = result.tables["angles"]
    for trace, method in zip(plot_angles(result).data, ("float64", "float32"), strict=True):
        np.testing.assert_array_equal(trace.y, angles[angles["method"] == method]["max_error"])


def test_operations_add_up_and_are_compared_with_those_of_fixed_rope(result: Result) -> None:
    frame = flops_frame(result)
    parts = frame[["linears", "attention", "increment_heads", "rotation"]].sum(axis=1)
    np.testing.assert_array_equal(frame["total"], parts)
    at_512 = frame[frame["context"] == 512].set_index("arm")
    assert list(at_512.index) == ["fixed", "shared", "per_layer"]
    assert at_512.loc["fixed", "ratio"] == 1
    expected = at_512.loc["per_layer", "total"] / at_512.loc["fixed", "total"]
    assert at_512.loc["per_layer", "ratio"] == pytest.approx(expected)


def test_the_first_sentences_say_the_cost_at_each_length(result: Result) -> None:
    said = dict(sentences(result))
    assert (
        said["Parameters"] == "Per layer increments add 40,000 parameters to 1,000,000, 4.0 %; shared 10,000."
    )
    rows = phase_frame(result, "forward")
    for row in rows[rows["arm"] == "per_layer"].itertuples():
        ratio = signed(row.ratio_to_fixed - 1)
        assert f"{ratio} at {row.context:,}" in said["Time of per layer against fixed RoPE"]


def test_targets_have_a_verdict_at_their_length_only(result: Result) -> None:
    said = dict(sentences(result))["Asked for"]
    assert said.startswith("At 131,072 tokens")
    assert said.count(": met") == 5
    worse = dict(sentences(cost_result(angle_error=2e-6)))["Asked for"]
    assert "largest angle error 2.0e-6 rad (asked: at most 1.0e-6 rad): not met" in worse
    short = dict(sentences(cost_result((512, 8192))))["Asked for"]
    assert short.startswith("The targets are for 131,072 tokens, so 8,192 give no verdict")
    assert ": met" not in short


def test_the_page_is_made_from_the_saved_result_alone(result: Result, tmp_path: Path) -> None:
    save_result(result, tmp_path)
    html = render_context_cost(load_result(tmp_path))
    assert html == render_context_cost(result)
    assert "nan" not in _text(html).lower()


def test_a_percentage_keeps_two_places_below_one_and_never_says_minus_nothing() -> None:
    assert [signed(value) for value in (0.1234, 0.0041, -0.02, -0.00001, float("nan"))] == [
        "+12.3 %", "+0.41 %", "−2.0 %", "0.00 %", "–"
    ]  # fmt: skip
