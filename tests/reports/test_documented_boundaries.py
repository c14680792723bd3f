"""The tables of the docs are those of the saved results."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_boundaries", DOCS / "generate_boundaries.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_evidence_has_the_numbers_of_the_results(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    assert page == generator.filled(page), "run: python docs/generate_boundaries.py"
    assert "| layer 0 |" in page


def test_a_changed_number_would_be_noticed(generator: ModuleType) -> None:
    page = generator.PAGE.read_text(encoding="utf-8")
    changed = page.replace("| layer 0 | 0.", "| layer 0 | 1.", 1)
    assert changed != page
    assert generator.filled(changed) == page
