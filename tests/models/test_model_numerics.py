"""Fused, step-by-step and compiled runs agree, in values and gradients; compiled models keep their hooks."""

from __future__ import annotations

import shutil

import jaxtyping
import pytest
import torch

from lrope_interp.errors import LRopeError

# Where a type checker breaks the graph, dynamo asks a tensor in the middle for its gradient.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]


@pytest.fixture
def fresh_compiler():
    """Nothing compiled before, and no run-time checks of shapes, which dynamo cannot trace."""
    torch.compiler.reset()
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
    torch.compiler.reset()


def some_tokens(n_pos: int = 16, batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 257, (batch, n_pos), generator=torch.Generator().manual_seed(3))


def gradients(model, run) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = run(some_tokens(), return_type="loss")
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    return found | {"loss": loss.detach(), "logits": run(some_tokens()).detach()}


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_fused_and_step_by_step_attention_agree_on_logits_and_gradients(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    model.cfg.attn_impl = "sdpa"
    fused = gradients(model, model)
    model.cfg.attn_impl = "eager"
    for name, eager in gradients(model, model).items():
        torch.testing.assert_close(eager, fused[name], atol=1e-4, rtol=1e-4, msg=name)
        if "increments" in name:
            assert fused[name].abs().max() > 0, f"{name} must be trained"


@pytest.mark.parametrize(
    ("mode", "per_head"),
    [
        pytest.param(*one, marks=() if one in (("per_layer", True), ("fixed", False)) else pytest.mark.slow)
        for one in MODES
    ],
)
def test_a_compiled_wrapper_agrees_on_logits_and_gradients(fresh_compiler, make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    plain = gradients(model, model)
    for name, compiled in gradients(model, torch.compile(model, backend="aot_eager")).items():
        torch.testing.assert_close(compiled, plain[name], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("per_head", [False, True])
def test_inductor_agrees_on_logits_and_gradients(fresh_compiler, make_model, per_head):
    model = make_model(per_head=per_head)
    plain = gradients(model, model)
    for name, compiled in gradients(model, torch.compile(model)).items():
        torch.testing.assert_close(compiled, plain[name], atol=1e-4, rtol=1e-4, msg=name)


def test_a_compiled_wrapper_sees_hooks_that_come_later_and_forgets_them_after(fresh_compiler, make_model):
    model, tokens = make_model(), some_tokens()
    wrapper = torch.compile(model, backend="aot_eager")
    plain = wrapper(tokens)
    ones = ("blocks.0.hook_increments", lambda x, hook: torch.ones_like(x))
    frozen = model.run_with_hooks(tokens, fwd_hooks=[ones])
    assert (frozen - plain).abs().max() > 1e-2
    model.add_hook(*ones)
    torch.testing.assert_close(wrapper(tokens), frozen, atol=1e-4, rtol=1e-4)
    model.reset_hooks()
    torch.testing.assert_close(wrapper(tokens), plain, atol=1e-4, rtol=1e-4)
    with model.hooks([ones]):
        torch.testing.assert_close(wrapper(tokens), frozen, atol=1e-4, rtol=1e-4)
    assert len(wrapper.run_with_cache(tokens)[1]) == 53
    assert len(model.run_with_cache(tokens)[1]) == 53


@pytest.mark.slow
def test_hooks_on_the_points_themselves_reach_a_compiled_wrapper_once_they_are_noted(
    fresh_compiler, make_model
):
    model, tokens = make_model(), some_tokens()
    wrapper = torch.compile(model, backend="aot_eager")
    plain = wrapper(tokens)
    handle = model.blocks[0].hook_increments.register_forward_hook(lambda m, i, o: torch.ones_like(o))
    assert torch.equal(wrapper(tokens), plain), "the limit that compilation.py states"
    model.note_watchers()
    torch.testing.assert_close(wrapper(tokens), model(tokens), atol=1e-4, rtol=1e-4)
    assert (wrapper(tokens) - plain).abs().max() > 1e-2
    handle.remove()
    model.note_watchers()
    assert not model.is_watched and torch.equal(wrapper(tokens), plain)


def test_a_model_compiled_in_place_never_returns_an_empty_cache(fresh_compiler, make_model):
    model, tokens = make_model(), some_tokens()
    plain = model(tokens)
    ones = ("blocks.0.hook_increments", lambda x, hook: torch.ones_like(x))
    frozen = model.run_with_hooks(tokens, fwd_hooks=[ones])
    model.compile(backend="aot_eager")
    torch.testing.assert_close(model(tokens), plain, atol=1e-4, rtol=1e-4)
    assert len(model.run_with_cache(tokens)[1]) == 53
    torch.testing.assert_close(model.run_with_hooks(tokens, fwd_hooks=[ones]), frozen, atol=1e-4, rtol=1e-4)
    model.add_hook(*ones)
    torch.testing.assert_close(model(tokens), frozen, atol=1e-4, rtol=1e-4)
    model.reset_hooks()
    torch.testing.assert_close(model(tokens), plain, atol=1e-4, rtol=1e-4)
    assert model._compiled_call_impl is not None, "compiled again afterwards"


def test_compiled_blocks_run_uncompiled_under_hooks_and_refuse_lasting_ones(fresh_compiler, make_model):
    model, tokens = make_model(), some_tokens()
    for block in model.blocks:
        block.compile(backend="aot_eager")
    model(tokens)
    assert len(model.run_with_cache(tokens)[1]) == 53
    with pytest.raises(LRopeError, match=r"blocks\.0 was compiled in place"):
        model.add_hook("blocks.0.hook_increments", lambda x, hook: x)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_second_derivatives_exist_in_eager_mode(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head, attn_impl="eager")
    loss = model(some_tokens(6), return_type="loss")
    (first,) = torch.autograd.grad(loss, [model.blocks[1].attn.W_Q], create_graph=True)
    second = torch.autograd.grad(first.pow(2).sum(), list(model.parameters()), allow_unused=True)
    assert all(g is not None and torch.isfinite(g).all() for g in second)
    assert second[0].abs().max() > 0


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_editing_an_increment_shifts_later_positions_and_touches_no_earlier_logit(make_model, mode, per_head):
    model, tokens = make_model(increments=mode, per_head=per_head), some_tokens()
    logits, plain = model.run_with_cache(tokens)
    for at, changes_logits in ((0, False), (7, True)):

        def edit(x, hook, at=at):
            x[:, at] += 1.75
            return x

        with model.hooks([("blocks.1.hook_increments", edit)]):
            new, cache = model.run_with_cache(tokens)
        shift = cache["positions", 1] - plain["positions", 1]
        torch.testing.assert_close(shift[:, at:], torch.full_like(shift[:, at:], 1.75), atol=1e-6, rtol=0)
        assert not shift[:, :at].any() and torch.equal(new[:, :at], logits[:, :at])
        assert ((new - logits).abs().max() > 1e-3) == changes_logits
        if not changes_logits:
            torch.testing.assert_close(new, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_gradients_of_increments_and_positions_are_the_finite_differences(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head).double()
    tokens, eps = some_tokens(batch=1), 1e-2
    _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    for name in ("hook_increments", "hook_positions"):
        hook = f"blocks.1.{name}"
        at = (0, 9, 1) if per_head else (0, 9)

        def loss_after(change, hook=hook, at=at):
            def edit(x, hook):
                x[at] += change
                return x

            with torch.no_grad():
                return model.run_with_hooks(tokens, return_type="loss", fwd_hooks=[(hook, edit)])

        slope = (loss_after(eps) - loss_after(-eps)) / (2 * eps)
        assert cache[hook + "_grad"].dtype == cache[hook].dtype
        torch.testing.assert_close(cache[hook + "_grad"][at].double(), slope.double(), atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_residual_identities_and_sums_over_heads_and_neurons(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head, use_biases=True)
    model.set_use_attn_result(True)
    _, cache = model.run_with_cache(some_tokens())
    parts, labels = cache.decompose_resid(return_labels=True)
    assert labels[0] == "embed"
    torch.testing.assert_close(parts.sum(0), cache["resid_post", 1], atol=1e-5, rtol=1e-5)
    stack = cache.accumulated_resid(incl_mid=True)
    torch.testing.assert_close(stack[-1], cache["resid_post", 1], atol=1e-5, rtol=1e-5)
    for layer in range(2):
        heads = cache["result", layer].sum(2) + model.b_O[layer]
        torch.testing.assert_close(heads, cache["attn_out", layer], atol=1e-5, rtol=1e-5)
        neurons = cache["post", layer] @ model.W_out[layer] + model.b_out[layer]
        torch.testing.assert_close(neurons, cache["mlp_out", layer], atol=1e-5, rtol=1e-5)
    full = cache.get_full_resid_decomposition(expand_neurons=True)
    torch.testing.assert_close(full.sum(0), cache["resid_post", 1], atol=2e-5, rtol=1e-5)
    assert cache.stack_activation("increments").shape == ((2, 2, 16, 2) if per_head else (2, 2, 16))
