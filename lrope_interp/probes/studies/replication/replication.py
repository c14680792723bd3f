"""The verdict of a paired experiment: differences between arms, seed by seed, as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.equivalence import MARGIN, MARGINS, check_margin, paired, verdict
from lrope_interp.results import Result, provenance

KIND = "replicate"
WIDE = "fixed_wide"
_INTEGERS = ("seed", "n_parameters", "n_steps", "bytes_read", "step", "n_bytes")
_WORDS = ("arm", "split", "language", "model_sha256")


@dataclass(frozen=True)
class Comparison:
    """What the arms are compared with.

    Attributes:
        reference: The arm that every other one is compared with.
        margin: The margin of the headline, in nats per byte; `MARGINS` are shown beside it.
        looks: How many times arms are compared, all told, as was declared before the first time.
        looked_at: With how many seeds they were compared so far, this time included.
    """

    reference: str = "fixed"
    margin: float = MARGIN
    looks: int = 1
    looked_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a margin that is no positive number."""
        check_margin(self.margin)

    @property
    def margins(self) -> tuple[float, ...]:
        """All margins that are shown, the smallest first."""
        return tuple(sorted({*MARGINS, self.margin}))


def next_look(before: Result | None, n_seeds: int, looks: int | None) -> tuple[int, tuple[int, ...]]:
    """Count this comparison among those that were declared; the same seeds once more are no new one.

    Args:
        before: What was compared in this folder last, if anything.
        n_seeds: Seeds of each arm now.
        looks: How many looks are asked for; None keeps what was declared, which is 1 unless said otherwise.

    Returns:
        Looks declared, and the seeds of each look so far, with this one. One seed gives no verdict, so that
        it is no look.

    Raises:
        LRopeError: Seeds were added after the last declared look, or looks after the first one.
    """
    own = (n_seeds,) if n_seeds > 1 else ()
    if before is None:
        return looks or 1, own
    had = len(set(before.tables["runs"]["seed"].tolist()))
    declared = int(before.provenance.get("looks", 1))
    looked_at = tuple(before.provenance.get("looked_at", [had] if had > 1 else []))
    if not looked_at:
        return looks or declared, own
    if looks not in (None, declared):
        raise LRopeError(
            f"{looks} looks are asked for, but {declared} were declared before the first one: "
            "leave --looks out, or begin again with --overwrite or another --out"
        )
    if n_seeds == looked_at[-1]:
        return declared, looked_at
    if n_seeds < looked_at[-1] or len(looked_at) >= declared:
        raise LRopeError(
            f"arms were compared with {looked_at[-1]} seeds, and {n_seeds} are asked for now: another number "
            'of seeds after having looked finds "equivalent" too often. Declare looks beforehand '
            "(--looks 2 tests each at half of the 5 %), in another --out or with --overwrite"
        )
    return declared, (*looked_at, n_seeds)


def replicate_result(
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    comparison: Comparison,
    *,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    warnings: Sequence[str] = (),
) -> Result:
    """Compare the arms of a finished experiment.

    Each arm is compared with the reference; and where there is a widened fixed arm, each arm with
    learned increments also with that one, which has as many parameters. No correction is made for
    the number of comparisons.

    Args:
        rows: "runs", "languages" and "curves", as `training.replication` gives them.
        comparison: Reference and margin.
        config: What all runs share.
        data: Provenance of the full validation set.
        warnings: What else a reader must know.

    Returns:
        A result of kind "replicate" with the tables `runs`, `differences` (one row a comparison and
        margin), `languages` and `curves`.
    """
    tables = {name: _frame(rows[name]) for name in ("runs", "languages", "curves")}
    differences = compare(tables["runs"], comparison)
    return Result(
        kind=KIND,
        provenance={
            **provenance(config=config, data=data, seed=None),
            "reference": comparison.reference,
            "margin": comparison.margin,
            "looks": comparison.looks,
            "looked_at": list(comparison.looked_at),
        },
        headline=_headline(differences, comparison),
        tables={**tables, "differences": differences},
        warnings=(*warnings, *_warnings(differences)),
    )


def compare(runs: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """Return `differences.csv`: arm - reference in nats per byte, over the seeds that both have."""
    arms = list(dict.fromkeys(runs["arm"]))
    losses = runs.pivot(index="seed", columns="arm", values="nats_per_byte")
    pairs = [(arm, comparison.reference) for arm in arms if arm != comparison.reference]
    if WIDE in arms and comparison.reference != WIDE:
        pairs += [(arm, WIDE) for arm in arms if not arm.startswith("fixed")]
    lines: list[dict[str, Any]] = []
    for arm, reference in pairs:
        differences = (losses[arm] - losses[reference]).dropna()
        if differences.empty:
            raise LRopeError(f"no seed has both {arm} and {reference}: there is nothing to compare")
        observed = {"arm": arm, "reference": reference} | paired(differences.to_numpy())
        lines += [observed | verdict(observed, margin, comparison.looks) for margin in comparison.margins]
    return pd.DataFrame(lines).astype({"n_seeds": "Int64", "n_seeds_for_power": "Int64"})


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    for name in frame.columns:
        dtype = "int64" if name in _INTEGERS else "str" if name in _WORDS else "float64"
        frame[name] = frame[name].astype(dtype)
    return frame


def _headline(differences: pd.DataFrame, comparison: Comparison) -> dict[str, float | None]:
    own = differences[
        (differences["reference"] == comparison.reference) & (differences["margin"] == comparison.margin)
    ]
    means = zip(own["arm"], own["mean"], strict=True)
    return {f"{arm} - {comparison.reference}": float(mean) for arm, mean in means}


def _warnings(differences: pd.DataFrame) -> list[str]:
    found = []
    if 1 in differences["n_seeds"].tolist():
        found.append("a single seed gives no verdict: the spread between seeds is not known; use --seeds 5")
    still = differences[differences["sd"] == 0]
    for arm, reference in dict.fromkeys(zip(still["arm"], still["reference"], strict=True)):
        found.append(
            f"{arm} and {reference} differ by exactly the same in every seed: the intervals have no width, "
            "and the verdict rests on the mean alone"
        )
    return found
