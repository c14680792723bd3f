"""`replicate` from the command line: small runs, the same folder again, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli_words import Answer, Cli

from lrope_interp.training.config import PRESETS

SHORT = ("--seeds", "2", "--steps", "2", "--device", "cpu")
SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 32}


@pytest.fixture(autouse=True)
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the preset `tiny` a model of a few thousand parameters: a run takes a moment."""
    monkeypatch.setitem(PRESETS, "tiny", {**SHAPE, "batch_size": 4, "validation_bytes": 500})


@pytest.fixture
def place(text_file: Path) -> tuple[str, ...]:
    return ("--data", f"file:{text_file}", *SHORT)


FOLDER = Path("runs") / "replicate-tiny-file-text"


def assert_refused(answer: Answer, said: str) -> None:
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    (line,) = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert said in line


def test_all_of_it_and_then_again_without_training(cli: Cli, place: tuple[str, ...]) -> None:
    arms = ("--arms", "fixed,fixed-wide,per_layer")
    first = cli("study", "replicate", *place, *arms)
    assert first.code == 0, first.err
    assert "6 runs (fixed, fixed-wide, per-layer; seeds 0 to 1; 2 steps), 0 of them finished" in first.err
    assert "fixed-wide: 2 more MLP units a layer, +192 parameters beside +178 of per-layer" in first.err
    assert "run 6/6: per-layer, seed 1" in first.err
    assert "per-layer - fixed-wide" in first.out and "fixed-wide - fixed" in first.out
    assert first.out.splitlines()[-1] == f"report  {FOLDER / 'report.html'}"
    names = {path.name for path in (FOLDER / "runs").iterdir()}
    assert names == {f"{arm}-s{k}" for arm in ("fixed", "fixed_wide", "per_layer") for k in (0, 1)}
    assert all((FOLDER / "runs" / name / "report.html").is_file() for name in names)
    assert {path.name for path in FOLDER.glob("*.csv")} == {
        "runs.csv", "differences.csv", "languages.csv", "curves.csv"
    }  # fmt: skip

    before = (FOLDER / "differences.csv").read_bytes()
    again = cli("study", "replicate", *place, *arms, "--json", "--quiet")
    assert again.code == 0 and again.err == ""
    payload = json.loads(again.out)
    assert payload["kind"] == "replicate"
    assert {line["verdict"] for line in payload["differences"]} <= {
        "equivalent", "different", "inconclusive"
    }  # fmt: skip
    assert (FOLDER / "differences.csv").read_bytes() == before
    assert [path.name for path in Path("runs").iterdir()] == [FOLDER.name]


def test_stopped_it_says_how_to_go_on_and_does(
    cli: Cli, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrope_interp.commands import progress

    take = progress.Course.take

    def stopping(self: progress.Course, planned: object, event: object) -> None:
        take(self, planned, event)  # type: ignore[arg-type]
        if self.heading() == "run 2/4: per-layer, seed 0" and self.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Course, "take", stopping)
    words = ("study", "replicate", *place, "--arms", "fixed,per-layer", "--overwrite")
    stopped = cli(*words)
    monkeypatch.undo()
    assert stopped.code == 130
    said = stopped.err.splitlines()[-1]
    assert said.startswith(
        "interrupted: 1 of 4 runs are finished, per_layer-s0 goes on from step 1. Go on with: lrope-interp"
    )
    assert said.endswith(f"--out {FOLDER}")
    assert "--overwrite" not in said
    assert not (FOLDER / "result.json").exists()


def test_one_seed_gives_numbers_and_no_verdict(cli: Cli, place: tuple[str, ...]) -> None:
    answer = cli("study", "replicate", *place, "--seeds", "1", "--arms", "fixed,shared", "--out", "mine")
    assert answer.code == 0, answer.err
    assert "no verdict" in answer.out
    assert "warning: a single seed gives no verdict" in answer.err
    saved = json.loads((Path("mine") / "result.json").read_text())
    assert saved["provenance"]["data"]["split"] == "dev"
    assert saved["provenance"]["command"].startswith("lrope-interp study replicate --data")


def test_other_options_start_beside_and_are_refused_in_the_same_folder(
    cli: Cli, place: tuple[str, ...]
) -> None:
    arms = ("--seeds", "1", "--arms", "fixed,shared")
    assert cli("study", "replicate", *place, *arms).code == 0
    other = cli("study", "replicate", *place, *arms, "--steps", "3", "--out", FOLDER)
    assert_refused(other, "n_steps was 2, now 3")
    assert cli("study", "replicate", *place, *arms, "--steps", "3").code == 0
    assert (FOLDER.with_name(f"{FOLDER.name}-2") / "result.json").is_file()
    table = (FOLDER / "runs.csv").read_text()
    (FOLDER / "runs.csv").write_text(f"{table}notes\n")
    over = cli("study", "replicate", *place, *arms, "--steps", "3", "--out", FOLDER, "--overwrite")
    assert_refused(over, "holds runs.csv, which lrope-interp did not write")
    (FOLDER / "runs.csv").write_text(table)
    over = cli("study", "replicate", *place, *arms, "--steps", "3", "--out", FOLDER, "--overwrite")
    assert over.code == 0
    assert json.loads((FOLDER / "runs" / "fixed-s0" / "run.json").read_text())["n_steps"] == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--arms", "fixed,per-lair"), "Did you mean 'per-layer'"),
        (("--arms", "fixed,fixed"), "named twice"),
        (("--arms", "fixed"), "nothing to be compared with"),
        (("--arms", "shared,per-layer"), "not among the arms"),
        (("--reference", "none"), "unknown arm 'none'"),
        (("--seeds", "0"), "--seeds"),
        (("--margin", "0"), "above 0 nats"),
        (("--margin", "nan"), "above 0 nats"),
        (("--preset", "tinny"), "not one of 'tiny', 'small', 'paper'"),
        (("--data", "bilingul"), "Did you mean 'bilingual'"),
        (("--data", "file:nowhere.txt"), "nowhere.txt"),
        (("--out", "other"), "no folder of `replicate`"),
        (("--out", "other", "--overwrite"), "no folder of `replicate`"),
        (("--out", "other/notes.txt"), "is a file"),
    ],
)
def test_mistakes_are_refused_and_leave_nothing(
    cli: Cli, place: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    Path("other").mkdir()
    (Path("other") / "notes.txt").write_text("mine")
    assert_refused(cli("study", "replicate", *place, *words), said)
    assert sorted(map(str, Path().rglob("*"))) == ["other", "other/notes.txt"]


def test_a_changed_text_is_refused(cli: Cli, text_file: Path) -> None:
    Path("own.txt").write_text(text_file.read_text(encoding="utf-8"), encoding="utf-8")
    words = (
        "study",
        "replicate",
        "--data",
        "file:own.txt",
        *SHORT,
        "--arms",
        "fixed,shared",
        "--out",
        "mine",
    )
    assert cli(*words).code == 0
    Path("own.txt").write_text(text_file.read_text(encoding="utf-8").replace("fox", "cat"), encoding="utf-8")
    assert_refused(cli(*words), "has changed since")


def test_several_processes_are_refused(
    cli: Cli, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_refused(cli("study", "replicate", *place), "in one process")
