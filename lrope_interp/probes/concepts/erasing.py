"""Take a concept out of what an increment head reads, and out of nothing else.

    eraser = fit_eraser(model, documents, spans, layer=3)
    hooks = [("blocks.3.hook_increments_in", erase(eraser))]
    loss = model.run_with_hooks(text, fwd_hooks=hooks, return_type="loss")

`hook_increments_in` stands between the residual stream and the increment head: queries, keys, values
and the MLP read the stream itself. What changes behind it changes through the increments alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import (
    BATCH_SIZE,
    OVERLAP,
    Progress,
    check_layers,
    in_batches,
    lay_out,
)
from lrope_interp.probes.capture.captured import (
    Captured,
    DocumentWindow,
    document_windows,
    window_tokens,
)
from lrope_interp.probes.capture.losses import at_tokens
from lrope_interp.probes.statistics.erasure import LeaceEraser, LeaceFitter

_KIND = "erasers"
_MOST = 16


class ErasingHook:
    """A hook that erases, and counts how often it fired: `run_with_hooks` raises if it never did.

    Attributes:
        eraser: What is done to the states.
        n_fired: Forward passes that went through it.
    """

    def __init__(self, eraser: LeaceEraser) -> None:
        self.eraser = eraser
        self.n_fired = 0

    def __call__(self, x: Float[Tensor, "*batch d_model"], hook: HookPoint) -> Tensor:
        """Return the erased states; the tensor that came stays as it is."""
        del hook
        self.n_fired += 1
        return self.eraser(x)


def erase(eraser: LeaceEraser) -> ErasingHook:
    """Return a hook that erases, for `blocks.N.hook_increments_in` or any other state of that width."""
    return ErasingHook(eraser)


@dataclass(frozen=True)
class MarkedText:
    """Documents, and the spans of one family of concepts in them.

    Attributes:
        documents: The text.
        spans: Their numbers of documents are places in `documents`.
    """

    documents: tuple[Document, ...]
    spans: Spans

    @cached_property
    def edges(self) -> tuple[Int64[np.ndarray, " spans"], Int64[np.ndarray, " spans"]]:
        """The first byte of each span and the one past its last, of all documents joined."""
        return self.spans.bytes_of(self.documents)

    @cached_property
    def concept_at(self) -> Int64[np.ndarray, " n_bytes"]:
        """The number of the concept at each joined byte, -1 outside all spans.

        Where spans overlap the shorter one counts.
        """
        first, past = self.edges
        found = np.full(sum(one.n_bytes for one in self.documents), -1, dtype=np.int64)
        for at in np.argsort(first - past, kind="stable").tolist():  # the longest first
            found[first[at] : past[at]] = self.spans.concept[at]
        return found

    def shuffled(self, seed: int) -> MarkedText:
        """Permute the concepts of the spans among them; every span stays where it is.

        Still the same bytes lie in spans, and a span is of one concept from end to end. What a concept
        goes along with in the text is gone: its words, and how long its spans are.
        """
        concept = np.random.default_rng(seed).permutation(self.spans.concept)
        return replace(self, spans=replace(self.spans, concept=concept))

    def identity(self) -> dict[str, Any]:
        """Return what tells it from any other, as JSON."""
        columns = np.stack([*self.edges, self.spans.concept])
        return {
            "documents": [one.sha256 for one in self.documents],
            "spans": hashlib.sha256(columns.tobytes()).hexdigest(),
            "concepts": list(self.spans.concepts),
        }


def fit_eraser(
    model: LRopeTransformer,
    documents: Sequence[Document],
    spans: Spans,
    layer: int,
    batch_size: int = BATCH_SIZE,
) -> LeaceEraser:
    """Fit what erases a family of concepts from the input of one layer's increment head.

    Every byte (token) of the documents counts once, read with the context that it is scored with. Its
    class is the concept of the shortest span that it lies in, or "none": what is erased is also
    whether a byte lies in a span at all. Rank at most the number of concepts.

    Args:
        model: Its layers must have increment heads of their own.
        documents: Text to fit on; measure on other text.
        spans: Of one family.
        layer: Whose head.
        batch_size: Windows at a time; it changes nothing else.

    Raises:
        LRopeError: A model without such heads, no such layer, or all bytes of one class.
    """
    fitted, _ = fit_layers(model, MarkedText(tuple(documents), spans), [layer], batch_size)
    return fitted[layer][0].eraser()


def fit_layers(
    model: LRopeTransformer,
    marked: MarkedText,
    layers: Sequence[int],
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
    shuffles: Sequence[int] = (),
) -> tuple[dict[int, list[LeaceFitter]], Float64[np.ndarray, "layers heads"]]:
    """Read a model over marked text once, and fit every layer; remembered between runs.

    No state is stored: a fitter keeps d_model squared numbers, whatever the size of the text. Shuffles
    (seeds, see `MarkedText.shuffled`) are fitted from the same reading.

    Returns:
        For each layer a fitter of states that its increment head reads and the concept of each, and after it
        one for each shuffle; and the mean increment of each layer and head.

    Raises:
        LRopeError: See `fit_eraser`.
    """
    check_has_heads(model)
    kept = check_layers(model, layers)
    identity = model_identity(model) | marked.identity() | {"layers": list(kept), "shuffles": list(shuffles)}
    n_classes, n_heads = len(marked.spans.concepts) + 1, model.cfg.n_heads if model.cfg.per_head else 1

    # The classes of the text and of every shuffle of it lie side by side in one wide fitter.
    n_wide = n_classes * (1 + len(shuffles))

    def read() -> Mapping[str, np.ndarray]:
        fitters = [LeaceFitter(model.cfg.d_model, n_wide) for _ in kept]
        mean = np.zeros((len(kept), n_heads), dtype=np.float64)
        texts = (marked, *map(marked.shuffled, shuffles))
        captured = lay_out(model, marked.documents, (), predictions=False)
        todo = document_windows(captured, model.cfg.n_ctx, OVERLAP)
        for _, batch in in_batches(todo, batch_size, "erasers", on_progress):
            to = np.concatenate([item.to(captured) for item in batch])
            numbers = torch.from_numpy(np.stack([one.concept_at[to] + 1 for one in texts], axis=1))
            classes = F.one_hot(numbers, num_classes=n_classes).flatten(1)
            for row, (x, increments) in enumerate(_states(model, captured, batch, kept)):
                fitters[row].update(x, classes)
                mean[row] += increments.sum(dim=1).numpy() / max(1, len(captured.tokens))
        return {
            "n": np.array([one.n for one in fitters]),
            "increments": mean,
            "mean": np.stack([one.mean.numpy() for one in fitters]),
            "scatter": np.stack([one.scatter.numpy() for one in fitters]),
        }

    found = remembered(identity, read, _KIND, _MOST)
    fitted = {}
    for row, layer in enumerate(kept):
        wide = LeaceFitter(model.cfg.d_model, n_wide, int(found["n"][row]))
        wide.mean, wide.scatter = (torch.from_numpy(found[name][row].copy()) for name in ("mean", "scatter"))
        starts = range(0, n_wide, n_classes)
        fitted[layer] = [wide.of_classes(slice(at, at + n_classes)) for at in starts]
    return fitted, found["increments"]


def check_has_heads(model: LRopeTransformer) -> None:
    """Raise unless every layer has an increment head of its own, which nothing else steers.

    Raises:
        LRopeError: The increments are fixed, shared or attached.
    """
    name = increments_name(model)
    if name != "per_layer":
        raise LRopeError(
            "erasing at hook_increments_in wants a model whose layers each have an increment head that reads "
            f"the residual stream; this one has {name} increments; choose one trained with per_layer"
        )


@torch.no_grad()
def _states(
    model: LRopeTransformer, captured: Captured, batch: Sequence[DocumentWindow], layers: tuple[int, ...]
) -> list[tuple[Float[Tensor, "scored d_model"], Float64[Tensor, "heads scored"]]]:
    """Return for each layer what its head reads at the tokens that a batch scores, and makes of them."""
    kept: dict[str, Tensor] = {}
    names = [f"blocks.{layer}.hook_increments{end}" for layer in layers for end in ("_in", "")]

    def keep(values: Tensor, hook: HookPoint) -> None:
        kept[str(hook.name)] = values.clone()

    tokens = window_tokens(batch, captured, model.own_tokenizer().eos_id)
    model.run_with_hooks(
        torch.from_numpy(tokens),
        fwd_hooks=[(name, keep) for name in names],
        stop_at_layer=max(layers) + 1,
    )
    return [
        (
            at_tokens(kept[f"blocks.{layer}.hook_increments_in"].movedim(-1, 0), batch).T,
            at_tokens(by_head(kept[f"blocks.{layer}.hook_increments"]), batch).cpu().double(),
        )
        for layer in layers
    ]


def by_head(increments: Float[Tensor, "batch pos *head"]) -> Float[Tensor, "heads batch pos"]:
    """Put the heads first; one where all share their increments."""
    return increments.movedim(-1, 0) if increments.ndim == 3 else increments.unsqueeze(0)
