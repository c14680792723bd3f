"""Fixtures of the tests on data."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrope_interp.data import cache_folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of the test's own."""
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "cache"))
    return cache_folder()
