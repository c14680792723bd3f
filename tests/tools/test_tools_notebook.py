"""The notebook for people who know TransformerLens runs from top to bottom, with and without a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lrope_interp.tokenizers import ByteTokenizer

NOTEBOOK = "examples/for_transformer_lens_users.py"


@pytest.fixture
def finished_run(make_model, tmp_path: Path) -> Path:
    """A folder that looks finished to the notebook; its weights are random."""
    folder = tmp_path / "runs" / "random"
    make_model(n_layers=3, n_ctx=64, per_head=True).save_pretrained(folder)
    (folder / "data.json").write_text("{}")
    ByteTokenizer().save(folder)
    times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T01:00:00+00:00"}
    (folder / "run.json").write_text(json.dumps({"format": 1, "status": "finished", **times}))
    return folder


def run_notebook(repository: Path, folder: Path) -> str:
    environment = {**os.environ, "TQDM_DISABLE": "1", "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, str(repository / NOTEBOOK)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebook_trains_a_toy_where_there_is_no_run(repository, tmp_path):
    said = run_notebook(repository, tmp_path)
    assert "a toy, trained for 80 steps: 2 layers, increments per_layer" in said
    assert "embedding -> increments of layer 1" in said


def test_the_notebook_reads_the_newest_finished_run(repository, finished_run, tmp_path):
    assert "random: 3 layers, increments per_layer" in run_notebook(repository, tmp_path)


def test_the_notebook_has_a_heading_before_every_part(repository):
    import jupytext

    cells = jupytext.read(repository / NOTEBOOK).cells
    parts = [cell.source.splitlines()[0] for cell in cells if cell.cell_type == "markdown"]
    for wanted in ("Cache", "Patch increments", "Freeze", "Logit lens", "Direct logit", "Path patching"):
        assert any(wanted in part for part in parts), wanted
