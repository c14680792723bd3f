"""A hundred runs of the checks on planted data; `results/trust` has a thousand."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from benchmarks import trust

RUNS = {"bins": 40, "labels": 25}  # dearer ones; a run of labels has four families
SAVED = Path(__file__).parents[2] / "results" / "trust" / "summary.csv"


@pytest.mark.parametrize("name", [one for one in trust.CHECKS if one != "beyond"])
def test_planted_effects_are_found_and_nothing_else_as_often_as_was_promised(name: str) -> None:
    """Shares may leave their range by three standard errors of so few runs."""
    check, n = trust.CHECKS[name], RUNS.get(name, 100)
    for one in check.summarise(name, [check.run(seed) for seed in range(n)]):
        low, high = (
            0.0 if one.figure.startswith("KS") else 3 * math.sqrt(abs(bound) * (1 - abs(bound)) / n)
            for bound in (one.wanted_low, one.wanted_high)
        )
        assert one.wanted_low - low <= one.value <= one.wanted_high + high, one


def test_runs_go_on_where_they_were_cut_off(tmp_path: Path) -> None:
    words = ["--runs", "4", "--checks", "same_byte_null", "--out", str(tmp_path)]
    trust.main(words)
    lines = tmp_path / "same_byte_null.jsonl"
    whole = lines.read_text()
    lines.write_text(whole[: len(whole) * 3 // 4])
    begun = lines.read_text().count("\n")
    trust.main(words)
    assert 0 < begun < 4 and lines.read_text() == whole
    assert "planted effects" in (tmp_path / "summary.csv").read_text()


def test_the_saved_summary_has_every_check() -> None:
    with SAVED.open() as file:
        rows = [*csv.DictReader(file)]
    assert list(dict.fromkeys(row["check"] for row in rows)) == list(trust.CHECKS)
    assert {row["runs"] for row in rows if row["check"] != "beyond"} >= {"1000"}
