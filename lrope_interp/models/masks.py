"""Whether an input, its mask and its cache belong together."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models.text import too_long

_RETURN_TYPES = ("logits", "loss", "both")


def check_request(n_layers: int, start_at_layer: Any, stop_at_layer: Any, return_type: Any) -> None:
    """Refuse what the model does not have.

    Raises:
        LRopeError: A layer outside -n_layers..n_layers, or an unknown kind of output.
    """
    for name, layer in (("start_at_layer", start_at_layer), ("stop_at_layer", stop_at_layer)):
        if layer is not None and not -n_layers <= layer <= n_layers:
            raise LRopeError(f"{name} must lie in {-n_layers}..{n_layers}; got {layer}")
    if return_type is not None and return_type not in _RETURN_TYPES:
        raise unknown("return_type", return_type, _RETURN_TYPES)


def check_masks(
    n_ctx: int,
    resid: Tensor,
    attention_mask: Tensor | None,
    past_kv_cache: TransformerLensKeyValueCache | None,
) -> None:
    """Refuse what would be added up wrongly or fail deep inside.

    Raises:
        LRopeError: A mask that does not cover the new tokens, a cache of another batch size, or past
            and new tokens that are together more than n_ctx.
    """
    n_batch, n_new = resid.shape[:2]
    if attention_mask is not None and tuple(attention_mask.shape) != (n_batch, n_new):
        raise LRopeError(
            f"attention_mask must cover the new tokens, [{n_batch}, {n_new}]; got "
            f"{list(attention_mask.shape)} (the past is in the cache)"
        )
    if past_kv_cache is None:
        return
    n_cached, n_past = past_kv_cache.previous_attention_mask.shape
    if n_cached != n_batch:
        raise LRopeError(
            f"the cache holds {n_cached} rows and the input {n_batch}; make it with "
            f"init_cache(model.cfg, model.cfg.device, {n_batch})"
        )
    if n_past + n_new > n_ctx:
        raise too_long(n_ctx, n_past + n_new)
