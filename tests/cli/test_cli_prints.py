"""What each command prints at its end on a terminal of 80 columns, beside `golden/NAME.txt`.

A print that changed on purpose is written anew, and then read, with

    LROPE_INTERP_RENEW=1 python -m pytest tests/cli/test_cli_prints.py
"""

from __future__ import annotations

import io
import os
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unicodedata import east_asian_width

import pytest

from lrope_interp.cli import main
from lrope_interp.commands import output
from lrope_interp.commands.analysis import Analysis
from lrope_interp.data import corpora
from lrope_interp.results import load_result

GOLDEN = Path(__file__).with_name("golden")
RESULTS = (
    *(
        "context-cost-paper",
        "replicate-tiny",
        "reference-ablations",
        "reference-boundaries",
        "small-concepts-wiki",
    ),
    *("reference-entities", "reference-spacing-en", "tiny-definitions"),
)
TEXT = "'the fox sees the dog'"
COMMANDS = {
    "distance": f"distance {TEXT} --from fox --to dog",
    "distance-words": f"distance {TEXT}",
    "eval": "eval --max-bytes 1500",
    "generate": "generate 'the fox' --max-new-tokens 20 --temperature 0",
    "generate-frozen": "generate 'the fox' --max-new-tokens 20 --temperature 0 --freeze 1",
    "list-corpora": "list corpora",
    "list-runs": "list runs",
    "train": "train --data file:text.txt --steps 2 --out runs/mine --device cpu",
}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as on a terminal of 80 columns."""
    monkeypatch.setattr(output, "WIDTH_WITHOUT_TERMINAL", 80)


def printed(act: Callable[[], object]) -> str:
    """Return what is printed, in its order, without blanks at line ends."""
    screen = io.StringIO()
    with redirect_stdout(screen), redirect_stderr(screen):
        act()
    return "".join(f"{line.rstrip()}\n" for line in screen.getvalue().splitlines())


def compare(name: str, found: str) -> None:
    """Hold a print against the one that is kept."""
    widths = [sum(1 + (east_asian_width(one) in "WF") for one in line) for line in found.splitlines()]
    assert max(widths) <= 80, found
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("LROPE_INTERP_RENEW"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{path.name}: see the top of {Path(__file__).name}"


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_printed_in_80_columns(name: str, repository: Path) -> None:
    result = load_result(repository / "results" / name)
    asked = Analysis(result.kind, verbose=name == "reference-boundaries")
    compare(name, printed(lambda: asked.close(result, Path("runs/mine") / result.kind)))


@pytest.mark.usefixtures("tiny_preset")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_printed_in_80_columns(
    name: str, run_copy: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_copy.parent.parent)
    Path("text.txt").write_bytes(text_file.read_bytes())
    monkeypatch.setattr(corpora, "is_installed", lambda package: "wiki" not in package)
    words = shlex.split(COMMANDS[name])

    def run() -> None:
        with pytest.raises(SystemExit) as ended:
            main([*words, *([] if words[0] == "list" else ["--quiet"])])
        assert not ended.value.code

    found = printed(run)
    if name != "list-corpora":  # no two machines are as fast, or round alike
        found = re.sub(r"[\d.]+ kB/s", "0 kB/s", re.sub(r"\d+:\d\d", "0:00", found))
        found = re.sub(r"(?<=\.)\d+", lambda one: "0" * len(one[0]), found)
    compare(name, found)
