"""The signals that structure and examples are drawn from, in the form that belongs to bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from lrope_interp.probes.captured import Captured
from lrope_interp.probes.controls import RANDOM_HEAD, UNTRAINED_SEEDS
from lrope_interp.probes.feature_sets import Sources
from lrope_interp.probes.span_reads import INCREMENTS, PREDICTIONS

Signal = Float32[np.ndarray, "layers heads n_bytes"]


def normalised(sources: Sources, n_train: int) -> Float32[np.ndarray, "layers heads n_tokens"]:
    """Return increments in units of the layer's mean over the first `n_train` documents."""
    return _normalised(sources.model[INCREMENTS][list(sources.layers)], sources.captured, n_train)


def structure_signals(
    captured: Captured, sources: Sources, n_train: int
) -> tuple[Captured, Mapping[str, Signal | Sequence[Signal]]]:
    """Return the test documents, and increments ("") and controls at their bytes.

    "lexical" is the mean increment of the token on the train documents: what a table of ids knows.

    Args:
        captured: All documents.
        sources: What models did there.
        n_train: How many documents are not test.
    """
    layers = list(sources.layers)

    def of(values: np.ndarray) -> Float32[np.ndarray, "layers heads n_bytes"]:
        return _at_bytes(values, captured, n_train)

    own = normalised(sources, n_train)
    predictions = sources.model[PREDICTIONS][:, 0:2]
    signals: dict[str, Signal | Sequence[Signal]] = {"": of(own)}
    signals["lexical"] = of(_lexical(own, captured, n_train))
    signals["entropy"], signals["surprisal"] = (of(predictions[:, k : k + 1]) for k in (0, 1))
    if sources.untrained:
        every = [_normalised(one[INCREMENTS][layers], captured, n_train) for one in sources.untrained]
        signals["untrained"] = [of(one) for one in every]
    if RANDOM_HEAD in sources.model:
        n_heads = own.shape[1]
        drawn = sources.model[RANDOM_HEAD][layers]
        parts = [drawn[:, seed * n_heads : (seed + 1) * n_heads] for seed in range(len(UNTRAINED_SEEDS))]
        signals[RANDOM_HEAD] = [of(_normalised(one, captured, n_train)) for one in parts]
    return _tail(captured, n_train, sources.layers, of(own)), signals


def _normalised(
    values: Float32[np.ndarray, "layers heads n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers heads n_tokens"]:
    stop = int(captured.token_offsets[n_train])
    mean = values[..., :stop].mean(axis=-1, dtype=np.float64, keepdims=True)
    return (values / mean).astype(np.float32)


def _lexical(
    values: Float32[np.ndarray, "layers heads n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers heads n_tokens"]:
    """Return the mean of each token id over the train documents; 1, the mean of all, where it has none."""
    stop = int(captured.token_offsets[n_train])
    ids = captured.tokens.astype(np.int64)
    counts = np.bincount(ids[:stop], minlength=int(ids.max(initial=0)) + 1)
    flat = values[..., :stop].reshape(-1, stop)
    sums = np.stack([np.bincount(ids[:stop], weights=row, minlength=len(counts)) for row in flat])
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return means[:, ids].reshape(values.shape).astype(np.float32)


def _tail(
    captured: Captured,
    n_train: int,
    layers: tuple[int, ...],
    increments: Float32[np.ndarray, "layers heads n_bytes"],
) -> Captured:
    """Return the layout of the documents from number `n_train` on, with increments."""
    byte, token = int(captured.offsets[n_train]), int(captured.token_offsets[n_train])
    return replace(
        captured,
        documents=captured.documents[n_train:],
        offsets=captured.offsets[n_train:] - byte,
        byte=captured.byte[byte:],
        layers=layers,
        increments=increments,
        tokens=captured.tokens[token:],
        token_starts=captured.token_starts[token:] - byte,
    )


def _at_bytes(
    values: Float32[np.ndarray, "layers width n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers width n_bytes"]:
    """Put what belongs to test tokens onto their first bytes; 0 elsewhere."""
    byte, token = int(captured.offsets[n_train]), int(captured.token_offsets[n_train])
    out = np.zeros((*values.shape[:2], captured.n_bytes - byte), dtype=np.float32)
    out[..., captured.token_starts[token:] - byte] = values[..., token:]
    return out
