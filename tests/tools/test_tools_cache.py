"""TransformerLens' ActivationCache, unmodified, on our model: every method against its own sum."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor
from transformer_lens.model_protocol import (
    TrainableTransformerLensModel,
    TransformerLensModel,
    TransformerLensModelWithWeights,
)

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def tokens() -> Tensor:
    return torch.randint(0, 256, (2, 7), generator=torch.Generator().manual_seed(4))


@pytest.fixture(params=[False, True], ids=["no biases", "biases"])
def run(request, make_model):
    model = make_model(use_biases=request.param)
    logits, cache = model.run_with_cache(tokens())
    return model, logits, cache


def test_the_model_meets_all_three_protocols_also_where_they_are_checked_statically(make_model):
    model = make_model()
    for protocol in (TransformerLensModel, TrainableTransformerLensModel, TransformerLensModelWithWeights):
        assert isinstance(model, protocol)
        for name in _members(protocol):
            inspect.getattr_static(model, name)


def _members(protocol: type) -> set[str]:
    """What the protocol asks for; beartype and Python 3.12 look these up statically."""
    found: set[str] = set()
    for base in protocol.__mro__[:-1]:
        if getattr(base, "_is_protocol", False) and base.__module__.startswith("transformer_lens"):
            found |= {name for name in vars(base) if not name.startswith("_") or name == "__call__"}
    return found


def test_decompose_resid_sums_to_the_residual_stream(run):
    _, _, cache = run
    for layer in (1, 2, None):
        parts, labels = cache.decompose_resid(layer, return_labels=True)
        last = 2 if layer is None else layer
        torch.testing.assert_close(parts.sum(0), cache["resid_post", last - 1], **CLOSE)
        assert labels == ["embed"] + [f"{i}_{x}_out" for i in range(last) for x in ("attn", "mlp")]
    parts = cache.decompose_resid(1, mlp_input=True)
    torch.testing.assert_close(parts.sum(0), cache["resid_mid", 1], **CLOSE)
    parts = cache.decompose_resid(1, apply_ln=True)
    torch.testing.assert_close(parts.sum(0), cache["blocks.1.ln1.hook_normalized"], **CLOSE)
    parts = cache.decompose_resid(1, apply_ln=True, mlp_input=True, pos_slice=(2, 5))
    torch.testing.assert_close(parts.sum(0), cache["blocks.1.ln2.hook_normalized"][:, 2:5], **CLOSE)


def test_accumulated_resid_lists_the_stream_and_unembeds_to_the_logits(run):
    model, logits, cache = run
    stack, labels = cache.accumulated_resid(incl_mid=True, return_labels=True)
    assert labels == ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]
    torch.testing.assert_close(stack[2], cache["resid_post", 0], **CLOSE)
    torch.testing.assert_close(stack[3], cache["resid_mid", 1], **CLOSE)
    read = cache.accumulated_resid(apply_ln=True)
    torch.testing.assert_close(model.unembed(read[-1]), logits, **CLOSE)


def test_head_results_sum_to_each_layers_attention(run):
    model, _, cache = run
    cache.compute_head_results()
    for layer in range(2):
        total = cache["result", layer, "attn"].sum(-2) + model.blocks[layer].attn.b_O
        torch.testing.assert_close(total, cache["attn_out", layer], **CLOSE)
    stack, labels = cache.stack_head_results(incl_remainder=True, return_labels=True)
    assert labels == ["L0H0", "L0H1", "L1H0", "L1H1", "remainder"]
    torch.testing.assert_close(stack.sum(0), cache["resid_post", 1], **CLOSE)
    model.set_use_attn_result(True)
    during = model.run_with_cache(tokens())[1].stack_head_results()
    torch.testing.assert_close(stack[:-1], during, **CLOSE)


def test_neuron_results_sum_to_each_layers_mlp(run):
    model, _, cache = run
    for layer in range(2):
        total = cache.get_neuron_results(layer).sum(-2) + model.blocks[layer].mlp.b_out
        torch.testing.assert_close(total, cache["mlp_out", layer], **CLOSE)
    stack, labels = cache.stack_neuron_results(-1, incl_remainder=True, return_labels=True)
    assert labels[0] == "L0N0" and len(labels) == 2 * 32 + 1
    torch.testing.assert_close(stack.sum(0), cache["resid_post", 1], **CLOSE)
    direction = torch.randn(16, generator=torch.Generator().manual_seed(0))
    projected = cache.stack_neuron_results(2, project_output_onto=direction)
    torch.testing.assert_close(projected, stack[:-1] @ direction, **CLOSE)


@pytest.mark.parametrize("expand_neurons", [True, False])
@pytest.mark.parametrize("apply_ln", [True, False])
def test_the_full_decomposition_sums_to_the_residual_stream(run, expand_neurons, apply_ln):
    _, _, cache = run
    parts, labels = cache.get_full_resid_decomposition(
        expand_neurons=expand_neurons, apply_ln=apply_ln, return_labels=True
    )
    assert len(labels) == len(parts) == 4 + (64 if expand_neurons else 2) + 2
    expected = cache["ln_final.hook_normalized"] if apply_ln else cache["resid_post", 1]
    torch.testing.assert_close(parts.sum(0), expected, **CLOSE)
    one = cache.get_full_resid_decomposition(1, mlp_input=True, expand_neurons=expand_neurons)
    torch.testing.assert_close(one.sum(0), cache["resid_mid", 1], **CLOSE)
    directions = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    projected = cache.get_full_resid_decomposition(apply_ln=apply_ln, project_output_onto=directions)
    torch.testing.assert_close(projected.sum(0), expected @ directions, **CLOSE)


def test_apply_ln_to_stack_divides_by_the_cached_scale(run):
    _, _, cache = run
    stack = cache.decompose_resid(1)
    divided = cache.apply_ln_to_stack(stack, 1)
    torch.testing.assert_close(divided, stack / cache["blocks.1.ln1.hook_scale"], **CLOSE)
    middle = cache.apply_ln_to_stack(stack[:, :, 3], 1, pos_slice=3)
    torch.testing.assert_close(middle, divided[:, :, 3], **CLOSE)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_increments_and_positions_stack_over_layers(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    _, cache = model.run_with_cache(torch.arange(7).repeat(2, 1))
    increments, positions = cache.stack_activation("increments"), cache.stack_activation("positions")
    assert increments.shape == ((2, 2, 7, 2) if per_head else (2, 2, 7))
    torch.testing.assert_close(positions[:, :, 1:] - positions[:, :, :-1], increments[:, :, 1:].double())


def attributions(model, cache, tokens: Tensor | int | str, **kwargs) -> Tensor:
    parts = cache.get_full_resid_decomposition(pos_slice=kwargs.get("pos_slice"))
    return cache.logit_attrs(parts, tokens, **kwargs).sum(0)


def test_logit_attributions_sum_to_the_logits_of_a_folded_model(make_model):
    model = make_model(use_biases=True).fold_ln_()
    logits, cache = model.run_with_cache(tokens())
    plain = logits - model.b_U
    torch.testing.assert_close(attributions(model, cache, "e"), plain[..., 101], **CLOSE)
    torch.testing.assert_close(attributions(model, cache, 101), plain[..., 101], **CLOSE)
    torch.testing.assert_close(
        attributions(model, cache, 101, incorrect_tokens=32, pos_slice=-1),
        (plain[..., 101] - plain[..., 32])[:, -1],
        **CLOSE,
    )
    answers = torch.tensor([7, 9])
    chosen = plain[torch.arange(2), -1, answers]
    torch.testing.assert_close(attributions(model, cache, answers, pos_slice=-1), chosen, **CLOSE)
    own = tokens()[:, 1:]
    parts = cache.decompose_resid()[:, :, :-1]
    per_position = cache.logit_attrs(parts, own, pos_slice=(0, 6)).sum(0)
    torch.testing.assert_close(per_position, plain[:, :-1].gather(-1, own[..., None])[..., 0], **CLOSE)


def test_a_cache_without_its_batch_axis_gives_the_same_numbers(make_model):
    model = make_model()
    _, whole = model.run_with_cache(tokens()[1:])
    _, row = model.run_with_cache(tokens()[1:], remove_batch_dim=True)
    methods = ("decompose_resid", "accumulated_resid", "stack_head_results", "get_full_resid_decomposition")
    for name in methods:
        torch.testing.assert_close(getattr(row, name)(), getattr(whole, name)()[:, 0], **CLOSE)
    assert torch.equal(row["increments", 1], whole["increments", 1][0])
    sliced = model.run_with_cache(tokens())[1].apply_slice_to_batch_dim(1)
    torch.testing.assert_close(sliced["increments", 0], row["increments", 0], **CLOSE)
    assert torch.equal(whole.remove_batch_dim()["positions", 0], row["positions", 0])
    assert row.to("cpu")["positions", 1].dtype == torch.float64
    row.toggle_autodiff(False)
    torch.set_grad_enabled(True)
    assert len(row) == len(list(row.keys())) == len(list(row.items()))
