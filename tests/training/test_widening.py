"""A widened model starts from the narrow model's weights, and has as many parameters as asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.preparation import build_model, widened_model

EXTRA = 3
MLP = ("mlp.W_in", "mlp.W_gate", "mlp.W_out")


def size(model: LRopeTransformer) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_nothing_more_is_the_same_model(make_model: Callable[..., LRopeTransformer]) -> None:
    narrow = make_model(increments="fixed")
    assert widened_model(narrow, 0) is narrow


@pytest.mark.parametrize("increments", ["fixed", "shared", "per_layer"])
def test_all_weights_that_both_have_are_equal(
    make_model: Callable[..., LRopeTransformer], increments: str
) -> None:
    narrow = make_model(increments=increments)
    wide = widened_model(narrow, EXTRA)
    assert wide.cfg.d_mlp == narrow.cfg.d_mlp + EXTRA
    weights = dict(wide.named_parameters())
    assert weights.keys() == dict(narrow.named_parameters()).keys()
    for name, weight in narrow.named_parameters():
        if name.endswith(MLP):
            rows, columns = weight.shape
            assert torch.equal(weights[name][:rows, :columns], weight), name
        else:
            assert torch.equal(weights[name], weight), name


def test_each_extra_unit_has_three_weights_a_layer_and_dimension(
    make_model: Callable[..., LRopeTransformer],
) -> None:
    narrow = make_model(increments="fixed")
    added = size(widened_model(narrow, EXTRA)) - size(narrow)
    assert added == 3 * narrow.cfg.d_model * narrow.cfg.n_layers * EXTRA


def test_with_the_extra_units_silenced_it_computes_what_the_narrow_model_does(
    make_model: Callable[..., LRopeTransformer],
) -> None:
    narrow = make_model()
    wide = widened_model(narrow, EXTRA).eval()
    tokens = torch.arange(20)[None] * 11 % 257
    for size_of_extra, is_silent in ((0.0, True), (30.0, False)):
        with torch.no_grad():
            for block in wide.blocks:
                block.mlp.W_out[narrow.cfg.d_mlp :] = size_of_extra
            assert torch.allclose(wide(tokens), narrow(tokens), atol=1e-4) == is_silent


def test_the_extra_units_are_drawn_and_depend_on_the_seed(make_config: Callable[..., TrainConfig]) -> None:
    def units(seed: int) -> torch.Tensor:
        model = build_model(make_config(increments="fixed", widened=EXTRA, seed=seed))
        return model.blocks[0].mlp.W_in[:, -EXTRA:]

    assert torch.equal(units(0), units(0))
    assert not torch.equal(units(0), units(1))
    assert 0 < float(units(0).detach().std()) < 1
