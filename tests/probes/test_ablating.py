"""Attaching interventions: what is refused, what never fired, and what stays when the block ends."""

from __future__ import annotations

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from intervention_samples import EOS, TEXT, MakeModel, change, increments_of, logits_of, model_of, tokens_of
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.attach import ablated, ablation_hooks
from lrope_interp.probes.ablations.interventions import (
    Intervention,
    at,
    circular_shift,
    freeze,
    layer_mean,
    local_edit,
    on_heads,
    restore,
    scale,
    shuffle,
    then,
)

TOKENS = tokens_of(TEXT)


@pytest.fixture
def model(make_model: MakeModel) -> LRopeTransformer:
    return model_of(make_model, "per_layer")


def n_hooks(model: LRopeTransformer) -> int:
    return sum(len(point.fwd_hooks) for point in model.hook_dict.values())


def test_a_block_a_call_and_a_hook_by_hand_are_the_same(model: LRopeTransformer) -> None:
    by_hand = [("blocks.1.hook_increments", lambda increments, hook: torch.ones_like(increments))]
    wanted = logits_of(model, TOKENS, by_hand)
    assert torch.equal(logits_of(model, TOKENS, ablation_hooks(freeze(), layers=[1])), wanted)
    assert torch.equal(logits_of(model, TOKENS, ablation_hooks({1: freeze()})), wanted)
    with ablated(model, freeze(), layers=1):
        assert torch.equal(logits_of(model, TOKENS), wanted)
    with ablated(model, {1: freeze()}) as hooks:
        assert torch.equal(logits_of(model, TOKENS), wanted)
    assert [name for name, _ in hooks] == ["blocks.1.hook_increments"]
    assert change(wanted, logits_of(model, TOKENS)) > 0.01


def test_layers_default_to_all_and_may_each_have_their_own(model: LRopeTransformer) -> None:
    names = [name for name, _ in ablation_hooks(freeze(), model=model)]
    assert names == [f"blocks.{layer}.hook_increments" for layer in range(3)]
    assert [name for name, _ in ablation_hooks(freeze(), layers=[2, 0, 2])] == [names[0], names[2]]
    assert [name for name, _ in ablation_hooks({2: freeze(), 0: freeze()}, layers=0)] == [names[0]]
    with ablated(model, {0: freeze(2.0), 2: freeze(3.0)}):
        found = [increments_of(model, TOKENS, layer) for layer in range(3)]
    assert (found[0] == 2).all()
    assert found[1].std() > 0.01
    assert (found[2] == 3).all()


def test_heads_are_named_beside_layers(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_head")
    own = increments_of(model, TOKENS, 2)
    for heads in (1, [1]):
        with ablated(model, freeze(5.0), layers=[2], heads=heads):
            found = increments_of(model, TOKENS, 2)
        assert (found[..., 0] == own[..., 0]).all()
        assert (found[..., 1] == 5).all()
    with pytest.raises(LRopeError, match="heads 0 to 1, not"), ablated(model, freeze(), heads=2):
        model(TOKENS)


def test_an_intervention_that_never_fired_is_an_error(model: LRopeTransformer) -> None:
    with pytest.raises(LRopeError, match=r"blocks\.0\.hook_increments never fired"), ablated(model, freeze()):
        pass
    resid = model(TOKENS, stop_at_layer=1)
    for layers, given, how in (
        ([0, 2], TOKENS, {"stop_at_layer": 2}),
        ([0], resid, {"start_at_layer": 1}),
    ):
        missed = rf"blocks\.{layers[-1]}\.hook_increments never fired"
        with pytest.raises(LRopeError, match=missed), ablated(model, freeze(), layers=layers):
            model(given, **how)
        with pytest.raises(LRopeError, match="never fired"):
            logits_of(model, given, ablation_hooks(freeze(), layers=layers), **how)
    with ablated(model, freeze(), layers=[0, 1]):
        model(TOKENS, stop_at_layer=2)
    hooks = ablation_hooks(freeze(), model=model)
    with model.hooks(fwd_hooks=hooks):
        model(TOKENS, stop_at_layer=2)
    with pytest.raises(LRopeError, match=r"blocks\.2\.hook_increments never fired"):
        hooks.check_fired()
    logits_of(model, TOKENS, hooks)
    hooks.check_fired()
    assert [attached.n_fired for _, attached in hooks] == [2, 2, 1]


def test_an_exception_is_passed_on_and_leaves_no_hook(model: LRopeTransformer) -> None:
    untouched = logits_of(model, TOKENS)
    with pytest.raises(ZeroDivisionError), ablated(model, freeze()):
        raise ZeroDivisionError
    assert not n_hooks(model)

    def breaks(increments: Tensor, hook: object) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ablated(model, breaks):
        model(TOKENS)
    assert not n_hooks(model)
    assert all("stream" not in point.ctx for point in model.hook_dict.values())
    assert torch.equal(logits_of(model, TOKENS), untouched)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda increments, hook: None, r"shape \[1, 32\]; got NoneType"),
        (lambda increments, hook: increments[..., None], r"got \[1, 32, 1\]"),
        (lambda increments, hook: increments.double(), "torch.float32 numbers; got torch.float64"),
        (
            lambda increments, hook: torch.where(increments == increments.max(), torch.inf, increments),
            "1 of them not finite",
        ),
    ],
)
def test_what_is_no_increments_is_refused(model: LRopeTransformer, write: Intervention, message: str) -> None:
    with pytest.raises(LRopeError, match=r"blocks\.1\.hook_increments must return .*" + message):
        logits_of(model, TOKENS, ablation_hooks(write, layers=[1]))


def test_hooks_of_the_users_own_stay_and_run_first(model: LRopeTransformer) -> None:
    seen: list[float] = []

    def mine(increments: Tensor, hook: object) -> Tensor:
        seen.append(float(increments.std()))
        return torch.full_like(increments, 4.0)

    model.add_hook("blocks.0.hook_increments", mine)
    try:
        with ablated(model, scale(0.5), layers=0):
            assert (increments_of(model, TOKENS, 0) == 2).all()
        assert (increments_of(model, TOKENS, 0) == 4).all()
        assert seen[0] > 0.1
    finally:
        model.reset_hooks()
    assert increments_of(model, TOKENS, 0).std() > 0.1


def test_blocks_nest_and_the_inner_one_gets_what_the_outer_wrote(model: LRopeTransformer) -> None:
    with ablated(model, freeze(2.0)):
        with ablated(model, scale(1.5), layers=[1]):
            assert (increments_of(model, TOKENS, 1) == 3).all()
            assert (increments_of(model, TOKENS, 0) == 2).all()
        assert (increments_of(model, TOKENS, 1) == 2).all()
        own = [("blocks.1.hook_increments", lambda increments, hook: increments + 1)]
        with model.hooks(fwd_hooks=own):
            assert (increments_of(model, TOKENS, 1) == 3).all()
        logits_of(model, TOKENS, own)
        assert (increments_of(model, TOKENS, 1) == 2).all(), "run_with_hooks takes off its own hooks only"
    assert not n_hooks(model)


def test_a_cache_shows_what_was_written_and_where_it_led(model: LRopeTransformer) -> None:
    with ablated(model, freeze(2.0), layers=1), torch.no_grad():
        logits, cache = model.run_with_cache(TOKENS)
        plain = model(TOKENS)
    assert (cache["increments", 1] == 2).all()
    assert torch.equal(cache["positions", 1], 2 * torch.arange(1, 33, dtype=torch.float64)[None])
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=1e-5)


def test_taking_the_hooks_off_inside_a_block_is_an_error(model: LRopeTransformer) -> None:
    def run(*, before: bool) -> None:
        with ablated(model, freeze()):
            if before:
                model(TOKENS)
            model.reset_hooks()
            model(TOKENS)

    with pytest.raises(LRopeError, match=r"blocks\.0\.hook_increments was taken off"):
        run(before=True)
    with pytest.raises(LRopeError, match="never fired"):
        run(before=False)
    assert not n_hooks(model)


def test_text_is_written_under_ablation(model: LRopeTransformer) -> None:
    how = {"do_sample": False, "verbose": False, "stop_at_eos": False, "return_type": "tokens"}
    prompt = torch.tensor([[EOS, *b"The peace"]])
    untouched = model.generate(prompt, 10, **how)
    with ablated(model, freeze(9.0)) as hooks:
        frozen = model.generate(prompt, 10, **how)
        assert hooks[0][1].n_fired == 10, "a pass a token"
        slowly = model.generate(prompt, 10, use_past_kv_cache=False, **how)
    assert not torch.equal(frozen, untouched)
    assert torch.equal(frozen, slowly)
    assert torch.equal(model.generate(prompt, 10, **how), untouched)
    with pytest.raises(LRopeError, match="shuffle needs the whole sequence"), ablated(model, shuffle()):
        model.generate(prompt, 3, **how)


def test_gradients_flow_through_what_is_written(model: LRopeTransformer) -> None:
    weight = model.blocks[1].increments.W_out
    with ablated(model, scale(0.5), layers=1):
        model(TOKENS, return_type="loss").backward()
    assert float(weight.grad.abs().max()) > 0
    model.zero_grad()
    with ablated(model, freeze(2.0), layers=1):
        model(TOKENS, return_type="loss").backward()
    assert weight.grad is None


REFUSED: list[tuple[Callable[[LRopeTransformer], object], str]] = [
    (lambda model: ablation_hooks(freeze(), layers=[3], model=model), "layers 0 to 2, not 3"),
    (lambda model: ablation_hooks({0: freeze(), 7: freeze()}, model=model), "not 7"),
    (lambda _: ablation_hooks(freeze()), "wants layers=.* or model="),
    (lambda _: ablation_hooks(freeze(), layers=[]), "no layer is named"),
    (lambda _: ablation_hooks({}), "no layer is named"),
    (lambda _: ablation_hooks({0: freeze()}, layers=[0, 1]), "no intervention is given for layer 1"),
    (lambda _: ablation_hooks(freeze(), layers=0, heads=[]), "at least one head"),
    (lambda model: logits_of(model, TOKENS, ablation_hooks(freeze(), layers=-1)), r"blocks\.-1\.hook_incr"),
    (lambda _: ablation_hooks(freeze(), layers="0"), "layers are whole numbers; got '0'"),
    (lambda _: ablation_hooks(freeze(), layers=True), "layers are whole numbers; got True"),
    (lambda _: ablation_hooks(freeze(), layers=0, heads=[None]), "heads are whole numbers"),
    (lambda model: ablated(freeze(), model).__enter__(), "can be ablated; got <function"),
    (lambda _: freeze([1.0, 2.0]), "finite increment"),
    (lambda _: freeze(float("nan")), "finite increment"),
    (lambda _: scale("1"), "finite factor, got '1'"),
    (lambda _: shuffle(1.5), "a seed is a whole number.*got 1.5"),
    (lambda _: circular_shift(0.5), "whole number of tokens, got 0.5"),
    (lambda _: layer_mean(1.0), r"fit_increments.*got 1\.0"),
    (lambda _: restore(torch.ones(3)), "a cache or a dict of activations; got Tensor"),
    (lambda _: at(torch.tensor([3, 5]), freeze()), "a mask is True and False.*int64"),
]


@pytest.mark.parametrize(("attach", "message"), REFUSED)
def test_what_cannot_be_attached_is_refused_in_words(
    model: LRopeTransformer,
    monkeypatch: pytest.MonkeyPatch,
    attach: Callable[[LRopeTransformer], object],
    message: str,
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the user has no type checker
    with pytest.raises(LRopeError, match=message):
        attach(model)
    assert not n_hooks(model)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (2, r"write freeze\(2\)"),
        (shuffle, r"call it, shuffle\(\.\.\.\)"),
        (None, "got None"),
        ([freeze()], "a function of increments"),
    ],
)
def test_what_is_no_intervention_is_refused_before_anything_runs(
    model: LRopeTransformer, monkeypatch: pytest.MonkeyPatch, written: object, message: str
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for attach in (
        lambda: ablation_hooks(written, layers=[0]),
        lambda: ablation_hooks({0: written}),
        lambda: ablated(model, written).__enter__(),
        lambda: then(freeze(), written),
        lambda: on_heads([0], written),
        lambda: at(torch.ones(3, dtype=torch.bool), written),
        lambda: local_edit(written),
    ):
        with pytest.raises(LRopeError, match=message):
            attach()
    assert not n_hooks(model)


def test_layers_and_heads_may_come_from_an_iterator(make_model: MakeModel) -> None:
    model = model_of(make_model, "per_head")
    listed = logits_of(model, TOKENS, ablation_hooks(freeze(5.0), layers=[0, 2], heads=[1]))
    with ablated(model, freeze(5.0), layers=(layer for layer in (0, 2)), heads=(head for head in (1,))):
        assert torch.equal(model(TOKENS), listed)
