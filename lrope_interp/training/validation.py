"""Nats per byte on the run's fixed validation text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64

from lrope_interp.data import Corpus, Document, evaluation_documents, scoring_windows
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.tokenizers import Tokenizer
from lrope_interp.training.devices import autocast


@dataclass(frozen=True)
class ValidationWindows:
    """Padded windows, and which of their next-token predictions are scored.

    Attributes:
        tokens: Each window, padded on the right with EOS.
        is_scored: True where the token one to the right of the index is scored here; every token
            of the text is scored exactly once, in the window where it has most left context.
        n_bytes: Bytes that the scored tokens stand for.
    """

    tokens: Int64[np.ndarray, "window pos"]
    is_scored: Bool[np.ndarray, "window pos_but_last"]
    n_bytes: int


def validation_documents(corpus: Corpus, max_bytes: int) -> tuple[Document, ...]:
    """Return the fixed validation text: the first of dev in hash order, an equal share a language."""
    languages = {document.language for document in corpus.documents("dev")}
    return evaluation_documents(corpus, "dev", max_bytes=max(1, max_bytes // max(1, len(languages))))


def validation_windows(documents: Sequence[Document], tokenizer: Tokenizer, n_ctx: int) -> ValidationWindows:
    """Cut documents into windows; each document's first window begins with EOS."""
    rows, masks = [], []
    for document in documents:
        sequence = np.concatenate([[tokenizer.eos_id], tokenizer.encode(document.text)])
        for window in scoring_windows(len(sequence), n_ctx):
            row = np.full(n_ctx, tokenizer.eos_id, dtype=np.int64)
            row[: window.stop - window.start] = sequence[window.start : window.stop]
            mask = np.zeros(n_ctx, dtype=bool)
            mask[window.first_scored - window.start : window.stop - window.start] = True
            rows.append(row)
            masks.append(mask[1:])
    if not rows:
        raise LRopeError("the corpus has no held-out text to validate on; give more text")
    tokens, is_scored = np.stack(rows), np.stack(masks)
    return ValidationWindows(tokens, is_scored, int(tokenizer.token_bytes(tokens[:, 1:][is_scored]).sum()))


@torch.no_grad()
def nats_per_byte(
    model: LRopeTransformer,
    windows: ValidationWindows,
    *,
    dtype: str = "float32",
    batch_size: int = 16,
    between_batches: Callable[[], None] = lambda: None,
) -> float:
    """Return the sum of -ln p over the scored tokens, divided by the bytes that they stand for.

    EOS is trained on but not counted.

    Args:
        model: The model; it is left in the mode (training or not) that it came in.
        windows: What to score.
        dtype: What autocast computes in; sums are float64.
        batch_size: Windows a pass.
        between_batches: Called before each pass; what it raises ends the scoring.

    Returns:
        Nats per byte.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        total = 0.0
        for at in range(0, len(windows.tokens), batch_size):
            between_batches()
            tokens = torch.from_numpy(windows.tokens[at : at + batch_size]).to(device)
            is_scored = torch.from_numpy(windows.is_scored[at : at + batch_size]).to(device)
            with autocast(device.type, dtype):
                logits = model(tokens)
            losses = F.cross_entropy(
                logits[:, :-1][is_scored].float(), tokens[:, 1:][is_scored], reduction="none"
            )
            total += float(losses.cpu().double().sum())
    finally:
        model.train(was_training)
    return total / windows.n_bytes
