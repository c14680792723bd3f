"""Increments and positions: the one convention, causality, precision."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import reference

from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.increments import accumulate, angles_at, inverse_frequencies, turn

MODES = [("per_layer", False), ("per_layer", True), ("shared", False), ("fixed", True)]


def tokens_of(text: str) -> torch.Tensor:
    return torch.tensor([[256, *text.encode()]])


@pytest.mark.parametrize("per_head", [False, True])
def test_an_increment_is_the_step_taken_on_arriving_at_its_token(make_model, per_head):
    _, cache = make_model(per_head=per_head, max_increment=3.0).run_with_cache(tokens_of("the gap before"))
    for layer in range(2):
        increments, positions = cache["increments", layer].double(), cache["positions", layer]
        steps = positions.diff(dim=1, prepend=torch.zeros_like(positions[:, :1]))
        torch.testing.assert_close(steps, increments, atol=1e-9, rtol=0)
        assert increments.min() > 0 and increments.max() < 3 and increments.std() > 0.1


def test_layer_zero_sees_the_token_alone_and_later_layers_its_past_only(make_model):
    model = make_model()
    _, one = model.run_with_cache(tokens_of("abcdef"))
    _, other = model.run_with_cache(tokens_of("xbcdez"))
    same_token = torch.tensor([0, 2, 3, 4, 5])
    assert torch.equal(one["increments", 0][0, same_token], other["increments", 0][0, same_token])
    assert not torch.equal(one["increments", 1][0, 2:6], other["increments", 1][0, 2:6])
    _, last = model.run_with_cache(tokens_of("abcdeQ"))
    torch.testing.assert_close(one["increments", 1][0, :6], last["increments", 1][0, :6], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_an_edit_shifts_every_later_position_and_no_earlier_logit_and_the_first_does_nothing(
    make_model, mode, per_head
):
    model, tokens = make_model(increments=mode, per_head=per_head), tokens_of("shift from here")
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
    tokens, eps = tokens_of("finite difference"), 1e-2
    _, cache = model.run_with_cache(tokens, return_type="loss", incl_bwd=True)
    assert cache["blocks.1.hook_increments_grad"][0, 0].abs().max() < 1e-6, "the first one does nothing"
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


@pytest.mark.parametrize("steps", [torch.arange(14).double(), torch.linspace(0, 9, 14).double() ** 1.5])
def test_pinned_positions_give_the_attention_of_those_positions(make_model, steps):
    model, tokens = make_model(), tokens_of("pinned places")
    is_position = lambda name: name.endswith("hook_positions")  # noqa: E731
    with model.hooks([(is_position, lambda x, hook: steps[None].clone())]):
        _, cache = model.run_with_cache(tokens)
    weights = {name: value.double() for name, value in model.state_dict().items()}
    for layer in range(2):
        resid, gain = cache["resid_pre", layer][0].double(), weights[f"blocks.{layer}.ln1.w"]
        normed, by_head = reference.rms_norm(resid, gain, model.cfg.eps), steps[:, None].expand(-1, 2)
        expected = reference.attend(normed, by_head, weights, f"blocks.{layer}.attn.", model.cfg.rope_base)
        torch.testing.assert_close(cache["attn_out", layer][0].double(), expected, atol=1e-5, rtol=1e-5)


def test_a_constant_shift_of_positions_changes_no_logit_and_a_scale_does(make_model):
    model = make_model()
    tokens = tokens_of("only differences matter")
    is_position = lambda name: name.endswith("hook_positions")  # noqa: E731
    shifted = model.run_with_hooks(tokens, fwd_hooks=[(is_position, lambda x, hook: x + 1234.5)])
    torch.testing.assert_close(shifted, model(tokens), atol=1e-4, rtol=1e-4)
    scaled = model.run_with_hooks(tokens, fwd_hooks=[(is_position, lambda x, hook: 2 * x)])
    assert (scaled - model(tokens)).abs().max() > 1e-2


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


@pytest.mark.parametrize("max_increment", [2.0, 3.7, 50.0])
def test_at_other_maxima_the_first_increment_is_one_to_a_millionth(max_increment):
    model = LRopeTransformer(LRopeConfig(2, 32, 4, max_increment=max_increment, seed=1)).eval()
    _, cache = model.run_with_cache(tokens_of("ordinary"))
    assert (cache["increments", 1] - 1).abs().max() < 1e-6
