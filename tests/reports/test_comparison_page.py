"""Results side by side: rows of each, agreement counted, and nothing tested that was not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

import lrope_interp as lr
from lrope_interp.results import LOSES, WINS, Result

ResultOf = Callable[[str], Result]


def named(result: Result, model: str, **differences: float | str) -> Result:
    table = result.tables["differences"].assign(**differences)
    about = result.provenance | {"model": model}
    return dataclasses.replace(result, provenance=about, tables=result.tables | {"differences": table})


def test_rows_are_those_of_the_results_and_agreement_is_counted(result_of: ResultOf, tmp_path: Path) -> None:
    loses = named(result_of("boundaries"), "a", value=-0.2, ci_low=-0.3, ci_high=-0.1, verdict=LOSES)
    wins = named(result_of("boundaries"), "b", value=0.2, ci_low=0.1, ci_high=0.3, verdict=WINS)
    found = lr.compare(loses, wins, loses, names=["a", "b", "c"])
    frame = found.tables["compared"]
    assert frame["result"].tolist() == ["a", "b", "c"] * 3
    own = frame[frame["result"] == "b"].drop(columns="result").reset_index(drop=True)
    assert own.equals(wins.frame()[own.columns].astype(own.dtypes))
    assert repr(found).startswith("compare: The verdicts of 3 results agree for 0 of 3 questions.")
    assert repr(lr.compare(loses, loses)).startswith("compare: The verdicts of 2 results agree for 3 of 3")
    for trace in found.plot().data[1:]:
        assert trace.x.tolist() == frame.loc[frame["result"] == trace.name, "difference"].tolist()
    page = found.report(tmp_path / "page.html").read_text(encoding="utf-8")
    again = lr.load_result(found.save(tmp_path / "saved"))
    assert again.report(tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_what_cannot_be_compared_is_refused(result_of: ResultOf) -> None:
    one, other = result_of("boundaries"), dataclasses.replace(result_of("boundaries"), kind="ablate")
    for wrong in ((one,), (one, other)):
        with pytest.raises(lr.LRopeError, match="two or more results of one kind"):
            lr.compare(*wrong)
    with pytest.raises(lr.LRopeError, match="2 results want as many different names; given were x and x"):
        lr.compare(one, one, names=["x", "x"])
    assert set(lr.compare(one, one).tables["compared"]["result"]) == {
        f"{one.provenance['model']} ({i})" for i in (1, 2)
    }


def test_other_texts_are_told(result_of: ResultOf) -> None:
    one = result_of("boundaries")
    about = one.provenance | {"data": {**one.provenance["data"], "sha256": "other"}}
    other = dataclasses.replace(one, provenance=about)
    assert lr.compare(one, other).warnings[0] == "the results are not of the same text"
    assert "the results are not of the same text" not in lr.compare(one, one).warnings
