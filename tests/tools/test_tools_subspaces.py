"""TransformerLens' subspaces, probes and training loop, unmodified, on our model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformer_lens.tools.analysis import (
    NormMatchedPlacebo,
    SubspaceInterchange,
    arbitrary_targets,
    collect_activations,
    fit_das,
    fit_sparse_probe,
    intervened_logits,
    mean_difference_basis,
    neuron_basis,
    probe_basis,
    random_basis,
    random_neuron_basis,
    reinitialized,
    run_with_intervention,
    sweep_sparse_probe,
)
from transformer_lens.tools.training import TrainConfig, train

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


# --- subspaces ----------------------------------------------------------------------------------


def is_lower(tokens: Tensor) -> Tensor:
    """The variable of a toy task: whether the third token is below 128."""
    return (tokens[:, 2] < 128).long()


def test_interchanging_the_whole_space_makes_the_base_the_source(make_model):
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    base, source = (torch.randint(0, 256, (4, 3), generator=generator) for _ in range(2))
    hook, positions = "blocks.1.hook_resid_post", torch.full((4,), 2)

    def last(tokens: Tensor) -> Tensor:
        return model(tokens)[:, -1]

    activations = collect_activations(model, hook, source, last, positions=positions)
    whole = SubspaceInterchange(torch.eye(16))
    with torch.no_grad():
        swapped = intervened_logits(model, hook, whole, base, activations, last, positions=positions)
        torch.testing.assert_close(swapped, last(source), atol=1e-4, rtol=1e-4)
        nothing = SubspaceInterchange(random_basis(16, 3, 0), strength=0.0)
        same = intervened_logits(model, hook, nothing, base, activations, last, positions=positions)
        torch.testing.assert_close(same, last(base), **CLOSE)
        placebo = NormMatchedPlacebo(SubspaceInterchange(random_basis(16, 3, 0)), random_basis(16, 3, 1))
        moved = intervened_logits(model, hook, placebo, base, activations, last, positions=positions)
    assert (moved - last(base)).abs().max() > 1e-3


def test_interchanging_all_neurons_is_interchanging_the_mlp(make_model):
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    base, source = (torch.randint(0, 256, (4, 3), generator=generator) for _ in range(2))
    hook, positions = "blocks.1.mlp.hook_post", torch.full((4,), 2)

    def last(tokens: Tensor) -> Tensor:
        return model(tokens)[:, -1]

    activations = collect_activations(model, hook, source, last, positions=positions)
    every = SubspaceInterchange(neuron_basis(32, range(32)))
    few = SubspaceInterchange(random_neuron_basis(32, 4, 0))

    def written(value: Tensor, hook) -> Tensor:
        value = value.clone()
        value[:, 2] = activations
        return value

    with torch.no_grad():
        expected = model.run_with_hooks(base, fwd_hooks=[(hook, written)])[:, -1]
        swapped = run_with_intervention(model, hook, every, base, activations, last, positions=positions)
        partly = run_with_intervention(model, hook, few, base, activations, last, positions=positions)
    torch.testing.assert_close(swapped, expected, atol=1e-4, rtol=1e-4)
    assert (partly - expected).abs().max() > 1e-3


def test_das_finds_a_planted_direction_and_leaves_the_model_as_it_was(make_model):
    """The class is the sign of one coordinate of the residual stream: rank one suffices."""
    model = make_model()
    generator = torch.Generator().manual_seed(0)
    base, source = (torch.randint(0, 256, (128, 3), generator=generator) for _ in range(2))
    hook, positions = "blocks.0.hook_resid_post", torch.full((128,), 2)
    direction = torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)

    def sign_logits(tokens: Tensor) -> Tensor:
        along = model(tokens, stop_at_layer=1)[:, 2] @ direction
        return torch.stack([-along, along], -1)

    with torch.no_grad():
        targets = sign_logits(source).argmax(-1)
    result = fit_das(
        model,
        hook,
        base,
        source,
        targets,
        sign_logits,
        rank=1,
        base_positions=positions,
        source_positions=positions,
        epochs=60,
        lr=0.05,
    )
    assert result.losses[-1] < result.losses[0]
    assert (result.basis[:, 0] @ direction).abs() > 0.95
    assert all(parameter.requires_grad for parameter in model.parameters())
    keys = [tuple(row) for row in source.tolist()]
    arbitrary = arbitrary_targets(keys, 2, seed=0)
    assert torch.equal(arbitrary, arbitrary_targets(keys, 2, seed=0))
    assert 0.3 < arbitrary.float().mean() < 0.7


def test_a_reinitialised_model_is_a_control_with_no_trained_weight_left(make_model, clean):
    model = make_model()
    control, other = reinitialized(model, 0), reinitialized(model, 1)
    again = reinitialized(model, 0)
    for name, weight in control.named_parameters():
        assert torch.equal(weight, dict(again.named_parameters())[name]), name
        assert not torch.equal(weight, dict(model.named_parameters())[name]), name
    assert not torch.equal(control.W_E, other.W_E), "another seed, another model"
    with torch.no_grad():
        assert torch.equal(control.W_U, control.W_E.T), "tied to its own embedding"
        assert (control(clean) - model(clean)).abs().max() > 0.1
        _, cache = control.run_with_cache(clean)
    increments = cache.stack_activation("increments")
    torch.testing.assert_close(increments, torch.ones_like(increments), msg="no control for increments")


# --- probes and training ------------------------------------------------------------------------


def test_sparse_probes_find_a_planted_coordinate_of_our_activations(make_model):
    model = make_model()
    tokens = torch.randint(0, 256, (60, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter="blocks.0.mlp.hook_post")
    features = cache["post", 0][:, 2]
    labels = features[:, 5] > features[:, 5].median()
    probe = fit_sparse_probe(features, labels, k=1)
    assert probe.metrics.roc_auc > 0.95
    sweep = sweep_sparse_probe(features, labels, ks=[1, 4], n_label_shuffles=2)
    assert len(sweep.results) == 2


def test_mean_differences_of_residuals_give_an_orthonormal_basis(make_model):
    model = make_model()
    tokens = torch.randint(0, 256, (40, 4), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    residuals = cache["resid_post", 1][:, 2]
    labels = is_lower(tokens)
    basis = mean_difference_basis(residuals, labels)
    torch.testing.assert_close(basis.T @ basis, torch.eye(1), **CLOSE)
    difference = residuals[labels == 1].mean(0) - residuals[labels == 0].mean(0)
    assert torch.cosine_similarity(basis[:, 0], difference, dim=0).abs() > 0.999
    probe = probe_basis(difference[None])
    assert torch.cosine_similarity(probe[:, 0], basis[:, 0], dim=0).abs() > 0.999


class Repeated(Dataset):
    """Sixteen times the same few tokens: something to learn in a few steps."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"tokens": torch.arange(8) % 3 + 100}


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
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
