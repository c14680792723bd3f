"""What training on a CPU takes in place of autograd's operations: RMSNorm, rotation and attention.

RMSNorm and rotation compute what `layers.RMSNorm` and `rotary.turn` compute, in fewer passes over
memory: a training step on a CPU spends its time outside matrix products on moving activations. Their
gradients are written by hand; a gradient of a gradient is taken through the plain operations.

Attention is plain matrix products, block by block. On CPUs torch's flash attention reaches a sixth of
the speed of its own matrix products, in the backward pass above all. Here each block of 128 queries
takes one product with all keys up to its last one, so that five eighths of the full square (at 512
tokens) are computed, and the pattern is kept for the backward pass instead of computed again (Dao et al.
2022 trade the other way, which pays where memory is slow). Scores are rounded to the dtype of the
queries, as in any unfused attention. CPU only, causal only, once differentiable.

All serve a model in training mode on a CPU, where no hook watches what they skip; everything else, and
with it every analysis, runs the plain operations.

Shape suffixes of local names: b batch, h head, p position, n batch * head, q query position, k key
position, d d_head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn as nn
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

QUERIES_A_BLOCK = 128
MOST_SCORES = 2**28  # a layer keeps that many numbers at most for its backward pass, 0.5 GiB in bfloat16


def runs_fused(module: nn.Module, x: Tensor) -> bool:
    """Return whether `module` is being trained on a CPU, uncompiled and outside `torch.func`."""
    if not module.training or x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return torch.is_grad_enabled() and not torch._C._are_functorch_transforms_active()


def fused_rms_norm(
    x: Float[Tensor, "*lead width"], gain: Float[Tensor, " width"], eps: float
) -> Float[Tensor, "*lead width"]:
    """Return ``gain * x / sqrt(mean(x ** 2) + eps)``, in the dtype that matrix products will read.

    Args:
        x: What is normalised over its last axis.
        gain: One factor a feature.
        eps: Added to the mean square.
    """
    return _applied(_RMSNorm, x, gain, eps, _product_dtype(x))


def fused_norm_linear(
    x: Float[Tensor, "*lead width"],
    gain: Float[Tensor, " width"],
    weight: Float[Tensor, "width out"],
    eps: float,
) -> Float[Tensor, "*lead out"]:
    """Return ``fused_rms_norm(x, gain, eps) @ weight`` in float32 at least, for few outputs.

    The gain goes into the weight and the division comes after the product, so that the norm itself is
    never written out.

    Args:
        x: What is normalised over its last axis.
        gain: One factor a feature.
        weight: Of the linear layer.
        eps: Added to the mean square.
    """
    return _applied(_NormLinear, x, gain, weight, eps, _product_dtype(weight))


def fused_turn(
    x: Float[Tensor, "batch pos head d_head"], angles: Float[Tensor, "batch pos heads_or_1 plane"]
) -> Float[Tensor, "batch pos head d_head"]:
    """Turn the planes (k, k + d_head / 2) of `x` by float32 angles; memory lies as [batch, head, pos].

    Args:
        x: Queries or keys.
        angles: Of every plane, in radians, reduced to one turn.
    """
    return _applied(_Turn, x.transpose(1, 2), angles.transpose(1, 2)).transpose(1, 2)


def attend_blockwise(
    q: Float[Tensor, "batch head pos d_head"],
    k: Float[Tensor, "batch head pos d_head"],
    v: Float[Tensor, "batch head pos d_head"],
    scale: float,
) -> Float[Tensor, "batch head pos d_head"]:
    """Return ``softmax(scale * q k.T + causal mask) v``.

    Args:
        q: Rotated queries.
        k: Rotated keys, as many as queries.
        v: Values.
        scale: What scores are multiplied by, 1 / sqrt(d_head).
    """
    merged = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v))
    return _applied(_Blockwise, *merged, scale).view(q.shape)


def fits_blockwise(q: Float[Tensor, "batch head pos d_head"]) -> bool:
    """Return whether the pattern of one layer may be kept until the backward pass."""
    batch, head, pos, _ = q.shape
    return batch * head * pos * pos <= MOST_SCORES


def _applied(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    """Apply a function of ours without autocast: the dtype of its products is chosen before."""
    with torch.autocast("cpu", enabled=False):
        out = function.apply(*inputs)
    assert isinstance(out, Tensor)
    return out


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = _scale(wide, eps)
        ctx.save_for_backward(x, gain, scale)
        ctx.eps, ctx.dtype = eps, dtype
        return (wide / scale).mul_(gain).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, gain, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (
                *_through(lambda x, w: _plain_rms_norm(x, w, ctx.eps, ctx.dtype), (x, gain), grad),
                None,
                None,
            )
        normalized = x.to(scale.dtype) / scale
        grad = grad.to(scale.dtype, copy=True)
        product = (grad * normalized).flatten(0, -2)
        grad_gain = product.sum(0)
        mean = (product @ gain.to(scale.dtype) / x.shape[-1]).view_as(scale)
        grad_x = grad.mul_(gain).addcmul_(normalized, mean, value=-1).div_(scale)
        return grad_x.to(x.dtype), grad_gain.to(gain.dtype), None, None


class _NormLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale, low, folded = _scale(wide, eps), x.to(dtype), (gain.unsqueeze(-1) * weight).to(dtype)
        out = (low @ folded).to(wide.dtype) / scale
        ctx.save_for_backward(x, gain, weight, scale, low, folded, out)
        ctx.eps = eps
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, gain, weight, scale, low, folded, out = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (
                *_through(
                    lambda x, gain, weight: _plain_norm_linear(x, gain, weight, ctx.eps),
                    (x, gain, weight),
                    grad,
                ),
                None,
                None,
            )
        divided = (grad / scale).to(low.dtype)
        shrinking = (grad * out).sum(-1, keepdim=True) / (-x.shape[-1] * scale.square())
        grad_x = (divided @ folded.T).to(scale.dtype).addcmul_(x.to(scale.dtype), shrinking)
        grad_folded = (low.flatten(0, -2).T @ divided.flatten(0, -2)).to(weight.dtype)
        grad_gain = (grad_folded * weight).sum(-1)
        return grad_x.to(x.dtype), grad_gain.to(gain.dtype), grad_folded * gain.unsqueeze(-1), None, None


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_bhpd: Tensor, angles: Tensor) -> Tensor:
        cosines, sines = _full(angles.to(torch.promote_types(x_bhpd.dtype, torch.float32)))
        turned = x_bhpd.to(cosines.dtype, copy=True, memory_format=torch.contiguous_format).mul_(cosines)
        turned = turned.addcmul_(_swapped(x_bhpd).to(sines.dtype), sines).to(x_bhpd.dtype)
        ctx.save_for_backward(x_bhpd, angles, cosines, sines, turned)
        return turned

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad_bhpd,) = grad_outputs
        x_bhpd, angles, cosines, sines, turned = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _through(_plain_turn, (x_bhpd, angles), grad_bhpd)
        swapped = _swapped(grad_bhpd).to(sines.dtype)
        grad_x = grad_bhpd.to(cosines.dtype, copy=True).mul_(cosines).addcmul_(swapped, sines, value=-1)
        if not ctx.needs_input_grad[1]:
            return grad_x.to(x_bhpd.dtype), None
        # An angle moves (a, b) along (-b, a): no gradient of a cosine or a sine is needed.
        along = swapped.mul_(turned)
        along = along.sum(1, keepdim=True) if angles.shape[1] == 1 else along
        first, second = along.chunk(2, dim=-1)
        return grad_x.to(x_bhpd.dtype), (first - second).to(angles.dtype)


class _Blockwise(torch.autograd.Function):
    """Attention over [batch * head, pos, d_head]."""

    @staticmethod
    def forward(ctx: Any, q_nqd: Tensor, k_nkd: Tensor, v_nkd: Tensor, scale: float) -> Tensor:
        q_nqd = q_nqd * scale
        z_nqd, patterns = torch.empty_like(q_nqd), []
        for start, stop in _blocks(q_nqd.shape[1]):
            scores = torch.bmm(q_nqd[:, start:stop], k_nkd[:, :stop].transpose(1, 2))
            scores[:, :, start:].add_(_causal(stop - start, scores.dtype))
            pattern_nqk = torch.softmax(scores, dim=-1)
            z_nqd[:, start:stop] = torch.bmm(pattern_nqk, v_nkd[:, :stop])
            patterns.append(pattern_nqk)
        ctx.scale = scale
        ctx.save_for_backward(q_nqd, k_nkd, v_nkd, z_nqd, *patterns)
        return z_nqd

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        (dz_nqd,) = grad_outputs
        q_nqd, k_nkd, v_nkd, z_nqd, *patterns = ctx.saved_tensors
        wide = torch.promote_types(dz_nqd.dtype, torch.float32)
        mean_nq1 = (dz_nqd * z_nqd).sum(-1, keepdim=True, dtype=wide).to(dz_nqd.dtype)
        dq_nqd, dk_nkd, dv_nkd = torch.empty_like(q_nqd), torch.zeros_like(k_nkd), torch.zeros_like(v_nkd)
        for (start, stop), pattern_nqk in zip(_blocks(q_nqd.shape[1]), patterns, strict=True):
            dz_block = dz_nqd[:, start:stop]
            dscores = torch.bmm(dz_block, v_nkd[:, :stop].transpose(1, 2))
            dscores.sub_(mean_nq1[:, start:stop]).mul_(pattern_nqk)
            dq_nqd[:, start:stop] = torch.bmm(dscores, k_nkd[:, :stop])
            dk_nkd[:, :stop].baddbmm_(dscores.transpose(1, 2), q_nqd[:, start:stop])
            dv_nkd[:, :stop].baddbmm_(pattern_nqk.transpose(1, 2), dz_block)
        return dq_nqd.mul_(ctx.scale), dk_nkd, dv_nkd, None


def _product_dtype(x: Tensor) -> torch.dtype:
    """Return what a matrix product computes in that reads `x`: autocast leaves float64 alone."""
    if x.dtype == torch.float64 or not torch.is_autocast_enabled("cpu"):
        return x.dtype
    return torch.get_autocast_dtype("cpu")


def _scale(wide: Tensor, eps: float) -> Tensor:
    """Return ``sqrt(mean(wide ** 2) + eps)`` over the last axis, which is kept."""
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (norm.square_() / wide.shape[-1] + eps).sqrt_()


def _full(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and signed sines over the whole head: ``x * cos + swapped(x) * sin`` turns x."""
    cosines, sines = angles.cos(), angles.sin()
    return torch.cat((cosines, cosines), -1).contiguous(), torch.cat((-sines, sines), -1).contiguous()


def _swapped(x: Tensor) -> Tensor:
    """Return the halves of the last axis in the other order."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((second, first), dim=-1)


def _plain_rms_norm(x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide / (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt() * gain).to(dtype)


def _plain_norm_linear(x: Tensor, gain: Tensor, weight: Tensor, eps: float) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    return _plain_rms_norm(x, gain, eps, dtype) @ weight.to(dtype)


def _plain_turn(x: Tensor, angles: Tensor) -> Tensor:
    cosines, sines = _full(angles)
    return (x * cosines + _swapped(x) * sines).to(x.dtype)


def _through(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return gradients that can be differentiated again."""
    with torch.enable_grad():
        out = function(*inputs)
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


def _blocks(n_positions: int) -> list[tuple[int, int]]:
    """Return the half-open spans of queries that are computed together."""
    starts = range(0, n_positions, QUERIES_A_BLOCK)
    return [(start, min(start + QUERIES_A_BLOCK, n_positions)) for start in starts]


def _causal(width: int, dtype: torch.dtype) -> Tensor:
    """Return -inf where a query of a block would see a later key of the same block, else 0."""
    return torch.full((width, width), -math.inf, dtype=dtype).triu_(1)
