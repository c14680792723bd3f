"""A figure draws its frame: each value in its place, with its own bounds, and an order that can be read."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from report_samples import write_run

from lrope_interp.reports.training.page import plot_increments, plot_loss
from lrope_interp.results import Result

HERE = ("words", "characters")
ResultOf = Callable[[str], Result]


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def assert_bars(trace: Any, frame: pd.DataFrame, axis: str = "error_x") -> None:
    """The bars of a trace reach from its values to the bounds of the frame."""
    np.testing.assert_allclose(trace[axis].array, frame["high"] - frame["value"])
    np.testing.assert_allclose(trace[axis].arrayminus, frame["value"] - frame["low"])


# --- studies, distances, training ----------------------------------------------------------------------


def test_a_run_is_drawn_with_bits_beside_nats_and_its_spread(tmp_path: Any) -> None:
    folder = write_run(tmp_path / "run")
    layout: Any = plot_loss(folder).layout
    np.testing.assert_allclose(np.array(layout.yaxis.range) / math.log(2), layout.yaxis2.range)
    drawn = plot_increments(folder).data
    upper = [trace for trace in drawn if trace.name == "mean + s.d."]
    lines = [trace for trace in drawn if str(trace.name).startswith("layer")]
    assert len(upper) == len(lines) == 3
    np.testing.assert_allclose(upper[0].y, np.add(lines[0].y, lines[0].customdata))
