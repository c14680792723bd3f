"""Tiny models whose increments vary, text to fit means on, and interventions written out by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablation_hooks
from lrope_interp.probes.ablations.interventions import Intervention
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics, fit_increments

MakeModel = Callable[..., LRopeTransformer]
Rule = Callable[[np.ndarray, int, np.ndarray], np.ndarray]
"""Increments [batch, pos, head], the layer, tokens [batch, pos] -> what is written; all numpy."""

EOS = 256
MODES = {
    "per_layer": {},
    "shared": {"increments": "shared"},
    "fixed": {"increments": "fixed"},
    "per_head": {"per_head": True},
}
LEARNED = [mode for mode in MODES if mode != "fixed"]
TEXT = "The peace of nations, a treaty."
OTHER = "A treaty is peace, and so on..."
FIT = tuple(
    Document(f"fit-{number}", text, "made up", "en")
    for number, text in enumerate(
        [
            "The nations of peace.",
            "A treaty, a peace: the act",
            "so pay, then. And fact",
            "onset, T. Apt of iy",
        ]
    )
)


@cache
def model_of(make_model: MakeModel, mode: str) -> LRopeTransformer:
    """Three layers of 64 tokens; the increments' s.d. is 0.2 to 1.5 unless they are fixed.

    The same model every time: hooks come and go, weights are left alone.
    """
    return make_model(n_layers=3, n_ctx=64, **MODES[mode])


def tokens_of(*texts: str) -> Tensor:
    """EOS and the bytes of texts of one length."""
    return torch.tensor([[EOS, *text.encode()] for text in texts])


def logits_of(model: LRopeTransformer, given: Tensor, hooks: Sequence = (), **kwargs: object) -> Tensor:
    with torch.no_grad():
        return model.run_with_hooks(given, fwd_hooks=list(hooks), **kwargs)


def increments_of(model: LRopeTransformer, tokens: Tensor, layer: int) -> np.ndarray:
    """What the untouched model has, [batch, pos, head]."""
    with torch.no_grad():
        name = f"blocks.{layer}.hook_increments"
        _, cached = model.run_with_cache(tokens, names_filter=name, stop_at_layer=layer + 1)
    found = cached["increments", layer].numpy()
    return found if found.ndim == 3 else found[..., None]


def written_by(model: LRopeTransformer, written: Intervention, layer: int, tokens: Tensor) -> np.ndarray:
    """What one intervention writes at one layer, as a cache sees it; [batch, pos, head]."""
    with model.hooks(fwd_hooks=ablation_hooks(written, layers=layer, model=model)):
        return increments_of(model, tokens, layer)


def by_hand(model: LRopeTransformer, tokens: Tensor, rule: Rule, layers: Sequence[int]) -> Tensor:
    """Return the logits when a hook loop of our own writes what `rule` says."""

    def write(increments: Tensor, hook: object) -> Tensor:
        given = increments.numpy()
        with_heads = given if given.ndim == 3 else given[..., None]
        written = rule(with_heads, hook.layer(), tokens.numpy())  # pyright: ignore[reportAttributeAccessIssue]
        return torch.tensor(written.reshape(given.shape), dtype=torch.float32)

    return logits_of(model, tokens, [(f"blocks.{layer}.hook_increments", write) for layer in layers])


@cache
def fitted_on(model: LRopeTransformer) -> IncrementStatistics:
    return fit_increments(model, FIT)


@cache
def occurrences(model: LRopeTransformer, layer: int) -> dict[int, list[np.ndarray]]:
    """Every increment of the fit text by token, from one plain pass a document."""
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for document in FIT:
        values = increments_of(model, tokens_of(document.text), layer)[0, 1:]
        for token, value in zip(document.encoded, values, strict=True):
            found[token].append(value.astype(np.float64))
    return found


def loss_of(logits: Tensor, tokens: Tensor) -> float:
    """Nats a token."""
    return float(F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


def change(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
