"""What is probed for, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrope_interp.errors import LRopeError, unknown

INCREMENTS, POSITIONS, RESID = "increments", "positions", "resid"
FEATURES = (INCREMENTS, POSITIONS, RESID)
SUITES = ("default", "full")
MOST_SPANS = 100_000
MAX_BYTES = 100_000  # of each language in each split
MOST_RESID_SPANS = 20_000


@dataclass(frozen=True)
class ConceptOptions:
    """What to probe for; see `lrope_interp.probe`.

    Attributes:
        concepts: Families or concepts by name; None for all that the text can tell. Spans that the user
            gave are one family, "spans", and are probed for whatever stands here.
        layers: Which layers; None for all.
        features: Some of "increments", "positions", "resid".
        suite: "default": probes with all controls, gaps and trees. "full": code lengths, sparse paths and
            erasures too.
        max_spans: The most spans of a family; 20,000 where residual streams are probed.
        seed: Of samples, control tasks and resamples.
        batch_size: Windows at a time; it changes no number.
    """

    concepts: Sequence[str] | None = None
    layers: Sequence[int] | None = None
    features: tuple[str, ...] = (INCREMENTS,)
    suite: str = "default"
    max_spans: int = MOST_SPANS
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Refuse names that do not exist."""
        for name in self.features:
            if name not in FEATURES:
                raise unknown("features", name, FEATURES)
        if not self.features or len(set(self.features)) < len(self.features):
            raise LRopeError(f"features must be one or more of {', '.join(FEATURES)}, each once")
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        if self.max_spans < 1:
            raise LRopeError(f"max_spans must be at least 1, got {self.max_spans}")

    @property
    def most(self) -> int:
        """The most spans of a family."""
        return min(self.max_spans, MOST_RESID_SPANS) if RESID in self.features else self.max_spans

    @property
    def is_full(self) -> bool:
        """Whether everything is measured."""
        return self.suite == "full"
