"""`lrope-interp distance`: places as a user types them, and every mistake as one clear line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli_words import Cli

from lrope_interp.commands.distance import parsed_place

TEXT = "the fox sees the dog"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_pair_is_measured_and_every_pair_of_words(cli: Cli, run_copy: Path) -> None:
    answer = cli("distance", TEXT, "--from", "4:7", "--to", "dog", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert found["kind"] == "distances"
    folder = run_copy / "distance"
    pair = rows(folder / "distances.csv")
    assert {(row["layer"], row["measure"]) for row in pair} == {
        (layer, measure) for layer in "01" for measure in ("normalised", "effective")
    }
    assert {row["n_tokens"] for row in pair} == {"13"}
    assert len(rows(folder / "matrix.csv")) == 10 * 2 * 2
    assert (folder / "report.html").exists()
    shown = cli("distance", TEXT, "--from", "fox", "--to", "19", "--layer", "1")
    assert "“fox” and “g” are 13 tokens apart" in shown.out
    assert {row["layer"] for row in rows(run_copy / "distance-2" / "distances.csv")} == {"1"}


def test_a_text_alone_gives_the_matrix(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    answer = cli("distance", "--text", tmp_path / "text.txt", "--model", run_copy)
    assert answer.code == 0, answer.err
    assert rows(run_copy / "distance" / "distances.csv") == []


BAD = [
    (("",), "empty"),
    (("fox",), "has 1 of them"),
    ((), "one text is wanted"),
    ((TEXT, "--text", "a-file"), "one text is wanted"),
    ((TEXT, "--from", "fox"), "two ends"),
    ((TEXT, "--from", "the", "--to", "dog"), "occurs 2 times"),
    ((TEXT, "--from", "cat", "--to", "dog"), "occurs 0 times"),
    ((TEXT, "--from", "", "--to", "dog"), "--from wants"),
    ((TEXT, "--from", "7:4", "--to", "dog"), "A must be below B"),
    ((TEXT, "--from", "4:4", "--to", "dog"), "A must be below B"),
    ((TEXT, "--from", "fox", "--to", "15:99"), "outside"),
    ((TEXT, "--from", "fox", "--to", "20"), "outside"),
    ((TEXT, "--from", "fox", "--to", "9" * 5000), "beyond any text"),
    ((TEXT * 4, "--from", "0", "--to", "1"), "reads 31 of them at once"),
    ((TEXT, "--layer", "7"), "nearest is 1"),
    (("--text", "missing.txt"), "missing.txt"),
    ((TEXT, "--device", "cpuu"), "cpu"),
    ((TEXT, "--out", "a-file"), "a-file"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[f"{at}" for at in range(len(BAD))])
def test_a_mistake_is_one_line_and_code_2_and_leaves_nothing(
    cli: Cli, run_copy: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "a-file").write_text("in the way")
    before = set(tmp_path.rglob("*"))
    answer = cli("distance", *words, "--model", run_copy)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    errors = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert answer.err.splitlines()[-1:] == errors
    assert set(tmp_path.rglob("*")) == before


def test_definitions_are_a_study_of_their_own(cli: Cli, run_copy: Path) -> None:
    answer = cli("distance", "--definitions", "--max-pairs", "9")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "Error: this is now: lrope-interp study definitions --max-pairs 9\n"
    answer = cli("study", "definitions", "--model", run_copy)
    assert answer.code == 2 and "no document is Python" in answer.err


@pytest.mark.parametrize(
    ("typed", "place"), [("3:5", (3, 5)), ("7", 7), ("fox", "fox"), ("a:b", "a:b"), ("٣", "٣")]
)
def test_a_place_is_a_span_a_character_or_words(typed: str, place: object) -> None:
    assert parsed_place(typed, "--from") == place


def test_html_in_a_text_is_shown_as_text(cli: Cli, run_copy: Path) -> None:
    assert cli("distance", "a <img src=x> b", "--model", run_copy).code == 0
    assert "<img src=x" not in (run_copy / "distance" / "report.html").read_text(encoding="utf-8")
