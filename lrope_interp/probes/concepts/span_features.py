"""What is read of a span: the increments at its edges, inside and around it, and the distances across it.

Features are counted in tokens. A token that a span cuts belongs to it, so that with tokens longer than
a byte a span may read a little more than its own characters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.capture.captured import Captured

WINDOW = 3
PLACES = tuple(f"before_{k}" for k in range(WINDOW, 0, -1))
PLACES += ("first", "mean", "last")
PLACES += tuple(f"after_{k}" for k in range(1, WINDOW + 1))
DISTANCES = ("across", "per_token", "before", "after")


@dataclass(frozen=True)
class SpanTokens:
    """Where spans lie among the joined tokens of captured documents.

    Attributes:
        first: The token that holds the first byte of each.
        last: The token that holds its last byte.
        start: The first token of its document.
        stop: The token past the last one of its document.
    """

    first: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    stop: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, captured: Captured, spans: Spans) -> SpanTokens:
        """Find them; the spans' document numbers are those of `captured.documents`."""
        first, past = spans.bytes_of(captured.documents)
        edges = captured.token_starts
        return cls(
            np.searchsorted(edges, first, side="right") - 1,
            np.searchsorted(edges, past - 1, side="right") - 1,
            captured.token_offsets[spans.document],
            captured.token_offsets[spans.document + 1],
        )

    @property
    def length(self) -> Int64[np.ndarray, " n"]:
        """Tokens of each."""
        return self.last - self.first + 1

    def around(self) -> tuple[Int64[np.ndarray, "n around"], Bool[np.ndarray, "n around"]]:
        """Return the tokens before and after each in their order, and which of them the document has."""
        steps = np.arange(1, WINDOW + 1)
        at = np.concatenate([self.first[:, None] - steps[::-1], self.last[:, None] + steps], axis=1)
        is_there = (at >= self.start[:, None]) & (at < self.stop[:, None])
        return np.where(is_there, at, self.first[:, None]), is_there


def window_features(
    values: Float[np.ndarray, "layers heads n_tokens"], at: SpanTokens
) -> Float32[np.ndarray, "n layers features"]:
    """Return the values at `PLACES` of every span, head after head.

    Args:
        values: One number a token, such as increments or entropies.
        at: Where the spans are.

    Returns:
        For each layer heads x 9 features. What lies outside of the document is the layer's mean.
    """
    around, is_there = at.around()
    centre = values.mean(axis=-1, dtype=np.float64).astype(np.float32)[..., None, None]
    beside = np.where(is_there, values[..., around], centre)
    sums = _sums(values)
    mean = (sums[..., at.last + 1] - sums[..., at.first]) / at.length
    inside = np.stack([values[..., at.first], mean, values[..., at.last]], axis=-1)
    parts = [beside[..., :WINDOW], inside, beside[..., WINDOW:]]
    return _by_span(np.concatenate(parts, axis=-1))


def position_features(
    increments: Float[np.ndarray, "layers heads n_tokens"],
    at: SpanTokens,
    inv_freq: Float[np.ndarray, " planes"],
) -> Float32[np.ndarray, "n layers features"]:
    """Return the distances across and beside every span, and what rotary planes make of the first.

    Args:
        increments: One a token.
        at: Where the spans are.
        inv_freq: The angle of each plane for a distance of 1; attention sees the cosines alone.

    Returns:
        For each layer and head: the summed increments from the first to the last token, the same a
        token, from up to three tokens before to the first, from the last to up to three after; and
        the cosine of each plane's angle across.
    """
    sums = _sums(increments)
    left, right = np.maximum(at.first - WINDOW, at.start), np.minimum(at.last + WINDOW, at.stop - 1)
    across = sums[..., at.last + 1] - sums[..., at.first + 1]
    before = sums[..., at.first + 1] - sums[..., left + 1]
    after = sums[..., right + 1] - sums[..., at.last + 1]
    distances = np.stack([across, across / np.maximum(at.length - 1, 1), before, after], axis=-1)
    planes = np.cos(across[..., None] * inv_freq)
    return _by_span(np.concatenate([distances, planes], axis=-1))


def token_window(
    tokens: Int[np.ndarray, " n_tokens"], at: SpanTokens, nothing: int
) -> Int64[np.ndarray, "n places"]:
    """Return the ids around and in every span: 3 before, its first 4 and last 4, 3 after.

    Args:
        tokens: The ids.
        at: Where the spans are.
        nothing: Stands where the document or the span ends.
    """
    around, is_there = at.around()
    inside = np.arange(WINDOW + 1)
    head, tail = at.first[:, None] + inside, at.last[:, None] - inside[::-1]
    places = [
        (around[:, :WINDOW], is_there[:, :WINDOW]),
        (np.minimum(head, at.last[:, None]), head <= at.last[:, None]),
        (np.maximum(tail, at.first[:, None]), tail >= at.first[:, None]),
        (around[:, WINDOW:], is_there[:, WINDOW:]),
    ]
    return np.concatenate([np.where(known, tokens[place], nothing) for place, known in places], axis=1)


def _sums(values: Float[np.ndarray, "layers heads n"]) -> Float[np.ndarray, "layers heads n_and_one"]:
    """Return sums up to each token, float64, from 0."""
    sums = np.cumsum(values, axis=-1, dtype=np.float64)
    return np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums], axis=-1)


def _by_span(
    features: Float[np.ndarray, "layers heads n width"],
) -> Float32[np.ndarray, "n layers features"]:
    moved = features.transpose(2, 0, 1, 3)
    return moved.reshape(*moved.shape[:2], -1).astype(np.float32)
