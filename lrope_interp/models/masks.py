"""Whether the model has what is asked of it, and whether an input and its mask belong together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lrope_interp.errors import LRopeError, unknown

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


def check_mask(attention_mask: Any, n_batch: int, n_new: int, is_part: bool = False) -> None:
    """Refuse a mask of another shape or kind, which would hide tokens without a word.

    Args:
        attention_mask: What the caller gave.
        n_batch: Rows of the input.
        n_new: Its tokens, padding included.
        is_part: Whether the rows began earlier or go on later, so that one may be padding alone.

    Raises:
        LRopeError: No tensor, another shape, values other than 0 and 1, or nothing but padding in a row
            (if `is_part`, in all rows).
    """
    if not isinstance(attention_mask, Tensor) or tuple(attention_mask.shape) != (n_batch, n_new):
        got = list(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask)
        raise LRopeError(
            f"attention_mask must cover the new tokens, [{n_batch}, {n_new}]; got {got} (the past is in the "
            "cache)"
        )
    if torch.compiler.is_compiling():
        return
    if not bool(((attention_mask == 0) | (attention_mask == 1)).all()):
        raise LRopeError(
            "attention_mask must be 1 at tokens and 0 at padding; got values from "
            f"{attention_mask.min().item()} to {attention_mask.max().item()}. An additive mask (0 and -inf) "
            "becomes one by `mask == 0`"
        )
    is_token = attention_mask.bool().any(1)
    if not bool(is_token.any() if is_part else is_token.all()):
        raise LRopeError(
            f"attention_mask hides every token of row {int((~is_token).nonzero()[0])}; it must be 1 at "
            "tokens and 0 at padding (0 everywhere keeps all in an additive mask only), and some in each row"
        )
