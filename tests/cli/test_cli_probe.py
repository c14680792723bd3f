"""`probe` end to end on a tiny run, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_words import Cli

from lrope_interp.results import load_result

WORDS = ("ruby", "coal", "rose", "snow", "milk", "soot", "blood", "ink")
TYPES = {"ruby": "red", "rose": "red", "blood": "red"}
SMALL = ("--layer", "1", "--quiet")


def spans_file(path: Path, n: int = 66, n_words: int = 9, **changed: Any) -> Path:
    """Write `n` texts of words with their colours; `changed` goes into the first span of the third line."""
    lines = []
    for number in range(n):
        words = [WORDS[(number * 7 + at * at) % len(WORDS)] for at in range(n_words)]
        text = f"{number} 😀 " + " ".join(words)
        at, spans = text.index(words[0]), []
        for word in words:
            spans.append({"start": at, "end": at + len(word), "type": TYPES.get(word, "no red")})
            at += len(word) + 1
        if number == 2:
            spans[0] |= changed
        lines.append(json.dumps({"text": text, "spans": spans}, ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_spans_of_ones_own_leave_a_result_and_a_report(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    answer = cli("probe", "--spans", spans_file(tmp_path / "spans.jsonl"), *SMALL)
    assert answer.code == 0, answer.err
    folder = run_copy / "probe"
    assert {"result.json", "claims.csv", "probes.csv", "report.html"} <= {
        one.name for one in folder.iterdir()
    }
    claims = load_result(folder).tables["claims"]
    assert claims["concept"].tolist() == ["no red", "red"]
    assert set(claims["layer"]) == {1}
    for value in claims["above"]:
        assert f"{value:.3f}" in answer.out
    assert "spans: red" in answer.out and "layer 1" in answer.out
    assert "no red" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"start": 3, "end": 3}, "line 3"),
        ({"end": 5_000}, "line 3"),
        ({"start": -1}, "line 3"),
        ({"start": "1"}, "line 3"),
        ({"type": ""}, "line 3"),
    ],
)
def test_a_wrong_span_is_named_by_its_line(
    cli: Cli, run_copy: Path, tmp_path: Path, changed: dict, words: str
) -> None:
    path = spans_file(tmp_path / "spans.jsonl", **changed)
    before = set(run_copy.iterdir())
    answer = cli("probe", "--spans", path, *SMALL)
    assert answer.code == 2
    assert words in answer.err and "Traceback" not in answer.err
    assert set(run_copy.iterdir()) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--concept", "persom"), "person"),
        (("--features", "incremnts"), "increments"),
        (("--features", ","), "--features names nothing"),
        (("--suite", "ful"), "full"),
        (("--layer", "7"), "layer 7"),
        (("--concept", "keyword"), "Python"),
        (("--spans", "spans.jsonl", "--concept", "red"), "--concept"),
        (("--spans", "missing.jsonl"), "missing.jsonl"),
        (("--max-spans", "0"), "max-spans"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest(
    cli: Cli, run_copy: Path, options: tuple[str, ...], words: str
) -> None:
    answer = cli("probe", *options, "--model", run_copy)
    assert answer.code == 2
    assert words in answer.err and "Traceback" not in answer.err


def test_too_few_spans_are_said_with_their_numbers(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    answer = cli("probe", "--spans", spans_file(tmp_path / "spans.jsonl", n=30, n_words=2), *SMALL)
    assert answer.code == 2
    assert "at least 20 in the train and in the test documents" in answer.err
