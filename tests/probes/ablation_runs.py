"""What the tests of ablation runs share: models whose increments vary, and one number of a result."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.results import Result

MakeModel = Callable[..., LRopeTransformer]


def spread_out(model: LRopeTransformer) -> LRopeTransformer:
    """Make the increments vary by about 0.5, so that an ablation has something to take away."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("increments.W_out"):
                parameter.mul_(1.5)
    return model


def value(
    result: Result, intervention: str, layers: str, metric: str = "nats_per_byte", **where: str | float
) -> float:
    rows = result.tables["ablations"]
    asked: dict[str, str | float] = {
        "intervention": intervention,
        "layers": layers,
        "metric": metric,
        "where": "",
        "language": "all",
    }
    asked |= {"byte_class": "all"} | where
    for name, wanted in asked.items():
        rows = rows[rows[name] == wanted]
    found = rows.drop_duplicates("value")["value"].to_list()
    assert len(found) == 1, rows
    return found[0]
