"""Increments that a `fixed` model is given instead of ones: a table by token, or another model's own.

A model retrained on the increments of a trained one tells two things apart: increments that help whoever
has them, and increments that only fit the weights that they were learned with. Both kinds here are plain
hooks ``(increments, hook) -> increments`` for `blocks.l.hook_increments`. They hold no parameter of the
model that they are attached to, and no gradient reaches what they read.
"""

from __future__ import annotations

import weakref

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.hook_points import HookPoint

from lrope_interp.errors import LRopeError
from lrope_interp.models.block import Stream
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.models.kv_cache import CACHE_OF_THE_INCREMENTS


class LexicalIncrements:
    """Every token has one increment a layer (and head), whatever stands before it.

    Args:
        table: The increments, by layer and token id; with a last axis, by head too.

    Raises:
        LRopeError: A table of another shape or dtype, or with a number that is not finite.
    """

    kind = "lexical"

    def __init__(self, table: Float[Tensor, "*layer_token_head"]) -> None:
        if table.ndim not in (2, 3) or table.dtype != torch.float32:
            raise LRopeError(
                "a table of increments is float32 and [n_layers, d_vocab] or [n_layers, d_vocab, n_heads]; "
                f"got {table.dtype} of shape {list(table.shape)}"
            )
        if not bool(torch.isfinite(table).all()):
            raise LRopeError("the table of increments holds numbers that are not finite: make it again")
        self.table = table

    def __call__(
        self, increments: Float[Tensor, "batch pos *head"], hook: HookPoint
    ) -> Float[Tensor, "batch pos *head"]:
        """Return the table's increments of the tokens of the running pass."""
        tokens = _running(hook)[1]
        self.table = self.table.to(increments.device)
        return _with_gradient_of(increments, self.table[hook.layer()][tokens])

    def check_fits(self, cfg: LRopeConfig) -> None:
        """Refuse a model of another shape."""
        heads = [cfg.n_heads] if cfg.per_head else []
        wanted, found = [cfg.n_layers, cfg.d_vocab, *heads], list(self.table.shape)
        if found != wanted:
            raise LRopeError(
                f"a table of increments of shape {found} does not fit this model, which wants {wanted}; "
                "layers, vocabulary and heads must be those of the run that it was taken from"
            )


class ContextualIncrements:
    """The increments that another model has on the same tokens, computed along with every pass.

    The source runs once a pass, in float32 whatever autocast says, so that training and analysis see the
    same increments. Beside a key-value cache it keeps one of its own, which lies on the caller's cache.

    Args:
        source: The model whose increments are read; it is put into eval mode and never trained.

    Raises:
        LRopeError: A source with fixed increments.
    """

    kind = "contextual"

    def __init__(self, source: HookedModel) -> None:
        if source.cfg.increments == "fixed":
            raise LRopeError(
                "the source of contextual increments has fixed ones; give a model that learned its own"
            )
        self.source = source.eval()
        self._latest: tuple[weakref.ref[Stream], list[Tensor]] | None = None

    def __call__(
        self, increments: Float[Tensor, "batch pos *head"], hook: HookPoint
    ) -> Float[Tensor, "batch pos *head"]:
        """Return the source's increments on the tokens of the running pass."""
        stream, tokens = _running(hook)
        if self._latest is None or self._latest[0]() is not stream:
            if next(self.source.parameters()).device != tokens.device:
                self.source.to(tokens.device)
            mask = None if stream.is_token is None else stream.is_token.long()
            read = read_increments(self.source, tokens, mask, self._cache(stream, tokens))
            self._latest = (weakref.ref(stream), read)
        return _with_gradient_of(increments, self._latest[1][hook.layer()])

    def check_fits(self, cfg: LRopeConfig) -> None:
        """Refuse a model of another shape, or one that takes longer texts than the source."""
        own = self.source.cfg
        names = ("n_layers", "d_vocab", "per_head", *(("n_heads",) if own.per_head else ()))
        differing = [
            f"{name} is {getattr(own, name)} there and {getattr(cfg, name)} here"
            for name in names
            if getattr(own, name) != getattr(cfg, name)
        ]
        if cfg.n_ctx > own.n_ctx:
            differing.append(f"n_ctx is {own.n_ctx} there and {cfg.n_ctx} here")
        if differing:
            raise LRopeError(f"the source of the increments does not fit this model: {', '.join(differing)}")

    def _cache(self, stream: Stream, tokens: Tensor) -> TransformerLensKeyValueCache | None:
        """Return the source's own cache, which has read what the caller's has."""
        cache = stream.past_kv_cache
        if cache is None:
            return None
        own = getattr(cache, CACHE_OF_THE_INCREMENTS, None)
        if own is None:
            own = TransformerLensKeyValueCache.init_cache(self.source.cfg, tokens.device, len(tokens))
            setattr(cache, CACHE_OF_THE_INCREMENTS, own)
        n_keys = tokens.shape[1] if stream.is_key is None else stream.is_key.shape[1]
        n_past, n_read = n_keys - tokens.shape[1], own.previous_attention_mask.shape[1]
        if n_read != n_past:
            raise LRopeError(
                f"the cache holds {n_past} tokens, of which the source of the increments has read {n_read}: "
                "it was filled or cut without this model. Start from an empty cache"
            )
        own.freeze() if cache.frozen else own.unfreeze()
        return own


FrozenIncrements = LexicalIncrements | ContextualIncrements


@torch.no_grad()
def read_increments(
    source: HookedModel,
    tokens: Int[Tensor, "batch pos"],
    attention_mask: Int[Tensor, "batch pos"] | None = None,
    past_kv_cache: TransformerLensKeyValueCache | None = None,
) -> list[Float[Tensor, "batch pos *head"]]:
    """Return a model's increments on some tokens, one tensor a layer, in the dtype of its weights.

    Args:
        source: The model; its unembedding is not run.
        tokens: Ids on its device.
        attention_mask: 0 at padding.
        past_kv_cache: What it has read before; extended unless frozen.
    """
    names = [f"blocks.{layer}.hook_increments" for layer in range(source.cfg.n_layers)]
    with torch.autocast(tokens.device.type, enabled=False):
        _, read = source.run_with_cache(
            tokens,
            names_filter=names,
            return_cache_object=False,
            stop_at_layer=source.cfg.n_layers,
            attention_mask=attention_mask,
            past_kv_cache=past_kv_cache,
        )
    return [read[name] for name in names]


def attach_increments(model: HookedModel, frozen: FrozenIncrements) -> None:
    """Give a `fixed` model these increments for good, as permanent hooks.

    ``reset_hooks()`` leaves them where they are; ``reset_hooks(including_permanent=True)`` takes them off,
    and the model is ordinary RoPE again.

    Args:
        model: A model with ``increments="fixed"`` and no other increments attached.
        frozen: What `hook_increments` shall give in every layer.

    Raises:
        LRopeError: A model that has increments of its own, or that these do not fit.
    """
    if model.cfg.increments != "fixed" or attached_increments(model) is not None:
        raise LRopeError(
            "increments can be attached to a model with increments='fixed' and none attached yet; this one "
            f"has increments={increments_name(model)!r}"
        )
    frozen.check_fits(model.cfg)
    for layer in range(model.cfg.n_layers):
        model.add_hook(f"blocks.{layer}.hook_increments", frozen, is_permanent=True)


def attached_increments(model: HookedModel) -> FrozenIncrements | None:
    """Return what `attach_increments` gave a model; None if nothing, or if its hooks were taken off."""
    found = (handle.user_hook for handle in _point(model, 0).fwd_hooks)
    return next((hook for hook in found if isinstance(hook, FrozenIncrements)), None)


def increments_name(model: HookedModel) -> str:
    """Return "per_layer", "shared", "fixed", "frozen_lexical" or "frozen_contextual"."""
    frozen = attached_increments(model)
    return str(model.cfg.increments) if frozen is None else f"frozen_{frozen.kind}"


def attach_again(copied: HookedModel) -> None:
    """Put the attached increments of a copied model on anew.

    A copied HookPoint calls its hooks with the point that they were put on, which knows nothing of the
    copy's passes.
    """
    frozen = attached_increments(copied)
    if frozen is None:
        return
    for layer in range(copied.cfg.n_layers):
        handles = _point(copied, layer).fwd_hooks
        for handle in [one for one in handles if isinstance(one.user_hook, FrozenIncrements)]:
            handle.hook.remove()
            handles.remove(handle)
    attach_increments(copied, frozen)


def _point(model: HookedModel, layer: int) -> HookPoint:
    return model.hook_dict[f"blocks.{layer}.hook_increments"]


def _running(hook: HookPoint) -> tuple[Stream, Int[Tensor, "batch pos"]]:
    """Return what the blocks of the running pass share, and its tokens."""
    stream = hook.ctx.get("stream")
    if stream is None:
        raise LRopeError(
            f"{hook.name} is not a hook_increments of a running model; use attach_increments(model, ...)"
        )
    if stream.tokens is None:
        raise LRopeError("this model's increments are read from the tokens: give tokens= with start_at_layer")
    return stream, stream.tokens


def _with_gradient_of(increments: Tensor, read: Tensor) -> Tensor:
    """Return what was read, bit for bit; where a gradient is watched it goes on to the model's own ones."""
    return read + (increments - increments.detach()) if increments.requires_grad else read
