"""TransformerLens' further tools, unmodified: heads, lenses, gradients, subspaces, probes, training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformer_lens import SVDInterpreter
from transformer_lens.head_detector import detect_head
from transformer_lens.tools.analysis import (
    EdgeAttributionConfig,
    JacobianLens,
    NormMatchedPlacebo,
    SubspaceInterchange,
    arbitrary_targets,
    attention_head_subspace_affinity,
    attribution_patch,
    collect_activations,
    direct_logit_attribution,
    fit_das,
    intervened_logits,
    logit_lens,
    logit_readout,
    neuron_basis,
    orthonormal_subspace,
    projection_kernel,
    random_basis,
    random_neuron_basis,
    reinitialized,
    run_with_intervention,
)
from transformer_lens.tools.training import TrainConfig, train

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


CLOSE = {"atol": 1e-4, "rtol": 1e-4}
LAST = torch.full((4,), 2)


@pytest.fixture
def interchange(make_model):
    """A model, what it says last, base and source prompts, and what the source has at a hook."""
    model, generator = make_model(), torch.Generator().manual_seed(0)
    base, source = (torch.randint(0, 256, (4, 3), generator=generator) for _ in range(2))

    def last(tokens: Tensor) -> Tensor:
        return model(tokens)[:, -1]

    def at(hook: str) -> Tensor:
        return collect_activations(model, hook, source, last, positions=LAST)

    return model, last, base, source, at


@torch.no_grad()
def test_interchanging_the_whole_space_makes_the_base_the_source(interchange):
    model, last, base, source, at = interchange
    hook = "blocks.1.hook_resid_post"

    def swapped(how) -> Tensor:
        return intervened_logits(model, hook, how, base, at(hook), last, positions=LAST)

    torch.testing.assert_close(swapped(SubspaceInterchange(torch.eye(16))), last(source), **CLOSE)
    nothing = SubspaceInterchange(random_basis(16, 3, 0), strength=0.0)
    torch.testing.assert_close(swapped(nothing), last(base), **CLOSE)
    placebo = NormMatchedPlacebo(SubspaceInterchange(random_basis(16, 3, 0)), random_basis(16, 3, 1))
    assert (swapped(placebo) - last(base)).abs().max() > 1e-3


@torch.no_grad()
def test_interchanging_all_neurons_is_interchanging_the_mlp(interchange):
    model, last, base, _, at = interchange
    hook = "blocks.1.mlp.hook_post"

    def swapped(basis: Tensor) -> Tensor:
        how = SubspaceInterchange(basis)
        return run_with_intervention(model, hook, how, base, at(hook), last, positions=LAST)

    def written(value: Tensor, hook) -> None:
        value[:, 2] = activations

    activations = at(hook)
    expected = model.run_with_hooks(base, fwd_hooks=[(hook, written)])[:, -1]
    torch.testing.assert_close(swapped(neuron_basis(32, range(32))), expected, **CLOSE)
    assert (swapped(random_neuron_basis(32, 4, 0)) - expected).abs().max() > 1e-3


def test_das_finds_a_planted_direction_and_leaves_the_model_as_it_was(make_model):
    """The class is the sign of one coordinate of the residual stream: rank one suffices."""
    model, generator = make_model(), torch.Generator().manual_seed(0)
    base, source = (torch.randint(0, 256, (128, 3), generator=generator) for _ in range(2))
    positions = torch.full((128,), 2)
    direction = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)

    def sign_logits(tokens: Tensor) -> Tensor:
        along = model(tokens, stop_at_layer=1)[:, 2] @ direction
        return torch.stack([-along, along], -1)

    with torch.no_grad():
        targets = sign_logits(source).argmax(-1)
    at = {"base_positions": positions, "source_positions": positions}
    how = {"rank": 1, "epochs": 60, "lr": 0.05}
    result = fit_das(model, "blocks.0.hook_resid_post", base, source, targets, sign_logits, **at, **how)
    assert result.losses[-1] < result.losses[0]
    assert (result.basis[:, 0] @ direction).abs() > 0.95
    assert all(parameter.requires_grad for parameter in model.parameters())
    arbitrary = arbitrary_targets([tuple(row) for row in source.tolist()], 2, seed=0)
    assert 0.3 < arbitrary.float().mean() < 0.7


def test_a_reinitialised_model_is_a_control_with_no_trained_weight_left(make_model, clean):
    model = make_model()
    control, other, again = (reinitialized(model, seed) for seed in (0, 1, 0))
    for name, weight in control.named_parameters():
        assert torch.equal(weight, dict(again.named_parameters())[name]), name
        assert not torch.equal(weight, dict(model.named_parameters())[name]), name
    assert not torch.equal(control.W_E, other.W_E), "another seed, another model"
    with torch.no_grad():
        assert torch.equal(control.W_U, control.W_E.T), "tied to its own embedding"
        assert (control(clean) - model(clean)).abs().max() > 0.1
        increments = control.run_with_cache(clean)[1].stack_activation("increments")
    torch.testing.assert_close(increments, torch.ones_like(increments), msg="no control for increments")


class Repeated(Dataset):
    """Sixteen times the same few tokens: something to learn in a few steps."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"tokens": torch.arange(8) % 3 + 100}


@pytest.mark.parametrize("mode", ["per_layer", "shared"])
def test_the_librarys_training_loop_trains_our_model(make_model, mode, capsys):
    model = make_model(increments=mode)
    tokens = torch.arange(8)[None] % 3 + 100
    before, heads = model(tokens, return_type="loss").item(), dict(model.increment_parameters())
    weights = {name: weight.detach().clone() for name, weight in heads.items()}
    config = TrainConfig(num_epochs=3, batch_size=4, lr=1e-2, device="cpu", print_every=None)
    trained = train(model, config, Repeated())
    assert trained is model and model.training
    assert model.eval()(tokens, return_type="loss").item() < before - 1
    for name, weight in weights.items():
        assert not torch.equal(weight, heads[name]), f"{name} learns too"
