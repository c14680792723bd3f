"""Interventions at their neutral setting, against loops of numpy, and what is drawn how often."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from intervention_samples import (
    LEARNED,
    MODES,
    OTHER,
    TEXT,
    MakeModel,
    by_hand,
    change,
    fitted_on,
    increments_of,
    logits_of,
    loss_of,
    model_of,
    occurrences,
    tokens_of,
    written_by,
)
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.hooked_model import Activations
from lrope_interp.probes.ablations.attach import ablation_hooks
from lrope_interp.probes.ablations.interventions import (
    Intervention,
    at,
    circular_shift,
    freeze,
    layer_mean,
    lexical_mean,
    local_edit,
    on_heads,
    restore,
    same_byte_resample,
    scale,
    shuffle,
    then,
)

TOKENS = tokens_of(TEXT, OTHER)
MASK = torch.zeros(TOKENS.shape, dtype=torch.bool)
MASK[0, [4, 5, 10, 31]] = True
MASK[1, [2, 9]] = True
ALL = (0, 1, 2)


def ablated_logits(model: LRopeTransformer, written: Intervention, layers=ALL, **kwargs: object) -> Tensor:
    hooks = ablation_hooks(written, layers=layers, model=model)
    out = logits_of(model, TOKENS, hooks, **kwargs)
    hooks.check_fired()
    return out


def increments_cache(model: LRopeTransformer) -> Activations:
    """A cache of increments alone: one of the pattern would send attention through another kernel."""
    with torch.no_grad():
        return model.run_with_cache(TOKENS, names_filter=lambda name: name.endswith("hook_increments"))[1]


def constant_model(make_model: MakeModel, *values: float) -> LRopeTransformer:
    """A learned model whose layers have one increment each."""
    model = make_model(n_layers=len(values), n_ctx=64)
    with torch.no_grad():
        for block, value in zip(model.blocks, values, strict=True):
            block.increments.W_out.zero_()
            block.increments.b_out.fill_(-np.log(10 / value - 1))
    return model


@pytest.mark.parametrize("mode", MODES)
def test_at_its_neutral_setting_an_intervention_changes_no_bit(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)
    untouched = logits_of(model, TOKENS)
    clean = increments_cache(model)
    neutral = {
        "scale": scale(1.0),
        "restore": restore(),
        "restore from its own cache": restore(clean),
        "shift": circular_shift(0),
        "at": at(MASK, restore()),
        "local": local_edit(restore()),
        "local at": local_edit(at(MASK, restore(clean))),
        "then": then(scale(1.0), restore(), circular_shift(0)),
        "nothing": then(),
    }
    for name, written in neutral.items():
        assert torch.equal(ablated_logits(model, written), untouched), name
    assert change(ablated_logits(model, scale(1.5)), untouched) > 0.01, "a blind comparison"


def test_a_fixed_model_frozen_to_one_or_rearranged_is_the_same_to_the_bit(make_model: MakeModel) -> None:
    model = model_of(make_model, "fixed")
    untouched, fitted = logits_of(model, TOKENS), fitted_on(model)
    of_ones = [freeze(1.0), freeze(), layer_mean(fitted), lexical_mean(fitted), same_byte_resample(fitted)]
    for written in (*of_ones, shuffle(), circular_shift(), local_edit(at(MASK, freeze(1.0)))):
        assert torch.equal(ablated_logits(model, written), untouched)
    assert change(ablated_logits(model, freeze(2.0)), untouched) > 0.01


def test_freezing_a_constant_to_itself_changes_no_bit(make_model: MakeModel) -> None:
    model = constant_model(make_model, 3.0)
    value = float(increments_of(model, TOKENS, 0)[0, 1, 0])
    assert value == pytest.approx(3, abs=1e-5)
    untouched = logits_of(model, TOKENS)
    assert torch.equal(ablated_logits(model, freeze(value), [0]), untouched)
    assert torch.equal(ablated_logits(model, layer_mean(fitted_on(model)), [0]), untouched)
    assert change(ablated_logits(model, freeze(1.0), [0]), untouched) > 0.01


@pytest.mark.parametrize("mode", LEARNED)
def test_the_mean_of_each_byte_changes_nothing_where_the_byte_is_all_that_is_read(
    make_model: MakeModel, mode: str
) -> None:
    model = model_of(make_model, mode)
    fitted, untouched = fitted_on(model), logits_of(model, TOKENS)
    counts = np.diff(fitted.first)
    assert (counts[TOKENS[:, 1:].numpy()] > 0).all(), "the fit text lacks a byte"
    for made in (lexical_mean, same_byte_resample):
        same = ablated_logits(model, made(fitted), ALL if mode == "shared" else [0])
        assert change(same, untouched) < 2e-4
        assert loss_of(same, TOKENS) == pytest.approx(loss_of(untouched, TOKENS), abs=1e-5)
        if mode != "shared":
            assert change(ablated_logits(model, made(fitted), [1]), untouched) > 1e-3
    assert change(ablated_logits(model, layer_mean(fitted), [0]), untouched) > 1e-2


def constant(value: float):
    return lambda increments, layer, tokens: np.full_like(increments, value)


def mean_rule(model: LRopeTransformer):
    means = {
        layer: np.mean([v for vs in occurrences(model, layer).values() for v in vs], axis=0) for layer in ALL
    }
    return lambda increments, layer, tokens: np.broadcast_to(means[layer], increments.shape)


def lexical_rule(model: LRopeTransformer):
    tables = {layer: {t: np.mean(v, 0) for t, v in occurrences(model, layer).items()} for layer in ALL}
    missing = mean_rule(model)

    def rule(increments: np.ndarray, layer: int, tokens: np.ndarray) -> np.ndarray:
        out = np.array(missing(increments, layer, tokens))
        for row, pos in itertools.product(*map(range, tokens.shape)):
            out[row, pos] = tables[layer].get(int(tokens[row, pos]), out[row, pos])
        return out

    return rule


def shifted_right(offset: int):
    def rule(increments: np.ndarray, layer: int, tokens: np.ndarray) -> np.ndarray:
        rest = increments[:, 1:]
        n = rest.shape[1]
        moved = np.stack([rest[:, (pos - offset) % n] for pos in range(n)], axis=1)
        return np.concatenate([increments[:, :1], moved], axis=1)

    return rule


def masked(inner):
    mask = MASK.numpy()[..., None]
    return lambda increments, layer, tokens: np.where(mask, inner(increments, layer, tokens), increments)


def compensated(inner):
    """Write the edit, then take its sum back at the token after it."""

    def rule(increments: np.ndarray, layer: int, tokens: np.ndarray) -> np.ndarray:
        out, wanted = np.array(increments), inner(increments, layer, tokens)
        for pos in range(increments.shape[1]):
            out[:, pos] += wanted[:, pos] - increments[:, pos]
            if pos + 1 < increments.shape[1]:
                out[:, pos + 1] -= wanted[:, pos] - increments[:, pos]
        return out

    return rule


@pytest.mark.parametrize("layers", [(2,), ALL], ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_every_intervention_equals_a_loop_by_hand(
    make_model: MakeModel, mode: str, layers: tuple[int, ...]
) -> None:
    model = model_of(make_model, mode)
    fitted, mean = fitted_on(model), mean_rule(model)
    pairs = {
        "freeze": (freeze(1.0), constant(1.0)),
        "freeze to 2.5": (freeze(2.5), constant(2.5)),
        "mean": (layer_mean(fitted), mean),
        "lexical": (lexical_mean(fitted), lexical_rule(model)),
        "shift": (circular_shift(3), shifted_right(3)),
        "shift back": (circular_shift(-5), shifted_right(-5)),
        "scale": (scale(0.25), lambda increments, layer, tokens: increments * 0.25),
        "at": (at(MASK, freeze(4.0)), masked(constant(4.0))),
        "local": (local_edit(at(MASK, freeze(4.0))), compensated(masked(constant(4.0)))),
        "not compensated": (local_edit(at(MASK, layer_mean(fitted)), compensate=False), masked(mean)),
        "then": (
            then(scale(2.0), at(MASK, freeze(1.0))),
            lambda *given: masked(constant(1.0))(given[0] * 2, *given[1:]),
        ),
    }
    for name, (written, rule) in pairs.items():
        wanted, got = by_hand(model, TOKENS, rule, layers), ablated_logits(model, written, layers)
        assert change(got, wanted) < 2e-4, name
        assert loss_of(got, TOKENS) == pytest.approx(loss_of(wanted, TOKENS), abs=1e-5), name


@pytest.mark.parametrize("mode", MODES)
def test_a_compensated_edit_moves_the_marked_tokens_and_no_other(make_model: MakeModel, mode: str) -> None:
    model = model_of(make_model, mode)

    def positions(written: Intervention) -> np.ndarray:
        with model.hooks(fwd_hooks=ablation_hooks(written, layers=1)), torch.no_grad():
            found = model.run_with_cache(TOKENS)[1]["positions", 1].numpy()
        return found if found.ndim == 3 else found[..., None]

    own, edit = positions(restore()), at(MASK, scale(3.0))
    compensated, plain = positions(local_edit(edit)), positions(local_edit(edit, compensate=False))
    is_marked = MASK.numpy()
    wanted = 2 * increments_of(model, TOKENS, 1)
    np.testing.assert_allclose((compensated - own)[is_marked], wanted[is_marked], atol=1e-5)
    np.testing.assert_allclose(compensated[~is_marked], own[~is_marked], atol=1e-5)
    np.testing.assert_allclose(
        plain - own, np.cumsum(np.where(is_marked[..., None], wanted, 0), axis=1), atol=1e-4
    )


def test_restoring_from_a_clean_cache_undoes_another_intervention(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    untouched, clean = logits_of(model, TOKENS), increments_cache(model)
    everywhere = ablated_logits(model, freeze(1.0))
    back_at_1 = {0: freeze(1.0), 1: restore(clean), 2: freeze(1.0)}
    partly = ablated_logits(model, back_at_1, None)  # pyright: ignore[reportArgumentType]
    assert change(partly, everywhere) > 1e-3
    assert torch.equal(ablated_logits(model, then(freeze(1.0), restore(clean))), untouched)
    lacking = model.run_with_cache(TOKENS, names_filter="blocks.0.hook_increments")[1]
    with pytest.raises(LRopeError, match=r"lacks blocks\.1\.hook_increments"):
        ablated_logits(model, restore(lacking))
    with pytest.raises(LRopeError, match=r"must return increments of shape \[2, 32\]; got \[1, 32\]"):
        ablated_logits(model, restore(model.run_with_cache(TOKENS[:1])[1]))


def test_masks_of_one_row_serve_every_row(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_head")
    marked = MASK[0]
    both = ablated_logits(model, at(marked.expand(2, -1), freeze(1.0)))
    for mask in (marked, marked[None], marked.numpy()):
        assert torch.equal(ablated_logits(model, at(mask, freeze(1.0))), both)
    with pytest.raises(LRopeError, match=r"mask of shape \[31\] does not fit sequences of shape \[2, 32\]"):
        ablated_logits(model, at(marked[1:], freeze(1.0)))
    with pytest.raises(LRopeError, match=r"mask of shape \[3, 32\]"):
        ablated_logits(model, at(marked.expand(3, -1), freeze(1.0)))
    with pytest.raises(LRopeError, match="True nowhere"):
        at(torch.zeros(32, dtype=torch.bool), freeze(1.0))


def test_heads_are_ablated_alone_and_all_of_them_are_all(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_head")
    whole = ablated_logits(model, scale(2.0))
    assert torch.equal(ablated_logits(model, on_heads([1, 0], scale(2.0))), whole)
    own = increments_of(model, TOKENS, 2)
    got = written_by(model, on_heads([1], freeze(7.0)), 2, TOKENS)
    assert np.array_equal(got[..., 0], own[..., 0])
    assert (got[..., 1] == 7).all()
    assert torch.equal(
        ablated_logits(model, then(on_heads([0], scale(2.0)), on_heads([1], scale(2.0)))), whole
    ), "one head after the other"
    for wrong in ([2], [-1, 0]):
        with pytest.raises(LRopeError, match="heads 0 to 1"):
            ablated_logits(model, on_heads(wrong, freeze(1.0)))
    with pytest.raises(LRopeError, match="at least one head"):
        on_heads([], freeze(1.0))
    with pytest.raises(LRopeError, match="share their increments"):
        ablated_logits(model_of(make_model, "per_layer"), on_heads([0], freeze(1.0)))


def test_statistics_of_another_model_are_refused(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    fitted = fitted_on(model)
    for made in (layer_mean, lexical_mean, same_byte_resample):
        with pytest.raises(LRopeError, match=r"3 layers with 1 increments a token and do not fit"):
            ablated_logits(model_of(make_model, "per_head"), made(fitted))
        with pytest.raises(LRopeError, match=r"do not fit blocks\.3\.hook_increments"):
            ablated_logits(make_model(n_layers=4), made(fitted), [3])
    for made in (lexical_mean, same_byte_resample):
        wide = make_model(n_layers=3, d_vocab=300)
        with pytest.raises(LRopeError, match="257 token ids and the text has id 299"):
            logits_of(wide, torch.tensor([[256, 299]]), ablation_hooks(made(fitted), layers=0))


def test_an_intervention_that_needs_tokens_belongs_on_increments_only(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_layer")
    for written in (lexical_mean(fitted_on(model)), shuffle()):
        with pytest.raises(LRopeError, match=r"belongs on blocks\.N\.hook_increments"):
            logits_of(model, TOKENS, [("blocks.0.hook_increments_pre", written)])


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
