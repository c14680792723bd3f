"""Causal attention as plain matrix products, block by block: faster than the fused kernel on a CPU.

On CPUs torch's flash attention reaches a sixth of the speed of its own matrix products, in the
backward pass above all. Here each block of 128 queries takes one product with all keys up to its
last one, so that five eighths of the full square (at 512 tokens) are computed, and the pattern is
kept for the backward pass instead of computed again (Dao et al. 2022 trade the other way, which
pays where memory is slow). Scores are rounded to the dtype of the queries, as in any unfused
attention. CPU only, causal only, once differentiable.

Shape suffixes of local names: n batch * head, q query position, k key position, d d_head.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

QUERIES_A_BLOCK = 128
MOST_SCORES = 2**28  # a layer keeps that many numbers at most for its backward pass, 0.5 GiB in bfloat16


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
    with torch.autocast(q.device.type, enabled=False):
        merged = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v))
        z = _Blockwise.apply(*merged, scale)
    assert isinstance(z, Tensor)
    return z.view(q.shape)


def fits_blockwise(q: Float[Tensor, "batch head pos d_head"]) -> bool:
    """Return whether the pattern of one layer may be kept until the backward pass."""
    batch, head, pos, _ = q.shape
    return batch * head * pos * pos <= MOST_SCORES


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


def _blocks(n_positions: int) -> list[tuple[int, int]]:
    """Return the half-open spans of queries that are computed together."""
    starts = range(0, n_positions, QUERIES_A_BLOCK)
    return [(start, min(start + QUERIES_A_BLOCK, n_positions)) for start in starts]


def _causal(width: int, dtype: torch.dtype) -> Tensor:
    """Return -inf where a query of a block would see a later key of the same block, else 0."""
    return torch.full((width, width), -math.inf, dtype=dtype).triu_(1)
