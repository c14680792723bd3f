"""The increments that the tests of names read, and the controls that go through the same tests."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import Progress, capture, staged
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import RANDOM_HEAD, random_head, random_head_readout, untrained
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.studies.entities.text import EntityUnits

INCREMENTS, LEXICAL, UNTRAINED = "increments", "lexical", "untrained"
N_SEEDS = 3
"""Seeds of each random control; five, as elsewhere, would not tell more than that a test misfires."""

Row = dict[str, Any]


@dataclass(frozen=True)
class EntitySignal:
    """Numbers that stand where increments stand, in units of their mean.

    Attributes:
        name: "increments", or a control.
        seed: Of a random control.
        values: 1 is the mean of the layer and head: over the fit documents for increments and "lexical",
            over what is read for the random controls.
        layers: Layer numbers along the first axis.
    """

    name: str
    seed: int | None
    values: Float32[np.ndarray, "layers heads n_bytes"]
    layers: tuple[int, ...]


def read_signals(
    model: LRopeTransformer,
    documents: Sequence[Document],
    fitted: IncrementStatistics,
    fit: Sequence[Document],
    *,
    predictions: bool,
    batch_size: int,
    on_progress: Progress | None = None,
) -> tuple[Captured, list[EntitySignal]]:
    """Read the model and its controls over some documents.

    Args:
        model: With increments that it learned.
        documents: What is tested.
        fitted: Means of its increments, from other documents.
        fit: Documents on which the spread of random heads is matched.
        predictions: Whether entropy and surprisal are wanted too.
        batch_size: Windows at a time.
        on_progress: Told about every forward pass.
    """
    captured = capture(
        model,
        documents,
        predictions=predictions,
        readouts=(random_head_readout(model, fit),),
        batch_size=batch_size,
        on_progress=on_progress,
    )

    def by_own_mean(name: str, seed: int | None, values: Float32[np.ndarray, "layers heads n_bytes"]) -> Any:
        mean = captured.at_tokens(values).mean(axis=-1, keepdims=True, dtype=np.float64)
        return EntitySignal(name, seed, (values / mean).astype(np.float32), captured.layers)

    mean = fitted.mean[..., None]
    lexical = np.zeros(captured.increments.shape, dtype=np.float32)
    lexical[..., captured.token_starts] = fitted.lexical[..., captured.tokens]
    others = untrained(model, fit, batch_size=batch_size, on_progress=on_progress)[:N_SEEDS]
    return captured, [
        EntitySignal(INCREMENTS, None, captured.increments / mean, captured.layers),
        EntitySignal(LEXICAL, None, lexical / mean, captured.layers),
        *(by_own_mean(UNTRAINED, one.seed, np.asarray(one.function(captured))) for one in others),
        *(by_own_mean(RANDOM_HEAD, seed, random_head(captured, seed)) for seed in range(N_SEEDS)),
    ]


def read_short(
    model: LRopeTransformer,
    documents: Sequence[Document],
    fitted: IncrementStatistics,
    fit: Sequence[Document],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> tuple[Captured, list[EntitySignal]]:
    """Read documents of a line each, in windows that are as short as they are."""
    longest = max(document.n_bytes for document in documents) + 1
    short = copy.copy(model)
    short.cfg = copy.copy(model.cfg)
    short.cfg.n_ctx = min(model.cfg.n_ctx, 32 * -(-longest // 32))
    stage = staged(on_progress, "reversed order")
    return read_signals(
        short, documents, fitted, fit, predictions=False, batch_size=batch_size, on_progress=stage
    )


def each_place(signals: Sequence[EntitySignal]) -> Iterator[tuple[Row, Float32[np.ndarray, " n_bytes"]]]:
    """Yield signal, seed, layer and head of some numbers, and the numbers."""
    for signal in signals:
        for at, head in np.ndindex(signal.values.shape[:2]):
            number = head if signal.values.shape[1] > 1 else None
            place = {"signal": signal.name, "seed": signal.seed, "layer": signal.layers[at], "head": number}
            yield place, signal.values[at, head]


def at_place(
    values: Float32[np.ndarray, " n_bytes"],
    place: Int64[np.ndarray, " n"],
    is_start: Bool[np.ndarray, " n_bytes"],
) -> Float[np.ndarray, " n"]:
    """Return the value at one byte of each unit; NaN where there is none, or it begins no token."""
    known = (place >= 0) & is_start[place]
    return np.where(known, values[place], np.nan).astype(np.float64)


def mean_inside(
    values: Float32[np.ndarray, " n_bytes"], units: EntityUnits, is_start: Bool[np.ndarray, " n_bytes"]
) -> Float[np.ndarray, " n"]:
    """Return the mean value at the inner bytes of each unit; NaN where no token begins at any."""
    each = np.stack([at_place(values, column, is_start) for column in units.inner.T], axis=1)
    n = (~np.isnan(each)).sum(axis=1)
    return np.divide(np.nansum(each, axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def per_byte(values: Float32[np.ndarray, " n_bytes"], units: EntityUnits) -> Float[np.ndarray, " n"]:
    """Return the sum over each unit from its first byte to its last, divided by its bytes."""
    return summed(values, units.start, units.past) / (units.past - units.start)


def summed(
    values: Float32[np.ndarray, " n_bytes"], start: Int64[np.ndarray, " n"], past: Int64[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return the sum from `start` to before `past`."""
    total = np.append(0.0, np.cumsum(values, dtype=np.float64))
    return total[past] - total[start]
