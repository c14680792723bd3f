"""Training on a CPU takes hand-written gradients: they must be those of the plain operations."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from lrope_interp import LRopeTransformer
from lrope_interp.models import block, kernels
from lrope_interp.models.increments import turn
from lrope_interp.models.kernels import (
    attend_blockwise,
    fits_blockwise,
    fused_norm_linear,
    fused_rms_norm,
    fused_turn,
)

Make = Callable[..., LRopeTransformer]
MODES = [("per_layer", False), ("per_layer", True), ("shared", False), ("shared", True), ("fixed", False)]


def heads(*shape: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


@pytest.mark.parametrize("n_positions", [1, 7, 128, 129, 300])
def test_blockwise_attention_is_causal_softmax_attention(n_positions: int) -> None:
    q, k, v = heads(2, 3, n_positions, 4)
    out = attend_blockwise(q, k, v, 0.5)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
    found = torch.autograd.grad((out * weight).sum(), (q, k, v))
    wanted = torch.autograd.grad((expected * weight).sum(), (q, k, v))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_blockwise_gradients_are_those_of_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "QUERIES_A_BLOCK", 3)
    q, k, v = heads(1, 2, 8, 2)
    assert torch.autograd.gradcheck(lambda q, k, v: attend_blockwise(q, k, v, 0.7), (q, k, v))


def test_blockwise_attention_in_bfloat16_errs_about_as_much_as_the_fused_kernel() -> None:
    q, k, v = (x.detach() for x in heads(2, 4, 256, 32, dtype=torch.float32))
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    q, k, v = q.bfloat16(), k.bfloat16(), v.bfloat16()
    kernel = (F.scaled_dot_product_attention(q, k, v, is_causal=True) - exact).norm()
    ours = (attend_blockwise(q, k, v, 32**-0.5) - exact).norm()
    assert float(ours) < 3 * float(kernel)
    assert float(ours) < 0.01 * float(exact.norm())


def test_a_pattern_too_large_to_keep_is_left_to_the_fused_kernel() -> None:
    assert fits_blockwise(torch.empty(8, 8, 512, 32, device="meta"))
    assert not fits_blockwise(torch.empty(1, 8, 8192, 32, device="meta"))


def test_the_fused_norm_has_the_gradients_and_second_gradients_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    gain = torch.randn(5, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, gain: fused_rms_norm(x, gain, 1e-5), (x, gain))
    assert torch.autograd.gradgradcheck(lambda x, gain: fused_rms_norm(x, gain, 1e-5), (x, gain))


def test_the_fused_norm_and_layer_have_the_gradients_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 5), (5,), (5, 4))
    inputs = [torch.randn(one, generator=generator, dtype=torch.float64).requires_grad_() for one in shapes]
    x, gain, weight = inputs
    found = fused_norm_linear(x, gain, weight, 1e-5)
    torch.testing.assert_close(found, fused_rms_norm(x, gain, 1e-5) @ weight)
    assert torch.autograd.gradcheck(lambda x, gain, weight: fused_norm_linear(x, gain, weight, 1e-5), inputs)
    assert torch.autograd.gradgradcheck(
        lambda x, gain, weight: fused_norm_linear(x, gain, weight, 1e-5), inputs
    )


@pytest.mark.parametrize("n_angle_heads", [1, 3])
def test_the_fused_turn_turns_and_has_the_gradients_of_finite_differences(n_angle_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 8, generator=generator, dtype=torch.float64).requires_grad_()
    angles = torch.randn(2, 5, n_angle_heads, 4, generator=generator, dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(fused_turn(x, angles), turn(x, angles.cos(), angles.sin()))
    assert torch.autograd.gradcheck(fused_turn, (x, angles))
    assert torch.autograd.gradgradcheck(fused_turn, (x, angles))


SHAPE = {"d_model": 32, "n_heads": 4, "d_mlp": 48, "n_ctx": 160}
TOKENS = torch.randint(0, 256, (2, 20), generator=torch.Generator().manual_seed(2))


def gradients(model: LRopeTransformer, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    model(tokens, return_type="loss").backward()
    return {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize(("increments", "per_head"), MODES)
def test_a_model_in_training_has_the_loss_and_gradients_of_the_plain_model(
    increments: str, per_head: bool, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(increments=increments, per_head=per_head, **SHAPE)
    tokens = torch.randint(0, 256, (3, 140), generator=torch.Generator().manual_seed(2))
    plain, plain_loss = gradients(model.eval(), tokens), model(tokens, return_type="loss")
    calls = []
    monkeypatch.setattr(block, "attend_blockwise", lambda *args: calls.append(1) or attend_blockwise(*args))
    found, loss = gradients(model.train(), tokens), model(tokens, return_type="loss")
    assert len(calls) == 4, "the fast path must be the one that is compared"
    torch.testing.assert_close(loss, plain_loss, rtol=1e-6, atol=1e-6)
    assert found.keys() == plain.keys()
    for (
        name,
        gradient,
    ) in plain.items():  # float32, and the increments bend the phases: on some CPUs 1.2e-3 apart
        assert float((found[name] - gradient).norm()) <= 3e-3 * float(gradient.norm()), name


def test_a_watched_norm_or_pattern_fires_in_training_and_changes_nothing(make_model: Make) -> None:
    model = make_model(increments="per_layer", **SHAPE).train()
    plain = model(TOKENS)
    names = ["blocks.0.ln1.hook_scale", "blocks.1.attn.hook_pattern", "ln_final.hook_normalized"]
    logits, cache = model.run_with_cache(TOKENS, names_filter=names)
    assert set(cache) == set(names)
    torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-4)


def test_a_float64_model_in_training_ignores_autocast(make_model: Make) -> None:
    model = make_model(increments="fixed", **SHAPE).double()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.train()(TOKENS), model.eval()(TOKENS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("point", ["hook_rot_q", "hook_rot_k"])
def test_a_hook_may_write_into_a_turned_vector_in_training(make_model: Make, point: str) -> None:
    model = make_model(increments="per_layer", **SHAPE)
    found = []
    for is_training in (False, True):
        model.train(is_training).zero_grad(set_to_none=True)
        with model.hooks(fwd_hooks=[(f"blocks.1.attn.{point}", lambda x, hook: x.mul_(0.5))]):
            model(TOKENS, return_type="loss").backward()
        found.append(model.blocks[0].attn.W_Q.grad.clone())
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def test_a_model_in_training_can_be_differentiated_by_torch_func(make_model: Make) -> None:
    model = make_model(increments="per_layer", **SHAPE).train()
    parameters = dict(model.named_parameters())

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(model, values, (TOKENS,), {"return_type": "loss"})

    found = torch.func.grad(loss)(parameters)
    model(TOKENS, return_type="loss").backward()
    gradient = parameters["blocks.0.attn.W_Q"].grad
    assert gradient is not None
    torch.testing.assert_close(found["blocks.0.attn.W_Q"], gradient, rtol=1e-3, atol=1e-4)
