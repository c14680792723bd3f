"""The supervised probe finds a planted direction, in raw units, and knows when there is none."""

from __future__ import annotations

import numpy as np
import pytest

from lrope_interp.probes.boundaries import ceiling
from lrope_interp.probes.boundaries.ceiling import REGULARISATIONS, LinearProbe, fit_probe
from lrope_interp.probes.statistics.logistic import Fits
from lrope_interp.probes.statistics.ranking import roc_auc


def planted(seed: int = 0, n: int = 4000, m: int = 12, strength: float = 1.5) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n // 100), 100)
    scale = np.logspace(-2, 2, m)
    raw = rng.normal(size=(n, m)) + 0.3 * rng.normal(size=(n // 100, m))[document]
    is_boundary = rng.random(n) < 1 / (1 + np.exp(1 - strength * (raw[:, 0] - raw[:, 1])))
    return (raw * scale + 5 * scale).astype(np.float32), is_boundary, document


def fitted(*given: np.ndarray) -> LinearProbe:
    probe = fit_probe(*given, Fits())
    assert probe is not None
    return probe


def test_a_planted_direction_is_found_and_calibrated_whatever_the_units() -> None:
    hidden, is_boundary, document = planted()
    probe = fitted(hidden, is_boundary, document)
    other, truth, _ = planted(seed=1)
    scale = np.logspace(-2, 2, 12)
    best = roc_auc(other[:, 0] / scale[0] - other[:, 1] / scale[1], truth)
    assert roc_auc(other @ probe.weight, truth) == pytest.approx(best, abs=0.01)
    assert probe.held_out_auc == pytest.approx(best, abs=0.03)
    direction = probe.weight * scale
    assert np.abs(direction[:2]).min() > 5 * np.abs(direction[2:]).max()
    assert probe.regularisation in REGULARISATIONS
    chance = 1 / (1 + np.exp(-(hidden @ probe.weight + probe.bias)))
    assert chance.mean() == pytest.approx(is_boundary.mean(), abs=0.01)


def test_noise_is_worth_one_half_on_documents_held_out() -> None:
    hidden, _, document = planted(m=40)
    noise = np.random.default_rng(3).random(len(document)) < 0.3
    assert fitted(hidden, noise, document).held_out_auc == pytest.approx(0.5, abs=0.06)


def test_perfect_separation_and_constant_dimensions_give_a_finite_probe() -> None:
    hidden, _, document = planted()
    hidden[:, 3] = 7.0
    is_boundary = hidden[:, 0] > np.quantile(hidden[:, 0], 0.8)
    probe = fitted(hidden, is_boundary, document)
    assert np.isfinite(probe.weight).all()
    assert probe.weight[3] == 0
    assert probe.held_out_auc > 0.99


def test_one_kind_of_gap_a_single_document_or_a_constant_state_has_no_probe() -> None:
    hidden, is_boundary, document = planted(n=500)
    for given in (
        (hidden, np.ones_like(is_boundary), document),
        (hidden, np.zeros_like(is_boundary), document),
        (hidden, is_boundary, np.zeros_like(document)),
        (np.ones_like(hidden), is_boundary, document),
        (hidden[:0], is_boundary[:0], document[:0]),
    ):
        assert fit_probe(*given, Fits()) is None


def test_a_fit_that_did_not_converge_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, is_boundary, document = planted(n=1000)
    fits = Fits()
    fit_probe(hidden, is_boundary, document, fits)
    assert (fits.n, fits.notes("probes")) == (len(REGULARISATIONS) + 1, [])
    monkeypatch.setattr(ceiling, "MAX_ITERATIONS", 1)
    assert fit_probe(hidden, is_boundary, document, fits) is not None
    assert fits.n_unconverged > 0
    said = f"{fits.n_unconverged} of {fits.n} probes did not converge; their scores are a little too low"
    assert fits.notes("probes") == [said]


def test_the_order_of_documents_does_not_change_the_probe() -> None:
    hidden, is_boundary, document = planted(n=2000)
    at = np.argsort(-document, kind="stable")
    one, other = (
        fitted(hidden, is_boundary, document),
        fitted(hidden[at], is_boundary[at], 19 - document[at]),
    )
    assert one.weight == pytest.approx(other.weight, rel=1e-3, abs=1e-6)
    assert one.held_out_auc == pytest.approx(other.held_out_auc, abs=1e-6)
