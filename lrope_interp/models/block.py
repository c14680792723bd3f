"""One layer: increments, positions, attention at those positions, MLP.

Shape suffixes of local names: b batch, q query position, k key position, h head, d d_head, m d_model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import FactoredMatrix
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import HookPoint, has_backward_hook, has_live_hook
from lrope_interp.models.increments import (
    IncrementHead,
    accumulate,
    angles_at,
    checked,
    forked,
    inverse_frequencies,
    turn,
)
from lrope_interp.models.kernels import attend_blockwise, fits_blockwise, fused_turn, runs_fused
from lrope_interp.models.kv_cache import append, start_of, store
from lrope_interp.models.layers import GatedMLP, HookedRMSNorm, ModuleWithOptionalBiases


@dataclass(frozen=True)
class Stream:
    """What all blocks of one pass share; a hook at `hook_increments` finds it as `hook.ctx["stream"]`.

    Attributes:
        shared_increments: Output of the shared head, in `shared` mode.
        is_token: False at padding, over the new tokens.
        is_key: False at padding, over past and new tokens.
        tokens: The new tokens; None where the pass began with a residual stream alone.
        past_kv_cache: What the pass goes on from, if anything.
    """

    shared_increments: Float[Tensor, "batch pos *head"] | None = None
    is_token: Bool[Tensor, "batch pos"] | None = None
    is_key: Bool[Tensor, "batch key_pos"] | None = None
    tokens: Int[Tensor, "batch pos"] | None = None
    past_kv_cache: TransformerLensKeyValueCache | None = None


class Block(nn.Module):
    """``resid_mid = resid_pre + attn_out``, ``resid_post = resid_mid + mlp_out``.

    `hook_increments_in` is a fifth reader of the residual stream, beside q, k, v and the MLP.
    """

    hook_out_is_single_residual_stream = True

    def __init__(self, cfg: LRopeConfig) -> None:
        super().__init__()
        self.cfg = cfg
        if cfg.increments == "per_layer":
            self.increments = IncrementHead(cfg)
            self.hook_increments_in = HookPoint()
            self.hook_increments_pre = HookPoint()
        self.ln1 = HookedRMSNorm(cfg.d_model, cfg.eps, cfg.normalization_type == "RMS")
        self.attn = Attention(cfg)
        self.ln2 = HookedRMSNorm(cfg.d_model, cfg.eps, cfg.normalization_type == "RMS")
        self.mlp = GatedMLP(cfg)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_increments, self.hook_positions = HookPoint(), HookPoint()
        self.hook_attn_in = HookPoint()
        self.hook_q_input, self.hook_k_input, self.hook_v_input = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_in, self.hook_mlp_out = HookPoint(), HookPoint(), HookPoint()

    def forward(
        self,
        resid_pre: Float[Tensor, "batch pos d_model"],
        stream: Stream,
        cache_entry: TransformerLensKeyValueCacheEntry | None = None,
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return `resid_post`."""
        resid_pre = self.hook_resid_pre(resid_pre)
        standing = accumulate(self._increments(resid_pre, stream), start_of(cache_entry), stream.is_token)
        positions = checked(self.hook_positions(standing), standing, self.hook_positions.name)
        inputs = self._attention_inputs(resid_pre)
        attn_out = self.attn(*inputs, positions, stream.is_key, cache_entry)
        if cache_entry is not None:
            store(cache_entry, standing, self.attn.W_K)
        attn_out = self.hook_attn_out(attn_out)
        resid_mid = self.hook_resid_mid(resid_pre + attn_out)
        mlp_in = self.hook_mlp_in(resid_mid.clone()) if self.cfg.use_hook_mlp_in else resid_mid
        mlp_out = self.hook_mlp_out(self.mlp(self.ln2(mlp_in)))
        return self.hook_resid_post(resid_mid + mlp_out)

    def _increments(self, resid_pre: Tensor, stream: Stream) -> Tensor:
        """Return this layer's increments, float32, through its hooks."""
        if self.cfg.increments == "per_layer":
            pre = self.increments(self.hook_increments_in(forked(resid_pre, self.hook_increments_in)))
            pre = checked(self.hook_increments_pre(pre), pre, self.hook_increments_pre.name)
            increments = self.increments.squash(pre)
        elif self.cfg.increments == "shared":
            assert stream.shared_increments is not None
            increments = stream.shared_increments.clone()
        else:
            heads = (self.cfg.n_heads,) if self.cfg.per_head else ()
            shape = (*resid_pre.shape[:2], *heads)
            increments = torch.ones(shape, dtype=torch.float32, device=resid_pre.device)
            if has_backward_hook(self.hook_increments) or has_backward_hook(self.hook_positions):
                increments = increments.requires_grad_().clone()  # ones have no gradient unless asked for it
        if not has_live_hook(self.hook_increments):
            return self.hook_increments(increments)
        self.hook_increments.ctx["stream"] = stream  # for the time of the hook: it holds tensors
        try:
            return checked(self.hook_increments(increments), increments, self.hook_increments.name)
        finally:
            self.hook_increments.ctx.pop("stream", None)

    def _attention_inputs(self, resid_pre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the normalised inputs of q, k and v: one tensor, or one a head where a flag forks it."""
        if not (self.cfg.use_attn_in or self.cfg.use_split_qkv_input):
            normalized = self.ln1(resid_pre)
            return normalized, normalized, normalized
        forked = repeat(resid_pre, "b p m -> b p h m", h=self.cfg.n_heads).clone()
        if self.cfg.use_attn_in:
            forked = self.hook_attn_in(forked)
        if not self.cfg.use_split_qkv_input:
            normalized = self.ln1(forked)
            return normalized, normalized, normalized
        own = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
        bridge = (self.attn.hook_q_input, self.attn.hook_k_input, self.attn.hook_v_input)
        inputs = [hook(forked.clone()) for hook in own]
        q, k, v = (hook(x) for hook, x in zip(bridge, inputs, strict=True))
        return self.ln1(q), self.ln1.unhooked(k), self.ln1.unhooked(v)


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
        n_q, n_k = q_bqhd.shape[1], k_bkhd.shape[1]
        allowed = None  # plainly causal
        if is_token is not None or n_q != n_k:  # [batch|1, 1, q, k]
            allowed = torch.ones(n_q, n_k, dtype=torch.bool, device=q_bqhd.device).tril(n_k - n_q)[None, None]
            allowed = allowed if is_token is None else allowed & is_token[:, None, None, :].to(allowed.device)
        attend = self._eager if self._is_eager() else self._fused
        z_bqhd = self.hook_z(attend(q_bqhd, k_bkhd, v_bkhd, allowed))
        if self.cfg.use_attn_result:
            out = self.hook_result(einsum(z_bqhd, self.W_O, "b q h d, h d m -> b q h m")).sum(-2)
        else:
            out = F.linear(rearrange(z_bqhd, "b q h d -> b q (h d)"), rearrange(self.W_O, "h d m -> m (h d)"))
        return out + self.b_O if self.has_biases else out

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
            weights = torch.cat([self.W_Q, self.W_K, self.W_V])  # [3 * head, d_model, d_head]
            parts = F.linear(query_input, rearrange(weights, "h m d -> (h d) m")).chunk(3, dim=-1)
            q, k, v = (rearrange(part, "b p (h d) -> b p h d", h=self.cfg.n_heads) for part in parts)
        else:
            axes = "b p h m" if query_input.ndim == 4 else "b p m"
            q, k, v = (
                einsum(x, weight, f"{axes}, h m d -> b p h d")
                for x, weight in ((query_input, self.W_Q), (key_input, self.W_K), (value_input, self.W_V))
            )
        if self.has_biases:
            q, k, v = q + self.b_Q, k + self.b_K, v + self.b_V
        return self.hook_q(q), self.hook_k(k), self.hook_v(v)

    def _rotate(self, q_bqhd: Tensor, k_bkhd: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Turn q and k to their positions (which may live on the CPU, see `accumulate`)."""
        frequencies = inverse_frequencies(self.cfg.d_head, self.cfg.rope_base, positions.device)
        angles = angles_at(positions, frequencies)
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
        """Attend by torch's fused kernel, or by our own in training."""
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
            allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = self.hook_attn_scores(scores.masked_fill(~allowed, -math.inf))
        pattern = torch.softmax(scores, dim=-1)
        pattern = self.hook_pattern(torch.where(torch.isnan(pattern), torch.zeros_like(pattern), pattern))
        return einsum(pattern.to(v_bkhd.dtype), v_bkhd, "b h q k, b k h d -> b q h d")
