"""Weights from HookedTransformer, and to Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.frozen import increments_name

_HOOKED_TRANSFORMER_BUFFERS = ("attn.mask", "attn.IGNORE", "attn.rotary_sin", "attn.rotary_cos")


class Interchange:
    """Mixed into the model: `load_state_dict` and `to_hf_llama`."""

    cfg: Any
    embed: Any
    blocks: Any
    unembed: Any

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load parameters; a HookedTransformer's buffers (masks and rotary tables) are left out.

        For a HookedTransformer (RMSNorm, gated MLP, rotary over all of d_head) build the model with
        ``use_biases=True, tie_embeddings=False`` and, if its norms are folded,
        ``normalization_type="RMSPre"``. With ``strict=False`` only increment heads are missing.
        With ``assign=True`` the trunk takes the tensors' dtype; increment heads stay float32.
        """
        kept = {
            name: _float32_in_heads(name, value) if assign else value
            for name, value in state_dict.items()
            if not name.endswith(_HOOKED_TRANSFORMER_BUFFERS)
        }
        result = super().load_state_dict(kept, strict=strict, assign=assign)  # type: ignore[misc]
        embedding = self.embed.W_E
        self.cfg.device, self.cfg.dtype = str(embedding.device), embedding.dtype
        return result

    def to_hf_llama(self) -> Any:
        """Return a Hugging Face `LlamaForCausalLM` with the same logits, in eval mode.

        Only for increments="fixed": no other library knows learned positions. `b_in`, which
        HookedTransformer adds behind the gate, goes into the bias of the down projection.

        Raises:
            LRopeError: Learned increments, or a bias on the logits, which Llama lacks.
        """
        from transformers import AutoModelForCausalLM

        if increments_name(self) != "fixed":
            raise LRopeError(
                f"Llama has ordinary RoPE and cannot express increments={increments_name(self)!r}; only a "
                "model with increments='fixed' can be exported"
            )
        if self.cfg.use_biases and bool(self.unembed.b_U.any()):
            raise LRopeError(
                "Llama has no bias on its logits; set unembed.b_U to zero, or keep the model here"
            )
        with torch.random.fork_rng(devices=[]):
            llama = AutoModelForCausalLM.from_config(_llama_config(self.cfg), dtype=self.cfg.dtype)
        missing, unexpected = llama.load_state_dict(_llama_weights(self), strict=False)
        assert not unexpected, unexpected
        assert missing in ([], ["lm_head.weight"]), missing
        llama.tie_weights()
        return llama.eval()


def _float32_in_heads(name: str, value: Tensor) -> Tensor:
    """Return an increment head's tensor in float32, any other as it is."""
    is_head = name.startswith("shared_increments.") or ".increments." in name
    return value.detach().float() if is_head and value.dtype != torch.float32 else value


def _llama_config(cfg: Any) -> Any:
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


def _llama_weights(model: Any) -> dict[str, Tensor]:
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
