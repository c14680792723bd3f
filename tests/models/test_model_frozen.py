"""Increments that a fixed model is given: a table by token, or another model's own."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from safetensors.torch import save_file
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import (
    ContextualIncrements,
    LexicalIncrements,
    attach_increments,
    attached_increments,
    increments_name,
)

TOKENS = torch.tensor([[256, 97, 98, 32, 99, 97, 46, 32], [256, 32, 32, 200, 97, 0, 1, 2]])


@pytest.fixture(params=["lexical", "contextual"])
def kind(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["one", "per_head"])
def frozen_model(make_model, kind, request):
    """A fixed model with increments from elsewhere, none of them 1."""
    return _frozen_model(make_model, kind, request.param)


def _frozen_model(make_model, kind, per_head=False, **config):
    model = make_model(seed=1, increments="fixed", per_head=per_head, **config)
    attach_increments(model, _increments(make_model, kind, per_head))
    return model


def _increments(make_model, kind, per_head=False):
    if kind == "contextual":
        return ContextualIncrements(make_model(seed=2, per_head=per_head))
    shape = (2, 257, 2) if per_head else (2, 257)
    return LexicalIncrements(3 * torch.rand(shape, generator=torch.Generator().manual_seed(3)))


def _by_hand(model, tokens):
    """Return the logits of a plain fixed model under hooks that give the same increments."""
    frozen, plain = attached_increments(model), copy.deepcopy(model)
    plain.reset_hooks(including_permanent=True)
    assert attached_increments(plain) is None
    if isinstance(frozen, LexicalIncrements):
        wanted = [frozen.table[layer][tokens] for layer in range(2)]
    else:
        assert isinstance(frozen, ContextualIncrements)
        names = [f"blocks.{layer}.hook_increments" for layer in range(2)]
        _, cache = frozen.source.run_with_cache(tokens, names_filter=names)
        wanted = [cache[name] for name in names]
    hooks = [
        (f"blocks.{layer}.hook_increments", lambda old, hook, new=new: new)
        for layer, new in enumerate(wanted)
    ]
    return plain.run_with_hooks(tokens, fwd_hooks=hooks)


def test_it_equals_a_hook_written_by_hand_bit_for_bit(frozen_model):
    assert torch.equal(frozen_model(TOKENS), _by_hand(frozen_model, TOKENS))


def test_they_are_no_part_of_the_model_and_can_be_read_overwritten_and_taken_off(make_model, frozen_model):
    plain = make_model(seed=1, increments="fixed", per_head=frozen_model.cfg.per_head)
    assert frozen_model.state_dict().keys() == plain.state_dict().keys()
    assert frozen_model.n_params_total == plain.n_params_total
    _, cache = frozen_model.run_with_cache(TOKENS)
    assert not torch.equal(cache["increments", 0], cache["increments", 1])
    assert cache["increments", 0].dtype == torch.float32
    freeze = [(f"blocks.{layer}.hook_increments", lambda old, hook: old * 0 + 1) for layer in range(2)]
    assert torch.equal(frozen_model.run_with_hooks(TOKENS, fwd_hooks=freeze), plain(TOKENS))
    assert not torch.equal(frozen_model(TOKENS), plain(TOKENS))
    frozen_model.reset_hooks()
    assert attached_increments(frozen_model) is not None
    frozen_model.reset_hooks(including_permanent=True)
    assert torch.equal(frozen_model(TOKENS), plain(TOKENS))


def test_a_saved_one_loads_bit_for_bit_and_needs_nothing_else(frozen_model, tmp_path, kind):
    frozen_model.save_pretrained(tmp_path / "saved")
    wanted = frozen_model(TOKENS)
    loaded = LRopeTransformer.from_pretrained(tmp_path / "saved")
    assert increments_name(loaded) == f"frozen_{kind}"
    assert torch.equal(loaded(TOKENS), wanted)
    assert not loaded.training
    assert LRopeTransformer.from_pretrained(tmp_path / "saved", n_ctx=99)(TOKENS.tile(1, 8)).isfinite().all()


def test_a_deep_copy_reads_its_own_tokens(frozen_model):
    wanted = frozen_model(TOKENS)
    copied = copy.deepcopy(frozen_model)
    frozen_model(TOKENS.flip(0))
    assert torch.equal(copied(TOKENS), wanted)
    assert attached_increments(copied) is not attached_increments(frozen_model)


def test_the_source_runs_once_a_pass_in_eval_mode_and_without_a_gradient(make_model):
    model = _frozen_model(make_model, "contextual")
    frozen = attached_increments(model)
    assert isinstance(frozen, ContextualIncrements)
    source = frozen.source
    n_passes = []
    source.add_hook("hook_embed", lambda embedded, hook: n_passes.append(len(embedded)))
    model.train()
    model(TOKENS, return_type="loss").backward()
    assert n_passes == [2]
    assert not source.training
    assert all(parameter.grad is None for parameter in source.parameters())
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_autocast_does_not_reach_the_source(make_model):
    model = _frozen_model(make_model, "contextual")
    names = ["blocks.1.hook_increments"]
    _, wanted = model.run_with_cache(TOKENS, names_filter=names)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, found = model.run_with_cache(TOKENS, names_filter=names)
    assert torch.equal(wanted[names[0]], found[names[0]])


def test_a_watched_gradient_of_the_increments_is_there(frozen_model):
    gradients = []
    hook = ("blocks.1.hook_increments", lambda gradient, hook: gradients.append(gradient))
    wanted = frozen_model(TOKENS)
    with frozen_model.hooks(bwd_hooks=[hook]):
        logits = frozen_model(TOKENS)
        logits.square().sum().backward()
    assert torch.equal(logits, wanted)
    assert gradients[0].abs().sum() > 0


def test_a_pass_that_starts_higher_needs_the_tokens(frozen_model):
    _, cache = frozen_model.run_with_cache(TOKENS, names_filter="blocks.1.hook_resid_pre")
    resid = cache["resid_pre", 1]
    assert torch.equal(frozen_model(resid, start_at_layer=1, tokens=TOKENS), frozen_model(TOKENS))
    with pytest.raises(LRopeError, match="give tokens= with start_at_layer"):
        frozen_model(resid, start_at_layer=1)


def test_a_cache_that_somebody_else_filled_is_refused(make_model):
    model = _frozen_model(make_model, "contextual")
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 2)
    make_model(seed=1, increments="fixed")(TOKENS, past_kv_cache=cache)
    with pytest.raises(LRopeError, match=r"8 tokens, of which .* has read 0"):
        model(TOKENS, past_kv_cache=cache)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"n_layers": 3}, "does not fit this model"),
        ({"d_vocab": 300}, "does not fit this model"),
        ({"per_head": True}, "does not fit this model"),
        ({"increments": "per_layer"}, "increments='per_layer'"),
    ],
)
def test_increments_of_another_shape_are_refused(make_model, kind, config, message):
    model = make_model(**({"increments": "fixed"} | config))
    with pytest.raises(LRopeError, match=message):
        attach_increments(model, _increments(make_model, kind))


def test_what_cannot_be_attached_or_read_is_refused(make_model, frozen_model, kind):
    with pytest.raises(LRopeError, match=f"frozen_{kind}"):
        attach_increments(frozen_model, _increments(make_model, kind))
    with pytest.raises(LRopeError, match="frozen_"):
        frozen_model.to_hf_llama()
    with pytest.raises(LRopeError, match="n_ctx is 32 there and 64 here"):
        _frozen_model(make_model, "contextual", n_ctx=64)
    with pytest.raises(LRopeError, match="learned its own"):
        ContextualIncrements(make_model(increments="fixed"))
    hook = ("hook_embed", _increments(make_model, kind))
    with pytest.raises(LRopeError, match="attach_increments"):
        make_model().run_with_hooks(TOKENS, fwd_hooks=[hook])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"not a tensor"), "not a safetensors file"),
        (lambda path: path.unlink(), "copy the whole folder"),
        (lambda path: save_file({"increments": torch.ones(2, 9)}, path), "does not fit this model"),
        (lambda path: save_file({"increments": torch.ones(9)}, path), "is float32 and"),
        (lambda path: save_file({"increments": torch.full((2, 257), torch.nan)}, path), "not finite"),
        (lambda path: save_file({"other": torch.ones(2, 257)}, path), "one tensor"),
    ],
)
def test_a_damaged_table_is_refused(make_model, tmp_path, damage, message):
    _frozen_model(make_model, "lexical").save_pretrained(tmp_path)
    damage(tmp_path / "increments.safetensors")
    with pytest.raises(LRopeError, match=message):
        LRopeTransformer.from_pretrained(tmp_path)


def test_a_lost_or_pickled_source_is_refused(make_model, tmp_path):
    _frozen_model(make_model, "contextual").save_pretrained(tmp_path)
    weights = tmp_path / "increments" / "model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(LRopeError, match="is a pickle"):
        LRopeTransformer.from_pretrained(tmp_path)
    payload = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(payload | {"frozen": "lexicl"}))
    with pytest.raises(LRopeError, match="Did you mean 'lexical'"):
        LRopeTransformer.from_pretrained(tmp_path)


def test_saving_a_plain_model_over_a_frozen_one_leaves_no_increments(make_model, tmp_path, kind):
    _frozen_model(make_model, kind).save_pretrained(tmp_path)
    plain = make_model(seed=1, increments="fixed")
    plain.save_pretrained(tmp_path)
    assert torch.equal(LRopeTransformer.from_pretrained(tmp_path)(TOKENS), plain(TOKENS))
