"""Sums of increments between two tokens, both read in one window: the distance that attention uses.

Increments stitched from several windows have been read with different contexts, and attention never
sees their sum. Here every pair has both its ends in one window, which ends shortly after the later one.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from lrope_interp.data import ScoringWindow
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import BATCH_SIZE, Progress, capture_windows
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.windows import DocumentWindow

_AFTER = 4  # a window ends at most a quarter of its length after the later token ...
_BEFORE = 8  # ... and keeps an eighth of context before the earlier one


def most_tokens(n_ctx: int) -> int:
    """Return the longest distance that is measured in windows of n_ctx tokens."""
    return n_ctx - max(1, n_ctx // _AFTER) - max(2, n_ctx // _BEFORE)


def window_sums(
    model: LRopeTransformer,
    laid_out: Captured,
    document: Int64[np.ndarray, " n"],
    first: Int64[np.ndarray, " n"],
    last: Int64[np.ndarray, " n"],
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Float64[np.ndarray, "n layers heads"]:
    """Return the sum of the increments after token `first`, up to token `last`, of every pair.

    Args:
        model: Any LRopeTransformer.
        laid_out: The documents, from `lay_out`.
        document: Number of the document of each pair.
        first: The earlier token, counted in its document.
        last: The later one, at most `most_tokens` further on.
        batch_size: Windows at a time.
        on_progress: Told about every window.
    """
    n_ctx = model.cfg.n_ctx
    assert len(first) == 0 or int((last - first).max()) <= most_tokens(n_ctx)
    stops = _stops(last, n_ctx, np.diff(laid_out.token_offsets)[document] + 1)
    windows, which = np.unique(np.stack([document, stops]), axis=1, return_inverse=True)
    todo = [_window(number, stop, n_ctx) for number, stop in windows.T.tolist()]
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    sums = np.zeros((len(first), len(laid_out.layers), n_heads))
    order = np.argsort(which.ravel(), kind="stable")
    edges = np.searchsorted(which.ravel()[order], np.arange(len(todo) + 1))
    for done, (item, increments) in enumerate(capture_windows(model, laid_out, todo, batch_size=batch_size)):
        rows = order[edges[done] : edges[done + 1]]
        positions = np.cumsum(increments, axis=-1, dtype=np.float64)
        here = 1 - item.window.start
        sums[rows] = np.moveaxis(
            positions[..., last[rows] + here] - positions[..., first[rows] + here], -1, 0
        )
        if on_progress is not None:
            on_progress("windows", done + 1, len(todo))
    return sums


def _stops(
    last: Int64[np.ndarray, " n"], n_ctx: int, length: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Return where the windows end: at a few places of each document only, so that pairs share them."""
    grid = max(1, n_ctx // _AFTER)
    beyond = last + 2  # token t stands at index t + 1
    return np.minimum(-(-beyond // grid) * grid, length)


def _window(document: int, stop: int, n_ctx: int) -> DocumentWindow:
    start = max(0, stop - n_ctx)
    return DocumentWindow(document, ScoringWindow(start, stop, max(start, 1)))
