"""The two suites of every analysis: one answers in minutes, the other leaves nothing out."""

from __future__ import annotations

from typing import Any

from lrope_interp.errors import unknown

DEFAULT, FULL = "default", "full"
SUITES = (DEFAULT, FULL)
N_SEEDS = {"default": 2, "full": 5}  # of untrained models and random heads
OVERLAPS = {"default": 0.25, "full": 0.5}  # of windows; see `capture`
# Bytes of each language in each split. Every intervention of `ablate` reads all of test again: pieces
# of 500 bytes, the shortest there are, fit one window and so are read once each time. The probes
# of `probe` are fitted on fit and dev together; how wide its intervals are depends on test.
READS = {
    "boundaries": {
        "default": {"fit": 20_000, "dev": 10_000, "test": 20_000},
        "full": {"fit": 200_000, "dev": 200_000, "test": 200_000},
    },
    "ablate": {
        "default": {"fit": 20_000, "dev": 10_000, "test": 12_500},
        "full": {"fit": 100_000, "dev": 30_000, "test": 30_000},
    },
    "probe": {
        "default": {"fit": 25_000, "dev": 15_000, "test": 40_000},
        "full": {"fit": 100_000, "dev": 100_000, "test": 100_000},
    },
}


def is_full(suite: str) -> bool:
    """Return whether a suite is "full", and not "default".

    Raises:
        LRopeError: It is neither.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    return suite == FULL


def amounts(analysis: str, suite: str, max_bytes: int | None = None) -> dict[str, Any]:
    """Return how much text an analysis reads, as `select` and its like take it.

    Args:
        analysis: "boundaries", "ablate" or "probe".
        suite: "default" or "full".
        max_bytes: The most bytes of each language in each split instead; None for what the suite reads.

    Returns:
        `max_bytes`; and `spread`, false for the full `boundaries` alone, which has room for long pieces.
    """
    is_long = is_full(suite) and analysis == "boundaries"
    most = READS[analysis][suite] if max_bytes is None else max_bytes
    return {"max_bytes": most, "spread": not is_long}
