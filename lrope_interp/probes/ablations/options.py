"""What an ablation run is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from lrope_interp.errors import LRopeError, unknown

SUITES = ("default", "full")
ASKED = "asked"
FREEZES = ("1", "mean", "lexical")
MAX_BYTES = 30_000  # of each language in each split: every intervention reads all of it again


@dataclass(frozen=True)
class AblationOptions:
    """One intervention, or a suite of them.

    Attributes:
        freeze: "1", "mean" or "lexical": only this intervention; None runs a suite.
        layers: With `freeze`, one layer, or with `is_each` any of them; None for all.
        is_each: With `freeze`, whether each of the layers is frozen alone instead.
        where: With `freeze`, at which gaps only ("": at all); in a suite, at which gaps the local edits
            are made ("": where words begin, or the text's nearest to it). See `places.PLACES`.
        suite: "default" or "full", where `freeze` is None.
        heads: Whether single heads are frozen too (with `freeze`: instead), in a model that has
            increments per head.
    """

    freeze: str | None = None
    layers: tuple[int, ...] | None = None
    is_each: bool = False
    where: str = ""
    suite: str = "default"
    heads: bool = False

    def __post_init__(self) -> None:
        """Refuse words that mean nothing, and layers without an intervention to put there."""
        if self.suite not in SUITES:
            raise unknown("suite", self.suite, SUITES)
        if self.freeze is not None and self.freeze not in FREEZES:
            raise unknown("value to freeze to:", self.freeze, FREEZES)
        if self.freeze is None and (self.layers is not None or self.is_each):
            raise LRopeError(
                "a suite ablates every layer: choose layers together with an intervention (freeze)"
            )
        if self.freeze is not None and self.suite != "default":
            raise LRopeError("freeze is one intervention and a suite many: give one of them")
        if self.layers is not None and not self.layers:
            raise LRopeError("no layer is named, so nothing would be ablated")

    @property
    def name(self) -> str:
        """The suite: "asked", "default" or "full"."""
        return ASKED if self.freeze is not None else self.suite
