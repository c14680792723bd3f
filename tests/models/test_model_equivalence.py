"""The model against independent implementations of it, with randomised parameters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import reference

from lrope_interp.models import LRopeConfig, LRopeTransformer

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]


def some_tokens(n_pos: int = 12, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 257, (batch, n_pos), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_logits_and_increments_equal_the_slow_reference(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    tokens = some_tokens()
    logits, cache = model.run_with_cache(tokens)
    for row in range(len(tokens)):
        expected, increments = reference.logits_of(tokens[row].tolist(), model.state_dict(), model.cfg)
        torch.testing.assert_close(logits[row].double(), expected, atol=1e-4, rtol=1e-4)
        for layer, steps in enumerate(increments):
            ours = cache["increments", layer][row].double()
            expanded = steps if per_head else steps[:, 0]
            torch.testing.assert_close(ours, expanded.expand(ours.shape), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_fused_and_step_by_step_attention_agree(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    tokens = some_tokens()
    model.cfg.attn_impl = "sdpa"
    fused = model(tokens)
    model.cfg.attn_impl = "eager"
    torch.testing.assert_close(model(tokens), fused, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
def test_freezing_every_layer_to_one_is_the_fixed_model_and_hugging_face_llama(make_model, mode):
    model = make_model(increments=mode)
    tokens = some_tokens(n_pos=20)
    frozen = model.run_with_hooks(
        tokens,
        fwd_hooks=[(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))],
    )
    assert (frozen - model(tokens)).abs().max() > 1e-2, "the randomised heads must matter"
    fixed = LRopeTransformer(LRopeConfig.from_dict(model.cfg.to_dict() | {"increments": "fixed"})).eval()
    fixed.load_state_dict({k: v for k, v in model.state_dict().items() if k in fixed.state_dict()})
    torch.testing.assert_close(frozen, fixed(tokens), atol=1e-4, rtol=1e-4)
    llama = hugging_face_llama(fixed)
    with torch.no_grad():
        torch.testing.assert_close(frozen, llama(tokens).logits, atol=1e-4, rtol=1e-4)


def hugging_face_llama(model: LRopeTransformer) -> torch.nn.Module:
    """Our weights in `LlamaForCausalLM`, gains included."""
    from transformers import LlamaConfig, LlamaForCausalLM

    cfg = model.cfg
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=cfg.d_vocab,
            hidden_size=cfg.d_model,
            intermediate_size=cfg.d_mlp,
            num_hidden_layers=cfg.n_layers,
            num_attention_heads=cfg.n_heads,
            head_dim=cfg.d_head,
            max_position_embeddings=cfg.n_ctx,
            rms_norm_eps=cfg.eps,
            rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_base},
            tie_word_embeddings=True,
            bos_token_id=256,
            eos_token_id=256,
        )
    ).eval()
    weights = {"model.embed_tokens.weight": model.W_E, "model.norm.weight": model.ln_final.w}
    for layer, block in enumerate(model.blocks):
        prefix = f"model.layers.{layer}."
        for ours, theirs in (("W_Q", "q_proj"), ("W_K", "k_proj"), ("W_V", "v_proj")):
            stacked = getattr(block.attn, ours).transpose(1, 2).reshape(-1, cfg.d_model)
            weights[f"{prefix}self_attn.{theirs}.weight"] = stacked
        weights[prefix + "self_attn.o_proj.weight"] = block.attn.W_O.reshape(-1, cfg.d_model).T
        for ours, theirs in (("W_gate", "gate_proj"), ("W_in", "up_proj"), ("W_out", "down_proj")):
            weights[f"{prefix}mlp.{theirs}.weight"] = getattr(block.mlp, ours).T
        weights[prefix + "input_layernorm.weight"] = block.ln1.w
        weights[prefix + "post_attention_layernorm.weight"] = block.ln2.w
    missing, unexpected = llama.load_state_dict({k: v.detach() for k, v in weights.items()}, strict=False)
    assert missing in ([], ["lm_head.weight"]) and not unexpected
    llama.tie_weights()
    assert (model.ln_final.w - 1).abs().max() > 0.05, "gains of 1 would hide a forgotten gain"
    return llama


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
@pytest.mark.parametrize("per_head", [False, True])
def test_at_initialisation_learned_increments_are_ordinary_rope_bit_for_bit(mode, per_head):
    def build(increments: str) -> LRopeTransformer:
        return LRopeTransformer(
            LRopeConfig(3, 32, 4, n_ctx=64, increments=increments, per_head=per_head, seed=5)
        ).eval()

    tokens = some_tokens(n_pos=64)
    assert torch.equal(build(mode)(tokens), build("fixed")(tokens))


@pytest.mark.parametrize("max_increment", [2.0, 3.7, 50.0])
def test_at_other_maxima_the_first_increment_is_one_to_a_millionth(max_increment):
    model = LRopeTransformer(LRopeConfig(2, 32, 4, max_increment=max_increment, seed=1)).eval()
    _, cache = model.run_with_cache(some_tokens())
    assert (cache["increments", 1] - 1).abs().max() < 1e-6


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_writing_the_same_increments_back_changes_no_bit(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    tokens = some_tokens()
    logits, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_increments"))
    hooks = [
        (f"blocks.{layer}.hook_increments", lambda x, hook: cache[hook.name].clone()) for layer in range(2)
    ]
    plain = model(tokens)
    assert torch.equal(model.run_with_hooks(tokens, fwd_hooks=hooks), plain)
    assert torch.equal(logits, plain)


def test_the_parameter_counts_of_the_reference_shape():
    def count(**kwargs):
        return LRopeTransformer(LRopeConfig(6, 256, 8, 32, 1024, **kwargs)).n_params_total

    fixed = count(increments="fixed")
    assert fixed == 6_360_576
    assert count(increments="shared") - fixed == 16_769
    assert count(increments="per_layer") - fixed == 6 * 16_769
