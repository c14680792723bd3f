"""The page of `distance`: every pair in its cell, and unusual is what leaves the range."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from report_samples import HOSTILE
from study_samples import distance_result

from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.distances import (
    change,
    matrix_frame,
    pair_frame,
    pair_table,
    plot_matrix,
    plot_pair,
    verdicts,
)
from lrope_interp.results import Result


def judged(result: Result, outside: object, value: float | None = None, table: str = "distances") -> Result:
    """Plant a verdict in every row of a table."""
    frame = result.tables[table]
    planted = frame.assign(is_outside=pd.array([outside] * len(frame), dtype="boolean"))
    planted = planted if value is None else planted.assign(value=value)
    return dataclasses.replace(result, tables=result.tables | {table: planted})


@pytest.mark.parametrize("measure", ["normalised", "effective"])
def test_the_matrix_draws_every_pair_of_a_layer(measure: str) -> None:
    result = distance_result()
    for layer in (0, 1):
        (trace,) = plot_matrix(result, layer, measure=measure).data
        own = matrix_frame(result, measure).query("layer == @layer")
        drawn = np.asarray(trace.customdata, dtype=float)
        assert np.isfinite(drawn).sum() == len(own) == 6
        for row in own.itertuples():
            at = (row.index_b, row.index_a)
            assert drawn[at] == row.value
            assert trace.z[at[0]][at[1]] == pytest.approx(math.log2(row.value / row.expected), abs=1e-4)
            assert (trace.text[at[0]][at[1]] == "•") == (str(row.is_outside) == "True")
    with pytest.raises(LRopeError, match="no layer 7"):
        plot_matrix(result, 7)


def test_a_pair_is_drawn_on_its_range() -> None:
    result = distance_result()
    frame = pair_frame(result)
    drawn = {trace.name: trace for trace in plot_pair(result).data}
    assert list(drawn["this pair"].x) == frame["value"].tolist()
    assert list(drawn["95 % of pairs as far apart"].base) == frame["low"].tolist()
    assert len(pair_table(result)) == 4  # two layers by two measures
    for measure, by_construction in (("normalised", 5.0), ("effective", 0.0)):
        drawn = {trace.name: trace for trace in plot_pair(result, measure).data}
        assert set(drawn["reference"].x) == {by_construction}
        assert list(drawn["their mean"].x) == pair_frame(result, measure)["expected"].tolist()


@pytest.mark.parametrize(
    ("outside", "value", "verdict", "said"),
    [
        (False, 5.0, "as usual", "as usual for this text in every row"),
        (True, 4.0, "closer", "closer than usual in layer 0 and layer 1"),
        (True, 6.0, "farther", "farther than usual in layer 0 and layer 1"),
        (None, 6.0, "", "too few pairs of this text are as far apart"),
    ],
)
def test_a_pair_is_unusual_where_its_distance_leaves_the_range(
    outside: object, value: float, verdict: str, said: str
) -> None:
    found = verdicts(judged(distance_result(), outside, value))
    assert "“peace” and “of” are 5 tokens apart" in found.headline and said in found.headline
    assert len(found.headline.split()) <= 25
    assert found.frame["verdict"].tolist() == [verdict] * 2
    assert found.frame["value"].tolist() == [value] * 2


def test_without_a_pair_the_words_are_summed_up_by_layer() -> None:
    result = distance_result(is_asked=False)
    matrix, found = matrix_frame(result), verdicts(result)
    for row, (_, own) in zip(found.frame.itertuples(), matrix.groupby("layer"), strict=True):
        known = own[own["is_outside"].notna()]
        assert row.value == 100 * known["is_outside"].astype(bool).mean()
    most = found.frame.loc[found.frame["value"].idxmax(), "what"]
    assert found.headline.endswith(f"are unusually close or far (5 % in any text); most in {most}.")
    assert "most in" not in verdicts(distance_result(n_layers=1, is_asked=False)).headline
    assert plot_matrix(result) == result.plot()
    with pytest.raises(LRopeError, match="no pair of places"):
        result.plot("pair")
    assert "0 % of the pairs of 4 words" in verdicts(judged(result, False, table="matrix")).headline
    assert "too few pairs" in verdicts(judged(result, None, table="matrix")).headline


def test_a_change_that_rounds_to_nothing_has_no_sign() -> None:
    told = [change(value, 10.0) for value in (9.99, 10.01, 9.0, 11.0)]
    assert told == ["0 %", "0 %", "−10 %", "+10 %"] and change(1.0, math.nan) == change(1.0, 0.0) == "–"


def test_words_that_look_like_markup_are_shown_as_words() -> None:
    result = distance_result((HOSTILE, "b", "c"))
    assert HOSTILE.split("\u2028")[0].replace("<", "&lt;").replace(">", "&gt;")[:20] in render(result)
    assert "<script>alert" not in result._repr_html_()
