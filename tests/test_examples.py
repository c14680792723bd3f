"""The notebooks in examples/ run from top to bottom in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))


# One shows that a notebook runs; the functions of the others have tests of their own.
QUICK = "first_look"


@pytest.mark.parametrize(
    "example",
    [pytest.param(one, marks=[] if one.stem == QUICK else pytest.mark.slow) for one in EXAMPLES],
    ids=lambda path: path.stem,
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery, not ours
def test_the_notebook_runs(example: Path, tmp_path: Path) -> None:
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(example)
    assert any(cell.cell_type == "markdown" for cell in notebook.cells)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
