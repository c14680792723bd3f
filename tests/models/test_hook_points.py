"""Hook points: which fire, in what order and shape; names, flags, slices, caches, edits; compiled models."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from transformer_lens import ActivationCache

from lrope_interp.errors import LRopeError
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.models.hooks import SilentHookError

# Where a type checker breaks the graph, dynamo asks a tensor in the middle for its gradient.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
B, P, M, H, D, F, V = 2, 9, 16, 2, 8, 32, 257
LEARNED = [f"blocks.1.hook_{leaf}" for leaf in ("increments_pre", "increments", "positions")]


def expected_hooks(mode: str, per_head: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Every hook in firing order, with its shape."""
    resid, scale, qkv, scores, mlp = (B, P, M), (B, P, 1), (B, P, H, D), (B, H, P, P), (B, P, F)
    steps = (B, P, H) if per_head else (B, P)
    head = {"hook_increments_in": resid, "hook_increments_pre": steps}
    layer = {
        **{"hook_resid_pre": resid, **(head if mode == "per_layer" else {})},
        **{"hook_increments": steps, "hook_positions": steps},
        **{"ln1.hook_scale": scale, "ln1.hook_normalized": resid},
        **{f"attn.hook_{x}": qkv for x in ("q", "k", "v", "rot_q", "rot_k")},
        **{"attn.hook_attn_scores": scores, "attn.hook_pattern": scores, "attn.hook_z": qkv},
        **{"hook_attn_out": resid, "hook_resid_mid": resid},
        **{"ln2.hook_scale": scale, "ln2.hook_normalized": resid},
        **{f"mlp.hook_{x}": mlp for x in ("pre", "pre_linear", "post")},
        **{"hook_mlp_out": resid, "hook_resid_post": resid},
    }
    return [
        ("hook_embed", resid),
        *((f"shared_increments.{name}", shape) for name, shape in head.items() if mode == "shared"),
        *((f"blocks.{at}.{name}", shape) for at in range(2) for name, shape in layer.items()),
        *[("ln_final.hook_scale", scale), ("ln_final.hook_normalized", resid)],
        *[("unembed.hook_in", resid), ("unembed.hook_out", (B, P, V))],
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
    assert model.get_caching_hooks()[2] == [], "gradients are cached where they are asked for"


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


def half(x: torch.Tensor) -> torch.Tensor:
    """Half of an activation and something of every place, so that no edit is lost by symmetry."""
    return 0.5 * x + torch.linspace(-0.1, 0.2, x.numel()).to(x).view(x.shape)


def returns_a_copy(x: torch.Tensor, hook: HookPoint) -> torch.Tensor:
    return half(x)


def writes_in_place(x: torch.Tensor, hook: HookPoint) -> None:
    x[:] = half(x)


FLAGS = ("use_attn_result", "use_split_qkv_input", "use_attn_in", "use_hook_mlp_in")


def firing(model: LRopeTransformer) -> list[str]:
    return [name for name in model.hook_dict if model.remedy(name) is None]


def with_flags(model: LRopeTransformer) -> LRopeTransformer:
    for flag in FLAGS:
        getattr(model, f"set_{flag}")(True)
    return model


@pytest.mark.parametrize(
    ("mode", "attention"),
    [("per_layer", "eager"), ("shared", "sdpa"), ("fixed", "eager"), ("per_layer", "auto")],
)
@torch.no_grad()
def test_writing_in_place_is_returning_the_edited_copy_at_every_point(make_model, mode, attention):
    model = make_model(increments=mode, per_head=mode == "shared", attn_impl=attention, n_layers=1)
    model = model if attention == "auto" else with_flags(model)
    for name in firing(model):
        seen = []
        for hook in (returns_a_copy, writes_in_place):
            before = model.add_caching_hooks(lambda each: model.remedy(each) is None)
            with model.hooks(fwd_hooks=[(name, hook)]):
                logits, after = model.run_with_cache(tokens(), return_cache_object=False)
            seen.append({"logits": logits} | {f"before {key}": one for key, one in before.items()} | after)
            model.reset_hooks()
        assert [key for key in seen[0] if not torch.equal(seen[0][key], seen[1][key])] == [], name


@pytest.mark.parametrize(("mode", "is_training"), [("per_layer", True), ("shared", False)])
def test_gradients_are_the_same_in_place_and_by_copy_forwards_and_backwards(make_model, mode, is_training):
    model = with_flags(make_model(increments=mode, n_layers=1)).train(is_training)
    for name in firing(model):
        for direction in ("fwd_hooks", "bwd_hooks"):
            seen = []
            for hook in (returns_a_copy, writes_in_place):
                model.zero_grad()
                with model.hooks(**{direction: [(name, hook)]}):
                    model(tokens(), return_type="loss").backward()
                seen.append({key: one.grad for key, one in model.named_parameters() if one.grad is not None})
            assert [key for key in seen[0] if not torch.equal(seen[0][key], seen[1][key])] == [], name


@torch.no_grad()
def test_an_edit_in_place_leaves_the_callers_residual_and_the_readers_beside_it_alone(make_model):
    model = make_model()
    resid = torch.randn(B, P, M, generator=torch.Generator().manual_seed(0))
    for name in ("blocks.1.hook_resid_pre", "blocks.1.hook_increments_in"):
        given = resid.clone()
        model.run_with_hooks(given, start_at_layer=1, fwd_hooks=[(name, writes_in_place)])
        assert torch.equal(given, resid), name
    _, cache = model.run_with_cache(tokens())
    cache["increments_in", 1].zero_()
    assert cache["resid_pre", 1].abs().max() > 0


def test_a_cache_copies_nothing_and_a_hook_that_only_reads_changes_no_bit(make_model):
    model = make_model()
    plain, cache = model.run_with_cache(tokens())
    assert cache["resid_post", 0].data_ptr() == cache["resid_pre", 1].data_ptr()
    reader = (lambda name: True, lambda x, hook: None)
    assert torch.equal(model.run_with_hooks(tokens(), fwd_hooks=[reader], bwd_hooks=[]), plain)


def test_a_backward_hook_that_only_reads_does_not_undo_one_before_it(make_model):
    model, name = make_model(), "blocks.0.hook_resid_post"

    def gradient(*hooks):
        model.zero_grad()
        with model.hooks(bwd_hooks=[(name, hook) for hook in hooks]):
            model(tokens(), return_type="loss").backward()
        return model.W_E.grad

    edited, plain = gradient(returns_a_copy), gradient()
    assert torch.equal(gradient(returns_a_copy, lambda x, hook: None), edited)
    assert not torch.equal(edited, plain)


def use_every_way(model: LRopeTransformer, predicate) -> list:
    """All ways in which a predicate reaches the model, as functions to call."""

    def in_a_block(**hooks):
        with model.hooks(**hooks):
            model(tokens())

    pair = (predicate, lambda x, hook: None)
    return [
        lambda: model.add_hook(*pair),
        lambda: model.add_perma_hook(*pair),
        lambda: model.run_with_hooks(tokens(), fwd_hooks=[pair]),
        lambda: in_a_block(fwd_hooks=[pair]),
        lambda: in_a_block(bwd_hooks=[pair]),
        lambda: model.run_with_cache(tokens(), names_filter=predicate),
        lambda: model.get_caching_hooks(predicate),
        lambda: model.add_caching_hooks(predicate),
    ]


@pytest.mark.parametrize(
    ("leaf", "attention", "message"),
    [
        ("hook_incremets", "auto", r"accepts no hook point.*hook_increments"),
        ("attn.hook_result", "auto", r"never fire.*set_use_attn_result"),
        ("hook_mlp_in", "auto", r"never fire.*set_use_hook_mlp_in"),
        ("hook_pattern", "sdpa", r"never fire.*attn_impl"),
    ],
)
def test_a_predicate_that_reaches_no_point_that_fires_is_refused_as_a_name_is(
    make_model, leaf, attention, message
):
    model = make_model(attn_impl=attention)
    for use in use_every_way(model, lambda name: name.endswith(leaf)):
        with pytest.raises(LRopeError, match=message):
            use()
    assert not any(point.has_hooks() for point in model.hook_dict.values())
    for use in use_every_way(model, lambda name: "attn" in name):  # silent points beside one that fires
        use()


def test_hooks_may_come_from_an_iterator_wherever_a_list_will_do(make_model):
    model, name = make_model(), "blocks.0.hook_increments"
    plain = model(tokens())

    def hooks():
        return zip([name], [returns_a_copy], strict=True)

    edited = model.run_with_hooks(tokens(), fwd_hooks=hooks(), bwd_hooks=iter(()))
    assert not torch.equal(edited, plain)
    with model.hooks(fwd_hooks=hooks(), bwd_hooks=hooks()):
        assert torch.equal(model(tokens()), edited)
        assert model.hook_dict[name].has_hooks("bwd")
    assert list(model.run_with_cache(tokens(), names_filter=iter([name]))[1]) == [name]


@pytest.mark.parametrize(
    "hooks",
    [
        ("blocks.0.hook_increments", returns_a_copy),
        {"blocks.0.hook_increments": returns_a_copy},
        [("blocks.0.hook_increments", None)],
        [(["blocks.0.hook_increments"], returns_a_copy)],
        None,
    ],
)
def test_hooks_of_another_form_are_refused(make_model, monkeypatch, hooks):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the user has no type checker
    with pytest.raises(LRopeError, match="list of pairs"):
        make_model().run_with_hooks(tokens(), fwd_hooks=hooks)


def test_a_cache_names_the_nearest_hook_and_says_why_one_is_not_there(make_model):
    _, cache = make_model().run_with_cache(tokens(), names_filter=lambda name: "increments" in name)
    for key, message in (
        (("incremets", 0), r"Did you mean 'blocks\.0\.hook_increments'"),
        ("blocks.1.hook_incrementsin", r"Did you mean 'blocks\.1\.hook_increments_in'"),
        (("z", 1), r"blocks\.1\.attn\.hook_z is not in this cache.*names_filter"),
        (("result", 0), "set_use_attn_result"),
        ("blocks.0.hook_increments_grad", "incl_bwd=True"),
        (3, "a cache wants a name"),
    ):
        with pytest.raises(LRopeError, match=message):
            cache[key]
        assert key not in cache
    assert ("increments", -1) in cache and ("increments", 0) in cache.apply_slice_to_batch_dim(0)
    assert "blocks.1.hook_increments" in cache and "blocks.0.attn.q.hook_out" not in cache
    with pytest.raises(KeyError, match="Did you mean"):
        cache.stack_activation("incremets")
    with pytest.raises(KeyError, match=r"Did you mean 'blocks\.0\.hook_increments'"):
        cache.cache_dict["blocks.0.hook_incremets"]


@pytest.mark.parametrize("name", [*LEARNED, "shared_increments.hook_increments_pre"])
@pytest.mark.parametrize(
    "spoilt",
    [
        lambda x: 1.0,
        lambda x: x[:, 1:],
        lambda x: x.bfloat16(),
        lambda x: x.detach().numpy(),
        lambda x: x.masked_fill(x == x.max(), torch.nan),
    ],
)
def test_what_a_hook_returns_for_increments_must_be_increments(make_model, name, spoilt):
    model = make_model(increments="shared" if "shared" in name else "per_layer", per_head=True)
    message = rf"{name} must return a tensor of shape \[{B}, {P}, {H}\], torch\.float"
    with pytest.raises(LRopeError, match=message):
        model.run_with_hooks(tokens(), fwd_hooks=[(name, lambda x, hook: spoilt(x))])


def test_a_hook_may_not_bring_in_infinity_and_reads_what_a_broken_model_has(make_model):
    model, name = make_model(), "blocks.0.hook_increments"

    def write_infinity(x, hook):
        x[0, -1] = torch.inf

    for leaf in ("hook_increments", "hook_positions"):
        with pytest.raises(LRopeError, match=r"finite numbers.*got 1 that are not finite"):
            model.run_with_hooks(tokens(), fwd_hooks=[(f"blocks.0.{leaf}", write_infinity)])
    ends = [("blocks.0.hook_increments_pre", write_infinity), (name, lambda x, hook: seen.append(x))]
    seen: list[torch.Tensor] = []
    model.run_with_hooks(tokens(), fwd_hooks=ends)
    assert seen[0][0, -1] == model.cfg.max_increment
    values = torch.rand(3, B, P) + 0.5
    written = [model.run_with_hooks(tokens(), fwd_hooks=[(name, lambda x, hook, v=v: v)]) for v in values]
    model.cfg.attn_impl = "eager"
    ids = tokens()
    mapped = torch.func.vmap(lambda v: model.run_with_hooks(ids, fwd_hooks=[(name, lambda x, hook: v)]))
    torch.testing.assert_close(mapped(values), torch.stack(written), atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        model.blocks[0].increments.b_out.fill_(torch.nan)
    model.run_with_hooks(tokens(), fwd_hooks=[(name, lambda x, hook: seen.append(x))])
    assert seen[1].isnan().all()


def test_increments_are_no_whole_numbers_and_positions_may_be_pinned_to_them(make_model):
    model = make_model()

    def pinned(x, hook):
        return torch.arange(P).expand(B, P)

    pin = [(lambda name: name.endswith("hook_positions"), pinned)]
    double = [(lambda name: name.endswith("hook_positions"), lambda x, hook: pinned(x, hook).double())]
    by_integers = model.run_with_hooks(tokens(), fwd_hooks=pin)
    assert torch.equal(by_integers, model.run_with_hooks(tokens(), fwd_hooks=double))
    with pytest.raises(LRopeError, match=r"got \[2, 9\], torch\.int64"):
        model.run_with_hooks(tokens(), fwd_hooks=[("blocks.0.hook_increments", pinned)])


@pytest.mark.parametrize(
    ("flag", "leaves"),
    [
        ("use_attn_result", ["attn.hook_result"]),
        ("use_split_qkv_input", ["hook_q_input", "hook_k_input", "hook_v_input", "attn.hook_q_input"]),
        ("use_hook_mlp_in", ["hook_mlp_in"]),
        ("use_attn_in", ["hook_attn_in", "attn.hook_attn_in"]),
    ],
)
def test_a_hook_whose_flag_is_off_is_refused_and_fires_when_it_is_on(make_model, flag, leaves):
    model, fired = make_model(), []
    plain = model(tokens())
    hooks = [(f"blocks.1.{leaf}", lambda x, hook: fired.append(tuple(x.shape))) for leaf in leaves]
    hooks.append(("blocks.1.ln1.hook_scale", lambda x, hook: fired.append("norm")))
    for name, hook in hooks[:-1]:
        for use in (
            lambda name=name, hook=hook: model.add_hook(name, hook),
            lambda name=name, hook=hook: model.run_with_hooks(tokens(), fwd_hooks=[(name, hook)]),
            lambda name=name: model.run_with_cache(tokens(), names_filter=["hook_embed", name]),
            lambda name=name: model.add_caching_hooks([name]),
        ):
            with pytest.raises(SilentHookError, match=rf"set_{flag}\(True\)") as caught:
                use()
            assert isinstance(caught.value, LRopeError) and isinstance(caught.value, AssertionError)
    getattr(model, f"set_{flag}")(True)
    torch.testing.assert_close(model.run_with_hooks(tokens(), fwd_hooks=hooks), plain, atol=1e-4, rtol=1e-4)
    shape = (B, P, M) if flag == "use_hook_mlp_in" else (B, P, H, M)
    assert sorted(fired, key=str) == sorted([shape] * len(leaves) + ["norm"], key=str), "the norm fires once"
    assert len(model.run_with_cache(tokens(), names_filter=[hooks[0][0], "hook_embed"])[1]) == 2


def test_a_fork_reaches_one_head_and_no_other_reader(make_model):
    model = make_model()
    model.set_use_split_qkv_input(True)

    def edit(x, hook):
        x[:, :, 1] = 0
        return x

    _, plain = model.run_with_cache(tokens())
    with model.hooks([("blocks.1.attn.hook_q_input", edit)]):
        _, edited = model.run_with_cache(tokens())
    changed = (edited["q", 1] - plain["q", 1]).abs().amax((0, 1, 3))
    assert changed[0] == 0 < changed[1]
    for name in ("k", "v", "increments", "resid_pre"):
        assert torch.equal(edited[name, 1], plain[name, 1]), name


def test_bridge_spellings_reach_the_same_points_and_are_cached_once(make_model):
    model = make_model()
    _, cache = model.run_with_cache(tokens())
    assert len(cache) == 53 and "blocks.0.hook_out" not in list(cache.keys())
    for bridge, name in {
        "blocks.0.hook_in": "blocks.0.hook_resid_pre",
        "blocks.1.hook_out": "blocks.1.hook_resid_post",
        "blocks.1.ln2.hook_in": "blocks.1.hook_resid_mid",
        "blocks.0.attn.q.hook_out": "blocks.0.attn.hook_q",
        "blocks.0.attn.o.hook_in": "blocks.0.attn.hook_z",
        "blocks.0.mlp.gate.hook_out": "blocks.0.mlp.hook_pre",
        "blocks.0.mlp.hook_out": "blocks.0.hook_mlp_out",
        "embed.hook_out": "hook_embed",
        "hook_unembed": "unembed.hook_out",
    }.items():
        assert cache[bridge] is cache[name]
        assert cache.apply_slice_to_batch_dim(0)[bridge].shape == cache[name][0].shape
        assert list(model.run_with_cache(tokens(), names_filter=[bridge])[1]) == [name]
        zeroed = [
            model.run_with_hooks(tokens(), fwd_hooks=[(either, lambda x, hook: 0 * x)])
            for either in (bridge, name, lambda point, bridge=bridge: point == bridge)
        ]
        assert torch.equal(zeroed[0], zeroed[1]) and torch.equal(zeroed[0], zeroed[2])
        assert (zeroed[0] - model(tokens())).abs().max() > 1e-3
    _, gradients = model.run_with_cache(tokens(), return_type="loss", incl_bwd=True)
    assert gradients["blocks.0.hook_out_grad"] is gradients["blocks.0.hook_resid_post_grad"]
    mlp = model.run_with_cache(tokens(), names_filter=lambda name: "mlp." in name)[1]
    assert "blocks.0.hook_mlp_out" not in list(mlp.keys()), "a predicate means HookedTransformer's names"


def test_an_unknown_name_raises_and_names_the_nearest_and_lasting_hooks_come_off(make_model):
    model = make_model()
    plain, name = model(tokens()), "blocks.0.hook_increment"
    for use in (
        lambda: model.run_with_hooks(tokens(), fwd_hooks=[(name, lambda x, hook: x)]),
        lambda: model.run_with_cache(tokens(), names_filter=[name]),
        lambda: model.add_perma_hook(name, lambda x, hook: x),
    ):
        with pytest.raises(LRopeError, match=r"Did you mean 'blocks\.0\.hook_increments'") as caught:
            use()
        assert isinstance(caught.value, KeyError)
    model.add_perma_hook("blocks.0.hook_out", lambda x, hook: 0 * x)
    assert list(model.list_hooks("blocks.0.hook_out")) == ["blocks.0.hook_resid_post"]
    model.reset_hooks()
    assert not torch.equal(model(tokens()), plain) and model.is_watched
    model.reset_hooks(including_permanent=True)
    assert torch.equal(model(tokens()), plain) and not model.is_watched


def test_tokens_can_be_read_and_written_where_a_flag_asks_for_it(make_model):
    model, given, others = make_model(), tokens(), tokens() // 2
    with pytest.raises(SilentHookError, match="set_use_hook_tokens"):
        model.add_hook("hook_tokens", lambda x, hook: None)
    model.set_use_hook_tokens(True)

    def swap(x, hook):
        x[:] = others

    swapped = model.run_with_hooks(given, return_type="both", fwd_hooks=[("hook_tokens", swap)])
    wanted = model(others, return_type="both")
    assert torch.equal(swapped.logits, wanted.logits) and torch.equal(swapped.loss, wanted.loss)
    assert torch.equal(given, tokens())
    assert torch.equal(model.run_with_cache(given)[1]["hook_tokens"], given)
    for spoilt in (lambda x, hook: x + 300, lambda x, hook: x[:, 1:], lambda x, hook: x.float()):
        with pytest.raises(LRopeError):
            model.run_with_hooks(given, fwd_hooks=[("hook_tokens", spoilt)])


@pytest.fixture
def fresh_compiler():
    """Nothing compiled before, and no run-time checks of shapes, which dynamo cannot trace."""
    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


ONES = ("blocks.0.hook_increments", lambda x, hook: torch.ones_like(x))


@pytest.mark.parametrize("is_wrapped", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_compiled_model_sees_hooks_that_come_later_and_forgets_them_after(
    fresh_compiler, make_model, is_wrapped
):
    model = make_model()
    eager, frozen = model(tokens()), model.run_with_hooks(tokens(), fwd_hooks=[ONES])
    if is_wrapped:
        compiled = torch.compile(model, backend="aot_eager")
    else:
        model.compile(backend="aot_eager")
        compiled = model
    plain = compiled(tokens())
    torch.testing.assert_close(plain, eager, atol=1e-4, rtol=1e-4)
    assert (frozen - plain).abs().max() > 1e-2
    assert len(compiled.run_with_cache(tokens())[1]) == len(model.run_with_cache(tokens())[1]) == 53
    torch.testing.assert_close(model.run_with_hooks(tokens(), fwd_hooks=[ONES]), frozen, atol=1e-4, rtol=1e-4)
    with model.hooks([ONES]):
        torch.testing.assert_close(compiled(tokens()), frozen, atol=1e-4, rtol=1e-4)
    model.add_hook(*ONES)
    torch.testing.assert_close(compiled(tokens()), frozen, atol=1e-4, rtol=1e-4)
    model.reset_hooks()
    torch.testing.assert_close(compiled(tokens()), plain, atol=1e-4, rtol=1e-4)
    assert is_wrapped or model._compiled_call_impl is not None, "compiled again afterwards"


@pytest.mark.slow
def test_hooks_on_the_points_themselves_reach_a_compiled_wrapper_once_they_are_noted(
    fresh_compiler, make_model
):
    model = make_model()
    wrapper = torch.compile(model, backend="aot_eager")
    plain = wrapper(tokens())
    handle = model.blocks[0].hook_increments.register_forward_hook(lambda m, i, o: torch.ones_like(o))
    assert torch.equal(wrapper(tokens()), plain), "the limit that hooked_model.py states"
    model.note_watchers()
    torch.testing.assert_close(wrapper(tokens()), model(tokens()), atol=1e-4, rtol=1e-4)
    assert (wrapper(tokens()) - plain).abs().max() > 1e-2
    handle.remove()
    model.note_watchers()
    assert not model.is_watched and torch.equal(wrapper(tokens()), plain)


def test_compiled_blocks_run_uncompiled_under_hooks_and_refuse_lasting_ones(fresh_compiler, make_model):
    model = make_model()
    for block in model.blocks:
        block.compile(backend="aot_eager")
    model(tokens())
    assert len(model.run_with_cache(tokens())[1]) == 53
    with pytest.raises(LRopeError, match=r"blocks\.0 was compiled in place"):
        model.add_hook("blocks.0.hook_increments", lambda x, hook: x)
