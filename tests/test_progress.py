"""What is left of a whole is told by what its stages took the last time."""

from __future__ import annotations

import inspect
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

import lrope_interp as lr
from lrope_interp.commands import output
from lrope_interp.commands.output import Voice
from lrope_interp.progress import Stages, clock, shows_progress


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only the test moves."""
    at = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: at[0])
    return at


def test_stages_weigh_what_they_took_and_what_was_passed_over_is_done(now: list[float]) -> None:
    stages = Stages({"read": 10.0, "fit": 80.0, "draw": 10.0})
    assert stages.share == 0
    stages.tell("read", 5, 10)
    assert stages.share == pytest.approx(0.05)
    now[0] += 20
    stages.tell("fit", 1, 4)
    assert stages.share == pytest.approx(0.3)
    assert stages.left() == pytest.approx(20 * 0.7 / 0.3)
    assert str(stages) == "0:20  fit 1/4, 30 %, about 0:47 left"
    now[0] += 10
    stages.tell("draw", 0, 0)
    assert stages.share == pytest.approx(0.9)
    now[0] += 1
    assert stages.took() == {"read": 20, "fit": 10, "draw": 1}
    assert Stages({"read": 1.0, "draw": 1.0}).share == 0


def test_without_a_memory_only_the_stage_is_told(now: list[float]) -> None:
    stages = Stages()
    stages.tell("fit", 1, 4)
    now[0] += 30
    assert stages.share is None
    assert str(stages) == "0:30  fit 1/4, about 1:30 left of this stage"
    stages.tell("new", 0, 4)
    assert str(stages) == "0:30  new 0/4"


def test_an_unknown_stage_moves_nothing_backwards(now: list[float]) -> None:
    stages = Stages({"read": 10.0, "fit": 10.0})
    stages.tell("read", 10, 10)
    before = stages.share
    stages.tell("unheard of", 1, 2)
    assert before is not None and stages.share is not None and stages.share >= before


def test_a_log_has_a_line_a_stage_and_one_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path))
    monkeypatch.setattr(output, "_EVERY", 0.05)
    with Voice().progress("try") as tell:
        for done in range(3):
            tell("reading", done, 3)
            time.sleep(0.1)
        tell("fitting", 1, 1)
    said = capsys.readouterr().err
    assert said.count("reading (3) ...") == 1 and "fitting" not in said
    assert "reading 2/3, about" in said
    known = json.loads((tmp_path / "stages.json").read_text())
    assert list(known["try"]) == ["reading", "fitting"]
    (tmp_path / "stages.json").write_text("{broken")
    with Voice().progress("try") as tell:
        tell("reading", 1, 3)
    assert list(json.loads((tmp_path / "stages.json").read_text())["try"]) == ["reading"]


@pytest.mark.parametrize("kept", ['{"eval": {"score": 2.0}}', '{"ablate": 3}', "[]", "no JSON", "{}"])
def test_a_memory_of_other_commands_or_a_broken_one_is_none(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrope_interp.data.cache.cache_folder", lambda: tmp_path)
    (tmp_path / "stages.json").write_text(kept)
    assert output._usual("ablate") == output.USUAL.get("ablate", {})
    with Voice().progress("ablate") as tell:
        tell("reading", 1, 1)
    assert list(json.loads((tmp_path / "stages.json").read_text())["ablate"]) == ["reading"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with Voice(is_quiet=True).progress("try") as tell:
        tell("reading", 1, 3)
    assert capsys.readouterr().err == ""


def test_a_notebook_shows_a_bar_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    handle = types.SimpleNamespace(update=lambda html: shown.append(html))
    screen = types.SimpleNamespace(HTML=str, display=lambda html, display_id: handle)
    shell = types.SimpleNamespace(kernel=True)
    monkeypatch.setitem(
        sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, display=screen)
    )
    monkeypatch.setitem(sys.modules, "IPython.display", screen)

    @shows_progress("try")
    def work(on_progress: Any = None) -> str:
        if on_progress is not None:
            on_progress("reading", 1, 2)
        return "done"

    assert work() == "done"
    assert shown[0].startswith('<progress value="0.500">') and shown[-1] == ""
    mine: list[tuple[str, int, int]] = []
    shown.clear()
    work(on_progress=lambda *told: mine.append(told))
    assert mine == [("reading", 1, 2)] and not shown
    del shell.kernel
    assert work() == "done" and not shown


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0:00"), (65.0, "1:05"), (7265.0, "2:01:05"), (float("inf"), "?")]
)
def test_time_reads_as_on_a_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def test_every_public_analysis_that_takes_long_shows_how_far_it_is() -> None:
    for name in ("boundaries", "ablate", "probe", "eval"):
        assert "on_progress" in inspect.signature(getattr(lr, name)).parameters
        assert getattr(lr, name).__wrapped__
