"""Layers of two runs that swap roles are found again, whatever their sign."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from lrope_interp.probes.boundaries.matching import match_layers, spearman_matrix


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=(3, 400)).astype(np.float32)
    other = (own[[2, 0]] + rng.normal(size=(2, 400))).astype(np.float32).round(1)
    found = spearman_matrix(own, other)
    for i, j in np.ndindex(3, 2):
        assert found[i, j] == pytest.approx(spearmanr(own[i], other[j]).statistic, abs=1e-9)


def test_a_constant_layer_is_correlated_with_nothing() -> None:
    own = np.stack([np.ones(50), np.arange(50)]).astype(np.float32)
    assert spearman_matrix(own, own).tolist() == [[0, 0], [0, pytest.approx(1)]]


@pytest.mark.parametrize("seed", range(5))
def test_swapped_and_inverted_layers_are_matched(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(6, 500)).astype(np.float32)
    order = rng.permutation(6)
    signs = rng.choice([-1, 1], size=(6, 1))
    other = (signs * own[order] + rng.normal(size=(6, 500))).astype(np.float32)
    assert match_layers(spearman_matrix(own, other)) == [(int(order[k]), k) for k in np.argsort(order)]


def test_the_assignment_is_the_best_as_a_whole_not_pair_by_pair() -> None:
    correlation = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert match_layers(correlation) == [(0, 1), (1, 0)], "0.8 + 0.85 beats 0.9 + 0.1"
