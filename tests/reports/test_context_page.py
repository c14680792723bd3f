"""The page of context costs: targets are judged at their length alone, and figures draw their tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_samples import cost_result

from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.context import (
    angles_table,
    change,
    flops_frame,
    glance_table,
    phase_frame,
    verdicts,
)
from lrope_interp.reports.kit.frames import worded
from lrope_interp.results import Result


@pytest.fixture
def measured(result_of: Callable[[str], Result]) -> Result:
    return result_of("bench")


def test_targets_have_a_verdict_at_their_length_only(measured: Result) -> None:
    found = verdicts(measured)
    assert [row.cells[-1] for row in found.rows] == ["✓ met"] * 5
    assert found.headline.startswith("Per layer increments add 4.0 % parameters,")
    assert found.headline.endswith("at 131,072 tokens; 5 of 5 targets are met.")
    worse = verdicts(cost_result(angle_error=2e-6))
    assert worse.rows[-1].cells == ["largest angle error, µrad", "2.00", "at most 1", "✗ not met"]
    assert worse.headline.endswith("4 of 5 targets are met.")
    short = verdicts(cost_result((512, 8192)))
    assert {row.cells[-1] for row in short.rows} == {"no verdict"}
    assert short.headline.endswith("at 8,192 tokens; targets are for 131,072.")
    assert "✓ met" in render(measured) and "✓ met" not in render(cost_result((512, 8192)))


@pytest.mark.parametrize("contexts", [(512, 8192, 131_072), (512, 8192)])
def test_a_row_has_what_was_found_in_per_cent_with_the_quartiles_of_its_rounds(
    contexts: tuple[int, ...],
) -> None:
    result = cost_result(contexts)
    frame, targets = verdicts(result).frame, result.tables["targets"]
    units = np.where(targets["target"] == "angle", 1e6, 100)
    np.testing.assert_allclose(frame["value"], targets["value"] * units)
    np.testing.assert_allclose(frame["reference"], targets["limit"] * units)
    where = f"context == {contexts[-1]} and arm == 'per_layer' and phase == 'increment_path'"
    line = result.tables["costs"].query(where).iloc[0]
    row = frame.set_index("what").loc["per layer: time, %"]
    bounds = [100 * (line["ratio_q1"] - 1), 100 * (line["ratio_q3"] - 1)]
    np.testing.assert_allclose(row[["low", "high"]].astype(float), bounds)


def test_times_have_their_quartiles_and_operations_add_up(measured: Result) -> None:
    frame = phase_frame(measured, "forward")
    drawn = [trace for trace in measured.plot().data if trace.name.endswith("forward pass")]
    for trace, arm in zip(drawn, ("shared", "per_layer"), strict=True):
        own = frame[frame["arm"] == arm]
        np.testing.assert_array_equal(trace.y, own["ratio_to_fixed"])
        np.testing.assert_array_equal(
            trace.error_y.array, np.nan_to_num(own["ratio_q3"] - own["ratio_to_fixed"])
        )
    with pytest.raises(LRopeError, match="choose from forward, increment_path"):
        measured.plot(phase="backward")
    flops = flops_frame(measured)
    parts = flops[["linears", "attention", "increment_heads", "rotation"]].sum(axis=1)
    np.testing.assert_array_equal(flops["total"], parts)
    at_512 = flops[flops["context"] == 512].set_index("arm")
    expected = at_512.loc["per_layer", "total"] / at_512.loc["fixed", "total"]
    assert at_512.loc["per_layer", "ratio"] == pytest.approx(expected)
    assert angles_table(measured)["Largest error, rad"].iloc[[0, -1]].tolist() == ["2.4e−7", "0.13"]


def test_every_length_has_its_costs_on_the_page(measured: Result, page_of: Callable[[str], str]) -> None:
    table = glance_table(measured)
    rows: Any = measured.tables["costs"].query("phase == 'forward' and arm == 'per_layer'")
    for row in rows.itertuples():
        told = table[(table["Arm"] == "per layer") & (table["Tokens"] == f"{row.context:,}")]
        cell = told["Forward pass, %"].iloc[0]
        assert cell.startswith(change(float(row.ratio_to_fixed) - 1).removesuffix(" %"))
        assert f"<td>{cell}</td>" in page_of("bench")


def test_a_percentage_keeps_two_places_below_one_and_never_says_minus_nothing() -> None:
    found = [change(value) for value in (0.1234, 0.0041, -0.02, -0.00001, float("nan"))]
    assert found == ["+12.3 %", "+0.41 %", "−2.0 %", "0.00 %", "–"]


def test_cells_of_tables_have_significant_digits_and_intervals() -> None:
    frame = pd.DataFrame({"a": [1234.5, 0.0123456, np.nan], "low": [1.0, -2.4e-7, np.nan], "n": [5, 1000, 0]})
    found = worded(frame, {"A": "a", "Low": ("low", "a"), "All": ("a", "low", "a"), "N": "n"})
    assert found.iloc[0].tolist() == ["1,234", "[1.00, 1,234]", "1,234 [1.00, 1,234]", "5"]
    assert found.iloc[1].tolist() == ["0.0123", "[−2.4e−7, 0.0123]", "0.0123 [−2.4e−7, 0.0123]", "1,000"]
    assert found.iloc[2].tolist() == ["–", "–", "–", "0"]
