"""A selection in two languages, shared by the tests of the probes."""

from __future__ import annotations

import pytest
from probe_samples import chinese, english, select

from lrope_interp.probes.selection import Selection


@pytest.fixture(scope="session")
def bilingual() -> Selection:
    return select(lambda number: [english(number), chinese(number)])
