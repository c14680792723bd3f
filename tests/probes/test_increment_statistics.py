"""Means of increments against sums over a plain loop, and what must not get into them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from intervention_samples import (
    FIT,
    MODES,
    MakeModel,
    fitted_on,
    increments_of,
    model_of,
    occurrences,
    tokens_of,
)

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.probes.ablations.attach import ablated
from lrope_interp.probes.ablations.interventions import freeze
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.increment_statistics import fit_increments


@pytest.mark.parametrize("mode", MODES)
def test_means_and_spread_are_those_of_a_loop(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)
    fitted = fitted_on(model)
    n_heads = 2 if mode == "per_head" else 1
    assert fitted.mean.shape == fitted.sd.shape == (3, n_heads)
    assert fitted.lexical.shape == (3, n_heads, 257)
    for layer in range(3):
        found = occurrences(model, layer)
        everything = np.array([value for values in found.values() for value in values])
        np.testing.assert_allclose(fitted.mean[layer], everything.mean(0), atol=1e-5)
        np.testing.assert_allclose(fitted.sd[layer], everything.std(0), atol=1e-5)
        for token in range(257):
            wanted = np.mean(found[token], axis=0) if token in found else everything.mean(0)
            np.testing.assert_allclose(fitted.lexical[layer, :, token], wanted, atol=1e-5)


def test_values_are_sorted_by_token(make_model: MakeModel) -> None:
    fitted = fitted_on(model_of(make_model, "per_head"))
    found = occurrences(model_of(make_model, "per_head"), 2)
    assert fitted.first[0] == 0
    assert fitted.first[-1] == fitted.values.shape[-1] == fitted.n_bytes == sum(one.n_bytes for one in FIT)
    assert fitted.n_documents == len(FIT)
    for token in range(257):
        here = fitted.values[2, :, fitted.first[token] : fitted.first[token + 1]]
        wanted = np.array(found.get(token, [])).reshape(-1, 2).T
        np.testing.assert_allclose(here, wanted, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_lexical_share_is_the_variance_between_bytes(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)
    share = fitted_on(model).lexical_share()
    if mode == "fixed":
        assert np.isnan(share).all()
        return
    for layer in range(3):
        found = list(occurrences(model, layer).values())
        everything = np.concatenate(found)
        between = sum(len(one) * (np.mean(one, 0) - everything.mean(0)) ** 2 for one in found)
        np.testing.assert_allclose(
            share[layer], between / ((everything - everything.mean(0)) ** 2).sum(0), atol=1e-5
        )
    assert share[0] == pytest.approx(1, abs=1e-5), "layer 0 reads the byte alone"
    if mode != "shared":
        assert (share[1:] < 0.99).all()


def test_long_documents_are_windowed_as_capture_does(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    long = Document("long", "The peace of nations and so on, " * 9, "made up", "en")
    fitted = fit_increments(model, [long, FIT[0]], batch_size=2)
    captured = capture(model, [long, FIT[0]])
    np.testing.assert_allclose(fitted.mean, captured.increments.mean(-1), atol=1e-5)
    is_e = captured.byte == ord("e")
    np.testing.assert_allclose(
        fitted.lexical[..., ord("e")], captured.increments[..., is_e].mean(-1), atol=1e-5
    )


def test_there_must_be_text(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    for documents in ([], [Document("empty", "", "made up", "en")]):
        with pytest.raises(LRopeError, match="no text to fit mean increments on"):
            fit_increments(model, documents)


def test_what_a_hook_wrote_is_not_remembered_as_the_models_own(make_model: MakeModel) -> None:
    model = make_model(seed=79)
    with ablated(model, freeze(7.0)):
        assert (fit_increments(model, FIT).mean == 7).all()
    own = fit_increments(model, FIT)
    assert (own.sd > 0.01).all()
    with ablated(model, freeze(6.0)):
        assert (fit_increments(model, FIT).mean == 6).all(), "the model's own came back instead"


def test_a_constant_layer_has_no_spread(make_model: MakeModel) -> None:
    model = make_model(seed=80)
    with torch.no_grad():
        model.blocks[0].increments.W_out.zero_()
    fitted = fit_increments(model, FIT)
    value = increments_of(model, tokens_of("a"), 0)[0, 1]
    assert np.array_equal(fitted.mean[0], value), "to the bit, so that freezing to it changes nothing"
    assert (fitted.lexical[0] == value).all()
    assert fitted.sd[0] == 0
    assert np.isnan(fitted.lexical_share()[0])
    assert not np.isnan(fitted.lexical_share()[1])
