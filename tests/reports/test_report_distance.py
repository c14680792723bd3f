"""The pages on distances draw the numbers of their result, and say plainly what wins."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_samples import HOSTILE, PROVENANCE

from lrope_interp.reports.definitions.page import plot_by_distance, plot_effects, render_definitions, verdicts
from lrope_interp.reports.distances.page import (
    headline,
    matrix_frame,
    pair_frame,
    plot_matrix,
    plot_pair,
    render_distance,
)
from lrope_interp.results import Result, load_result, save_result

WORDS = ("peace", "of", "中国", HOSTILE)


def distance_result(words: tuple[str, ...] = WORDS, n_layers: int = 2, *, is_asked: bool = True) -> Result:
    rng = np.random.default_rng(3)
    pairs = [(a, b) for a in range(len(words)) for b in range(a + 1, len(words))]
    rows = []
    for measure in ("normalised", "effective"):
        for a, b in pairs:
            for layer in range(n_layers):
                n_tokens = 5 * (b - a)
                value = float(n_tokens * rng.lognormal(0, 0.3))
                low, high = (math.nan, math.nan) if b - a > 2 else (0.9 * n_tokens, 1.1 * n_tokens)
                outside = pd.NA if math.isnan(low) else not low <= value <= high
                rows.append(
                    {
                        "layer": layer, "head": pd.NA, "measure": measure, "word_a": words[a],
                        "word_b": words[b], "index_a": a, "index_b": b, "value": value, "n_tokens": n_tokens,
                        "expected": float(n_tokens), "low": low, "high": high, "is_outside": outside,
                    }
                )  # fmt: skip
    whole = {"layer": "Int64", "head": "Int64", "n_tokens": "Int64", "is_outside": "boolean"}
    matrix = pd.DataFrame(rows).astype(whole)
    own = matrix[(matrix["index_a"] == 0) & (matrix["index_b"] == 1)]
    columns = [name for name in matrix if not name.startswith(("word", "index"))]
    distances: Any = (own if is_asked else own.iloc[:0])[columns].reset_index(drop=True)
    named = {"index": range(len(words)), "word": words, "start": range(len(words)), "end": range(len(words))}
    asked = {"place": ["from", "to"], "text": list(words[:2]), "start": [0, 1], "end": [1, 2]}
    tables = {"distances": distances, "matrix": matrix, "words": pd.DataFrame(named)}
    tables |= {"asked": pd.DataFrame(asked).iloc[: 2 if is_asked else 0]}
    return Result("distances", PROVENANCE, {}, tables, created="2026-11-22T10:00:00+00:00")


def test_the_matrix_draws_every_pair_below_the_diagonal():
    result = distance_result()
    figure = plot_matrix(result)
    assert len(figure.data) == 2
    for trace, (_, own) in zip(figure.data, matrix_frame(result).groupby("row_label"), strict=True):
        drawn = np.asarray(trace.customdata, dtype=float)
        assert np.isfinite(drawn).sum() == len(own) == 6
        for row in own.itertuples():
            assert drawn[row.index_b, row.index_a] == row.value
            assert trace.z[row.index_b][row.index_a] == pytest.approx(math.log2(row.value / row.expected))
            assert (trace.text[row.index_b][row.index_a] == "•") == (str(row.is_outside) == "True")
    assert [trace.visible for trace in figure.data] == [True, False]
    buttons = figure.layout.updatemenus[0].buttons
    assert [list(one.args[1]) for one in buttons] == [[True, False], [False, True]]


def test_the_pair_is_drawn_on_its_range():
    result = distance_result()
    frame = pair_frame(result)
    figure = plot_pair(result)
    (dots,) = [trace for trace in figure.data if trace.name == "this pair"]
    assert list(dots.x) == frame["value"].tolist()
    (band,) = [trace for trace in figure.data if trace.type == "bar"]
    assert list(band.base) == frame["low"].tolist()
    assert next(trace for trace in figure.data if trace.name == "reference").x[0] == 5


def test_words_are_escaped_everywhere():
    html = render_distance(distance_result())
    assert "<script>alert" not in html
    assert "<b>x</b>" not in html
    hovers = "".join("".join(row) for trace in plot_matrix(distance_result()).data for row in trace.hovertext)
    assert "<script" not in hovers
    assert "&lt;script" in hovers


def test_the_headline_says_where_the_pair_is_unusual():
    said = headline(distance_result())[0]
    frame = pair_frame(distance_result())
    outside = frame[frame["is_outside"].astype(str) == "True"]
    assert "“peace” and “of” are 5 tokens apart" in said
    assert 0 < len(outside) <= 2
    assert all(label in said for label in outside["row_label"])
    assert "outside the central 95 %" in headline(distance_result(is_asked=False))[0]
    assert "The two places" not in render_distance(distance_result(is_asked=False))


def definitions_result(differences: dict[str, float], beyond: float, n: int = 600) -> Result:
    """Every layer has the same difference, with an interval of 0.01 on both sides."""
    rows = []
    values = {(control, "trained"): value for control, value in differences.items()}
    values |= {("names", "untrained"): 0.0, ("names", "trained - untrained"): beyond}
    for measure in ("normalised", "effective"):
        for (control, model), value in values.items():
            for layer in (0, 1, pd.NA):
                rows.append(
                    {
                        "kind": "call", "control": control, "measure": measure, "model": model,
                        "layer": layer, "head": pd.NA, "real": math.exp(value), "matched": 1.0,
                        "difference": value, "ci_low": value - 0.01, "ci_high": value + 0.01, "n": n,
                        "n_documents": 60, "n_units": 60,
                    }
                )  # fmt: skip
    effects = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"})
    near = {"kind": "call", "layer": pd.NA, "head": pd.NA, "distance": 5, "distance_high": 20, "n": 300}
    near |= {"difference": -0.1, "ci_low": -0.2, "ci_high": 0.0, "n_documents": 60}
    by_distance = pd.DataFrame([near, near | {"layer": 0}, near | {"layer": 1}]).astype({"layer": "Int64"})
    counts = [
        {"kind": "call", "n_found": 900, "n_far": 200, "n_shared": 100, "n_measured": n},
        {"kind": "method", "n_found": 9, "n_far": 9, "n_shared": 0, "n_measured": 0},
    ]
    matches = [
        {
            "kind": "call",
            "control": "names",
            "n": n,
            "n_controls": 5 * n,
            "apart_tokens": 0.0,
            "apart_lines": 0.5,
        }
    ]
    tables = {"definitions": effects, "by_distance": by_distance, "counts": pd.DataFrame(counts)}
    tables |= {"matches": pd.DataFrame(matches), "pairs": pd.DataFrame({"kind": ["call"]})}
    return Result("definitions", PROVENANCE, {}, tables, created="2026-11-22T10:00:00+00:00")


CLOSER = {"names": -0.1, "same_name": -0.1, "roles": -0.1}


@pytest.mark.parametrize(
    ("differences", "beyond", "said"),
    [
        (CLOSER, -0.1, "are drawn together beyond every matched pair"),
        (CLOSER | {"roles": 0.0}, -0.1, "are not shown to be drawn together"),
        (CLOSER, 0.0, "are not shown to be drawn together"),
        (CLOSER | {"roles": -0.005}, -0.1, "are not shown to be drawn together"),
        (CLOSER, -0.005, "are not shown to be drawn together"),
        (dict.fromkeys(CLOSER, 0.005), 0.1, "are not shown to be drawn together"),
        (dict.fromkeys(CLOSER, 0.1), 0.1, "are pushed apart"),
    ],
)
def test_only_what_beats_every_control_is_said_to_be_drawn_together(
    differences: dict[str, float], beyond: float, said: str
):
    calls, methods = verdicts(definitions_result(differences, beyond))
    assert said in calls
    assert methods == "Methods: not measured, with 0 pairs that a window holds."
    closer = 2 if differences["names"] < 0 else 0
    assert f"{closer} of 2 layers are closer" in calls


@pytest.mark.parametrize(
    ("column", "name"), [("control", "same_name"), ("control", "roles"), ("model", "trained - untrained")]
)
def test_what_was_not_measured_is_not_said_to_be_beaten(column: str, name: str):
    result = definitions_result(CLOSER, -0.1)
    table = result.tables["definitions"]
    gone = table[table[column] != name]
    unbounded = table.assign(ci_low=table["ci_low"].where(table[column] != name))
    for left in (gone, unbounded):
        changed = dataclasses.replace(result, tables=result.tables | {"definitions": left})
        assert "are not shown to be drawn together" in verdicts(changed)[0]


def test_the_figure_draws_the_differences_in_per_cent():
    result = definitions_result(CLOSER, -0.1)
    figure = plot_effects(result, "call")
    (trace,) = [one for one in figure.data if one.name == "against two different names"]
    assert list(trace.x) == pytest.approx([100 * math.expm1(-0.1)] * 3)
    assert list(trace.error_x.array) == pytest.approx([100 * (math.exp(-0.09) - math.exp(-0.1))] * 3)
    lines = plot_by_distance(result, "call").data
    assert [one.name for one in lines] == ["all layers", "layer 0", "layer 1"]


@pytest.mark.parametrize(
    ("result", "render"),
    [(distance_result(), render_distance), (definitions_result(CLOSER, -0.1), render_definitions)],
    ids=["distances", "definitions"],
)
def test_a_saved_result_renders_the_same_page(result: Result, render, tmp_path):
    save_result(result, tmp_path)
    assert render(load_result(tmp_path)) == render(result)
