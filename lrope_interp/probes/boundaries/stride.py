"""How much increments depend on where windows happen to begin (EVALUATION 1)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import capture_unhurried
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.results import table

CHECKED_TOKENS = 1_000
_COLUMNS = ("layer", "head", "shift", "n")


def stride_frame(model: LRopeTransformer, captured: Captured, batch_size: int) -> pd.DataFrame:
    """Compare captured increments with those read with all the context that a window holds.

    The slow reading is remembered between runs of the same model and text.

    Args:
        model: The model that was captured.
        captured: What it did; the longest document (in tokens) is checked, where it is longer than a window.
        batch_size: Windows at a time.

    Returns:
        For each layer and head the `shift`: the root mean square difference over up to 1,000
        tokens, as a share of the layer's standard deviation. Empty where no increment can move:
        every document fits into one window, or the layers see nothing but the token (layer 0, and
        all layers of a shared head).
    """
    if captured.layers == (0,) or model.cfg.increments == "shared":
        return table([], _COLUMNS)
    sizes = np.diff(captured.token_offsets)
    longest, n_ctx = int(np.argmax(sizes)), model.cfg.n_ctx
    span = slice(max(n_ctx, int(sizes[longest]) - CHECKED_TOKENS), int(sizes[longest]))
    if span.start >= span.stop:
        return table([], _COLUMNS)
    document = captured.documents[longest]
    identity = {"what": "stride", "document": document.sha256, "span": [span.start, span.stop]}
    wanted = remembered(
        model_identity(model) | identity | {"layers": list(captured.layers)},
        lambda: capture_unhurried(model, document, span, layers=captured.layers, batch_size=batch_size),
    )
    first, increments = int(captured.token_offsets[longest]), captured.at_tokens(captured.increments)
    got = increments[..., first + span.start : first + span.stop]
    moved = np.sqrt(np.mean((got - wanted).astype(np.float64) ** 2, axis=-1))
    spread = increments.std(axis=-1, dtype=np.float64)
    rows = [
        {
            "layer": captured.layers[at],
            "head": head if moved.shape[1] > 1 else None,
            "shift": float(moved[at, head] / spread[at, head]) if spread[at, head] else np.nan,
            "n": span.stop - span.start,
        }
        for at, head in np.ndindex(*moved.shape)
    ]
    return table(rows, _COLUMNS)


def stride_note(frame: pd.DataFrame, n_ctx: int, unit: str = "bytes") -> list[str]:
    """Say in a sentence what the table says."""
    if frame.empty:
        return []
    at = int(frame["shift"].fillna(0).argmax())
    shift, layer, n = (frame[name].tolist()[at] for name in ("shift", "layer", "n"))
    return [
        f"windows overlap by half ({n_ctx // 2} {unit}): against full context, increments move by at most "
        f"{shift:.3f} of their s.d. (layer {layer}, {n} {unit})"
    ]
