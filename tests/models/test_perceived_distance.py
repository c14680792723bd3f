"""Distances between two places of a text: by hand, additive, and ordinary where the model is."""

from __future__ import annotations

import math

import pytest
import torch

from lrope_interp.errors import LRopeError

TEXT = "one two 中文 three"


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("per_head", [False, True])
def test_the_distances_are_those_worked_out_by_hand(make_model, mode, per_head):
    model = make_model(increments=mode, per_head=per_head)
    found = model.perceived_distance(TEXT, "two", "文")
    assert found.n_tokens == 7
    _, cache = model.run_with_cache(TEXT)
    for layer in range(2):
        increments = cache["increments", layer][0].double()
        summed = increments[8:15].sum(0)  # EOS stands first: "two" ends at index 7, the character at 14
        torch.testing.assert_close(found.summed[layer], summed)
        torch.testing.assert_close(found.normalised[layer], summed / increments[1:].mean(0))
        for head in range(2):
            d = float(summed[head] if per_head else summed)
            energies = _energies(cache["q", layer][0, 1:], cache["k", layer][0, 1:])
            energies = energies[head] if per_head else [sum(both) for both in zip(*energies, strict=True)]
            cosines = [math.cos(d * model.cfg.rope_base ** (-2 * k / 8)) for k in range(4)]
            expected = 1 - sum(e * c for e, c in zip(energies, cosines, strict=True)) / sum(energies)
            ours = found.effective[layer][head] if per_head else found.effective[layer]
            assert float(ours) == pytest.approx(expected, abs=1e-6)


def _energies(q: torch.Tensor, k: torch.Tensor) -> list[list[float]]:
    """Mean of |q_k| |k_k| over all pairs of tokens, [head][plane], one pair at a time."""
    n = len(q)
    return [
        [
            sum(
                math.hypot(float(q[s, head, p]), float(q[s, head, p + 4]))
                * math.hypot(float(k[t, head, p]), float(k[t, head, p + 4]))
                for s in range(n)
                for t in range(n)
            )
            / n**2
            for p in range(4)
        ]
        for head in range(2)
    ]


def test_distances_add_up_and_do_not_depend_on_the_order(make_model):
    model = make_model()
    ab, bc, ac = (model.perceived_distance(TEXT, *pair) for pair in ((0, "two"), ("two", 9), (0, 9)))
    torch.testing.assert_close(ab.summed + bc.summed, ac.summed)
    torch.testing.assert_close(model.perceived_distance(TEXT, 9, 0).effective, ac.effective)
    same = model.perceived_distance(TEXT, 3, (2, 4))
    assert same.n_tokens == 0 and not same.summed.any() and not same.effective.abs().max() > 1e-12


def test_a_fixed_model_takes_every_byte_for_one(make_model):
    found = make_model(increments="fixed").perceived_distance(TEXT, (0, 3), len(TEXT) - 1)
    assert torch.equal(found.normalised, torch.full((2,), float(found.n_tokens), dtype=torch.float64))
    assert (found.effective > 0).all() and (found.effective < 2).all()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("o", "occurs 2 times"),
        ("x", "occurs 0 times"),
        ("", "once"),
        (99, "outside"),
        ((3, 3), "must be below"),
    ],
)
def test_a_place_that_is_none_is_refused(make_model, place, message):
    with pytest.raises(LRopeError, match=message):
        make_model().perceived_distance(TEXT, 0, place)
