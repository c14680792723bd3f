"""A slow, obvious re-implementation of the model: one batch row, one head, one query at a time.

It shares no code with `lrope_interp.models`: weights come as a plain state dict, everything is
float64, attention is a Python loop. Test oracle only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return gain * x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)


def increments_of(
    x: Tensor, weights: dict[str, Tensor], prefix: str, max_increment: float, eps: float
) -> Tensor:
    """[pos, n_out] increments of one head, from its input [pos, d_model]."""
    normed = rms_norm(x, weights[prefix + "ln.w"], eps)
    hidden = torch.nn.functional.gelu(normed @ weights[prefix + "W_in"] + weights[prefix + "b_in"])
    pre = hidden @ weights[prefix + "W_out"] + weights[prefix + "b_out"]
    return max_increment / (1 + torch.exp(-pre))


def turn_pairs(vector: Tensor, position: float, base: float) -> Tensor:
    """Rotate-half RoPE of one query or key at one real-valued position."""
    d_head = len(vector)
    out = vector.clone()
    for k in range(d_head // 2):
        angle = position * base ** (-2 * k / d_head)
        first, second = vector[k], vector[k + d_head // 2]
        out[k] = first * math.cos(angle) - second * math.sin(angle)
        out[k + d_head // 2] = second * math.cos(angle) + first * math.sin(angle)
    return out


def attend(x: Tensor, positions: Tensor, weights: dict[str, Tensor], prefix: str, base: float) -> Tensor:
    """Causal attention over x [pos, d_model] with positions [pos, head]."""
    n_pos, n_heads = x.shape[0], weights[prefix + "W_Q"].shape[0]
    out = torch.zeros_like(x)
    for head in range(n_heads):
        q, k, v = (x @ weights[prefix + name][head] for name in ("W_Q", "W_K", "W_V"))
        q = torch.stack([turn_pairs(q[t], float(positions[t, head]), base) for t in range(n_pos)])
        k = torch.stack([turn_pairs(k[t], float(positions[t, head]), base) for t in range(n_pos)])
        for t in range(n_pos):
            scores = torch.stack([q[t] @ k[s] for s in range(t + 1)]) / math.sqrt(q.shape[1])
            pattern = torch.softmax(scores, dim=0)
            out[t] += (pattern @ v[: t + 1]) @ weights[prefix + "W_O"][head]
    return out


def logits_of(tokens: list[int], weights: dict[str, Tensor], cfg) -> tuple[Tensor, list[Tensor]]:
    """Logits [pos, d_vocab] and the increments of every layer, each [pos, n_out]."""
    weights = {name: value.detach().double() for name, value in weights.items()}
    x = weights["embed.W_E"][tokens]
    embedded, all_increments = x, []
    for layer in range(cfg.n_layers):
        block = f"blocks.{layer}."
        if cfg.increments == "fixed":
            steps = torch.ones(len(tokens), 1, dtype=torch.float64)
        elif cfg.increments == "shared":
            steps = increments_of(embedded, weights, "shared_increments.", cfg.max_increment, cfg.eps)
        else:
            steps = increments_of(x, weights, block + "increments.", cfg.max_increment, cfg.eps)
        all_increments.append(steps)
        positions = torch.stack([steps[: t + 1].sum(0) for t in range(len(tokens))]).expand(-1, cfg.n_heads)
        normed = rms_norm(x, weights[block + "ln1.w"], cfg.eps)
        x = x + attend(normed, positions, weights, block + "attn.", cfg.rope_base)
        normed = rms_norm(x, weights[block + "ln2.w"], cfg.eps)
        gate = torch.nn.functional.silu(normed @ weights[block + "mlp.W_gate"])
        x = x + (gate * (normed @ weights[block + "mlp.W_in"])) @ weights[block + "mlp.W_out"]
    normed = rms_norm(x, weights["ln_final.w"], cfg.eps)
    return normed @ weights["embed.W_E"].T, all_increments
