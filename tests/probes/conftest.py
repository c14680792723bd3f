"""A selection in two languages, shared by the tests of the probes."""

from __future__ import annotations

import pytest
from ablation_runs import MakeModel, spread_out
from probe_samples import chinese, english, select

from lrope_interp.probes.ablations.ablations import ablate
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.results import Result


@pytest.fixture(scope="session")
def bilingual() -> Selection:
    return select(lambda number: [english(number), chinese(number)])


@pytest.fixture(scope="session")
def texts() -> Selection:
    return select(lambda number: [english(number, 18), chinese(number, 14)], n=11)


@pytest.fixture(scope="session")
def few() -> Selection:
    return select(lambda number: [english(number, 20), chinese(number, 15)], n=2)


@pytest.fixture(scope="session")
def full_suite(make_model: MakeModel, few: Selection) -> Result:
    """Every ablation of a small model on little text."""
    return ablate(spread_out(make_model(n_layers=2, seed=5)), data=few, suite="full")
