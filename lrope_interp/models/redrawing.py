"""Drawing one module's own weights again, as TransformerLens' tools ask each module to."""

from __future__ import annotations

import torch
import torch.nn as nn

WEIGHT_STD = 0.02


def redraw(module: nn.Module) -> None:
    """Draw the parameters that `module` itself holds, from torch's default generator, in place.

    Matrices are normal with s.d. 0.02, gains become 1 and biases 0. The whole model's
    `reset_parameters` draws from `cfg.seed` instead.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters(recurse=False):
            if name == "w":
                parameter.fill_(1.0)
            elif name.startswith("b_"):
                parameter.zero_()
            else:
                parameter.normal_(std=WEIGHT_STD)


class Redrawable(nn.Module):
    """A module with parameters of its own and the `reset_parameters` that goes with them."""

    def reset_parameters(self) -> None:
        """Draw this module's own weights again; see `redraw`."""
        redraw(self)
