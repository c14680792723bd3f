"""`bench` from the command line: a small shape, a run's shape, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_words import Cli

from lrope_interp.probes.studies.context import context as context_cost
from lrope_interp.results import load_result
from lrope_interp.training.config import PRESETS

SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32}
SHORT = ("--contexts", "16,32", "--repeats", "1", "--device", "cpu", "--dtype", "float32")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "paper", SHAPE)
    monkeypatch.setattr(context_cost, "SHORTEST_ROUND", 0.0)


@pytest.mark.slow
def test_bench_leaves_a_result_and_a_report_and_never_writes_twice_to_one_place(cli: Cli) -> None:
    answer = cli("study", "context", *SHORT, "--arms", "per-layer")
    assert answer.code == 0, answer.err
    folder = Path("runs/context")
    assert "fixed, per-layer at 16, 32 tokens, float32 on cpu" in answer.err
    assert answer.out.splitlines()[-1] == f"report  {folder / 'report.html'}"
    assert {"costs.csv", "flops.csv", "angles.csv"} <= {path.name for path in folder.iterdir()}
    result = load_result(folder)
    assert result.kind == "bench"
    assert result.provenance["measured"]["threads"] >= 1
    assert result.provenance["model"] == "preset paper"

    again = cli("study", "context", *SHORT, "--arms", "shared", "--json", "--quiet")
    assert again.code == 0, again.err
    payload = json.loads(again.out)
    assert payload["result"] == "runs/context-2"
    assert {line["arm"] for line in payload["costs"]} == {"fixed", "shared"}
    assert {line["verdict"] for line in payload["targets"]} == {"none"}


def test_the_shape_of_a_run_can_be_measured(cli: Cli, run_copy: Path) -> None:
    answer = cli(
        "study", "context", *SHORT, "--arms", "shared", "--model", run_copy, "--skip-forward-above", "8"
    )
    assert answer.code == 0, answer.err
    result = load_result(run_copy / "context")
    assert result.provenance["model"] == f"the shape of {run_copy.name}"
    assert result.provenance["config"]["d_model"] == 16
    assert "warning: no forward pass at 16, 32 tokens" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--contexts", "1,512"), "2 to 1,048,576 tokens; got 1"),
        (("--contexts", "512,many"), "whole numbers with commas"),
        (("--contexts", "512", "--max-context", "100"), "below the smallest of --contexts"),
        (("--arms", "fixed,per-lair"), "Did you mean 'per-layer'?"),
        (("--arms", "fixed"), "nothing to be compared with"),
        (("--dtype", "int8"), "not one of 'auto', 'float32', 'bfloat16'"),
        (("--preset", "tiny", "--model", "runs/x"), "give one of them"),
        (("--model", "runs/nowhere"), "no run folder runs/nowhere"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_left(
    cli: Cli, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    answer = cli("study", "context", *words)
    assert (answer.code, answer.out) == (2, "")
    assert "Traceback" not in answer.err
    (line,) = [line for line in answer.err.splitlines() if line.startswith("Error: ")]
    assert said in line
    assert list(tmp_path.iterdir()) == []
