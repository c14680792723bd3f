"""RMSNorm with TransformerLens' two hook points."""

from __future__ import annotations

import torch
import torch.nn as nn
from jaxtyping import Float
from torch import Tensor

from lrope_interp.models.caching import HookPoint
from lrope_interp.models.compilation import has_live_hook
from lrope_interp.models.fused import fused_rms_norm, runs_fused
from lrope_interp.models.redrawing import Redrawable


class RMSNorm(Redrawable):
    """``w * x / rms(x)`` over the last axis, computed in float32 at least, without hook points.

    Args:
        width: Length of the last axis.
        eps: Added to the mean square.
        has_gain: Whether there is a `w`; without it ("RMSPre") the norm only divides.
    """

    w: nn.Parameter

    def __init__(self, width: int, eps: float, has_gain: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.has_gain = has_gain
        if has_gain:
            self.w = nn.Parameter(torch.ones(width, dtype=torch.float32))

    def scale(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead 1"]:
        """Return ``sqrt(mean(x ** 2) + eps)``, at least float32."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        return (wide.pow(2).mean(-1, keepdim=True) + self.eps).sqrt()

    def gain(
        self, normalized: Float[Tensor, "*lead width"], dtype: torch.dtype
    ) -> Float[Tensor, "*lead width"]:
        """Multiply by the gain, if there is one, in the model's dtype."""
        normalized = normalized.to(dtype)
        return normalized * self.w if self.has_gain else normalized

    def drop_gain(self) -> None:
        """Forget the gain, once it is folded into what reads this norm."""
        del self.w
        self.has_gain = False

    def forward(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise without firing any hook."""
        if self.has_gain and runs_fused(self, x):
            return fused_rms_norm(x, self.w, self.eps)
        return self.gain(x / self.scale(x), x.dtype)


class HookedRMSNorm(RMSNorm):
    """RMSNorm that fires `hook_scale` and `hook_normalized` (before the gain, as HookedTransformer)."""

    def __init__(self, width: int, eps: float, has_gain: bool = True) -> None:
        super().__init__(width, eps, has_gain)
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise and fire both hooks, where they are watched."""
        if not (has_live_hook(self.hook_scale) or has_live_hook(self.hook_normalized)):
            return RMSNorm.forward(self, x)
        return self.gain(self.hook_normalized(x / self.hook_scale(self.scale(x))), x.dtype)

    def unhooked(self, x: Float[Tensor, "*lead width"]) -> Float[Tensor, "*lead width"]:
        """Normalise without firing the hooks a second time (forked q, k, v inputs)."""
        return RMSNorm.forward(self, x)
