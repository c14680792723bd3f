"""Weights from HookedTransformer, and to Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.weights import Weights

_HOOKED_TRANSFORMER_BUFFERS = ("attn.mask", "attn.IGNORE", "attn.rotary_sin", "attn.rotary_cos")


def kept_of_state(state_dict: Mapping[str, Any], is_assigned: bool) -> dict[str, Any]:
    """Return the weights of a state dict, without a HookedTransformer's buffers (masks, rotary tables).

    Where tensors are assigned, not copied, those of increment heads come in float32, which heads stay in.
    """
    kept = {}
    for name, value in state_dict.items():
        if name.endswith(_HOOKED_TRANSFORMER_BUFFERS):
            continue
        is_head = name.startswith("shared_increments.") or ".increments." in name
        is_rounded = is_assigned and is_head and value.dtype != torch.float32
        kept[name] = value.detach().float() if is_rounded else value
    return kept


def to_llama(model: Weights, increments: str) -> Any:
    """Return a Hugging Face model with these weights; see `LRopeTransformer.to_hf_llama`."""
    from transformers import AutoModelForCausalLM

    if increments != "fixed":
        raise LRopeError(
            f"Llama has ordinary RoPE and cannot express increments={increments!r}; only a "
            "model with increments='fixed' can be exported"
        )
    if model.cfg.use_biases and bool(model.unembed.b_U.any()):
        raise LRopeError("Llama has no bias on its logits; set unembed.b_U to zero, or keep the model here")
    with torch.random.fork_rng(devices=[]):
        llama = AutoModelForCausalLM.from_config(_llama_config(model.cfg), dtype=model.cfg.dtype)
    missing, unexpected = llama.load_state_dict(_llama_weights(model), strict=False)
    assert not unexpected, unexpected
    assert missing in ([], ["lm_head.weight"]), missing
    llama.tie_weights()
    return llama.eval()


def _llama_config(cfg: LRopeConfig) -> Any:
    """Return the same shape in Hugging Face's words."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=cfg.d_vocab,
        hidden_size=cfg.d_model,
        intermediate_size=cfg.d_mlp,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=cfg.n_heads,
        num_key_value_heads=cfg.n_heads,
        head_dim=cfg.d_head,
        hidden_act=cfg.act_fn,
        max_position_embeddings=cfg.n_ctx,
        rms_norm_eps=cfg.eps,
        rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_base},
        attention_bias=cfg.use_biases,
        mlp_bias=cfg.use_biases,
        tie_word_embeddings=cfg.tie_embeddings,
        bos_token_id=cfg.d_vocab - 1,
        eos_token_id=cfg.d_vocab - 1,
    )


def _llama_weights(model: Weights) -> dict[str, Tensor]:
    """Return the weights under Hugging Face's names, copied."""
    weights = {
        "model.embed_tokens.weight": model.embed.W_E,
        "model.norm.weight": _gain(model.ln_final, model.W_E),
        "lm_head.weight": model.unembed.W_U.T,
    }
    for layer, block in enumerate(model.blocks):
        prefix = f"model.layers.{layer}."
        parts = _attention_weights(block.attn) | _mlp_weights(block.mlp)
        parts["input_layernorm.weight"] = _gain(block.ln1, model.W_E)
        parts["post_attention_layernorm.weight"] = _gain(block.ln2, model.W_E)
        weights |= {prefix + name: value for name, value in parts.items()}
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _gain(norm: Any, like: Tensor) -> Tensor:
    """Return a norm's gain; ones if it was folded away."""
    return norm.w if norm.has_gain else torch.ones(like.shape[1], dtype=like.dtype, device=like.device)


def _attention_weights(attn: Any) -> dict[str, Tensor]:
    """Return q, k, v and o projections as [out, in] matrices, with biases if there are any."""
    weights = {"self_attn.o_proj.weight": rearrange(attn.W_O, "h d m -> m (h d)")}
    for letter, name in (("Q", "q_proj"), ("K", "k_proj"), ("V", "v_proj")):
        weights[f"self_attn.{name}.weight"] = rearrange(getattr(attn, f"W_{letter}"), "h m d -> (h d) m")
        if attn.has_biases:
            weights[f"self_attn.{name}.bias"] = rearrange(getattr(attn, f"b_{letter}"), "h d -> (h d)")
    if attn.has_biases:
        weights["self_attn.o_proj.bias"] = attn.b_O
    return weights


def _mlp_weights(mlp: Any) -> dict[str, Tensor]:
    """Return gate, up and down projections; `b_in` is carried through `W_out`."""
    weights = {
        "mlp.gate_proj.weight": mlp.W_gate.T,
        "mlp.up_proj.weight": mlp.W_in.T,
        "mlp.down_proj.weight": mlp.W_out.T,
    }
    if mlp.has_biases:
        weights["mlp.gate_proj.bias"] = torch.zeros_like(mlp.b_in)
        weights["mlp.up_proj.bias"] = torch.zeros_like(mlp.b_in)
        weights["mlp.down_proj.bias"] = mlp.b_out + mlp.b_in @ mlp.W_out
    return weights
