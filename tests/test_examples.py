"""The notebooks in examples/ run from top to bottom beside one small run; pages of lessons repeat them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


# One shows that a notebook runs; the functions of the others have tests of their own.
QUICK = "ablate"


@pytest.mark.parametrize(
    "example",
    [pytest.param(one, marks=[] if one.stem == QUICK else pytest.mark.slow) for one in EXAMPLES],
    ids=lambda path: path.stem,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery, not ours
def test_the_notebook_runs(example: Path, tmp_path: Path) -> None:
    import jupytext
    from nbclient import NotebookClient

    import lrope_interp as lr

    quick: dict[str, Any] = {
        "n_steps": 40,
        "batch_size": 8,
        "n_ctx": 64,
        "n_layers": 2,
        "validation_bytes": 5_000,
    }
    lr.train("tiny", tmp_path / "runs" / "quick", data="code", **quick)  # the reference takes its minutes
    notebook = jupytext.read(example)
    assert any(cell.cell_type == "markdown" for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]


@pytest.mark.parametrize("lesson", ["look", "ablate", "probe"])
def test_the_page_of_a_lesson_has_its_words_and_its_code(lesson: str, repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("render_lessons", repository / "docs/render_lessons.py")
    assert spec and spec.loader
    renderer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(renderer)
    found = list(renderer.committed(lesson))
    assert found == list(renderer.source(lesson)), "run: python docs/render_lessons.py"
    assert {"markdown", "code"} == {kind for kind, _ in found}
