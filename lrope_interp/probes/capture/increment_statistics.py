"""What increments are on text of their own: means that ablations write, a sample for tables by n-gram.

An ablation that took its means from the text that it scores would know the answer in part. Here
they come from `fit` documents and are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import (
    BATCH_SIZE,
    OVERLAP,
    Progress,
    capture,
    increments_by_byte,
    lay_out,
    sees_bytes_only,
)
from lrope_interp.probes.capture.captured import Captured


@dataclass(frozen=True)
class IncrementStatistics:
    """Every increment of some text, sorted by the token that it was taken on arriving at.

    Attributes:
        mean: Of each layer and head (one head unless the model has increments per head).
        sd: Their standard deviation.
        lexical: Their mean for each token id; the layer's mean where the token never occurred.
        values: All of them, those of one token together.
        first: Where those of each token id begin in `values`; one more entry than ids.
        n_bytes: Size of the text.
        n_documents: Of how many documents.
    """

    mean: Float32[np.ndarray, "layers heads"]
    sd: Float32[np.ndarray, "layers heads"]
    lexical: Float32[np.ndarray, "layers heads d_vocab"]
    values: Float32[np.ndarray, "layers heads n"]
    first: Int64[np.ndarray, " ids_and_one"]
    n_bytes: int
    n_documents: int

    @classmethod
    def of(cls, captured: Captured, d_vocab: int) -> IncrementStatistics:
        """Sort what was captured from all layers of a model by token.

        Args:
            captured: Increments of every layer.
            d_vocab: Number of token ids.

        Raises:
            LRopeError: There is no token to count.
        """
        values = captured.at_tokens(captured.increments)
        if not values.shape[-1]:
            raise LRopeError("there is no text to fit mean increments on: every fit document is empty")
        order = np.argsort(captured.tokens, kind="stable")
        values = np.ascontiguousarray(values[..., order])
        counts = np.bincount(captured.tokens, minlength=d_vocab)
        first = np.append(0, np.cumsum(counts))
        mean = values.mean(axis=-1, dtype=np.float64)
        known = np.flatnonzero(counts)
        lexical = np.repeat(mean[..., None], len(counts), axis=-1)
        sums = np.add.reduceat(values, first[known], axis=-1, dtype=np.float64)
        lexical[..., known] = sums / counts[known]
        return cls(
            mean=mean.astype(np.float32),
            sd=values.std(axis=-1, dtype=np.float64).astype(np.float32),
            lexical=lexical.astype(np.float32),
            values=values,
            first=first,
            n_bytes=captured.n_bytes,
            n_documents=len(captured.documents),
        )

    def lexical_share(self) -> Float32[np.ndarray, "layers heads"]:
        """The share of each layer's variance that the mean per token explains, 0 to 1; NaN of a constant."""
        counts = np.diff(self.first)
        between = ((self.lexical - self.mean[..., None]).astype(np.float64) ** 2) @ counts / counts.sum()
        total = self.sd.astype(np.float64) ** 2
        is_constant = self.sd <= 1e-6 * np.abs(self.mean)
        share = np.divide(between, total, out=np.full_like(total, np.nan), where=~is_constant)
        return share.astype(np.float32)


def fit_increments(
    model: LRopeTransformer,
    documents: Sequence[Document],
    *,
    n_layers: int | None = None,
    overlap: float = OVERLAP,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> IncrementStatistics:
    """Read a model over `documents` and return the statistics of its increments.

    They are remembered between runs, unless a hook sits on the model, which may change them.

    Args:
        model: Any model; a fixed one gives ones.
        documents: Text that is not scored later.
        n_layers: Of how many layers, from the first on; None for all.
        overlap: Of windows; see `capture`.
        batch_size: Windows at a time; it changes nothing else.
        on_progress: Told about the forward passes.
    """
    layers = range(model.cfg.n_layers if n_layers is None else n_layers)
    how = {"overlap": overlap, "batch_size": batch_size, "on_progress": on_progress}
    return IncrementStatistics.of(capture_increments(model, documents, layers, **how), model.cfg.d_vocab)


def capture_increments(
    model: LRopeTransformer,
    documents: Sequence[Document],
    layers: Sequence[int],
    *,
    batch_size: int,
    overlap: float = OVERLAP,
    on_progress: Progress | None = None,
) -> Captured:
    """Return what `capture` without predictions returns, its increments from the cache where they are.

    Args:
        model: Any model.
        documents: Text that is not scored later.
        layers: Which layers.
        batch_size: Windows at a time.
        overlap: Of windows; see `capture`.
        on_progress: Told about the forward passes.
    """

    def read() -> Float32[np.ndarray, "layers heads n_bytes"]:
        how: dict[str, Any] = {"batch_size": batch_size, "on_progress": on_progress}
        is_plain = not identity["is_hooked"] and identity["attached"] is None
        if is_plain and sees_bytes_only(model, layers):
            return increments_by_byte(model, captured, **how)
        how |= {"layers": layers, "overlap": overlap}
        return capture(model, documents, predictions=False, **how).increments

    hashes = [one.sha256 for one in documents]
    identity = model_identity(model) | {"what": "fit", "documents": hashes, "layers": list(layers)}
    identity |= {"overlap": overlap}
    captured = lay_out(model, documents, tuple(layers), predictions=False)
    captured.increments[...] = remembered(identity, read)
    return captured
