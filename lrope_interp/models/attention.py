"""Causal attention at learned positions.

Shape suffixes of local names: b batch, q query position, k key position, h head, d d_head, m d_model.
"""

from __future__ import annotations

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from transformer_lens import FactoredMatrix
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import HookPoint, has_live_hook
from lrope_interp.models.kernels import attend_blockwise, fits_blockwise, fused_turn, runs_fused
from lrope_interp.models.kv_cache import append
from lrope_interp.models.layers import ModuleWithOptionalBiases
from lrope_interp.models.rotary import angles_at, inverse_frequencies, turn


class Attention(ModuleWithOptionalBiases):
    """Multi-head attention with HookedTransformer's parameters, shapes and hook points."""

    def __init__(self, cfg: LRopeConfig) -> None:
        heads, width, d_head = cfg.n_heads, cfg.d_model, cfg.d_head
        super().__init__(
            {"b_Q": (heads, d_head), "b_K": (heads, d_head), "b_V": (heads, d_head), "b_O": (width,)},
            cfg.use_biases,
        )
        self.cfg = cfg
        self.W_Q = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_K = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_V = nn.Parameter(torch.empty(heads, width, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, width))
        self.hook_q_input, self.hook_k_input, self.hook_v_input = HookPoint(), HookPoint(), HookPoint()
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_z, self.hook_result = HookPoint(), HookPoint()
        self.hook_attn_scores.pos_dim = self.hook_pattern.pos_dim = 2

    @property
    def OV(self) -> FactoredMatrix:
        """Return ``W_V @ W_O`` as a FactoredMatrix, [head, d_model, d_model]."""
        return FactoredMatrix(self.W_V, self.W_O)

    @property
    def QK(self) -> FactoredMatrix:
        """Return ``W_Q @ W_K.T`` as a FactoredMatrix; it ignores the rotation by position."""
        return FactoredMatrix(self.W_Q, self.W_K.transpose(-2, -1))

    def forward(
        self,
        query_input: Float[Tensor, "batch pos *head d_model"],
        key_input: Float[Tensor, "batch pos *head d_model"],
        value_input: Float[Tensor, "batch pos *head d_model"],
        positions: Float[Tensor, "batch pos *increment_head"],
        is_token: Bool[Tensor, "batch key_pos"] | None = None,
        cache_entry: TransformerLensKeyValueCacheEntry | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return what this layer's attention adds to the residual stream.

        Args:
            query_input: Normalised residual, with a head axis if it was forked.
            key_input: The same for keys.
            value_input: The same for values.
            positions: Where each new token stands, float64.
            is_token: False at padding, over past and new keys.
            cache_entry: Past keys (rotated) and values; the new ones are appended.
        """
        q_bqhd, k_bkhd, v_bkhd = self._project(query_input, key_input, value_input)
        q_bqhd, k_bkhd = self._rotate(q_bqhd, k_bkhd, positions)
        if cache_entry is not None:
            k_bkhd, v_bkhd = append(cache_entry, k_bkhd, v_bkhd)
        allowed = _allowed(q_bqhd.shape[1], k_bkhd.shape[1], is_token, q_bqhd.device)
        attend = self._eager if self._is_eager() else self._fused
        z_bqhd = self.hook_z(attend(q_bqhd, k_bkhd, v_bkhd, allowed))
        return self._output(z_bqhd)

    def scores(
        self, rot_q: Float[Tensor, "batch pos head d_head"], rot_k: Float[Tensor, "batch key_pos head d_head"]
    ) -> Float[Tensor, "batch head pos key_pos"]:
        """Return what the softmax reads, before the mask, from turned queries and keys."""
        return einsum(rot_q, rot_k, "b q h d, b k h d -> b h q k") / self.cfg.attn_scale

    def _project(
        self, query_input: Tensor, key_input: Tensor, value_input: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k and v, [batch pos head d_head], each through its hook."""
        if query_input is key_input and key_input is value_input and query_input.ndim == 3:
            weights = torch.cat([_flat(self.W_Q), _flat(self.W_K), _flat(self.W_V)])
            parts = F.linear(query_input, weights).chunk(3, dim=-1)
            q, k, v = (rearrange(part, "b p (h d) -> b p h d", h=self.cfg.n_heads) for part in parts)
        else:
            q, k, v = (
                _per_head(x, weight)
                for x, weight in ((query_input, self.W_Q), (key_input, self.W_K), (value_input, self.W_V))
            )
        if self.has_biases:
            q, k, v = q + self.b_Q, k + self.b_K, v + self.b_V
        return self.hook_q(q), self.hook_k(k), self.hook_v(v)

    def _rotate(self, q_bqhd: Tensor, k_bkhd: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn q and k to their positions (which may live on the CPU, see `accumulate`)."""
        angles = angles_at(
            positions, inverse_frequencies(self.cfg.d_head, self.cfg.rope_base, positions.device)
        )
        if self._is_fused(q_bqhd):
            return self.hook_rot_q(fused_turn(q_bqhd, angles)), self.hook_rot_k(fused_turn(k_bkhd, angles))
        cosines, sines = angles.cos().to(q_bqhd.device), angles.sin().to(q_bqhd.device)
        return self.hook_rot_q(turn(q_bqhd, cosines, sines)), self.hook_rot_k(turn(k_bkhd, cosines, sines))

    def _is_fused(self, q: Tensor) -> bool:
        """Whether this is training on a CPU, where our own gradients are faster than torch's."""
        return self.cfg.attn_impl == "auto" and not self._is_eager() and runs_fused(self, q)

    def _is_eager(self) -> bool:
        """Whether scores must exist: asked for, or a hook of any kind watches them."""
        if self.cfg.attn_impl != "auto":
            return self.cfg.attn_impl == "eager"
        return has_live_hook(self.hook_attn_scores) or has_live_hook(self.hook_pattern)

    def _fused(self, q_bqhd: Tensor, k_bkhd: Tensor, v_bkhd: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend by torch's fused kernel; `allowed` None means plainly causal."""
        q, k, v = (x.transpose(1, 2) for x in (q_bqhd, k_bkhd, v_bkhd))
        scale = 1 / self.cfg.attn_scale
        if allowed is None and self._is_fused(q) and fits_blockwise(q):
            return attend_blockwise(q, k, v.to(q.dtype), scale).transpose(1, 2)
        if allowed is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale).transpose(1, 2)
        sees_any = allowed.any(-1, keepdim=True)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed | ~sees_any, scale=scale)
        return (z * sees_any).transpose(1, 2)

    def _eager(self, q_bqhd: Tensor, k_bkhd: Tensor, v_bkhd: Tensor, allowed: Tensor | None) -> Tensor:
        """Attend step by step, so that scores and pattern can be read and written."""
        scores = self.scores(q_bqhd, k_bkhd)
        if allowed is None:
            n_q, n_k = scores.shape[-2:]
            allowed = torch.ones(n_q, n_k, dtype=torch.bool, device=scores.device).tril()
        scores = self.hook_attn_scores(scores.masked_fill(~allowed, -math.inf))
        pattern = torch.softmax(scores, dim=-1)
        pattern = self.hook_pattern(torch.where(torch.isnan(pattern), torch.zeros_like(pattern), pattern))
        return einsum(pattern.to(v_bkhd.dtype), v_bkhd, "b h q k, b k h d -> b q h d")

    def _output(self, z_bqhd: Tensor) -> Tensor:
        """Return the sum over heads of ``z @ W_O``, through `hook_result` if asked for."""
        if self.cfg.use_attn_result:
            out = self.hook_result(einsum(z_bqhd, self.W_O, "b q h d, h d m -> b q h m")).sum(-2)
        else:
            out = F.linear(rearrange(z_bqhd, "b q h d -> b q (h d)"), rearrange(self.W_O, "h d m -> m (h d)"))
        return out + self.b_O if self.has_biases else out


def _flat(weight_hmd: Tensor) -> Tensor:
    """Return [head d_model d_head] as one [head * d_head, d_model] matrix for F.linear."""
    return rearrange(weight_hmd, "h m d -> (h d) m")


def _per_head(x: Tensor, weight_hmd: Tensor) -> Tensor:
    """Project an input that may have a head axis."""
    if x.ndim == 4:
        return einsum(x, weight_hmd, "b p h m, h m d -> b p h d")
    return einsum(x, weight_hmd, "b p m, h m d -> b p h d")


def _allowed(n_q: int, n_k: int, is_token: Tensor | None, device: torch.device) -> Tensor | None:
    """Return which keys each query may see, [batch|1, 1, q, k]; None if that is plainly causal."""
    if is_token is None and n_q == n_k:
        return None
    causal = torch.ones(n_q, n_k, dtype=torch.bool, device=device).tril(n_k - n_q)
    if is_token is None:
        return causal[None, None]
    return causal & is_token[:, None, None, :].to(device)
