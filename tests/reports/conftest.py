"""One result of each kind and its page, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from pages import MADE, RENDER

from lrope_interp.results import Result


@pytest.fixture(scope="session")
def result_of() -> Callable[[str], Result]:
    """The sample of a kind; it is frozen."""
    return cache(lambda kind: MADE[kind]())


@pytest.fixture(scope="session")
def page_of(result_of: Callable[[str], Result]) -> Callable[[str], str]:
    """The page of that sample."""
    return cache(lambda kind: RENDER[kind](result_of(kind)))
