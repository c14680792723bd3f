"""Increments and positions: the one convention, causality, precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.increments import accumulate
from lrope_interp.models.rotary import angles_at, inverse_frequencies, turn


def tokens_of(text: str) -> torch.Tensor:
    return torch.tensor([[256, *text.encode()]])


@pytest.mark.parametrize("per_head", [False, True])
def test_an_increment_is_the_step_taken_on_arriving_at_its_token(make_model, per_head):
    _, cache = make_model(per_head=per_head).run_with_cache(tokens_of("the gap before"))
    for layer in range(2):
        increments, positions = cache["increments", layer].double(), cache["positions", layer]
        torch.testing.assert_close(positions[:, 1:] - positions[:, :-1], increments[:, 1:], atol=1e-9, rtol=0)
        torch.testing.assert_close(positions[:, 0], increments[:, 0], atol=1e-9, rtol=0)


def test_layer_zero_sees_the_token_alone_and_later_layers_its_past_only(make_model):
    model = make_model()
    _, one = model.run_with_cache(tokens_of("abcdef"))
    _, other = model.run_with_cache(tokens_of("xbcdez"))
    same_token = torch.tensor([0, 2, 3, 4, 5])
    assert torch.equal(one["increments", 0][0, same_token], other["increments", 0][0, same_token])
    assert not torch.equal(one["increments", 1][0, 2:6], other["increments", 1][0, 2:6])
    _, last = model.run_with_cache(tokens_of("abcdeQ"))
    torch.testing.assert_close(one["increments", 1][0, :6], last["increments", 1][0, :6], atol=1e-6, rtol=0)


def test_increments_lie_between_zero_and_the_maximum(make_model):
    _, cache = make_model(max_increment=3.0).run_with_cache(tokens_of("0 < increment < 3"))
    increments = torch.stack([cache["increments", layer] for layer in range(2)])
    assert increments.min() > 0 and increments.max() < 3 and increments.std() > 0.1


def test_the_first_tokens_increment_does_nothing_and_has_no_gradient(make_model):
    model = make_model()
    tokens = tokens_of("whatever stands first")

    def edit(x, hook):
        x[:, 0] += 5.0
        return x

    edited = model.run_with_hooks(tokens, fwd_hooks=[("blocks.0.hook_increments", edit)])
    torch.testing.assert_close(edited, model(tokens), atol=1e-4, rtol=1e-4)
    gradients = {}
    model.add_hook("blocks.0.hook_increments", lambda g, hook: gradients.update(g=g.clone()), dir="bwd")
    model(tokens, return_type="loss").backward()
    model.reset_hooks()
    assert gradients["g"][0, 0].abs() < 1e-6 < gradients["g"][0, 1:].abs().max()


def test_a_constant_shift_of_positions_changes_no_logit_and_a_scale_does(make_model):
    model = make_model()
    tokens = tokens_of("only differences matter")
    is_position = lambda name: name.endswith("hook_positions")  # noqa: E731
    shifted = model.run_with_hooks(tokens, fwd_hooks=[(is_position, lambda x, hook: x + 1234.5)])
    torch.testing.assert_close(shifted, model(tokens), atol=1e-4, rtol=1e-4)
    scaled = model.run_with_hooks(tokens, fwd_hooks=[(is_position, lambda x, hook: 2 * x)])
    assert (scaled - model(tokens)).abs().max() > 1e-2


def test_editing_one_increment_shifts_every_later_position_and_no_earlier_logit(make_model):
    model = make_model()
    tokens = tokens_of("shift from here on")

    def edit(x, hook):
        x[:, 7] += 2.5
        return x

    logits, cache = model.run_with_cache(tokens)
    with model.hooks([("blocks.1.hook_increments", edit)]):
        edited_logits, edited = model.run_with_cache(tokens)
    shift = edited["positions", 1] - cache["positions", 1]
    torch.testing.assert_close(shift[0, 7:], torch.full_like(shift[0, 7:], 2.5), atol=1e-6, rtol=0)
    assert torch.equal(shift[0, :7], torch.zeros_like(shift[0, :7]))
    torch.testing.assert_close(logits[:, :7], edited_logits[:, :7], atol=1e-5, rtol=1e-5)
    assert (logits[:, 7:] - edited_logits[:, 7:]).abs().max() > 1e-3


def test_positions_and_angles_stay_exact_in_a_bfloat16_model_at_position_4096():
    model = LRopeTransformer(LRopeConfig(2, 16, 2, n_ctx=4200, seed=0)).to(torch.bfloat16).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.increments.W_out.normal_(generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(0, 256, (1, 4200), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda n: "increments" in n or "positions" in n)
    increments, positions = cache["increments", 1], cache["positions", 1]
    assert increments.dtype == torch.float32 and positions.dtype == torch.float64
    assert cache["blocks.1.hook_increments_pre"].dtype == torch.float32
    assert model.blocks[0].increments.W_in.dtype == torch.float32 and model.W_E.dtype == torch.bfloat16
    exact = np.array([math.fsum(increments[0, : t + 1].double().tolist()) for t in (4095, 4199)])
    np.testing.assert_allclose(positions[0, [4095, 4199]].numpy(), exact, rtol=0, atol=1e-9)
    inv_freq = inverse_frequencies(model.cfg.d_head, model.cfg.rope_base)
    angles = angles_at(positions, inv_freq)
    cosines, sines = angles.cos(), angles.sin()
    for plane, frequency in enumerate(inv_freq.tolist()):
        assert abs(float(cosines[0, 4095, 0, plane]) - math.cos(exact[0] * frequency)) < 1e-6
        assert abs(float(sines[0, 4095, 0, plane]) - math.sin(exact[0] * frequency)) < 1e-6


def test_increments_do_not_change_under_bfloat16_autocast_beyond_their_input(make_model):
    model = make_model(n_ctx=64)
    tokens = tokens_of("autocast may round what the head reads, never what it says")
    with torch.autocast("cpu", torch.bfloat16):
        _, cache = model.run_with_cache(tokens)
    increments = cache["increments", 0]
    assert increments.dtype == torch.float32 and cache["positions", 0].dtype == torch.float64
    assert len(torch.unique(increments)) > len(torch.unique(increments.bfloat16()))


def test_angles_at_128k_tokens_of_saturated_increments_match_an_exact_sum():
    n_pos = 131_072
    increments = torch.full((1, n_pos), 9.999, dtype=torch.float32)
    positions = accumulate(increments)
    angles = angles_at(positions, inverse_frequencies(32, 10000.0))
    cosines, sines = angles.cos(), angles.sin()
    at = n_pos - 1
    step = float(increments[0, 0])
    for plane, frequency in enumerate(inverse_frequencies(32, 10000.0).tolist()):
        angle = math.fsum([step] * n_pos) * frequency
        assert abs(float(cosines[0, at, 0, plane]) - math.cos(angle)) < 1e-6
        assert abs(float(sines[0, at, 0, plane]) - math.sin(angle)) < 1e-6


def test_padding_does_not_advance_the_position():
    increments = torch.full((1, 5), 2.0)
    is_token = torch.tensor([[False, True, True, False, True]])
    assert accumulate(increments, is_token=is_token).tolist() == [[0.0, 2.0, 4.0, 4.0, 6.0]]
    start = torch.tensor([10.0], dtype=torch.float64)
    assert accumulate(increments, start=start).tolist() == [[12.0, 14.0, 16.0, 18.0, 20.0]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=60))
def test_per_head_sums_equal_exact_sums(steps):
    increments = torch.tensor(steps, dtype=torch.float32).reshape(1, -1, 1).expand(1, -1, 3)
    positions = accumulate(increments)
    exact = [math.fsum(float(np.float32(s)) for s in steps[: t + 1]) for t in range(len(steps))]
    for head in range(3):
        np.testing.assert_allclose(positions[0, :, head].numpy(), exact, rtol=1e-12, atol=1e-12)


def test_rotation_at_integer_positions_is_a_rotation_of_pairs():
    x = torch.randn(1, 3, 2, 8, generator=torch.Generator().manual_seed(0))
    inv_freq = inverse_frequencies(8, 10000.0)
    angles = angles_at(torch.tensor([[0.0, 1.5, 7.0]], dtype=torch.float64), inv_freq)
    turned = turn(x, angles.cos(), angles.sin())
    assert torch.equal(turned[:, 0], x[:, 0])
    for position, (before, after) in zip((1.5, 7.0), zip(x[0, 1:], turned[0, 1:], strict=True), strict=True):
        for plane in range(4):
            angle = position * float(inv_freq[plane])
            first, second = before[:, plane], before[:, plane + 4]
            torch.testing.assert_close(after[:, plane], first * math.cos(angle) - second * math.sin(angle))
            torch.testing.assert_close(
                after[:, plane + 4], second * math.cos(angle) + first * math.sin(angle)
            )


def test_same_seed_gives_the_shared_weights_of_every_arm():
    arms = [LRopeTransformer(LRopeConfig(2, 32, 2, seed=7, increments=mode)) for mode in ("fixed", "shared")]
    for name, weight in arms[0].named_parameters():
        assert torch.equal(weight, dict(arms[1].named_parameters())[name]), name
    other = LRopeTransformer(LRopeConfig(2, 32, 2, seed=8, increments="fixed"))
    assert not torch.equal(other.W_E, arms[0].W_E)
