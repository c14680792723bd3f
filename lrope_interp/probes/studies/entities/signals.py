"""The increments that the tests of names read, and the controls that go through the same tests."""

from __future__ import annotations

import copy
from collections.abc import Sequence
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


EntitySignal = tuple[Row, Float32[np.ndarray, " n_bytes"]]
"""Signal, seed, layer and head, and numbers that stand where increments stand. 1 is the mean of the layer and
head: over the fit documents for increments and "lexical", over what is read for the random controls."""


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

    def by_place(
        name: str, values: Float32[np.ndarray, "layers heads n_bytes"], seed: int | None = None
    ) -> None:
        if seed is not None:
            mean = captured.at_tokens(values).mean(axis=-1, keepdims=True, dtype=np.float64)
            values = (values / mean).astype(np.float32)
        for at, head in np.ndindex(values.shape[:2]):
            place = {"signal": name, "seed": seed, "layer": captured.layers[at]}
            found.append((place | {"head": head if values.shape[1] > 1 else None}, values[at, head]))

    found: list[EntitySignal] = []
    lexical = np.zeros(captured.increments.shape, dtype=np.float32)
    lexical[..., captured.token_starts] = fitted.lexical[..., captured.tokens]
    by_place(INCREMENTS, captured.increments / fitted.mean[..., None])
    by_place(LEXICAL, lexical / fitted.mean[..., None])
    for one in untrained(model, fit, batch_size=batch_size, on_progress=on_progress)[:N_SEEDS]:
        by_place(UNTRAINED, np.asarray(one.function(captured)), one.seed)
    for seed in range(N_SEEDS):
        by_place(RANDOM_HEAD, random_head(captured, seed), seed)
    return captured, found


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
