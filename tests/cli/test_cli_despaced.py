"""What the command line does with a run of de-spaced text, and with a gold segmentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrope_interp.commands.analysis import Analysis
from lrope_interp.commands.show import despaced_warnings
from lrope_interp.data import load_corpus
from lrope_interp.errors import LRopeError
from lrope_interp.runs import Run


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "own.txt"
    path.write_text(
        "\n\n".join(f"Number {n} " + f"of {n} words. " * 200 for n in range(30)), encoding="utf-8"
    )
    return path


def _run(folder: Path, text: Path, *, despaced: bool) -> Run:
    folder.mkdir()
    manifest = load_corpus(f"file:{text}", despaced=despaced).manifest()
    (folder / "data.json").write_text(json.dumps(manifest))
    return Run(folder, {})


def _of(run: Run, **asked: Any) -> Analysis:
    made = Analysis("show", **asked)
    vars(made)["run"] = run
    return made


def _warnings(run: Run, shown: str) -> list[str]:
    return despaced_warnings(_of(run), shown)


def test_show_warns_of_white_space_that_a_model_has_never_seen(tmp_path: Path, text: Path) -> None:
    without = _run(tmp_path / "without", text, despaced=True)
    assert any("has never seen white space" in said for said in _warnings(without, "a b"))
    assert _warnings(without, "ab") == []
    assert _warnings(_run(tmp_path / "spaced", text, despaced=False), "a b") == []


def test_a_gold_file_is_selected_in_the_form_that_the_run_reads(tmp_path: Path, text: Path) -> None:
    gold = tmp_path / "gold.txt"
    gold.write_text("the peace of nations .\n" * 30, encoding="utf-8")
    for despaced, wanted in ((True, "thepeaceofnations."), (False, "the peace of nations .\n")):
        run = _run(tmp_path / f"{despaced}", text, despaced=despaced)
        selection = _of(run, max_bytes=10_000, gold=gold).select()
        assert all(one.text.startswith(wanted) for one in selection.test)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "code", "text": Path("a")}, "--data and --text both say what to read"),
        ({"text": Path("a"), "gold": Path("a")}, "--text and --gold both say what to read"),
        ({"data": "code", "text": Path("a"), "gold": Path("a")}, "--data and --text and --gold all say"),
    ],
)
def test_only_one_text_is_read(given: dict, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        Analysis("boundaries", **given).check_source()
