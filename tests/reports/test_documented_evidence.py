"""The tables of the docs are those of the saved results."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module", params=["generate_boundaries", "generate_ablations"])
def generator(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module(request.param)
    sys.path.remove(str(DOCS))


def test_the_page_of_evidence_has_the_numbers_of_the_results(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    assert page == generator.filled(page), f"run: python docs/{generator.__name__}.py"
    assert "| layer 0 |" in page


def test_a_changed_number_would_be_noticed(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| layer 0 |"))
    changed = page.replace(row, row.replace("0.", "1."), 1)
    assert changed != page
    assert generator.filled(changed) == page
