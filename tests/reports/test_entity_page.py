"""The page of names: which layer stands for a test, which control beside it, and figures of their frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from study_samples import VERDICTS

from lrope_interp.commands import output
from lrope_interp.commands.analysis import print_verdicts
from lrope_interp.errors import LRopeError
from lrope_interp.reports.entities import PUBLISHED, TESTS, frame_of, steps_table, verdicts
from lrope_interp.results import Result

PageOf = Callable[[str], str]
MATCHED = "response == 'inner_space' and design == 'matched'"


@pytest.fixture
def named(result_of: Callable[[str], Result]) -> Result:
    return result_of("entities")


def changed(result: Result, table: str, **columns: object) -> Result:
    """Put the same values into every row of the increments in a table."""
    frame = result.tables[table].copy()
    frame.loc[frame["signal"] == "increments", [*columns]] = [*columns.values()]
    return dataclasses.replace(result, tables={**result.tables, table: frame})


@pytest.mark.parametrize("test", TESTS)
def test_a_test_draws_its_frame_and_seeds_are_one_row_with_their_range(named: Result, test: str) -> None:
    frame, figure = frame_of(named, test), named.plot(test=test)
    drawn = {trace.name: trace for trace in figure.data}
    for name, signal in (("increments", "increments"), ("untrained model", "untrained")):
        rows = frame[frame["signal"] == signal]
        assert len(rows) == len(VERDICTS)
        np.testing.assert_allclose(np.asarray(drawn[name].x, dtype=float), rows["value"])
        np.testing.assert_allclose(np.asarray(drawn[name].error_x.array, float), rows["high"] - rows["value"])
    assert [text.split("\u00a0")[-1] for text in figure.layout.yaxis2.ticktext][:2] == ["constant", "smaller"]
    if test == "matched":
        seeds = named.tables["matched"].query(f"{MATCHED} and layer == 2 and signal == 'untrained'")
        row = frame[(frame["layer"] == 2) & (frame["signal"] == "untrained")].iloc[0]
        own = seeds["difference"]
        assert (row["low"], row["value"], row["high"]) == pytest.approx((own.min(), own.mean(), own.max()))
    with pytest.raises(LRopeError, match="choose from reversed, regression"):
        named.plot(test="rumoured")


def test_a_test_is_told_by_the_layer_that_shows_most_and_the_control_that_gets_nearest(
    named: Result, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = verdicts(named).frame.set_index("what").loc["matched pairs"]
    own = named.tables["matched"].query(f"{MATCHED} and layer == 1")
    line = own[own["signal"] == "increments"].iloc[0]
    assert (row["where"], row["verdict"], row["layers"]) == ("layer 1", "smaller", "1 of 4")
    assert (row["value"], row["low"], row["high"]) == (line["difference"], line["ci_low"], line["ci_high"])
    controls = own.loc[own["signal"] != "increments", "difference"]
    nearest = controls.min() if line["difference"] < 0 else controls.max()
    assert float(row["control"].split()[-1].replace("−", "-")) == pytest.approx(nearest, abs=6e-4)
    monkeypatch.setattr(output, "WIDTH_WITHOUT_TERMINAL", 80)
    print_verdicts(named, output.Voice())
    lines = capsys.readouterr().out.splitlines()
    assert any("▼ smaller" in line for line in lines) and max(map(len, lines)) <= 80


@pytest.mark.parametrize("verdict", ["smaller", "larger", "control finds it too", "not shown", "constant"])
def test_a_verdict_of_every_layer_is_that_of_the_test_and_both_must_agree(
    named: Result, verdict: str
) -> None:
    both = changed(changed(named, "regression", verdict=verdict), "matched", verdict=verdict)
    found = verdicts(both)
    assert set(found.frame.set_index("what")["verdict"][["regression", "matched pairs"]]) == {verdict}
    assert len(found.headline.split()) <= 25
    finds = f"Both corrected English tests find increments {verdict} in names in 4 layers; the published"
    is_shown = verdict in ("smaller", "larger")
    assert found.headline.startswith(finds if is_shown else "No layer passes both corrected English tests;")
    torn = verdicts(changed(both, "matched", verdict="larger" if verdict == "smaller" else "smaller"))
    assert torn.headline.startswith("No layer passes both")
    assert torn.headline.endswith("the published one, without controls, finds names in layers 0, 1, 2 and 3.")


def test_what_has_no_interval_has_no_verdict_and_little_numbers_are_seen(named: Result) -> None:
    bounds = dict.fromkeys(("difference", "ci_low", "ci_high"), np.nan)
    found = verdicts(changed(named, "matched", verdict="not measured", **bounds))
    row = found.frame.set_index("what").loc["matched pairs"]
    assert (row["where"], row["control"], row["verdict"]) == ("", "", "not measured")
    assert "too few names to match" in found.headline
    bounds = {"difference": -0.0004, "ci_low": -0.0006, "ci_high": -0.0002}
    little = verdicts(changed(named, "chinese", verdict="smaller", **bounds))
    assert little.rows[3].cells[2] == "−0.0004 [−0.0006, −0.0002]"


def test_the_page_has_every_step_and_what_was_published(named: Result, page_of: PageOf) -> None:
    page = page_of("entities")
    for table in (steps_table(named, test) for test in ("regression", "matched", "chinese")):
        assert all(f">{cell}</td>" in page for name in [*table][1:] for cell in table[name])
    assert all(f">{cell}</td>" in page for cells in PUBLISHED.values() for cell in cells)
    other = dataclasses.replace(named, tables=named.tables | {"regression": named.tables["regression"][:0]})
    assert verdicts(other).headline.startswith("Without English text only Chinese words were tested")
