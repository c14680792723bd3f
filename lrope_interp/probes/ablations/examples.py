"""The characters that an ablation costs most, each in its context."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from lrope_interp.data.alignment import byte_to_character
from lrope_interp.probes.ablations.passes import Outcomes
from lrope_interp.probes.ablations.plan import MEAN, SPLIT, Arm
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.results import table

N_EXAMPLES = 8
CONTEXT = 24
_COLUMNS = ("intervention", "design", "layers", "layer", "rank", "document", "character", "offset", "text")
_COLUMNS += ("value", "loss", "ablated")


def examples_frame(
    captured: Captured, outcomes: Outcomes, arms: Iterable[Arm], is_scored: Bool[np.ndarray, " n_bytes"]
) -> pd.DataFrame:
    """Return the targets that lose most, with 24 characters on either side.

    Taken for the terms of the split on all layers, and for each layer's mean. Losses are summed over
    the bytes of a character, in nats; two targets of one arm are never nearer than their contexts.

    Args:
        captured: The documents.
        outcomes: What the passes gave.
        arms: Which were run.
        is_scored: Which bytes count as targets.
    """
    characters = _Characters.of(captured, is_scored)
    numbers = {arm.what(): number for number, arm in enumerate(outcomes.arms)}
    loss = characters.summed(outcomes.loss)
    rows: list[dict[str, Any]] = []
    for arm in arms:
        is_shown = (arm.intervention in SPLIT and arm.design == "all") or arm.intervention == MEAN
        if is_shown and not arm.where and arm.head is None and arm.design in ("single", "all"):
            change = characters.summed(outcomes.change[numbers[arm.what()]])
            rows += characters.rows(arm, loss, change)
    return table(rows, _COLUMNS)


class _Characters:
    """The characters of all documents, end to end."""

    def __init__(
        self, captured: Captured, of_byte: Int64[np.ndarray, " n_bytes"], is_scored: np.ndarray
    ) -> None:
        self.captured, self.of_byte = captured, of_byte
        self.text = "".join(one.text for one in captured.documents)
        self.offsets = np.cumsum([0] + [len(one.text) for one in captured.documents])
        self.is_scored = np.bincount(of_byte, ~is_scored, minlength=len(self.text)) == 0

    @classmethod
    def of(cls, captured: Captured, is_scored: Bool[np.ndarray, " n_bytes"]) -> _Characters:
        """Number the characters through all documents."""
        counts = np.cumsum([0] + [len(one.text) for one in captured.documents])
        parts = [
            byte_to_character(one.text) + at for one, at in zip(captured.documents, counts, strict=False)
        ]
        return cls(captured, np.concatenate(parts), is_scored)

    def summed(self, values: Float[np.ndarray, " n_bytes"]) -> Float[np.ndarray, " characters"]:
        """Sum over the bytes of each character."""
        return np.bincount(self.of_byte, values, minlength=len(self.text))

    def rows(
        self, arm: Arm, loss: Float[np.ndarray, " characters"], change: Float[np.ndarray, " characters"]
    ) -> list[dict[str, Any]]:
        """Return the worst targets of one arm, a row a character of their contexts."""
        rows = []
        for rank, target in enumerate(self._worst(change), start=1):
            document = int(np.searchsorted(self.offsets, target, side="right")) - 1
            low, high = self.offsets[document], self.offsets[document + 1]
            for at in range(max(low, target - CONTEXT), min(high, target + CONTEXT + 1)):
                where = arm.row() | {"rank": rank, "document": self.captured.documents[document].name}
                where |= {"character": target - low, "offset": at - target, "text": self.text[at]}
                rows.append(where | {"value": change[at], "loss": loss[at], "ablated": loss[at] + change[at]})
        return rows

    def _worst(self, change: Float[np.ndarray, " characters"]) -> list[int]:
        found: list[int] = []
        for at in np.argsort(-np.where(self.is_scored, change, -np.inf), kind="stable"):
            is_worse = self.is_scored[at] and change[at] > 0
            if not is_worse or len(found) == N_EXAMPLES:
                break
            if all(abs(int(at) - other) > 2 * CONTEXT for other in found):
                found.append(int(at))
        return found
