"""`entities` end to end on a tiny run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_words import Cli, Train

from lrope_interp.results import load_result

SMALL = ("--max-bytes", "1500", "--quiet")


@pytest.fixture
def names(tmp_path: Path) -> Path:
    path = tmp_path / "names.txt"
    path.write_text("# ours\nfox dog\nthe fox\nquick tree\nsmall water\n")
    return path


def test_it_leaves_tables_and_a_report_and_prints_a_row_a_layer(
    cli: Cli, run_copy: Path, names: Path
) -> None:
    answer = cli("study", "entities", "--pairs", names, *SMALL)
    assert answer.code == 0, answer.err
    folder = run_copy / "entities"
    assert {"reversed.csv", "regression.csv", "matched.csv", "pairs.csv", "balance.csv", "chinese.csv"} <= {
        one.name for one in folder.iterdir()
    }
    assert "layer 0" in answer.out
    assert "layer 1" in answer.out
    assert "4 names with 4 first words" in answer.out
    assert "no Chinese test was made" in answer.err
    assert "Published test: reversed order" in (folder / "report.html").read_text(encoding="utf-8")
    pairs = load_result(folder).tables["pairs"]
    assert set(pairs["kind"]) == {"given"}
    assert min(pairs["training_count"]) > 0


def test_json_is_alone_on_stdout_and_agrees_with_the_saved_result(
    cli: Cli, run_copy: Path, names: Path
) -> None:
    found = json.loads(cli("study", "entities", "--pairs", names, "--json", *SMALL, "--model", run_copy).out)
    assert found["kind"] == "entities"
    assert found["headline"] == load_result(found["result"]).headline


@pytest.mark.parametrize(
    ("text", "said"),
    [("fox dog\nfox\n", "line 2: wanted two words"), ("fox dog\nfox dog\n", "line 2"), ("", "has no pair")],
)
def test_a_bad_list_is_refused_before_anything_is_read(
    cli: Cli, run_copy: Path, names: Path, text: str, said: str
) -> None:
    names.write_text(text)
    answer = cli("study", "entities", "--pairs", names, *SMALL)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert not (run_copy / "entities").exists()


def test_a_missing_list_two_texts_and_a_fixed_run_are_refused(
    cli: Cli, run_copy: Path, train_tiny: Train, text_file: Path
) -> None:
    answer = cli("study", "entities", "--pairs", "nowhere.txt", *SMALL)
    assert (answer.code, "nowhere.txt" in answer.err) == (2, True)
    answer = cli("study", "entities", "--data", "bilingual", "--text", text_file, *SMALL)
    assert (answer.code, "give one of them" in answer.err) == (2, True)
    answer = cli("study", "entities", "--model", train_tiny("fixed"), *SMALL)
    assert (answer.code, "no increments that it learned" in answer.err) == (2, True)
    assert not (run_copy / "entities").exists()
