"""Interventions that draw: from what, how often, and what a seed decides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from intervention_samples import (
    LEARNED,
    OTHER,
    TEXT,
    MakeModel,
    fitted_on,
    increments_of,
    model_of,
    occurrences,
    tokens_of,
    written_by,
)

from lrope_interp.errors import LRopeError
from lrope_interp.probes.ablations.interventions import circular_shift, same_byte_resample, shuffle

TOKENS = tokens_of(TEXT, OTHER)
ALL = (0, 1, 2)


@pytest.mark.parametrize("mode", LEARNED)
def test_a_resample_draws_among_occurrences_of_the_same_byte(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)
    tokens = tokens_of(TEXT[:-1] + "Z", OTHER)
    for layer in ALL:
        found = occurrences(model, layer)
        drawn = written_by(model, same_byte_resample(fitted_on(model)), layer, tokens)
        everything = [value for values in found.values() for value in values]
        for row, pos in itertools.product(*map(range, tokens.shape)):
            choices = np.array(found.get(int(tokens[row, pos]), everything))
            distance = np.abs(choices - drawn[row, pos]).max(axis=-1).min()
            assert distance < 1e-5, "all heads take the same occurrence of the same byte"
    assert ord("Z") not in found, "nothing tried a byte that the fit text lacks"


def test_a_resample_draws_every_occurrence_equally_often(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    found = np.ravel(occurrences(model, 2)[ord("a")])
    tokens = tokens_of(*("a" * 58 + f"{row:02}" for row in range(40)))
    drawn = written_by(model, same_byte_resample(fitted_on(model)), 2, tokens)[:, 1:59, 0].ravel()
    counts = np.bincount(np.abs(found[:, None] - drawn).argmin(axis=0), minlength=len(found))
    expected = len(drawn) / len(found)
    assert len(found) >= 5
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


@pytest.mark.parametrize("mode", LEARNED)
def test_a_shuffle_permutes_all_tokens_but_the_first(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)
    for layer in ALL:
        own = increments_of(model, TOKENS, layer)
        got = written_by(model, shuffle(3), layer, TOKENS)
        assert np.array_equal(got[:, 0], own[:, 0])
        for row in range(len(own)):
            assert not np.array_equal(got[row], own[row])
            assert sorted(map(tuple, got[row, 1:])) == sorted(map(tuple, own[row, 1:])), "heads stay together"
    by_layer = [np.argsort(written_by(model, shuffle(3), layer, TOKENS)[0, 1:, 0]) for layer in ALL]
    assert not np.array_equal(by_layer[0], by_layer[1]), "each layer draws its own order"


def test_every_order_of_a_shuffle_is_as_likely(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    tokens = tokens_of(*map("".join, itertools.permutations("abcdefgh", 3)))
    own, got = increments_of(model, tokens, 0)[:, 1:, 0], written_by(model, shuffle(), 0, tokens)[:, 1:, 0]
    orders = [
        tuple(int(np.flatnonzero(before == value)[0]) for value in after)
        for before, after in zip(own, got, strict=True)
    ]
    counts = [orders.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == len(tokens) == 336
    assert min(counts) > 30, counts


def test_a_drawn_shift_lies_within_its_bounds_and_takes_all_of_them(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    tokens = tokens_of(*(TEXT[:-3] + f"{row:03}" for row in range(120)))
    own, got = increments_of(model, tokens, 0)[..., 0], written_by(model, circular_shift(), 0, tokens)[..., 0]
    assert np.array_equal(got[:, 0], own[:, 0])
    n = own.shape[1] - 1
    seen = {
        next(offset for offset in range(n) if np.array_equal(np.roll(before, offset), after))
        for before, after in zip(own[:, 1:], got[:, 1:], strict=True)
    }
    least = n // 4
    assert seen == set(range(least, n - least + 1))


@pytest.mark.parametrize("draws", [shuffle, circular_shift, same_byte_resample])
def test_a_seed_decides_what_is_drawn(make_model: MakeModel, draws) -> None:
    model = model_of(make_model, "per_layer")
    given = (fitted_on(model),) if draws is same_byte_resample else ()
    one, same, other = (written_by(model, draws(*given, seed=seed), 2, TOKENS) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, written_by(model, draws(*given, seed=2**63 + 1), 2, TOKENS))
    for wrong in (-1, 2**64):
        with pytest.raises(LRopeError, match="a seed is a whole number from 0"):
            draws(*given, seed=wrong)
