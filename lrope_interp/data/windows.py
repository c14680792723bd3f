"""Windows: random ones of joined documents for training, overlapping ones of one for scoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from lrope_interp.errors import LRopeError


class ScoringWindow(NamedTuple):
    """Indices into the sequence ``[EOS, x0, .., x(n-1)]``: read [start, stop), score from first_scored."""

    start: int
    stop: int
    first_scored: int


class WindowSampler:
    """Random windows of training text; every batch is a pure function of (seed, step).

    Each window draws its part with equal probability, so that a bilingual corpus gives each
    language one half, and then an offset with equal probability. Nothing is remembered between
    batches, so a resumed training sees what an uninterrupted one would have seen.

    Args:
        streams: Name and tokens of every part.
        n_ctx: Tokens that the model reads; a window has one more, the last target.
        batch_size: Windows a batch.
        seed: Any number from 0 to 2**64 - 1.
    """

    def __init__(
        self, streams: Sequence[tuple[str, np.ndarray]], n_ctx: int, batch_size: int, seed: int
    ) -> None:
        if not streams:
            raise LRopeError("a window sampler needs at least one stream of tokens, got none")
        if n_ctx < 1 or batch_size < 1:
            raise LRopeError(f"n_ctx and batch_size must be at least 1, got {n_ctx} and {batch_size}")
        if not 0 <= seed < 2**64:
            raise LRopeError(f"the seed must be between 0 and 2**64 - 1, got {seed}")
        for name, stream in streams:
            if len(stream) < n_ctx + 1:
                raise LRopeError(
                    f"the training text of {name} has {len(stream):,} tokens, and one window needs "
                    f"n_ctx + 1 = {n_ctx + 1:,}; give more text or a smaller n_ctx"
                )
        self.names = tuple(name for name, _ in streams)
        self.streams = tuple(stream for _, stream in streams)
        self.n_ctx, self.batch_size, self.seed = n_ctx, batch_size, seed

    def batch(self, step: int) -> Int64[np.ndarray, "batch pos"]:
        """Return the windows of one step, each of n_ctx + 1 tokens."""
        # Raw words of a counter-based generator keep their values across NumPy versions.
        key = np.array([self.seed, step], dtype=np.uint64)
        words = np.random.Philox(key=key).random_raw(2 * self.batch_size)
        parts, draws = words[: self.batch_size], words[self.batch_size :]
        width = self.n_ctx + 1
        windows = np.empty((self.batch_size, width), dtype=np.int64)
        for row in range(self.batch_size):
            stream = self.streams[int(parts[row]) % len(self.streams)]
            offset = int(draws[row]) % (len(stream) - width + 1)
            windows[row] = stream[offset : offset + width]
        return windows

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how often each part is read in `n_steps`, on average over seeds."""
        drawn = n_steps * self.batch_size * self.n_ctx / len(self.streams)
        return {name: drawn / len(stream) for name, stream in zip(self.names, self.streams, strict=True)}


def scoring_windows(n_tokens: int, n_ctx: int, overlap: float = 0.5) -> list[ScoringWindow]:
    """Cover one document so that every byte is scored once, with the most left context there is.

    Args:
        n_tokens: Length of ``[EOS, x0, .., x(n-1)]``: the document's bytes and one.
        n_ctx: Tokens that the model reads at once.
        overlap: The share of a window that the one before has read too: the least context of any
            byte beyond the first window, and what it costs.

    Returns:
        Windows at a stride of n_ctx // 2, or what the overlap leaves. Byte t sits at index t + 1;
        index 0 (EOS) is never scored. What a window predicts for an index is read one index earlier
        in the same window.
    """
    if n_ctx < 2:
        raise LRopeError(f"scoring needs n_ctx of at least 2, got {n_ctx}")
    stride = max(1, int(n_ctx * (1 - overlap)))
    windows: list[ScoringWindow] = []
    scored = 1
    while scored < n_tokens:
        start = len(windows) * stride
        stop = min(start + n_ctx, n_tokens)
        windows.append(ScoringWindow(start, stop, scored))
        scored = stop
    return windows
