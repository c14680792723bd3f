"""One layer: increments, positions, attention at those positions, MLP."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn as nn
from einops import repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from lrope_interp.models.attention import Attention
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import HookPoint, has_backward_hook, has_live_hook
from lrope_interp.models.increments import IncrementHead, accumulate, checked, forked
from lrope_interp.models.kv_cache import start_of, store
from lrope_interp.models.layers import GatedMLP, HookedRMSNorm


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
