"""The increment head, the running sum that turns increments into positions, and the rotation by them.

Rotation is pure and without tables, at real-valued positions. They are float64 up to the angle, because a
float32 position of 1e6 has steps of 0.06; the angle is reduced to [0, 2 pi) before it becomes float32
(rotate-half pairing, as in HF Llama).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import HookPoint, has_live_hook
from lrope_interp.models.kernels import fused_norm_linear, runs_fused
from lrope_interp.models.layers import Redrawable, RMSNorm


class IncrementHead(Redrawable):
    """RMSNorm -> Linear(d_model, d_model / 4) -> GELU -> Linear(-> 1, or one a head).

    Gives the value before the sigmoid. `max_increment * sigmoid(.)` is the increment: the step
    taken on arriving at a token, that is, the gap before it. The last weight starts at zero and
    its bias at the value that gives increment 1, so that an untrained model is ordinary RoPE.

    The last layer runs in float32 with autocast off, and all parameters stay float32 under
    ``.to(bfloat16)``: near 10 a bf16 increment would move in steps of 0.06.
    """

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__()
        d_hidden = max(1, cfg.d_model // 4)
        n_out = cfg.n_heads if cfg.per_head else 1
        self.per_head = cfg.per_head
        self.max_increment = cfg.max_increment
        self.ln = RMSNorm(cfg.d_model, cfg.eps)
        empty = partial(torch.empty, dtype=torch.float32)  # whatever torch.set_default_dtype says
        self.W_in = nn.Parameter(empty(cfg.d_model, d_hidden))
        self.b_in = nn.Parameter(empty(d_hidden))
        self.W_out = nn.Parameter(empty(d_hidden, n_out))
        self.b_out = nn.Parameter(empty(n_out))

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos *head"]:
        """Return the pre-sigmoid value, float32: [batch, pos], or [batch, pos, head] if per head."""
        pre = self.read_out(self.hidden(x))
        return pre if self.per_head else pre.squeeze(-1)

    def hidden(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_hidden"]:
        """Return what the last layer reads, float32."""
        if runs_fused(self, x):
            return F.gelu(fused_norm_linear(x, self.ln.w, self.W_in, self.ln.eps) + self.b_in).float()
        return F.gelu(F.linear(self.ln(x.float()), self.W_in.T, self.b_in)).float()

    def read_out(self, hidden: Float[Tensor, "batch pos d_hidden"]) -> Float[Tensor, "batch pos n_out"]:
        """Apply the last layer in float32, whatever autocast says."""
        with torch.autocast(hidden.device.type, enabled=False):
            return F.linear(hidden, self.W_out.T, self.b_out)

    def squash(self, pre: Float[Tensor, "batch pos *head"]) -> Float[Tensor, "batch pos *head"]:
        """Return the increments, in (0, max_increment)."""
        return self.max_increment * torch.sigmoid(pre)

    def start_as_ordinary_rope(self) -> None:
        """Set the last layer so that every increment is 1."""
        with torch.no_grad():
            self.W_out.zero_()
            self.b_out.fill_(-math.log(self.max_increment - 1))

    def reset_parameters(self) -> None:
        """Draw the first layer again; the last returns to ordinary RoPE."""
        super().reset_parameters()
        self.start_as_ordinary_rope()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> IncrementHead:
        """Follow device moves but not changes of dtype."""

        def keep_float32(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype != tensor.dtype else moved

        super()._apply(keep_float32, recurse)
        return self


class SharedIncrementHead(IncrementHead):
    """One head that reads the token embedding once for all layers.

    Its two hooks belong to no layer; every block has its own `hook_increments`.
    """

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__(cfg)
        self.hook_increments_in = HookPoint()
        self.hook_increments_pre = HookPoint()

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos *head"]:
        """Return the increments of every layer, before any block's hook."""
        read = self.hook_increments_in(forked(x, self.hook_increments_in))
        pre = super().forward(read)
        return self.squash(checked(self.hook_increments_pre(pre), pre, self.hook_increments_pre.name))


def forked(resid: Float[Tensor, "batch pos d_model"], point: HookPoint) -> Float[Tensor, "batch pos d_model"]:
    """Return the head's own copy of the residual stream if anything watches it, a cache included."""
    return resid.clone() if has_live_hook(point) else resid


def checked(written: Any, given: Tensor, name: str | None) -> Tensor:
    """Return what came out of a hook on increments, their pre-sigmoid value or positions.

    Positions (float64) may be whole numbers; increments may not, nor any of the three of less than 32 bits.
    An infinite pre-sigmoid value is an increment at the end of its range.

    Raises:
        LRopeError: It is no tensor of that shape, or of such a dtype, or holds NaN (or infinite positions or
            increments) where it was given none: attention would be 0 there, and the loss a number.
    """
    if written is given:
        return given
    dtypes = [torch.float32, torch.float64]
    dtypes += [torch.int32, torch.int64] if given.dtype == torch.float64 else []
    if isinstance(written, Tensor) and written.shape == given.shape and written.dtype in dtypes:
        is_wrong = written.isnan() if str(name).endswith("_pre") else ~written.isfinite()
        # Under vmap no value can be looked at.
        is_mapped = torch._C._functorch.is_batchedtensor(is_wrong)  # type: ignore[attr-defined]
        if is_mapped or not bool(is_wrong.any()) or bool(given.isnan().any()):
            return written if written.is_floating_point() else written.double()
        got = f"{int(is_wrong.sum())} that are not finite"
    else:
        got = f"{list(written.shape)}, {written.dtype}" if isinstance(written, Tensor) else repr(written)[:60]
    raise LRopeError(
        f"a hook at {name} must return a tensor of shape {list(given.shape)}, {given.dtype}, of finite "
        f"numbers, or write into the one it is given and return nothing; got {got}"
    )


def accumulate(
    increments: Float[Tensor, "batch pos *head"],
    start: Float[Tensor, "#batch *head"] | None = None,
    is_token: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos *head"]:
    """Return positions: ``position[t] - position[t-1] == increment[t]``, float64.

    Args:
        increments: Steps taken on arriving at each token.
        start: Position already reached, in a cache; 0 if None.
        is_token: False where there is padding, which does not advance the position.

    Returns:
        The running sum over `pos`. On MPS, which has no float64, it lives on the CPU.
    """
    steps = increments.cpu() if increments.device.type == "mps" else increments
    with torch.autocast(steps.device.type, enabled=False):
        steps = steps.double()
        if is_token is not None:
            mask = is_token.to(steps.device)
            steps = steps * (mask.unsqueeze(-1) if steps.ndim == 3 else mask)
        if steps.ndim == 3:
            total = steps.transpose(1, 2).contiguous().cumsum(-1).transpose(1, 2)
        else:
            total = steps.cumsum(-1)
        return total if start is None else total + start.to(total.device).unsqueeze(1)


def inverse_frequencies(
    d_head: int, base: float, device: torch.device | str = "cpu"
) -> Float[Tensor, " plane"]:
    """Return ``base ** (-2k / d_head)`` for the d_head / 2 rotary planes, float64, in radians a position."""
    exponents = torch.arange(0, d_head, 2, dtype=torch.float64, device=device) / d_head
    return base**-exponents


def angles_at(
    positions: Float[Tensor, "batch pos *head"], inv_freq: Float[Tensor, " plane"]
) -> Float[Tensor, "batch pos heads_or_1 plane"]:
    """Return every plane's angle, in radians below one turn, float32.

    `positions` are float64, one number a token or one a token and head; only their differences reach the
    attention scores. The product is a broadcast multiplication, never a matmul: TF32 would destroy it.
    """
    by_head = positions if positions.ndim == 3 else rearrange(positions, "batch pos -> batch pos 1")
    angles = by_head.double().unsqueeze(-1) * inv_freq.to(positions.device)
    return torch.remainder(angles, 2 * math.pi).float()


def turn(
    x: Float[Tensor, "batch pos head d_head"],
    cosines: Float[Tensor, "batch pos heads_or_1 plane"],
    sines: Float[Tensor, "batch pos heads_or_1 plane"],
) -> Float[Tensor, "batch pos head d_head"]:
    """Turn the planes (k, k + d_head / 2) of `x` by the given angles; the result has x's dtype."""
    first, second = x.chunk(2, dim=-1)
    turned = torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
    return turned.to(x.dtype)
