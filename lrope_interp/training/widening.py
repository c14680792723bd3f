"""A model with a few more MLP units that starts from the narrow model's weights.

"Fixed RoPE, widened to the same number of parameters" answers whether learned increments help by
what they compute or only by what they weigh. For a paired comparison it must start where the other
arms start: all shared weights are equal, and only the extra units are drawn on their own.
"""

from __future__ import annotations

import torch

from lrope_interp.models import LRopeConfig, LRopeTransformer

_UNIT_AXIS = {"mlp.W_in": 1, "mlp.W_gate": 1, "mlp.W_out": 0}


def widened_model(narrow: LRopeTransformer, n_extra: int) -> LRopeTransformer:
    """Return a model with `n_extra` more MLP units a layer, and otherwise the weights of `narrow`.

    Args:
        narrow: A model at its initial weights.
        n_extra: Units to add to every layer; 0 returns `narrow` itself.

    Returns:
        The wider model; its extra units are drawn from the same seed as a wider model's would be.
    """
    if n_extra == 0:
        return narrow
    wide = LRopeTransformer(LRopeConfig(**narrow.cfg.to_dict() | {"d_mlp": narrow.cfg.d_mlp + n_extra}))
    weights = dict(wide.named_parameters())
    with torch.no_grad():
        for name, weight in narrow.named_parameters():
            axis = next((axis for ending, axis in _UNIT_AXIS.items() if name.endswith(ending)), None)
            target = weights[name] if axis is None else weights[name].narrow(axis, 0, narrow.cfg.d_mlp)
            target.copy_(weight)
    return wide


def units_for(n_parameters: int, n_layers: int, d_model: int) -> int:
    """Return how many MLP units a layer come nearest to `n_parameters` over all layers.

    A unit of the gated MLP has three weights for each of `d_model`.
    """
    return round(n_parameters / (3 * d_model * n_layers))
