"""One batch of windows as the untouched model reads it, and how an ablated one differs.

Of attention it is kept how far it looks back, and how much of it stays within a word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.probes.capture.cache import forget, model_identity, remembered
from lrope_interp.probes.capture.capture import OVERLAP, Progress, in_batches
from lrope_interp.probes.capture.captured import Captured, DocumentWindow, at_windows, document_windows

OUTCOMES = ("change", "kl", "flips")
LOOKS = ("look_back", "within_word")
_MOST_BATCHES = 1_000
_QUERIES = 64


def attention_reads(
    model: LRopeTransformer, words: Int[Tensor, "batch pos"], into: dict[int, Tensor]
) -> list[tuple[str, Callable[[Tensor, HookPoint], None]]]:
    """Return hooks that read attention on every layer of one forward pass over whole sequences.

    Queries and keys are read as they are turned, and the pattern is computed from them: a hook on the
    pattern itself would send the model through another kernel, and change its numbers in the last digit.

    Args:
        model: The model that will run.
        words: Number of the word that each token stands in, negative for none.
        into: Gets [metrics, head, batch, pos] of each layer: tokens of look-back, and the share of attention
            within the query's word, the query itself included; NaN where that stands in no word.
    """
    queries: dict[int, Tensor] = {}

    def keep_queries(rot_q: Tensor, hook: HookPoint) -> None:
        queries[hook.layer()] = rot_q

    def read_keys(rot_k: Tensor, hook: HookPoint) -> None:
        layer = hook.layer()
        rot_q, scores = queries.pop(layer), model.blocks[layer].attn.scores
        n_batch, n_pos, n_heads, _ = rot_q.shape
        place = torch.arange(n_pos, device=rot_q.device, dtype=torch.float32)
        into[layer] = out = torch.empty(len(LOOKS), n_heads, n_batch, n_pos, device=rot_q.device)
        # Some queries of one sequence at a time, and the keys up to them: that stays in a core's own memory.
        for row, start in product(range(n_batch), range(0, n_pos, _QUERIES)):
            own, seen = slice(start, start + _QUERIES), slice(0, start + _QUERIES)
            found = scores(rot_q[row : row + 1, own], rot_k[row : row + 1, seen])[0]
            is_future = place[seen] > place[own, None]
            pattern = found.masked_fill_(is_future, -torch.inf).softmax(dim=-1).float()
            out[0, :, row, own] = place[own] - pattern @ place[seen]
            is_same, is_outside = words[row, own, None] == words[row, seen], words[row, own] < 0
            out[1, :, row, own] = (pattern * is_same).sum(dim=-1).masked_fill(is_outside, torch.nan)

    return [
        (f"blocks.{layer}.attn.hook_rot_{part}", keep)
        for layer in range(model.cfg.n_layers)
        for part, keep in (("q", keep_queries), ("k", read_keys))
    ]


@dataclass(frozen=True)
class Untouched:
    """One batch of windows, and what the untouched model does there.

    Attributes:
        tokens: What is read, padded with EOS.
        is_token: False at the padding.
        words: Which word each token stands in, -1 for none.
        masks: By name of a place: at which tokens it holds.
        streams: The residual stream before each layer.
        clean: The increments, by hook name.
        log_p: Of the next token at each index.
        loss: -ln p of the token after each index, in nats.
        attention: By layer what `attention_reads` read; empty where nobody looks.
    """

    tokens: Int64[Tensor, "batch pos"]
    is_token: Bool[Tensor, "batch pos"]
    words: Int64[Tensor, "batch pos"]
    masks: Mapping[str, Bool[Tensor, "batch pos"]]
    streams: Mapping[int, Float[Tensor, "batch pos d_model"]]
    clean: Mapping[str, Tensor]
    log_p: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "batch pos"]
    attention: Mapping[int, Float[Tensor, "metrics head batch pos"]]

    @classmethod
    def of(
        cls,
        model: LRopeTransformer,
        captured: Captured,
        batch: Sequence[DocumentWindow],
        masks: Mapping[str, Bool[np.ndarray, " n_tokens"]],
        words: Int64[np.ndarray, " n_tokens"],
        is_looked_at: bool,
    ) -> Untouched:
        """Cut the windows and run the untouched model, which leaves its streams and increments."""
        device = model.W_E.device

        def laid(values: np.ndarray, elsewhere: int | bool) -> Tensor:
            return torch.from_numpy(at_windows(batch, captured, values, elsewhere)).to(device)

        tokens, laid_words = laid(captured.tokens, model.own_tokenizer().eos_id), laid(words, -1)
        kept: dict[str, Tensor] = {}
        hooks: list[tuple[str, Any]] = [
            (f"blocks.{layer}.hook_{name}", lambda values, hook: kept.update({hook.name: values.clone()}))
            for layer in range(model.cfg.n_layers)
            for name in ("resid_pre", "increments")
        ]
        attention: dict[int, Tensor] = {}
        hooks += attention_reads(model, laid_words, attention) if is_looked_at else []
        with model.hooks(fwd_hooks=hooks):
            log_p = model(tokens).float().log_softmax(dim=-1)
        lengths = torch.tensor([item.window.stop - item.window.start for item in batch], device=device)
        return cls(
            tokens=tokens,
            is_token=torch.arange(tokens.shape[1], device=device) < lengths[:, None],
            words=laid_words,
            masks={name: laid(mask, False) for name, mask in masks.items()},
            streams={layer: kept[f"blocks.{layer}.hook_resid_pre"] for layer in range(model.cfg.n_layers)},
            clean={name: values for name, values in kept.items() if name.endswith("hook_increments")},
            log_p=log_p,
            loss=_loss(log_p, tokens),
            attention=attention,
        )

    def compared(self, logits: Float[Tensor, "batch pos d_vocab"]) -> Float[Tensor, "outcomes batch pos"]:
        """Return `OUTCOMES` of other logits, at the index where each prediction is made."""
        log_p = logits.float().log_softmax(dim=-1)
        kl = (self.log_p.exp() * (self.log_p - log_p)).sum(dim=-1)
        flips = (log_p.argmax(dim=-1) != self.log_p.argmax(dim=-1)).float()
        return torch.stack([_loss(log_p, self.tokens) - self.loss, kl, flips])


def _loss(log_p: Float[Tensor, "batch pos d_vocab"], tokens: Tensor) -> Float[Tensor, "batch pos"]:
    """Return -ln p of the token that stands *after* each index."""
    return -log_p.gather(-1, tokens.roll(-1, dims=1).unsqueeze(-1)).squeeze(-1)


def over_batches(
    model: LRopeTransformer,
    captured: Captured,
    said: Mapping[str, Any],
    run_batch: Callable[[Sequence[DocumentWindow]], Mapping[str, Float32[np.ndarray, "*rows scored"]]],
    *,
    kind: str,
    batch_size: int,
    stage: str,
    n_passes: int,
    overlap: float = OVERLAP,
    on_progress: Progress | None = None,
) -> dict[str, Float32[np.ndarray, "*rows n_bytes"]]:
    """Run all windows, a batch at a time, and put together what is said of the tokens that each scores.

    What a batch gave is remembered until all are through, so that a run that was killed goes on there.

    Args:
        model: The model that is run.
        captured: What is read: documents and their tokens.
        said: What else decides the numbers.
        run_batch: Gives named arrays, the tokens that are scored last.
        kind: The folder of the cache.
        batch_size: Windows at a time.
        stage: What `on_progress` is told, with window-passes done, and all of them.
        n_passes: Forward passes of a batch.
        overlap: Of windows; see `capture`.
        on_progress: See there.

    Returns:
        By name what stands at the first byte of every token, and 0 at its others.
    """
    known = model_identity(model)
    documents = [one.sha256 for one in captured.documents]
    everything = {**known, "documents": documents, "batch_size": max(1, batch_size), **said}
    everything["overlap"] = overlap
    run = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    out: dict[str, np.ndarray] = {}
    todo = document_windows(captured, model.cfg.n_ctx, overlap)
    for done, batch in in_batches(todo, batch_size, stage, on_progress, n_passes):
        identity = {"run": run, "done": done, "is_hooked": known["is_hooked"]}
        part = remembered(identity, lambda batch=batch: run_batch(batch), kind, _MOST_BATCHES)
        to = np.concatenate([item.to(captured) for item in batch])
        for name, values in part.items():
            empty = (*values.shape[:-1], captured.n_bytes)
            out.setdefault(name, np.zeros(empty, dtype=np.float32))[..., to] = values
    forget(kind, run)
    return out


def looks_at_tokens(
    attention: Mapping[int, Float[Tensor, "metrics head batch pos"]], batch: Sequence[DocumentWindow]
) -> Float[Tensor, "metrics layers head scored"]:
    """Put what `attention_reads` read of every layer together, at the tokens that each window scores."""
    every = torch.stack([attention[layer] for layer in sorted(attention)], dim=1)
    return at_tokens(every, batch).unflatten(0, every.shape[:3])


def at_predictions(values: Float[Tensor, "*_ batch pos"], batch: Sequence[DocumentWindow]) -> Tensor:
    """Take what each window scores, at the indices where it predicts; leading axes become one."""
    return _taken(values, [item.before for item in batch])


def at_tokens(values: Float[Tensor, "*_ batch pos"], batch: Sequence[DocumentWindow]) -> Tensor:
    """Take what each window scores, at the scored tokens themselves; leading axes become one."""
    return _taken(values, [item.here for item in batch])


def _taken(values: Tensor, indices: Sequence[slice]) -> Float[Tensor, "_ scored"]:
    flat = values.reshape(-1, *values.shape[-2:])
    return torch.cat([flat[:, row, at] for row, at in enumerate(indices)], dim=-1)
