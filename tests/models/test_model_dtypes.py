"""Dtypes: torch's default one changes nothing, and a float64 model is one up to its loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F

from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.controls import randomised_control

TOKENS = torch.arange(3, 15).view(2, 6) * 7


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def everything(model: LRopeTransformer) -> dict[str, torch.Tensor]:
    """Weights, what passes every hook, the loss, and the gradients of a training step."""
    _, cache = model.eval().run_with_cache(TOKENS, return_cache_object=False)
    loss = model.train()(TOKENS, return_type="loss")
    loss.backward()
    weights = dict(model.named_parameters())
    gradients = {f"{name} gradient": one.grad for name, one in weights.items() if one.grad is not None}
    return weights | gradients | dict(cache) | {"loss": loss}


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_torchs_default_dtype_changes_neither_a_new_model_nor_a_loaded_one(tmp_path, make_model, mode, dtype):
    cfg = {"increments": mode, "n_layers": 2, "d_model": 16, "n_heads": 2, "use_biases": True, "seed": 3}
    make_model(increments=mode).save_pretrained(tmp_path)
    makers = [
        lambda: LRopeTransformer(LRopeConfig(**cfg)),
        lambda: LRopeTransformer.from_pretrained(tmp_path),
    ]
    if mode != "fixed":
        makers.append(lambda: randomised_control(makers[1](), TOKENS, seed=1))
    for make in makers:
        usual = everything(make())
        with default_dtype(dtype):
            unusual = everything(make())
        assert {name: one.dtype for name, one in unusual.items()} == {
            name: one.dtype for name, one in usual.items()
        }
        assert [name for name in usual if not torch.equal(usual[name], unusual[name])] == []


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
def test_a_float64_model_is_one_up_to_its_loss_and_its_increments_stay_float32(make_model, mode):
    model = make_model(increments=mode).double()
    logits, cache = model.run_with_cache(TOKENS)
    loss = model(TOKENS, return_type="loss")
    by_hand = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    assert loss.dtype == logits.dtype == torch.float64
    torch.testing.assert_close(loss, by_hand, atol=1e-14, rtol=1e-14)
    assert model(TOKENS, return_type="both", loss_per_token=True).loss.dtype == torch.float64
    assert cache["increments", 1].dtype == torch.float32
    assert cache["positions", 1].dtype == torch.float64
    single = make_model(increments=mode)
    torch.testing.assert_close(loss.float(), single(TOKENS, return_type="loss"), atol=1e-4, rtol=1e-4)
    assert model.bfloat16()(TOKENS, return_type="loss").dtype == torch.float32
