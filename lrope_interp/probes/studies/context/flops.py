"""Floating-point operations of a forward pass, counted from the shape.

A multiplication and an addition count one each, so a product of [n, a] and [a, b] counts 2 n a b.
Norms, activations and the softmax are left out, as is usual.
"""

from __future__ import annotations

from lrope_interp.models import LRopeConfig

PARTS = ("linears", "attention", "increment_heads", "rotation")


def forward_flops(cfg: LRopeConfig, context: int) -> dict[str, int]:
    """Return the operations of a forward pass over one text, by part.

    With n tokens, L layers, H heads of width d, residual width m and MLP width f:

    * linears: ``L n (8 m H d + 6 m f) + 2 n m vocabulary``;
    * attention, causal, each token seeing itself and those before: ``L 2 H d n (n + 1)``;
    * increment heads: ``2 n h (m + outputs)`` each, h the hidden width; L of them, one, or none;
    * rotation: of queries and keys ``L 6 n H d``; of each position, in every plane, a product, a
      reduction, a cosine and a sine, and one addition for the running sum.

    Args:
        cfg: The model's configuration.
        context: Number of tokens.
    """
    n, layers, width = context, cfg.n_layers, cfg.d_model
    inner, d_mlp = cfg.n_heads * cfg.d_head, cfg.d_mlp
    assert d_mlp is not None
    n_positions = cfg.n_heads if cfg.per_head else 1
    return {
        "linears": layers * n * (8 * width * inner + 6 * width * d_mlp) + 2 * n * width * cfg.d_vocab,
        "attention": layers * 2 * inner * n * (n + 1),
        "increment_heads": _n_heads(cfg) * 2 * n * max(1, width // 4) * (width + n_positions),
        "rotation": layers * n * (6 * inner + n_positions * (1 + 4 * cfg.d_head // 2)),
    }


def _n_heads(cfg: LRopeConfig) -> int:
    """Return the number of increment heads."""
    return {"per_layer": cfg.n_layers, "shared": 1, "fixed": 0}[cfg.increments]
