"""Hook points: which fire, in what order, with what shape and dtype; names; slices; caches."""

from __future__ import annotations

import pytest
import torch
from transformer_lens import ActivationCache

from lrope_interp.errors import LRopeError

B, P, M, H, D, F, V = 2, 9, 16, 2, 8, 32, 257


def layer_hooks(layer: int, mode: str, per_head: bool) -> list[tuple[str, tuple[int, ...]]]:
    steps = (B, P, H) if per_head else (B, P)
    learned = [("hook_increments_in", (B, P, M)), ("hook_increments_pre", steps)]
    rows = [
        ("hook_resid_pre", (B, P, M)),
        *(learned if mode == "per_layer" else []),
        ("hook_increments", steps),
        ("hook_positions", steps),
        ("ln1.hook_scale", (B, P, 1)),
        ("ln1.hook_normalized", (B, P, M)),
        *[(f"attn.hook_{x}", (B, P, H, D)) for x in ("q", "k", "v", "rot_q", "rot_k")],
        ("attn.hook_attn_scores", (B, H, P, P)),
        ("attn.hook_pattern", (B, H, P, P)),
        ("attn.hook_z", (B, P, H, D)),
        ("hook_attn_out", (B, P, M)),
        ("hook_resid_mid", (B, P, M)),
        ("ln2.hook_scale", (B, P, 1)),
        ("ln2.hook_normalized", (B, P, M)),
        *[(f"mlp.hook_{x}", (B, P, F)) for x in ("pre", "pre_linear", "post")],
        ("hook_mlp_out", (B, P, M)),
        ("hook_resid_post", (B, P, M)),
    ]
    return [(f"blocks.{layer}.{name}", shape) for name, shape in rows]


def expected_hooks(mode: str, per_head: bool) -> list[tuple[str, tuple[int, ...]]]:
    steps = (B, P, H) if per_head else (B, P)
    shared = [
        ("shared_increments.hook_increments_in", (B, P, M)),
        ("shared_increments.hook_increments_pre", steps),
    ]
    return [
        ("hook_embed", (B, P, M)),
        *(shared if mode == "shared" else []),
        *layer_hooks(0, mode, per_head),
        *layer_hooks(1, mode, per_head),
        ("ln_final.hook_scale", (B, P, 1)),
        ("ln_final.hook_normalized", (B, P, M)),
        ("unembed.hook_in", (B, P, M)),
        ("unembed.hook_out", (B, P, V)),
    ]


def tokens() -> torch.Tensor:
    return torch.randint(0, V, (B, P), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("per_head", [False, True])
def test_every_hook_fires_in_order_with_its_shape_and_dtype(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    _, cache = model.run_with_cache(tokens())
    assert [(name, tuple(value.shape)) for name, value in cache.items()] == expected_hooks(mode, per_head)
    for name, value in cache.items():
        assert value.dtype == (torch.float64 if name.endswith("hook_positions") else torch.float32), name


def test_flagged_hooks_fire_when_their_flag_is_on_and_change_nothing(make_model):
    model = make_model()
    plain = model(tokens())
    for flag, names in (
        ("use_attn_in", ["hook_attn_in"]),
        ("use_split_qkv_input", ["hook_q_input", "hook_k_input", "hook_v_input"]),
        ("use_hook_mlp_in", ["hook_mlp_in"]),
        ("use_attn_result", ["attn.hook_result"]),
    ):
        setattr(model.cfg, flag, True)
        logits, cache = model.run_with_cache(tokens())
        setattr(model.cfg, flag, False)
        torch.testing.assert_close(logits, plain, atol=1e-4, rtol=1e-4)
        for name in names:
            assert cache[f"blocks.1.{name}"].shape == ((B, P, M) if name == "hook_mlp_in" else (B, P, H, M))


def test_run_with_cache_returns_an_activation_cache_and_leaves_the_logits_as_they_were(make_model):
    model = make_model()
    plain = model(tokens())
    logits, cache = model.run_with_cache(tokens())
    assert isinstance(cache, ActivationCache)
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=1e-5)
    assert torch.equal(cache["increments", 1], cache["blocks.1.hook_increments"])
    assert cache.stack_activation("positions").shape == (2, B, P)
    as_dict = model.run_with_cache(tokens(), return_cache_object=False)[1]
    assert isinstance(as_dict, dict)
    assert torch.equal(model(tokens()), plain), "no hook stays behind"


def test_residual_identities(make_model):
    _, cache = make_model().run_with_cache(tokens())
    for layer in range(2):
        mid = cache["resid_pre", layer] + cache["attn_out", layer]
        torch.testing.assert_close(cache["resid_mid", layer], mid, atol=1e-5, rtol=1e-5)
        post = cache["resid_mid", layer] + cache["mlp_out", layer]
        torch.testing.assert_close(cache["resid_post", layer], post, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("per_head", [False, True])
def test_a_position_slice_cuts_every_hook_on_its_own_position_axis(make_model, per_head):
    model = make_model(per_head=per_head)
    _, whole = model.run_with_cache(tokens())
    _, sliced = model.run_with_cache(tokens(), pos_slice=(2, 5))
    for name, value in sliced.items():
        axis = 2 if name.endswith(("attn_scores", "pattern")) else 1
        assert torch.equal(value, whole[name].narrow(axis, 2, 3)), name
    _, single = model.run_with_cache(tokens()[:1], pos_slice=-1, remove_batch_dim=True)
    assert single["increments", 0].shape == ((1, H) if per_head else (1,))


def test_gradients_of_increments_and_positions_come_through(make_model):
    model = make_model()
    _, cache = model.run_with_cache(tokens(), return_type="loss", incl_bwd=True)
    for name in ("hook_increments", "hook_positions", "hook_increments_in"):
        assert cache[f"blocks.1.{name}_grad"].abs().max() > 0, name


def test_an_unknown_hook_name_raises_and_names_the_nearest(make_model):
    model = make_model()
    with pytest.raises(LRopeError, match=r"Did you mean 'blocks\.0\.hook_increments'"):
        model.run_with_hooks(tokens(), fwd_hooks=[("blocks.0.hook_increment", lambda x, hook: x)])
    with pytest.raises(LRopeError, match="unknown hook"):
        model.run_with_cache(tokens(), names_filter=["blocks.7.hook_increments"])
    with pytest.raises(LRopeError, match="unknown hook"):
        model.add_hook("hook_pos_embed", lambda x, hook: x)


def test_the_pattern_can_be_read_and_written(make_model):
    model = make_model()
    plain = model(tokens())
    seen = []
    model.run_with_hooks(tokens(), fwd_hooks=[("blocks.0.attn.hook_pattern", lambda x, hook: seen.append(x))])
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(B, H, P))
    assert torch.equal(seen[0].triu(1), torch.zeros_like(seen[0]))
    zeroed = model.run_with_hooks(
        tokens(), fwd_hooks=[("blocks.0.attn.hook_pattern", lambda x, hook: torch.zeros_like(x))]
    )
    assert (zeroed - plain).abs().max() > 1e-2
    handle = model.blocks[0].attn.hook_pattern.register_forward_hook(lambda m, i, o: torch.zeros_like(o))
    raw = model(tokens())
    handle.remove()
    torch.testing.assert_close(raw, zeroed)


def test_start_and_stop_compose_at_every_layer(make_model):
    for mode in ("per_layer", "shared"):
        model = make_model(increments=mode)
        logits, cache = model.run_with_cache(tokens())
        for layer in range(2):
            resid = model(tokens(), stop_at_layer=layer)
            torch.testing.assert_close(resid, cache["resid_pre", layer], atol=1e-5, rtol=1e-5)
            resumed = model(resid, start_at_layer=layer, tokens=tokens())
            torch.testing.assert_close(resumed, logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(LRopeError, match="tokens="):
        model(resid, start_at_layer=1)


def test_padding_is_invisible(make_model):
    model = make_model()
    row = torch.randint(0, 256, (1, 6), generator=torch.Generator().manual_seed(1))
    pads = torch.full((1, 3), 256)
    alone = model(row)
    right = model(torch.cat([row, pads], 1), attention_mask=torch.tensor([[1] * 6 + [0] * 3]))
    left = model(torch.cat([pads, row], 1), attention_mask=torch.tensor([[0] * 3 + [1] * 6]))
    torch.testing.assert_close(right[:, :6], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left[:, 3:], alone, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(left).all()


def test_bad_input_is_refused_with_what_to_do(make_model):
    model = make_model()
    with pytest.raises(LRopeError, match=r"n_ctx=32 cannot hold 34 tokens.*from_pretrained"):
        model("x" * 33)
    with pytest.raises(LRopeError, match=r"token ids must lie in 0\.\.256"):
        model(torch.tensor([[1, 300]]))
    with pytest.raises(LRopeError, match="residual"):
        model(torch.randn(1, 4, M))
    with pytest.raises(LRopeError, match="return_type"):
        model(tokens(), return_type="los")
