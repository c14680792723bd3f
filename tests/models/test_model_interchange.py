"""Weights from HookedTransformer and to Hugging Face Llama; pinned positions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import reference

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]


def some_tokens(n_pos: int = 14, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 257, (batch, n_pos), generator=torch.Generator().manual_seed(3))


def hooked_transformer_state_dict(model: LRopeTransformer) -> dict[str, torch.Tensor]:
    """What HookedTransformer 3.9 saves for this shape: its parameters, and its buffers."""
    cfg, state = model.cfg, {}
    for name, parameter in model.named_parameters():
        if "increments" not in name:
            state[name] = parameter.detach().clone()
    for layer in range(cfg.n_layers):
        prefix = f"blocks.{layer}.attn."
        state[prefix + "mask"] = torch.ones(cfg.n_ctx, cfg.n_ctx, dtype=torch.bool).tril()
        state[prefix + "IGNORE"] = torch.tensor(-torch.inf)
        state[prefix + "rotary_sin"] = state[prefix + "rotary_cos"] = torch.zeros(cfg.n_ctx, cfg.d_head)
    return state


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_a_hooked_transformers_state_dict_loads_with_only_the_heads_missing(make_model, mode, per_head):
    source = make_model(increments="fixed", use_biases=True, tie_embeddings=False, seed=5)
    state = hooked_transformer_state_dict(source)
    model = make_model(increments=mode, per_head=per_head, use_biases=True, tie_embeddings=False)
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert result.missing_keys == [name for name, _ in model.increment_parameters()]
    frozen = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]
    expected, cache = source.run_with_cache(some_tokens())
    with model.hooks(frozen):
        logits, ours = model.run_with_cache(some_tokens())
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    for name in cache:
        if not name.endswith(("increments", "positions")):
            torch.testing.assert_close(ours[name], cache[name], atol=1e-5, rtol=1e-5)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        model.load_state_dict(model.state_dict() | {"W_X": torch.zeros(1)})


@pytest.mark.parametrize("is_integer", [True, False])
def test_pinned_positions_give_the_attention_of_those_positions(make_model, is_integer):
    model, tokens = make_model(), some_tokens(batch=1)
    steps = torch.rand(14, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    pinned = torch.arange(14).double() if is_integer else steps.cumsum(0)
    is_position = lambda name: name.endswith("hook_positions")  # noqa: E731
    with model.hooks([(is_position, lambda x, hook: pinned[None].clone())]):
        _, cache = model.run_with_cache(tokens)
    weights = {name: value.double() for name, value in model.state_dict().items()}
    for layer in range(2):
        normed = reference.rms_norm(
            cache["resid_pre", layer][0].double(), weights[f"blocks.{layer}.ln1.w"], model.cfg.eps
        )
        by_head = pinned[:, None].expand(-1, 2)
        expected = reference.attend(normed, by_head, weights, f"blocks.{layer}.attn.", model.cfg.rope_base)
        torch.testing.assert_close(cache["attn_out", layer][0].double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("folded", [True, False])
def test_a_fixed_model_exports_to_hugging_face_llama_with_equal_logits(make_model, biases, folded):
    model = make_model(increments="fixed", use_biases=biases, tie_embeddings=not biases, act_fn="gelu_new")
    if biases:
        with pytest.raises(LRopeError, match="b_U"):
            model.to_hf_llama()
        torch.nn.init.zeros_(model.unembed.b_U)
    model = model.fold_ln_() if folded else model
    before = torch.random.get_rng_state()
    llama = model.to_hf_llama()
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch.no_grad():
        logits = llama(some_tokens()).logits
    torch.testing.assert_close(logits, model(some_tokens()), atol=1e-4, rtol=1e-4)
    assert not llama.training


def test_learned_increments_have_no_llama(make_model):
    with pytest.raises(LRopeError, match="only a model with increments='fixed'"):
        make_model().to_hf_llama()
