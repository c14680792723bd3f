"""Time of competing computations in alternation, so that a slow minute of the machine meets them all."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Compute = Callable[[], object]
_MOST_CALLS = 1000
SHORTEST_ROUND = 0.05
"""Seconds: what is faster is repeated within a round, and the time divided."""


def seconds_of(compute: Compute, device: str, calls: int = 1) -> float:
    """Return the seconds that one of `calls` calls takes; an accelerator is waited for."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        compute()
    _wait(device)
    return (time.perf_counter() - start) / calls


def interleaved(
    computes: Mapping[str, Compute],
    rounds: int,
    device: str,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time every arm in each of `rounds` rounds, beginning with another arm each time.

    A call of each warms up, and where it was short another, which says how many calls make a round long
    enough to be timed.

    Args:
        computes: What is timed, by arm.
        rounds: Times that each is measured.
        device: Where it runs.
        on_round: Called after each round, and after the warm-up.

    Returns:
        By arm, the seconds of a call in each round.
    """
    calls = _calls(computes, device)
    on_round()
    names = list(computes)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        first = k % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(computes[name], device, calls))
        on_round()
    return seconds


def _calls(computes: Mapping[str, Compute], device: str) -> int:
    """Warm up, and return how many calls fill a round."""
    warm = 0.0
    for _ in range(2):
        warm = statistics.median([seconds_of(compute, device) for compute in computes.values()])
        if warm > SHORTEST_ROUND:
            return 1
    return max(1, min(_MOST_CALLS, math.ceil(SHORTEST_ROUND / max(warm, 1e-9))))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()
