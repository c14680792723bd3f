"""`study replicate` and `study context`: small runs, the same folder again, and what is refused there."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from cli_words import SHAPE, Cli, assert_refused

from lrope_interp.commands import progress
from lrope_interp.probes.studies.context import context as context_cost
from lrope_interp.results import load_result
from lrope_interp.training.config import PRESETS

SHORT = ("--seeds", "2", "--steps", "2", "--device", "cpu")
FOLDER = Path("runs") / "replicate-tiny-file-text"
COSTS = ("study", "context", "--contexts", "16,32", "--repeats", "1", "--device", "cpu", "--dtype", "float32")

pytestmark = pytest.mark.usefixtures("tiny_preset")


@pytest.fixture
def replicate(text_file: Path) -> tuple[str, ...]:
    return ("study", "replicate", "--data", f"file:{text_file}", *SHORT)


@pytest.fixture
def small_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "paper", {name: size for name, size in SHAPE.items() if name != "n_ctx"})
    monkeypatch.setattr(context_cost, "SHORTEST_ROUND", 0.0)


def test_all_runs_are_trained_once_and_compared(cli: Cli, replicate: tuple[str, ...]) -> None:
    arms = ("--arms", "fixed,fixed-wide,per_layer")
    first = cli(*replicate, *arms)
    assert first.code == 0, first.err
    assert "6 runs (fixed, fixed-wide, per-layer; seeds 0 to 1; 2 steps), 0 of them finished" in first.err
    assert "fixed-wide: 2 more MLP units a layer, +192 parameters beside +178 of per-layer" in first.err
    assert "run 6/6: per-layer, seed 1" in first.err
    assert "per layer − fixed wide" in first.out and "fixed wide − fixed" in first.out
    assert first.out.splitlines()[-1] == f"report  {FOLDER / 'report.html'}"
    names = {path.name for path in (FOLDER / "runs").iterdir()}
    assert names == {f"{arm}-s{k}" for arm in ("fixed", "fixed_wide", "per_layer") for k in (0, 1)}
    assert all((FOLDER / "runs" / name / "report.html").is_file() for name in names)

    before = (FOLDER / "differences.csv").read_bytes()
    again = cli(*replicate, *arms, "--json", "--quiet")
    assert again.err == "" and again.json["kind"] == "replicate"
    verdicts = {line["verdict"] for line in again.json["differences"]}
    assert verdicts <= {"equivalent", "different", "inconclusive"}
    assert (FOLDER / "differences.csv").read_bytes() == before
    assert [path.name for path in Path("runs").iterdir()] == [FOLDER.name]


def test_stopped_it_says_how_to_go_on(
    cli: Cli, replicate: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = progress.Course.take

    def stopping(self: progress.Course, planned: object, event: object) -> None:
        take(self, planned, event)  # type: ignore[arg-type]
        if self.heading() == "run 2/4: per-layer, seed 0" and self.step == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Course, "take", stopping)
    stopped = cli(*replicate, "--arms", "fixed,per-layer", "--overwrite")
    assert stopped.code == 130
    said = stopped.err.splitlines()[-1]
    assert said.startswith(
        "interrupted: 1 of 4 runs are finished, per_layer-s0 goes on from step 1. Go on with: lrope-interp"
    )
    assert said.endswith(f"--out {FOLDER}") and "--overwrite" not in said
    assert not (FOLDER / "result.json").exists()


def test_one_seed_gives_no_verdict_other_options_start_beside_and_another_text_is_refused(
    cli: Cli, text_file: Path
) -> None:
    text, own = text_file.read_text(encoding="utf-8"), Path("text.txt")
    own.write_text(text, encoding="utf-8")
    words = ("study", "replicate", "--data", f"file:{own}", *SHORT, "--seeds", "1", "--arms", "fixed,shared")
    answer, told = cli(*words), FOLDER / "runs.csv"
    assert answer.code == 0, answer.err
    assert "no verdict" in answer.out and "warning: a single seed gives no verdict" in answer.err
    saved = load_result(FOLDER).provenance
    assert saved["data"]["split"] == "dev"
    assert saved["command"].startswith("lrope-interp study replicate --data")

    other = (*words, "--steps", "3")
    assert_refused(cli(*other, "--out", FOLDER), "n_steps was 2, now 3")
    assert cli(*other).code == 0
    assert (FOLDER.with_name(f"{FOLDER.name}-2") / "result.json").is_file()
    table = told.read_text()
    told.write_text(f"{table}notes\n")
    over = (*other, "--out", FOLDER, "--overwrite")
    assert_refused(cli(*over), "holds runs.csv, which lrope-interp did not write")
    told.write_text(table)
    assert cli(*over).code == 0
    assert json.loads((FOLDER / "runs" / "fixed-s0" / "run.json").read_text())["n_steps"] == 3
    own.write_text(text.replace("fox", "cat"), encoding="utf-8")
    assert_refused(cli(*other, "--out", FOLDER), "has changed since")


@pytest.mark.slow
@pytest.mark.usefixtures("small_costs")
def test_costs_are_measured_into_a_folder_of_their_own(cli: Cli) -> None:
    answer = cli(*COSTS, "--arms", "per-layer")
    assert answer.code == 0, answer.err
    folder = Path("runs/context")
    assert "fixed, per-layer at 16, 32 tokens, float32 on cpu" in answer.err
    assert answer.out.splitlines()[-1] == f"report  {folder / 'report.html'}"
    result = load_result(folder)
    assert result.kind == "context"
    assert result.provenance["measured"]["threads"] >= 1
    assert result.provenance["model"] == "preset paper"
    payload = cli(*COSTS, "--arms", "shared", "--json", "--quiet").json
    assert payload["result"] == "runs/context-2"
    assert {line["arm"] for line in payload["costs"]} == {"fixed", "shared"}
    assert {line["verdict"] for line in payload["targets"]} == {"none"}


@pytest.mark.usefixtures("small_costs")
def test_the_shape_of_a_run_can_be_measured(cli: Cli, run_copy: Path) -> None:
    answer = cli(*COSTS, "--arms", "shared", "--model", run_copy, "--skip-forward-above", "8")
    assert answer.code == 0, answer.err
    result = load_result(run_copy / "context")
    assert result.provenance["model"] == f"the shape of {run_copy.name}"
    assert result.provenance["config"]["d_model"] == 16
    assert "warning: no forward pass at 16, 32 tokens" in answer.err
