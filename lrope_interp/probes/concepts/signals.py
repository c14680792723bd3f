"""The signals that structure and examples are drawn from, in the form that belongs to bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import RANDOM_HEAD, UNTRAINED_SEEDS
from lrope_interp.probes.capture.ngrams import NgramMeans
from lrope_interp.probes.concepts.features import Sources
from lrope_interp.probes.concepts.span_reads import INCREMENTS, PREDICTIONS

Signal = Float32[np.ndarray, "layers heads n_bytes"]
_LENGTHS = {"lexical": 1, "ngram_3": 3}


def normalised(sources: Sources, n_train: int) -> Float32[np.ndarray, "layers heads n_tokens"]:
    """Return increments in units of the layer's mean over the first `n_train` documents."""
    return _normalised(sources.model[INCREMENTS][list(sources.layers)], sources.captured, n_train)


def structure_signals(
    captured: Captured, sources: Sources, n_train: int
) -> tuple[Captured, Mapping[str, Signal | Sequence[Signal]]]:
    """Return the test documents, and increments ("") and controls at their bytes.

    "lexical" is the mean increment of the token on the train documents, "ngram_3" that of the last three:
    what tables of bytes know, as far as they were seen there.

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
    test = _part(captured, slice(n_train, None), sources.layers, of(own))
    signals |= _tables(captured, own, n_train, test)
    signals["entropy"], signals["surprisal"] = (of(predictions[:, k : k + 1]) for k in (0, 1))
    if sources.untrained:
        every = [_normalised(one[INCREMENTS][layers], captured, n_train) for one in sources.untrained]
        signals["untrained"] = [of(one) for one in every]
    if RANDOM_HEAD in sources.model:
        n_heads = own.shape[1]
        drawn = sources.model[RANDOM_HEAD][layers]
        parts = [drawn[:, seed * n_heads : (seed + 1) * n_heads] for seed in range(len(UNTRAINED_SEEDS))]
        signals[RANDOM_HEAD] = [of(_normalised(one, captured, n_train)) for one in parts]
    return test, signals


def _normalised(
    values: Float32[np.ndarray, "layers heads n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers heads n_tokens"]:
    stop = int(captured.token_offsets[n_train])
    mean = values[..., :stop].mean(axis=-1, dtype=np.float64, keepdims=True)
    return (values / mean).astype(np.float32)


def _tables(
    captured: Captured, values: Float32[np.ndarray, "layers heads n_tokens"], n_train: int, test: Captured
) -> dict[str, Signal]:
    """Return at the test tokens what tables of the train documents say: by the last token, and by three."""
    at_bytes = np.zeros((*values.shape[:2], int(captured.offsets[n_train])), dtype=np.float32)
    n_tokens = int(captured.token_offsets[n_train])
    at_bytes[..., captured.token_starts[:n_tokens]] = values[..., :n_tokens]
    train = _part(captured, slice(0, n_train), test.layers, at_bytes)
    means = NgramMeans.of([train])
    return {name: means.at(test, length) * test.is_token_start for name, length in _LENGTHS.items()}


def _part(
    captured: Captured,
    documents: slice,
    layers: tuple[int, ...],
    increments: Float32[np.ndarray, "layers heads n_bytes"],
) -> Captured:
    """Return the layout of some documents in a row, with increments."""
    first, last, _ = documents.indices(len(captured.documents))
    start, stop = int(captured.offsets[first]), int(captured.offsets[last])
    tokens = slice(int(captured.token_offsets[first]), int(captured.token_offsets[last]))
    return replace(
        captured,
        documents=captured.documents[documents],
        offsets=captured.offsets[first : last + 1] - start,
        byte=captured.byte[start:stop],
        layers=layers,
        increments=increments,
        tokens=captured.tokens[tokens],
        token_starts=captured.token_starts[tokens] - start,
    )


def _at_bytes(
    values: Float32[np.ndarray, "layers width n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers width n_bytes"]:
    """Put what belongs to test tokens onto their first bytes; 0 elsewhere."""
    byte, token = int(captured.offsets[n_train]), int(captured.token_offsets[n_train])
    out = np.zeros((*values.shape[:2], captured.n_bytes - byte), dtype=np.float32)
    out[..., captured.token_starts[token:] - byte] = values[..., token:]
    return out
