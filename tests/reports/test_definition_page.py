"""The page on definitions and uses: only what beats every comparison has a verdict, and figures draw it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from study_samples import CLOSER, definitions_result

from lrope_interp.errors import LRopeError
from lrope_interp.reports import render
from lrope_interp.reports.definitions import BEYOND, effects_frame, n_layers, verdicts
from lrope_interp.reports.kit.render import is_flat

DRAWN, APART, OPEN = "drawn together", "pushed apart", "not shown"


@pytest.mark.parametrize(
    ("differences", "beyond", "verdict", "least"),
    [
        (CLOSER, -0.1, DRAWN, None),
        (CLOSER | {"roles": 0.0}, -0.1, OPEN, "a definition and the use of another name"),
        (CLOSER, 0.0, OPEN, "untrained model"),
        (CLOSER | {"roles": -0.005}, -0.1, OPEN, "a definition and the use of another name"),
        (CLOSER, -0.005, OPEN, "untrained model"),
        (dict.fromkeys(CLOSER, 0.005), 0.1, OPEN, None),
        (dict.fromkeys(CLOSER, 0.1), 0.1, APART, None),
        (dict.fromkeys(CLOSER, 0.1) | {"same_name": 0.005}, 0.1, OPEN, "two uses of one definition"),
    ],
)
def test_only_what_beats_every_comparison_is_drawn_together_or_pushed_apart(
    differences: dict[str, float], beyond: float, verdict: str, least: str | None
) -> None:
    result = definitions_result(differences, beyond)
    found = verdicts(result)
    calls, methods = found.frame.to_dict("records")
    assert (calls["verdict"], methods["verdict"]) == (verdict, "not measured")
    assert least in (None, calls["control"])
    assert calls["value"] == pytest.approx(100 * math.expm1(differences["names"]))
    assert found.headline.endswith("methods are not measured.") and len(found.headline.split()) <= 25
    said = {
        DRAWN: "Calls and definitions are drawn together",
        APART: "Calls and definitions are pushed apart",
    }
    assert found.headline.startswith(said.get(verdict, "No difference beyond every comparison is shown"))
    assert n_layers(result, "call", DRAWN) == (2 if differences["names"] < 0 else 0, 2)


@pytest.mark.parametrize(
    ("column", "name"), [("control", "same_name"), ("control", "roles"), ("model", BEYOND)]
)
def test_what_was_not_measured_is_not_said_to_be_beaten(column: str, name: str) -> None:
    result = definitions_result()
    table = result.tables["definitions"]
    unbounded = table.assign(ci_low=table["ci_low"].where(table[column] != name))
    for left in (table[table[column] != name], unbounded):
        changed = dataclasses.replace(result, tables=result.tables | {"definitions": left})
        row = verdicts(changed).frame.iloc[0]
        assert row["verdict"] == OPEN and np.isnan(row["difference_low"])


@pytest.mark.parametrize("measure", ["normalised", "effective"])
def test_each_comparison_is_drawn_beside_the_others(measure: str) -> None:
    result = definitions_result(CLOSER | {"roles": 0.2})
    frame, figure = effects_frame(result, "call", measure), result.plot(measure=measure)
    drawn = {trace.name: trace for trace in figure.data}
    for name, control in (
        ("against two different names", "names"),
        ("against another definition and use", "roles"),
    ):
        own = frame[(frame["control"] == control) & (frame["model"] == "trained")]
        np.testing.assert_allclose(drawn[name].x, own["value"])
        np.testing.assert_allclose(drawn[name].error_x.array, own["high"] - own["value"])
    with pytest.raises(LRopeError, match="measured are call"):
        result.plot(kind="method")


def test_the_difference_over_the_distance_is_drawn_in_per_cent() -> None:
    figure = definitions_result().plot("by_distance")
    assert figure.layout.xaxis.title.text == "token distance"
    assert figure.layout.yaxis.title.text == "less pairs like it (%)"
    assert [line.name for line in figure.data] == ["all layers", "layer 0", "layer 1"]
    value, low, high = (100 * math.expm1(one) for one in (-0.1, -0.2, 0.0))
    for line in figure.data:
        assert list(line.x) == [12.5] and list(line.y) == pytest.approx([value])
        assert list(line.error_y.array) == pytest.approx([high - value])
        assert list(line.error_y.arrayminus) == pytest.approx([value - low])
        assert line.error_y.visible == (line.name == "all layers")


def test_the_page_has_every_comparison_and_a_single_row_is_not_flat() -> None:
    result = definitions_result()
    page = render(result)
    assert page.count("All 15 comparisons as a table") == 2
    assert "−9.52 [−10.4, −8.61]" in page and "2 of 2 layers are closer and 0 farther" in page
    table = result.tables["definitions"]
    only = table[table["layer"].isna()]
    assert not is_flat(dataclasses.replace(result, tables=result.tables | {"definitions": only}).plot())
