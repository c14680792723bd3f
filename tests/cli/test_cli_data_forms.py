"""Training on rows of text and on data sets, measuring such a run, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from cli_words import Answer, Cli

WORDS = [
    "the",
    "fox",
    "dog",
    "bird",
    "tree",
    "water",
    "green",
    "small",
    "quick",
    "jumps",
    "sings",
    "over",
    "near",
]


def _rows(column: str = "body", n: int = 400) -> str:
    texts = [" ".join(WORDS[(k * j + j) % len(WORDS)] for j in range(1, 30)) + f" {k}." for k in range(n)]
    return "".join(json.dumps({"id": k, column: text}) + "\n" for k, text in enumerate(texts))


def _refused(answer: Answer) -> str:
    assert answer.code == 2
    assert answer.out == ""
    assert "Traceback" not in answer.err
    return answer.err


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preset's model so small that it trains in a moment."""
    from lrope_interp.training import config

    shape = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 32}
    monkeypatch.setitem(config.PRESETS, "tiny", {**shape, "batch_size": 4, "validation_bytes": 500})


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "form", ["file:rows.jsonl.gz", pytest.param("hf:set:::body", marks=pytest.mark.slow)]
)
def test_a_run_on_rows_is_measured_on_its_held_out_rows(cli: Cli, tmp_path: Path, form: str) -> None:
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(_rows().encode()))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(_rows())
    column = [] if form.startswith("hf:") else ["--text-column", "body"]
    trained = cli("train", "--data", form, "--steps", 2, "--max-train-bytes", 30_000, *column, "--json")
    assert trained.code == 0, trained.err
    run = Path(json.loads(trained.out)["run"])
    manifest = json.loads((run / "data.json").read_text())
    assert sum(one["n_bytes"] for one in manifest["splits"].values()) in range(29_000, 30_001)
    assert manifest["max_train_bytes"] == 30_000
    scored = cli("eval", "--model", run, "--json")
    assert scored.code == 0, scored.err
    result = json.loads((run / "eval" / "result.json").read_text())
    assert result["provenance"]["data"]["n_documents"] == manifest["splits"]["test"]["n_documents"]
    assert cli("boundaries", "--model", run, "--layer", "0").code == 0


@pytest.mark.usefixtures("tiny")
def test_a_run_on_rows_is_resumed_and_a_changed_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(_rows("text"))
    words = ["train", "--data", "file:rows.jsonl", "--steps", 2, "--out", "run"]
    assert cli(*words).code == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**run, "status": "running"}))
    path.write_text(_rows("text", 399))
    assert "has changed since" in _refused(cli("train", "--resume", "--out", "run", *words[1:3]))
    assert cli("train", "--resume", "--out", "run").code == 0  # from the copy in the cache


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", _rows().encode(), "--text-column"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', "line 2: not valid JSON"),
        ("a.jsonl", b"", "0 different document"),
        ("a.jsonl.gz", gzip.compress(_rows("text").encode())[:500], "is it whole"),
        ("a.jsonl.zst", b"not zstd", "is it whole"),
        ("a.parquet", b"not parquet", "is it whole"),
        ("a.csv", b"a,b\n", "convert it"),
    ],
)
def test_bad_rows_are_refused_and_leave_nothing(
    cli: Cli, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in _refused(cli("train", "--data", f"file:{name}"))
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("hf:", "needs the name"),
        ("hf:nobody/nothing", "HF_HUB_OFFLINE"),
        ("hf:/no/such/folder", "there is no folder"),
        ("hf:a:b:c:d:e", "at most four"),
        ("code", "read as a whole"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_refused(cli: Cli, tmp_path: Path, data: str, said: str) -> None:
    assert said in _refused(cli("train", "--data", data, "--max-train-bytes", 10))
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_text(_rows("text"))
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "a.jsonl"))
    assert "set LROPE_INTERP_CACHE" in _refused(cli("train", "--data", "file:a.jsonl"))
