"""The commands end to end, on a run that fits in a second."""

from __future__ import annotations

import io
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_words import Cli, Train

from lrope_interp.errors import visible
from lrope_interp.results import load_result


def test_boundaries_leaves_a_result_and_a_report(cli: Cli, run_copy: Path) -> None:
    answer = cli("boundaries", "--layer", "0")
    assert answer.code == 0
    assert f"using {run_copy.relative_to(Path.cwd())}, the newest finished run" in answer.err
    folder = run_copy / "boundaries"
    assert {"result.json", "scores.csv", "gaps.parquet", "report.html"} <= {
        one.name for one in folder.iterdir()
    }
    assert str(folder.relative_to(Path.cwd()) / "report.html") in answer.out
    for row in (
        "layer 0",
        "entropy",
        "surprisal",
        "byte's mean increment",
        "untrained model",
    ):
        assert row in answer.out
    assert "layer 1" not in answer.out
    for label in ("whitespace", "punctuation"):
        _recompute_as_the_docs_do(folder, label)


def _recompute_as_the_docs_do(folder: Path, label: str) -> None:
    """Run the last example of docs/measuring.md, which ends with an assertion, on another folder."""
    page = Path(__file__).resolve().parents[2] / "docs" / "measuring.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)[-1]
    code = re.sub(r'folder = ".*"', f"folder = {str(folder)!r}", code)
    code = code.replace("'whitespace'", repr(label)).replace("is_whitespace", f"is_{label}")
    assert str(folder) in code
    assert "assert abs(" in code
    exec(code, {})


def test_the_command_in_the_provenance_names_the_run(cli: Cli, run_copy: Path) -> None:
    assert cli("eval").code == 0
    provenance = load_result(run_copy / "eval").provenance
    assert provenance["command"] == f"lrope-interp eval --model runs/{run_copy.name}"
    assert provenance["model"] == run_copy.name


def test_json_is_alone_on_stdout_and_agrees_with_the_saved_result(cli: Cli, run_copy: Path) -> None:
    answer = cli("eval", "--json", "--model", run_copy)
    found = json.loads(answer.out)
    assert found["headline"]["nats_per_byte"] == load_result(found["result"]).headline["nats_per_byte"]
    assert Path(found["report"]).is_file()


def test_quiet_leaves_stderr_to_warnings(cli: Cli, run_copy: Path) -> None:
    answer = cli("eval", "--quiet", "--model", run_copy)
    assert all(line.startswith("warning: ") for line in answer.err.splitlines())


def test_results_are_numbered_and_never_replaced(cli: Cli, run_copy: Path) -> None:
    for _ in range(3):
        assert cli("show", "A cat. 猫。", "--model", run_copy).code == 0
    assert {"show", "show-2", "show-3"} <= {one.name for one in run_copy.iterdir()}


def test_overwrite_replaces_a_result_of_ours_as_a_whole(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    words = ["show", "A cat.", "--model", str(run_copy), "--out", str(tmp_path / "out")]
    assert cli(*words).code == 0
    before = (tmp_path / "out" / "result.json").read_bytes()
    assert cli(*words).code == 2
    assert cli(*words, "--overwrite").code == 0
    assert (tmp_path / "out" / "result.json").read_bytes() != before
    (tmp_path / "out" / "note.txt").write_text("mine")
    refused = cli(*words, "--overwrite")
    assert refused.code == 2
    assert "holds note.txt" in refused.err
    assert (tmp_path / "out" / "note.txt").read_text() == "mine"


def test_show_takes_a_part_and_a_head(cli: Cli, run_copy: Path, text_file: Path) -> None:
    answer = cli(
        *("show", "--text", text_file, "--model", run_copy, "--layer", "1"),
        *("--start", "4", "--length", "9", "--attention", "1.0", "--at", "7"),
    )
    assert answer.code == 0
    tables = load_result(run_copy / "show").tables
    assert sorted(set(tables["characters"]["character"])) == list(range(4, 13))
    assert set(tables["characters"]["layer"]) == {1}
    assert set(tables["attention"]["query_character"]) == {7}


def test_at_takes_the_character_itself(cli: Cli, run_copy: Path) -> None:
    cli("show", "abcabc", "--model", run_copy, "--start", "2", "--attention", "0.1", "--at", "b")
    assert set(load_result(run_copy / "show").tables["attention"]["query_character"]) == {4}


def test_eval_of_a_text_scores_all_of_it(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("One paragraph.\n\nAnother one, a little longer.\n")
    found = json.loads(cli("eval", "--text", "mine.txt", "--json", "--model", run_copy).out)
    assert found["provenance"]["data"]["n_bytes"] == len("One paragraph.") + len(
        "Another one, a little longer.\n"
    )


def test_corpora_lists_every_corpus_and_how_to_install_it(cli: Cli) -> None:
    from lrope_interp.data import CORPORA

    found = json.loads(cli("list", "corpora", "--json").out)["corpora"]
    assert [one["name"] for one in found] == list(CORPORA)
    assert all(one["is_installed"] or one["install"].startswith("pip install") for one in found)
    assert all(name in cli("list", "corpora").out for name in CORPORA)


def test_runs_lists_the_runs_and_the_reports_of_the_newest(cli: Cli, run_copy: Path) -> None:
    assert cli("show", "A cat.").code == 0
    answer = cli("list", "runs")
    assert str(Path("runs") / run_copy.name) in answer.out
    assert answer.out.splitlines()[-1].strip() == f"runs/{run_copy.name}/show/report.html"
    assert json.loads(cli("list", "runs", "--json").out)["runs"][0]["status"] == "finished"


def test_no_runs_yet_says_how_to_make_one(cli: Cli) -> None:
    answer = cli("list", "runs")
    assert answer.code == 0
    assert "lrope-interp train" in answer.out


TRAIN = ("train", "--steps", "4", "--batch-size", "1")


def test_train_leaves_a_run_with_a_report_and_says_where(cli: Cli, text_file: Path) -> None:
    answer = cli(*TRAIN, "--data", f"file:{text_file}", "--seed", "3", "--increments", "per-layer")
    assert answer.code == 0
    folder = Path("runs/tiny-file-text-per_layer-s3")
    assert {"run.json", "config.json", "model.safetensors", "report.html"} <= {
        one.name for one in folder.iterdir()
    }
    assert str(folder / "report.html") in answer.out
    for word in ("nats", "bits", "kB/s", "left", "L0 ", "L5 "):
        assert word in answer.err
    assert "validation loss" in answer.out


def test_ctrl_c_says_how_to_go_on_and_resume_does(
    cli: Cli, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.commands import progress as _cli_progress
    from lrope_interp.training.events import Step

    take = _cli_progress.TrainingState.take

    def interrupting(self: Any, event: Any) -> None:
        take(self, event)
        if isinstance(event, Step) and event.step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(_cli_progress.TrainingState, "take", interrupting)
        answer = cli(*TRAIN, "--data", f"file:{text_file}", "--out", "mine")
    assert answer.code == 130
    assert "Go on (from step 2) with: lrope-interp train --resume --out mine" in answer.err
    assert "Traceback" not in answer.err
    refused = cli("train", "--resume", "--out", "mine", "--seed", "5")
    assert refused.code == 2
    assert "seed was 0, now 5" in refused.err
    going_on = cli("train", "--resume", "--out", "mine", "--json")
    assert going_on.code == 0
    assert json.loads(going_on.out)["summary"]["step"] == 4
    again = cli("train", "--resume", "--out", "mine")
    assert again.code == 0
    assert "was finished before: nothing is left to train" in again.err


def test_a_fixed_run_can_be_shown(cli: Cli, train_tiny: Train, tmp_path: Path) -> None:
    folder = train_tiny("fixed")
    answer = cli("show", "A cat.", "--model", folder, "--out", tmp_path / "out")
    assert answer.code == 0
    assert set(load_result(tmp_path / "out").tables["characters"]["increment"]) == {1.0}


def test_generate_writes_the_same_text_with_and_without_the_cache(cli: Cli, run_copy: Path) -> None:
    words = ("generate", "the fox", "--max-new-tokens", "12", "--seed", "4")
    cached, plain = cli(*words), cli(*words, "--no-cache")
    assert cached.code == 0
    assert f"using {run_copy.relative_to(Path.cwd())}, the newest finished run" in cached.err
    assert cached.out == plain.out
    assert cli(*words[:-1], "5").out != cached.out
    found = json.loads(cli(*words, "--json").out)
    assert visible(found["text"].rstrip(), keep="\n\t") in cached.out


def test_generate_refuses_what_does_not_fit_into_the_model(cli: Cli, run_copy: Path) -> None:
    answer = cli("generate", "the fox", "--max-new-tokens", "500", "--model", run_copy)
    assert answer.code == 2
    assert "n_ctx=32" in answer.err
    assert "--max-new-tokens" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "-5 degrees", "--layer", "0"), "layer 0"),
        (("show", "--layer", "0", "--", "-h"), "layer 0"),
        (("generate", "- item", "--max-new-tokens", "2", "--temperature", "0"), ""),
        (("distance", "--from", "-5", "--to", "up", "-5 is up --- not down"), "tokens"),
    ],
)
def test_a_text_may_begin_with_a_dash(cli: Cli, run_copy: Path, words: tuple[str, ...], said: str) -> None:
    answer = cli(*words, "--quiet") if "--" not in words else cli(words[0], "--quiet", *words[1:])
    assert answer.code == 0, answer.err
    assert said in answer.out
    if words[0] == "show":
        command = load_result(run_copy / "show").provenance["command"]
        assert command.endswith(f"--model runs/{run_copy.name}" + (" -- -h" if "--" in words else ""))


@pytest.mark.parametrize(
    "words", [("show", "--lenght", "5", "x"), ("generate", "-5x", "-x"), ("distance", "--too=1")]
)
def test_a_misspelt_option_is_no_text_and_says_how_it_would_be(cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli(*words)
    assert answer.code == 2
    assert "No such option" in answer.err and "goes behind --" in answer.err


def test_a_dash_reads_the_text_from_stdin(cli: Cli, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("One text.", "Another one."):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"\ufeff{text}".encode()), "ascii"))
        answer = cli("eval", "--text", "-", "--quiet", "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out)["provenance"]["data"]["n_bytes"] == len(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    answer = cli("show", "--text", "-")
    assert answer.code == 2 and "- is empty" in answer.err
    monkeypatch.setattr("sys.stdin", None)
    answer = cli("show", "--text", "-")
    assert answer.code == 2 and "stdin is closed" in answer.err


def test_eval_scores_no_more_of_a_text_than_is_asked_for(cli: Cli, run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("\n\n".join(f"Heron {n} stood in the pond. " * 9 for n in range(200)))
    answer = cli("eval", "--text", "new.txt", "--max-bytes", 2000, "--model", run_copy, "--json")
    assert answer.code == 0
    assert "--max-bytes N chooses how many" in answer.err
    assert 1_000 < json.loads(answer.out)["provenance"]["data"]["n_bytes"] <= 2_000
