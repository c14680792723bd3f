"""TransformerLens' further tools, unmodified: heads, lenses, gradients, subspaces, probes, training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformer_lens import SVDInterpreter
from transformer_lens.head_detector import detect_head
from transformer_lens.tools.analysis import (
    EdgeAttributionConfig,
    JacobianLens,
    attention_head_subspace_affinity,
    attribution_patch,
    direct_logit_attribution,
    logit_lens,
    logit_readout,
    orthonormal_subspace,
    projection_kernel,
)

from lrope_interp.interop import transformer_lens as adapter

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


# --- heads and weights --------------------------------------------------------------------------


def write_pattern(model, layer: int, head: int, pattern: Tensor) -> None:
    """Force one head's attention pattern, whatever its input."""

    def force(value: Tensor, hook) -> Tensor:
        value = value.clone()
        value[:, head] = pattern
        return value

    model.add_hook(f"blocks.{layer}.attn.hook_pattern", force, is_permanent=True)


@pytest.mark.parametrize("kind", ["previous_token_head", "induction_head"])
def test_head_detector_finds_a_planted_previous_token_head(make_model, kind):
    model, text = make_model(), "abcdabcd"
    n = model.to_tokens(text).shape[-1]
    if kind == "previous_token_head":
        pattern, wanted = torch.eye(n).roll(1, 0), (n - 1) / n
        pattern[0] = torch.eye(n)[0]
    else:
        pattern, wanted = torch.zeros(n, n), 4 / n
        for query in range(n):
            pattern[query, query - 3 if query >= 5 else 0] = 1
    write_pattern(model, 1, 0, pattern)
    scores = detect_head(model, text, kind, error_measure="mul")
    assert scores[1, 0] == pytest.approx(wanted)
    assert max(scores[0, 0], scores[0, 1], scores[1, 1]) < scores[1, 0]
    assert detect_head(model, [text, text], kind)[1, 0] == detect_head(model, text, kind)[1, 0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_svd_interpreter_reads_the_singular_directions_of_our_weights(make_model, is_tied):
    model = make_model(tie_embeddings=is_tied)
    interpreter = SVDInterpreter(model)
    block = model.blocks[1]
    ov = interpreter.get_singular_vectors("OV", layer_index=1, head_index=0, num_vectors=3)
    matrices = {
        "OV": (block.attn.W_V[0] @ block.attn.W_O[0], ov),
        "w_in": (block.mlp.W_in.T * block.ln2.w, interpreter.get_singular_vectors("w_in", 1, 3)),
        "w_out": (block.mlp.W_out, interpreter.get_singular_vectors("w_out", 1, 3)),
    }
    for name, (matrix, found) in matrices.items():
        right = torch.linalg.svd(matrix.detach())[2][:3]
        expected = model.W_U.detach().T @ right.T
        assert found.shape == (257, 1, 3)
        aligned = torch.sign((expected * found[:, 0]).sum(0)) * found[:, 0]
        torch.testing.assert_close(aligned, expected, atol=1e-3, rtol=1e-3, msg=name)


def test_head_affinity_equals_the_projection_kernel_of_each_pair(make_model):
    model = make_model(n_layers=3, d_model=32)
    for role, weight in (("Q", "W_Q"), ("K", "W_K"), ("V", "W_V")):
        result = attention_head_subspace_affinity(model, target_role=role)
        out, reads = model.blocks[0].attn.W_O[1].T, getattr(model.blocks[2].attn, weight)[0]
        expected = projection_kernel(orthonormal_subspace(out.detach()), orthonormal_subspace(reads.detach()))
        assert result.scores[0, 1, 2, 0] == pytest.approx(float(expected.score), abs=1e-4)
        assert result.scores[2].abs().max() == 0, "earlier to later only"
        assert result.top_pairs(1)[0].score == pytest.approx(float(result.scores.max()))


# --- lenses and attributions --------------------------------------------------------------------


@pytest.mark.parametrize("is_folded", [False, True])
def test_logit_lens_ends_at_the_models_logits(make_model, clean, is_folded):
    model = make_model(use_biases=True)
    model = model.fold_ln_() if is_folded else model
    with torch.no_grad():
        logits, cache = model.run_with_cache(clean)
    lens = logit_lens(model, clean, positions=None, incl_mid=True)
    assert lens.labels == ["0_pre", "0_mid", "1_pre", "1_mid", "final_post"]
    torch.testing.assert_close(lens.values[-1], logits, **CLOSE)
    middle = model.unembed(model.ln_final(cache["resid_mid", 1]))
    torch.testing.assert_close(lens.values[3], middle.detach(), **CLOSE)
    torch.testing.assert_close(cache.logit_lens(positions=None).values[-1], logits, **CLOSE)
    ranks = logit_lens(model, "some text", targets="e").rank_trajectory("e")
    assert ranks.shape[0] == 3
    readout = logit_readout(model, cache["resid_post", 1], return_type="log_probs")
    torch.testing.assert_close(readout.values, logits.log_softmax(-1), **CLOSE)


@pytest.mark.parametrize("unit", ["component", "head"])
@pytest.mark.parametrize("is_tied", [True, False])
def test_our_direct_logit_attribution_sums_to_the_logit_difference(make_model, clean, unit, is_tied):
    model = make_model(use_biases=not is_tied, tie_embeddings=is_tied)
    with torch.no_grad():
        plain = model(clean)[:, -1] - model.b_U
    result = adapter.direct_logit_attribution(model, clean, 101, 32, unit=unit)
    total = result.attribution.sum(0)
    torch.testing.assert_close(total, plain[:, 101] - plain[:, 32], atol=1e-4, rtol=1e-4)
    assert len(result.labels) == 5
    assert model.cfg.normalization_type == "RMS", "the model itself is not folded"
    folded = adapter.direct_logit_attribution(model.fold_ln_(), clean, 101, 32, unit=unit)
    torch.testing.assert_close(folded.attribution, result.attribution, **CLOSE)
    by_text = adapter.direct_logit_attribution(model, "abc", "d", unit="layer", pos=None)
    with torch.no_grad():
        wanted = model("abc")[..., 100] - model.b_U[100]
    torch.testing.assert_close(by_text.attribution[-1], wanted, atol=1e-4, rtol=1e-4)


def test_the_librarys_direct_logit_attribution_is_right_when_folded_and_silently_wrong_before(
    make_model, clean
):
    model = make_model(n_layers=3)
    with torch.no_grad():
        logits = model(clean)[:, -1]
        wrong = direct_logit_attribution(model, clean, 101, 32).attribution.sum(0)
        right = direct_logit_attribution(model.fold_ln_(), clean, 101, 32).attribution.sum(0)
    difference = logits[:, 101] - logits[:, 32]
    assert wrong.item() == pytest.approx(1.38, abs=0.01), "docs/transformer-lens.md quotes this figure"
    assert difference.item() == pytest.approx(1.77, abs=0.01), "and this one"
    torch.testing.assert_close(right, difference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
def test_attribution_patching_of_nodes_is_the_slope_of_a_small_patch(
    make_model, clean, corrupt, metric, mode
):
    model = make_model(increments=mode).double()
    scores = attribution_patch(model, clean, corrupt, metric).node_scores
    _, source = model.run_with_cache(clean)
    step = 1e-4
    with torch.no_grad():
        plain = metric(model(corrupt))
        for node, score in scores.items():
            if node.position != 2:
                continue

            def nudge(value: Tensor, hook, node=node) -> Tensor:
                where = (0, 2) if node.head is None else (0, 2, node.head)
                value = value.clone()
                value[where] += step * (source[hook.name][where] - value[where])
                return value

            moved = metric(model.run_with_hooks(corrupt, fwd_hooks=[(node.hook_name, nudge)]))
            assert score == pytest.approx(float(moved - plain) / step, rel=0.02, abs=0.02)


def test_the_jacobian_lens_takes_bridges_only(make_model):
    """The one tool that does not work asks for a TransformerBridge by type; one option is not there yet."""
    with pytest.raises(NotImplementedError, match="EAP-IG"):
        EdgeAttributionConfig(ig_steps=5)
    with pytest.raises(TypeError, match="supports TransformerBridge only"):
        JacobianLens.fit(make_model(), ["some text"], corpus="none", source_layers=[0])
