"""Arrays kept between runs: the same numbers, made once, and never those of another model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import lrope_interp
from lrope_interp.data import cache
from lrope_interp.data.cache import cached_entries as entries_of
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture import cache as remembering
from lrope_interp.probes.capture.cache import forget, remembered

MakeModel = Callable[..., LRopeTransformer]


@pytest.fixture(autouse=True)
def _empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is remembered yet."""
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path))


def test_what_was_computed_once_is_not_computed_again() -> None:
    calls: list[int] = []

    def compute() -> np.ndarray:
        calls.append(1)
        return np.arange(6, dtype=np.float32).reshape(1, 2, 3)

    first, second = (remembered({"what": "x"}, compute) for _ in range(2))
    assert len(calls) == 1
    assert np.array_equal(first, second)
    remembered({"what": "y"}, compute)
    assert len(calls) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(blocked))
    assert remembered({"what": "x"}, lambda: np.ones((1, 1, 2), dtype=np.float32)).sum() == 2


def test_an_error_of_the_computation_is_passed_on() -> None:
    def fail() -> np.ndarray:
        raise LRopeError("constant")

    with pytest.raises(LRopeError, match="constant"):
        remembered({"what": "x"}, fail)


def test_a_process_whose_source_was_edited_remembers_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    edited = tmp_path / "data" / "alignment.py"
    edited.write_text("changed")
    os.utime(edited, (0, 0))  # by its own word as old as can be
    monkeypatch.setattr(lrope_interp, "__file__", str(tmp_path / "__init__.py"))
    monkeypatch.setattr(lrope_interp, "IMPORTED_AT", time.time_ns() + 10**10)
    assert not cache.is_edited()
    monkeypatch.setattr(lrope_interp, "IMPORTED_AT", time.time_ns() - 10**10)
    assert cache.is_edited()


@pytest.fixture
def made_again() -> Iterator[Callable[[], bool]]:
    """Ask for the same as before; whether it was computed, and not only looked up."""
    remembering._libraries.cache_clear()

    def ask() -> bool:
        calls: list[int] = []

        def compute() -> np.ndarray:
            calls.append(1)
            return np.zeros(2, dtype=np.float32)

        remembered({"what": "x"}, compute)
        return bool(calls)

    assert ask() and not ask()
    yield ask
    remembering._libraries.cache_clear()


@pytest.mark.parametrize("room", ["data", "models", "probes", "tokenizers"])
def test_what_other_code_computed_is_computed_again(
    room: str, made_again: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cache._DIGESTS, room, "edited")
    assert made_again()


@pytest.mark.parametrize("library", ["numpy", "scipy", "scikit-learn", "torch", "transformer-lens"])
def test_what_another_library_computed_is_computed_again(
    library: str, made_again: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "version", lambda name: "0" if name == library else version(name))
    remembering._libraries.cache_clear()
    assert made_again()


def test_what_is_forgotten_is_one_run_of_one_kind() -> None:
    for kind, run in (("fine", "a"), ("fine", "b"), ("other", "a")):
        remembered({"run": run}, lambda: np.zeros(1, dtype=np.float32), kind)
    forget("fine", "a")
    left = [(kind, entry["identity"]["run"]) for kind in ("fine", "other") for _, entry in entries_of(kind)]
    assert left == [("fine", "b"), ("other", "a")]
