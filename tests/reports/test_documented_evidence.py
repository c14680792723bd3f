"""The tables of the docs are those of the saved results."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from lrope_interp.reports import render
from lrope_interp.results import load_result

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOP = DOCS.parent
GENERATORS = (
    "generate_evidence",
    "generate_boundaries",
    "generate_ablations",
    "generate_concepts",
    "generate_definitions",
    "generate_speed",
)


@contextmanager
def script(name: str) -> Iterator[ModuleType]:
    """A script of the docs, whose neighbours can be imported."""
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module(name)
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module", params=GENERATORS)
def generator(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    with script(request.param) as module:
        yield module


def first_row(page: str) -> str:
    """The first row of a table that holds a number below 1."""
    return next(line for line in page.splitlines() if line.startswith("| ") and "0." in line)


def test_the_page_of_evidence_has_the_numbers_of_the_results(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    assert page == generator.filled(page), f"run: python docs/{generator.__name__}.py"
    assert first_row(page)


def test_a_changed_number_would_be_noticed(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    row = first_row(page)
    changed = page.replace(row, row.replace("0.", "1."), 1)
    assert changed != page
    assert generator.filled(changed) == page


def test_a_page_of_the_site_takes_plotly_from_beside_it() -> None:
    page = render(load_result(TOP / "results" / "reference-spacing-en"))
    with script("render_pages") as hook:
        shared = hook.shared(page)
        assert f'<script src="{hook.PLOTLY}">' in shared
    assert "script-src &#39;self&#39; &#39;sha256-" in shared
    assert len(shared) < len(page) / 10
