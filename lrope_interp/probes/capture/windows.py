"""Windows of documents in batches: which tokens each reads, and what it scores.

Indices: in a window that starts at s, token t of a document stands at index t + 1 - s of the
sequence EOS, token 0, token 1, ...; its increment is read there, its prediction one index before.
What is read at a token is stored at its first byte, so that all that follows is indexed by bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped

from lrope_interp.data import ScoringWindow, scoring_windows
from lrope_interp.probes.capture.captured import Captured


@dataclass(frozen=True)
class DocumentWindow:
    """A window of one document.

    Attributes:
        document: Number of the document.
        window: Which of its tokens are read, and from where on they are scored.
    """

    document: int
    window: ScoringWindow

    @property
    def here(self) -> slice:
        """Indices of the window at which scored tokens stand."""
        window = self.window
        return slice(window.first_scored - window.start, window.stop - window.start)

    @property
    def before(self) -> slice:
        """Indices at which scored tokens are predicted."""
        return slice(self.here.start - 1, self.here.stop - 1)

    def to(self, captured: Captured) -> Int64[np.ndarray, " scored"]:
        """At which joined bytes the scored tokens begin."""
        at = int(captured.token_offsets[self.document])
        return captured.token_starts[at + self.window.first_scored - 1 : at + self.window.stop - 1]


def document_windows(captured: Captured, n_ctx: int, overlap: float) -> list[DocumentWindow]:
    """Cover all documents with windows; see `data.scoring_windows`."""
    return [
        DocumentWindow(number, window)
        for number, n_tokens in enumerate(np.diff(captured.token_offsets).tolist())
        for window in scoring_windows(n_tokens + 1, n_ctx, overlap)
    ]


def in_batches(todo: Sequence[DocumentWindow], size: int) -> Iterator[tuple[int, Sequence[DocumentWindow]]]:
    """Yield the windows `size` at a time, each time with how many are done after them."""
    for start in range(0, len(todo), size):
        batch = todo[start : start + size]
        yield start + len(batch), batch


def window_tokens(
    batch: Sequence[DocumentWindow], captured: Captured, n_ctx: int, eos: int
) -> Int64[np.ndarray, "batch n_ctx"]:
    """Cut the windows from EOS + tokens; EOS also pads on the right, where causality hides it."""
    return at_windows(batch, captured, n_ctx, captured.tokens, eos)


def at_windows(
    batch: Sequence[DocumentWindow],
    captured: Captured,
    n_ctx: int,
    values: Shaped[np.ndarray, " n_tokens"],
    elsewhere: int | bool,
) -> Shaped[np.ndarray, "batch n_ctx"]:
    """Lay one value a token out as the windows read them; `elsewhere` stands at EOS and padding."""
    dtype = bool if isinstance(elsewhere, bool) else np.int64
    out = np.full((len(batch), n_ctx), elsewhere, dtype=dtype)
    for row, item in enumerate(batch):
        start, stop, at = item.window.start, item.window.stop, int(captured.token_offsets[item.document])
        first = max(start - 1, 0)
        out[row, first + 1 - start : stop - start] = values[at + first : at + stop - 1]
    return out
