"""Biases that a model may do without while its readers still find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn

from lrope_interp.models.redrawing import Redrawable


class ModuleWithOptionalBiases(Redrawable):
    """A module whose `b_*` names read as zeros when it was built without biases."""

    def __init__(self, bias_shapes: Mapping[str, tuple[int, ...]], has_biases: bool) -> None:
        super().__init__()
        self.bias_shapes = dict(bias_shapes)
        self.has_biases = has_biases
        if has_biases:
            for name, shape in bias_shapes.items():
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def __getattr__(self, name: str) -> Any:
        """Return zeros for a bias that the model does not have."""
        shapes = self.__dict__.get("bias_shapes", {})
        if name in shapes and not self.__dict__["has_biases"]:
            like = next(self.parameters(recurse=False))
            return torch.zeros(shapes[name], dtype=like.dtype, device=like.device)
        return super().__getattr__(name)
