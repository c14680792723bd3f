"""TransformerLens' subspaces, controls and training loop, unmodified, on our model."""

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
    intervened_logits,
    neuron_basis,
    random_basis,
    random_neuron_basis,
    reinitialized,
    run_with_intervention,
)
from transformer_lens.tools.training import TrainConfig, train

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
