"""One batch of windows as the untouched model reads it, and how an ablated one differs.

Of attention it is kept how far it looks back, and how much of it stays within a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.probes.capture.captured import Captured, DocumentWindow, at_windows, window_tokens

OUTCOMES = ("change", "kl", "flips")
LOOKS = ("look_back", "within_word")


class AttentionReads:
    """Reading hooks on every layer of one forward pass over whole sequences.

    Queries and keys are read as they are turned, and the pattern is computed from them: a hook on the
    pattern itself would send the model through another kernel, and change its numbers in the last digit.

    Attributes:
        hooks: For `model.hooks(fwd_hooks=...)`; they change nothing.
    """

    def __init__(self, model: LRopeTransformer, words: Int[Tensor, "batch pos"]) -> None:
        """Prepare to read.

        Args:
            model: The model that will run.
            words: Number of the word that each token stands in, negative for none.
        """
        self._model, self._words = model, words
        self._queries: dict[int, Tensor] = {}
        self._read: dict[int, Tensor] = {}
        self.hooks: list[tuple[str, Callable[[Tensor, HookPoint], None]]] = [
            (f"blocks.{layer}.attn.hook_rot_{part}", keep)
            for layer in range(model.cfg.n_layers)
            for part, keep in (("q", self._keep_queries), ("k", self._read_keys))
        ]

    def values(self) -> Float[Tensor, "metrics layers head batch pos"]:
        """Return what was read: tokens of look-back, and the share of attention within the query's word.

        The share counts the query itself, and is NaN where a query stands in no word.
        """
        return torch.stack([self._read[layer] for layer in sorted(self._read)], dim=1)

    def _keep_queries(self, rot_q: Tensor, hook: HookPoint) -> None:
        self._queries[hook.layer()] = rot_q

    def _read_keys(self, rot_k: Tensor, hook: HookPoint) -> None:
        layer = hook.layer()
        scores = self._model.blocks[layer].attn.scores(self._queries.pop(layer), rot_k)
        n_pos = scores.shape[-1]
        is_future = torch.ones(n_pos, n_pos, dtype=torch.bool, device=scores.device).triu(1)
        pattern = scores.masked_fill_(is_future, -torch.inf).softmax(dim=-1).float()
        place = torch.arange(n_pos, device=scores.device, dtype=torch.float32)
        look_back = place - pattern @ place
        is_same = (self._words[:, :, None] == self._words[:, None, :])[:, None]
        within = (pattern * is_same).sum(dim=-1)
        within = within.masked_fill((self._words < 0)[:, None], torch.nan)
        self._read[layer] = torch.stack([look_back, within]).movedim(2, 1)


@dataclass(frozen=True)
class Text:
    """What is read, and where on it interventions are made.

    Attributes:
        captured: The documents and their tokens.
        masks: By name of a place: at which tokens it holds.
        words: Which word each token stands in, -1 for none.
    """

    captured: Captured
    masks: Mapping[str, Bool[np.ndarray, " n_tokens"]]
    words: Int64[np.ndarray, " n_tokens"]


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
        attention: Values of `AttentionReads`; None where nobody looks.
    """

    tokens: Int64[Tensor, "batch pos"]
    is_token: Bool[Tensor, "batch pos"]
    words: Int64[Tensor, "batch pos"]
    masks: Mapping[str, Bool[Tensor, "batch pos"]]
    streams: Mapping[int, Float[Tensor, "batch pos d_model"]]
    clean: Mapping[str, Tensor]
    log_p: Float[Tensor, "batch pos d_vocab"]
    loss: Float[Tensor, "batch pos"]
    attention: Float[Tensor, "metrics layers head batch pos"] | None

    @classmethod
    def of(
        cls, model: LRopeTransformer, text: Text, batch: Sequence[DocumentWindow], is_looked_at: bool
    ) -> Untouched:
        """Cut the windows and run the untouched model, which leaves its streams and increments."""
        device, n_ctx = model.W_E.device, model.cfg.n_ctx

        def laid(values: np.ndarray, elsewhere: int | bool) -> Tensor:
            return torch.from_numpy(at_windows(batch, text.captured, n_ctx, values, elsewhere)).to(device)

        tokens = torch.from_numpy(window_tokens(batch, text.captured, n_ctx, model.own_tokenizer().eos_id))
        tokens, words = tokens.to(device), laid(text.words, -1)
        kept: dict[str, Tensor] = {}
        hooks: list[tuple[str, Any]] = [
            (f"blocks.{layer}.hook_{name}", lambda values, hook: kept.update({hook.name: values.clone()}))
            for layer in range(model.cfg.n_layers)
            for name in ("resid_pre", "increments")
        ]
        reads = AttentionReads(model, words) if is_looked_at else None
        with model.hooks(fwd_hooks=[*hooks, *(reads.hooks if reads else [])]):
            log_p = model(tokens).float().log_softmax(dim=-1)
        lengths = torch.tensor([item.window.stop - item.window.start for item in batch], device=device)
        return cls(
            tokens=tokens,
            is_token=torch.arange(n_ctx, device=device) < lengths[:, None],
            words=words,
            masks={name: laid(mask, False) for name, mask in text.masks.items()},
            streams={layer: kept[f"blocks.{layer}.hook_resid_pre"] for layer in range(model.cfg.n_layers)},
            clean={name: values for name, values in kept.items() if name.endswith("hook_increments")},
            log_p=log_p,
            loss=_loss(log_p, tokens),
            attention=None if reads is None else reads.values(),
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


def at_predictions(values: Float[Tensor, "*_ batch pos"], batch: Sequence[DocumentWindow]) -> Tensor:
    """Take what each window scores, at the indices where it predicts; leading axes become one."""
    return _taken(values, [item.before for item in batch])


def at_tokens(values: Float[Tensor, "*_ batch pos"], batch: Sequence[DocumentWindow]) -> Tensor:
    """Take what each window scores, at the scored tokens themselves; leading axes become one."""
    return _taken(values, [item.here for item in batch])


def _taken(values: Tensor, indices: Sequence[slice]) -> Float[Tensor, "_ scored"]:
    flat = values.reshape(-1, *values.shape[-2:])
    return torch.cat([flat[:, row, at] for row, at in enumerate(indices)], dim=-1)
