"""What a boundaries analysis is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrope_interp.data.labels.kinds import LABELS, default_labels
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import attached_increments
from lrope_interp.probes.capture.capture import BATCH_SIZE, check_layers
from lrope_interp.probes.capture.gaps import ALIGNMENTS
from lrope_interp.probes.capture.selection import Selection


@dataclass(frozen=True)
class BoundaryOptions:
    """What to score, and how.

    Attributes:
        layers: Which layers; None for all.
        labels: Which boundaries, see `lrope_interp.data.labels.kinds.LABELS`; None for all that can be
            known of the text.
        align: "lead", "last" or "sum" reads every character of several bytes so; None or "dev" chooses
            on dev, for each signal, label and stratum.
        seed: Of resamples, shifts and flips. The untrained controls always have seeds 0 to 4.
        batch_size: Windows at a time; changes nothing but memory and time.
    """

    layers: Sequence[int] | None = None
    labels: Sequence[str] | None = None
    align: str | None = None
    seed: int = 0
    batch_size: int = BATCH_SIZE

    def __post_init__(self) -> None:
        """Check what does not depend on the model."""
        check_align(self.align)
        if self.labels is not None:
            for label in self.labels:
                if label not in LABELS:
                    raise unknown("label", label, LABELS)
            if not self.labels:
                raise LRopeError(f"no label to score; choose from: {', '.join(LABELS)}")

    def labels_for(self, selection: Selection) -> tuple[str, ...]:
        """Return the labels asked for, once each, or those that can be known of the documents."""
        found = default_labels(selection.test) if self.labels is None else self.labels
        return tuple(dict.fromkeys(found))

    def layers_for(self, model: LRopeTransformer) -> tuple[tuple[int, ...], list[str]]:
        """Check the layers; a shared head says the same in every layer and is scored once.

        Returns:
            The layers, and what a reader must know.
        """
        if attached_increments(model) is not None:
            raise LRopeError(
                "this run's increments are frozen: it did not learn them, and has no heads to control for; "
                "choose the run that they were taken from"
            )
        if model.cfg.increments == "fixed":
            raise LRopeError(
                "this run is fixed: every increment is 1, so there is nothing to test; "
                "choose one trained with --increments per-layer or shared"
            )
        kept = check_layers(model, self.layers)
        if not kept:
            raise LRopeError("no layer to score; name at least one, or take all")
        if model.cfg.increments == "shared":
            note = "shared increments are the same in every layer: scored once, as layer 0"
            return (0,), [note] if kept != (0,) else []
        return kept, []


def check_align(align: str | None) -> str | None:
    """Return an alignment if it is one; None and "dev" leave it to dev."""
    if align in (None, "dev"):
        return None
    if align not in ALIGNMENTS:
        raise LRopeError(f"unknown alignment {align!r}; choose from: dev, {', '.join(ALIGNMENTS)}")
    return align
