"""A selection in two languages, shared by the tests of the probes."""

from __future__ import annotations

import pytest
from probe_samples import chinese, english, select

from lrope_interp.probes.capture.selection import Selection


@pytest.fixture(scope="session")
def bilingual() -> Selection:
    return select(lambda number: [english(number), chinese(number)])


@pytest.fixture(scope="session")
def texts() -> Selection:
    return select(lambda number: [english(number, 25), chinese(number, 20)], n=11)


@pytest.fixture(scope="session")
def few() -> Selection:
    return select(lambda number: [english(number, 20), chinese(number, 15)], n=2)
