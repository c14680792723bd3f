"""What a command does with its page besides writing it: open it, and write its figure."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import pytest

import lrope_interp as lr
from lrope_interp import reports
from lrope_interp.commands.output import Voice


def test_open_shows_the_page_and_format_writes_the_figure(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], trained: Path, tmp_path: Path
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(go.Figure, "write_image", lambda _, path, scale: Path(path).write_text(f"x{scale}"))
    monkeypatch.setitem(sys.modules, "kaleido", plotly)
    out = tmp_path / "out"
    said = cli("eval", "--model", trained, "--out", out, "--max-bytes", 1000, "--open", "--format", "png")
    assert said.code == 0, said.err
    assert opened == [(out / "report.html").as_uri()]
    assert (out / "figure.png").read_text() == "x2"


def test_without_kaleido_nothing_is_computed(
    monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any], trained: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)
    said = cli("eval", "--model", trained, "--out", tmp_path / "out", "--format", "svg")
    assert said.code == 2 and "pip install 'lrope-interp[export]'" in said.err
    assert not (tmp_path / "out").exists()


def test_a_figure_without_a_browser_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("Kaleido requires\nGoogle Chrome")

    monkeypatch.setattr(go.Figure, "write_image", fail)
    monkeypatch.setattr(reports, "plot", lambda _: go.Figure())
    result = lr.Result("eval", {}, {}, {})
    with pytest.raises(lr.LRopeError, match="BROWSER_PATH may name: Kaleido requires Google Chrome"):
        reports.write_image(result, tmp_path / "figure.svg")


@pytest.mark.parametrize(("n", "is_verbose", "said"), [(2, False, 2), (3, False, 1), (3, True, 3)])
def test_many_warnings_are_told_by_their_number(
    n: int, is_verbose: bool, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Voice(is_verbose=is_verbose).warnings([f"mind {i}" for i in range(n)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == said and all(line.startswith("warning: ") for line in lines)
    assert ("3 things to mind" in lines[0]) is (said == 1)
