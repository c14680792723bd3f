"""The forward passes of an erasure check: increments and losses with each eraser at each layer.

Batches of windows are the outer loop, as in `ablation_passes`: the untouched model leaves the residual
stream before every layer, so that a pass begins at the layer in which something is erased.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from lrope_interp.data import Document
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.probes.capture.cache import forget, model_identity, remembered
from lrope_interp.probes.capture.capture import OVERLAP, Progress, lay_out
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.losses import Text, Untouched, at_predictions, at_tokens
from lrope_interp.probes.capture.windows import DocumentWindow, document_windows, in_batches
from lrope_interp.probes.concepts.erasing import by_head, erase
from lrope_interp.probes.statistics.erasure import LeaceEraser

KIND = "erasures"
_BATCHES = "erasure_batches"
_MOST = 16
_MOST_BATCHES = 1_000

Erasers = Mapping[int, Sequence[LeaceEraser]]
"""By layer; as many of each."""


@dataclass(frozen=True)
class Erased:
    """What the passes gave, at the first byte of every token and 0 at its others.

    Attributes:
        captured: What was read, without predictions.
        before: Increments of the untouched model.
        after: Increments of the layer in which something is erased, by eraser.
        nats: How much more is lost at each byte, by eraser.
    """

    captured: Captured
    before: Float32[np.ndarray, "layers heads n_bytes"]
    after: Float32[np.ndarray, "layers erasers heads n_bytes"]
    nats: Float32[np.ndarray, "layers erasers n_bytes"]


def run_erased(
    model: LRopeTransformer,
    documents: Sequence[Document],
    erasers: Erasers,
    batch_size: int,
    on_progress: Progress | None = None,
) -> Erased:
    """Run every eraser over every document.

    What a batch gave is remembered, so that a run that was killed goes on there; and so is the whole.

    Args:
        model: With an increment head in each of the layers; it is left as it is.
        documents: What is read.
        erasers: One or more for each layer; one is at work at a time.
        batch_size: Windows at a time.
        on_progress: Told "erasures", window-passes done, and all of them.
    """
    captured = lay_out(model, documents, (), predictions=False)
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    n_arms = len(next(iter(erasers.values())))
    runner = _Runner(model, captured, erasers, max(1, batch_size))
    read = remembered(
        {"run": runner.name, "is_hooked": runner.is_hooked}, lambda: runner.run(on_progress), KIND, _MOST
    )
    channels = read.reshape(len(erasers), n_heads + n_arms * (n_heads + 1), -1)
    arms = channels[:, n_heads:].reshape(len(erasers), n_arms, n_heads + 1, -1)
    return Erased(captured, channels[:, :n_heads], arms[:, :, :-1], arms[:, :, -1])


class _Runner:
    """The passes of one run.

    Attributes:
        name: Of everything that decides the numbers.
        is_hooked: Whether hooks that are not known sit on the model.
    """

    def __init__(
        self, model: LRopeTransformer, captured: Captured, erasers: Erasers, batch_size: int
    ) -> None:
        self.model, self.captured, self.erasers, self.batch_size = model, captured, erasers, batch_size
        self.text = Text(captured, {}, np.full(len(captured.tokens), -1, dtype=np.int64))
        known = model_identity(model)
        said = known | {
            "documents": [one.sha256 for one in captured.documents],
            "erasers": {str(layer): [_sha256(one) for one in own] for layer, own in erasers.items()},
            "batch_size": batch_size,
        }
        self.name = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        self.is_hooked = known["is_hooked"]

    def run(self, on_progress: Progress | None) -> Float32[np.ndarray, "channels n_bytes"]:
        """Run all batches; see `batch` for the channels."""
        todo = document_windows(self.captured, self.model.cfg.n_ctx, OVERLAP)
        n_passes = 1 + sum(map(len, self.erasers.values()))
        n_heads = self.model.cfg.n_heads if self.model.cfg.per_head else 1
        n_channels = n_heads * len(self.erasers) + (n_passes - 1) * (n_heads + 1)
        channels = np.zeros((n_channels, self.captured.n_bytes), dtype=np.float32)
        for done, batch in in_batches(todo, self.batch_size):
            identity = {"run": self.name, "done": done, "is_hooked": self.is_hooked}
            read = remembered(identity, lambda batch=batch: self.batch(batch), _BATCHES, _MOST_BATCHES)
            channels[:, np.concatenate([item.to(self.captured) for item in batch])] = read
            if on_progress is not None:
                on_progress("erasures", done * n_passes, len(todo) * n_passes)
        forget(_BATCHES, self.name)
        return channels

    @torch.inference_mode()
    def batch(self, batch: Sequence[DocumentWindow]) -> Float32[np.ndarray, "channels scored"]:
        """Run one batch: for each layer its increments, and for each eraser increments and loss."""
        one, found = Untouched.of(self.model, self.text, batch, is_looked_at=False), []
        for layer, own in self.erasers.items():
            found.append(at_tokens(by_head(one.clean[f"blocks.{layer}.hook_increments"]), batch))
            for eraser in own:
                increments, nats = self._erased(one, layer, eraser)
                found += [at_tokens(by_head(increments), batch), at_predictions(nats, batch)]
        return torch.cat(found).float().cpu().numpy()

    def _erased(self, one: Untouched, layer: int, eraser: LeaceEraser) -> tuple[Tensor, Tensor]:
        """Run one eraser on one batch, from its layer on."""
        kept: list[Tensor] = []

        def keep(increments: Tensor, hook: HookPoint) -> None:
            del hook
            kept.append(increments.clone())

        hooks = [
            (f"blocks.{layer}.hook_increments_in", erase(eraser)),
            (f"blocks.{layer}.hook_increments", keep),
        ]
        logits = self.model.run_with_hooks(
            one.streams[layer], start_at_layer=layer, tokens=one.tokens, fwd_hooks=hooks
        )
        return kept[0], one.compared(logits)[0]


def _sha256(eraser: LeaceEraser) -> str:
    parts = (eraser.mean, eraser.left, eraser.right)
    return hashlib.sha256(b"".join(one.contiguous().numpy().tobytes() for one in parts)).hexdigest()
