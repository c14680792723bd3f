"""Two prompts of equal length and a metric, as every patching tool wants them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

N_POS = 6


@pytest.fixture
def clean() -> Tensor:
    return torch.randint(0, 256, (1, N_POS), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def corrupt() -> Tensor:
    return torch.randint(0, 256, (1, N_POS), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def metric() -> Callable[[Tensor], Tensor]:
    """A difference of two logits at the last position."""
    return lambda logits: (logits[:, -1, 101] - logits[:, -1, 32]).mean()


@pytest.fixture(autouse=True)
def _quiet_progress_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
