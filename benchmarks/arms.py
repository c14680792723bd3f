"""The models that are timed: ours, and the same decoder in three other libraries.

Every builder takes a `Shape` and a device and returns a function from tokens to logits, with its
parameters. The decoder is the same everywhere: RMSNorm before each part, rotary positions, SwiGLU,
no biases, tied embeddings. Libraries are imported in the builders, so that a worker loads one only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """A model and a batch.

    Attributes:
        n_ctx: Tokens a window.
        batch_size: Windows a step.
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_mlp: int
    n_ctx: int
    batch_size: int
    d_vocab: int = 257

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads

    @property
    def n_tokens(self) -> int:
        """Tokens a step."""
        return self.n_ctx * self.batch_size


SHAPES = {
    "tiny": Shape(n_layers=6, d_model=128, n_heads=4, d_mlp=512, n_ctx=256, batch_size=16),
    "paper": Shape(n_layers=6, d_model=256, n_heads=8, d_mlp=1024, n_ctx=512, batch_size=8),
}
OURS = {
    "fixed": ("fixed", False),
    "shared": ("shared", False),
    "per_layer": ("per_layer", False),
    "per_layer_per_head": ("per_layer", True),
}


@dataclass(frozen=True)
class Arm:
    """A model to step.

    Attributes:
        module: Its parameters.
        groups: What the optimiser gets.
        logits: Tokens to logits, [batch, pos, vocabulary].
    """

    module: nn.Module
    groups: Any
    logits: Callable[[Tensor], Tensor]


def build(name: str, shape: Shape, device: str) -> Arm:
    """Return the arm `name`, in training mode, at its initial weights."""
    torch.manual_seed(0)
    if name in OURS:
        return _ours(name, shape, device)
    module, logits = {"hf_llama": _hf_llama, "x_transformers": _x_transformers, "litgpt": _litgpt}[name](
        shape
    )
    module.to(device).train()
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    return Arm(module, groups, logits)


def _ours(name: str, shape: Shape, device: str) -> Arm:
    from lrope_interp import LRopeConfig, LRopeTransformer

    increments, per_head = OURS[name]
    model = LRopeTransformer(
        LRopeConfig(
            n_layers=shape.n_layers, d_model=shape.d_model, n_heads=shape.n_heads, d_head=shape.d_head,
            d_mlp=shape.d_mlp, d_vocab=shape.d_vocab, n_ctx=shape.n_ctx, increments=increments,
            per_head=per_head, seed=0, device=device,
        )
    ).train()  # fmt: skip
    return Arm(model, model.parameter_groups(0.1, 1e-3), model)


def _hf_llama(shape: Shape) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.d_vocab, hidden_size=shape.d_model, intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers, num_attention_heads=shape.n_heads,
        max_position_embeddings=shape.n_ctx, rms_norm_eps=1e-5, tie_word_embeddings=True,
        attn_implementation="sdpa", use_cache=False, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    return model, lambda tokens: model(tokens).logits


def _x_transformers(shape: Shape) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=shape.d_model, depth=shape.n_layers, heads=shape.n_heads, attn_dim_head=shape.d_head,
        rotary_pos_emb=True, use_rmsnorm=True, ff_glu=True, ff_swish=True, ff_no_bias=True,
        ff_mult=shape.d_mlp // shape.d_model, attn_flash=True,
    )  # fmt: skip
    model = TransformerWrapper(
        num_tokens=shape.d_vocab,
        max_seq_len=shape.n_ctx,
        tie_embedding=True,
        use_abs_pos_emb=False,
        attn_layers=layers,
    )
    return model, model


def _litgpt(shape: Shape) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    from litgpt import GPT, Config

    config = Config(
        n_layer=shape.n_layers, n_embd=shape.d_model, n_head=shape.n_heads, head_size=shape.d_head,
        intermediate_size=shape.d_mlp, vocab_size=shape.d_vocab, padded_vocab_size=shape.d_vocab,
        block_size=shape.n_ctx, mlp_class_name="LLaMAMLP", norm_class_name="RMSNorm", norm_eps=1e-5,
        bias=False, rotary_percentage=1.0, parallel_residual=False,
    )  # fmt: skip
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    return model, model
