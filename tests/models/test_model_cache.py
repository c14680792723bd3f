"""A key-value cache that was edited: exact by `crop` and `reorder`, and refused where positions are stale."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from lrope_interp.errors import LRopeError
from lrope_interp.models import crop, reorder
from lrope_interp.models.frozen import ContextualIncrements, LexicalIncrements, attach_increments
from lrope_interp.models.kv_cache import check_cache

KINDS = [
    *[("per_layer", False), ("per_layer", True), ("shared", False), ("fixed", True)],
    *[("lexical", False), ("contextual", True)],
]
TOKENS = torch.randint(0, 256, (3, 20), generator=torch.Generator().manual_seed(1))
N = 15
ROWS = [2, 0, 0, 1]


@pytest.fixture(params=KINDS, ids=lambda pair: f"{pair[0]}-{'per_head' if pair[1] else 'one'}")
def model(make_model, request):
    kind, per_head = request.param
    if kind in ("per_layer", "shared", "fixed"):
        return make_model(increments=kind, per_head=per_head)
    made = make_model(seed=1, increments="fixed", per_head=per_head)
    shape = (2, 257, 2) if per_head else (2, 257)
    table = 3 * torch.rand(shape, generator=torch.Generator().manual_seed(3))
    source = make_model(seed=2, per_head=per_head)
    attach_increments(made, LexicalIncrements(table) if kind == "lexical" else ContextualIncrements(source))
    return made


def filled(model, tokens=TOKENS[:, :N], mask=None) -> TransformerLensKeyValueCache:
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", len(tokens))
    for part in (slice(0, 9), slice(9, 10), slice(10, None)):
        own = None if mask is None else mask[:, part]
        model(tokens[:, part], past_kv_cache=cache, attention_mask=own)
    return cache


def goes_on_exactly(model, cache, tokens, n_past: int) -> None:
    whole = model(tokens)
    for part in (slice(n_past, n_past + 1), slice(n_past + 1, None)):
        logits = model(tokens[:, part], past_kv_cache=cache)
        torch.testing.assert_close(logits, whole[:, part], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grad", ["grad", "no_grad", "inference"])
def test_a_cropped_cache_goes_on_as_if_it_had_never_been_longer(model, grad):
    modes = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
    with modes[grad]():
        cache = filled(model)
        assert crop(cache, N) is cache
        crop(crop(cache, 12), 10)
        assert cache.previous_attention_mask.shape == (3, 10)
        other = torch.cat([TOKENS[:, :10], TOKENS[:, :8]], dim=1)
        goes_on_exactly(model, copy.deepcopy(cache) if grad != "grad" else cache, other, 10)
        goes_on_exactly(model, crop(filled(model), 1), TOKENS, 1)
        goes_on_exactly(model, crop(filled(model), 0), TOKENS, 0)


def test_reordered_rows_go_on_as_the_rows_that_they_were(model):
    cache = filled(model)
    assert reorder(cache, ROWS) is cache
    goes_on_exactly(model, cache, torch.cat([TOKENS[ROWS, :N], TOKENS[[0, 1, 2, 0], N:]], dim=1), N)
    prefix = filled(model, TOKENS[:1, :N])
    goes_on_exactly(
        model,
        crop(reorder(prefix, torch.tensor([0, 0, 0])), 12),
        torch.cat([TOKENS[[0, 0, 0], :12], TOKENS[:, 12:]], 1),
        12,
    )


def test_a_frozen_cache_is_cropped_and_reordered_like_any_other(model):
    cache = filled(model)
    cache.freeze()
    reorder(crop(cache, 10), ROWS)
    assert cache.frozen and all(entry.frozen for entry in cache.entries)
    tokens = torch.cat([TOKENS[ROWS, :10], TOKENS[[0, 1, 2, 0], :9]], dim=1)
    whole = model(tokens)
    for _ in range(2):
        logits = model(tokens[:, 10:], past_kv_cache=cache)
        torch.testing.assert_close(logits, whole[:, 10:], atol=1e-4, rtol=1e-4)
    cache.unfreeze()
    goes_on_exactly(model, cache, tokens, 10)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_cut_and_reordered_with_its_rows(make_model, side):
    model = make_model(per_head=True)
    mask = torch.ones(3, N, dtype=torch.long)
    for row, n_pads in enumerate((0, 4, 7)):
        mask[row, slice(0, n_pads) if side == "left" else slice(N - n_pads, N)] = 0
    cache = crop(reorder(filled(model, mask=mask), ROWS), 12)
    logits = model(TOKENS[ROWS, N:], past_kv_cache=cache)
    for row, old in enumerate(ROWS):
        kept = TOKENS[old, :12][mask[old, :12].bool()]
        alone = model(torch.cat([kept, TOKENS[old, N:]])[None])[0, len(kept) :]
        torch.testing.assert_close(logits[row], alone, atol=1e-4, rtol=1e-4)


def roll_back(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys[:, :10], entry.past_values[:, :10]
    cache.previous_attention_mask = cache.previous_attention_mask[:, :10]
    return TOKENS, 10


def reorder_by_hand(cache):
    rows = torch.tensor([2, 0, 0])
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys[rows], entry.past_values[rows]
    return TOKENS[rows], N


def reorder_in_place(cache):
    rows = torch.tensor([2, 0, 0])
    for entry in cache.entries:
        entry.past_keys[:], entry.past_values[:] = entry.past_keys[rows], entry.past_values[rows]
    return TOKENS[rows], N


def copy_and_reorder_in_place(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys.clone(), entry.past_values.clone()
    return reorder_in_place(cache)


def rebuild(cache):
    cache.entries = [
        TransformerLensKeyValueCacheEntry(entry.past_keys.clone(), entry.past_values.clone())
        for entry in cache.entries
    ]
    return TOKENS, N


def rebuild_shorter_with_the_old_position(cache):
    entries = []
    for entry in cache.entries:
        entries.append(TransformerLensKeyValueCacheEntry(entry.past_keys[:, :10], entry.past_values[:, :10]))
        entries[-1].position = entry.position
    cache.entries, cache.previous_attention_mask = entries, cache.previous_attention_mask[:, :10]
    return TOKENS, 10


def drop_the_oldest(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys[:, 5:], entry.past_values[:, 5:]
    cache.previous_attention_mask = cache.previous_attention_mask[:, 5:]
    return TOKENS[:, 5:], 10


def swap_layers(cache):
    first, second = cache.entries
    first.past_keys, second.past_keys = second.past_keys, first.past_keys
    return TOKENS, N


def cut_the_data(cache):
    for entry in cache.entries:
        entry.past_keys.data, entry.past_values.data = entry.past_keys[:, :10], entry.past_values[:, :10]
    cache.previous_attention_mask = cache.previous_attention_mask[:, :10]
    return TOKENS, 10


EDITS = [
    cut_the_data,
    roll_back,
    reorder_by_hand,
    reorder_in_place,
    copy_and_reorder_in_place,
    rebuild,
    rebuild_shorter_with_the_old_position,
    drop_the_oldest,
    swap_layers,
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("mode", ["per_layer", "fixed"])
def test_keys_edited_by_hand_are_refused_by_a_pass_and_by_crop_and_reorder(make_model, edit, grad, mode):
    model = make_model(increments=mode, per_head=mode == "fixed")
    with grad():
        cache = filled(model)
        tokens, n_past = edit(cache)
        before = [(entry.past_keys, entry.past_values) for entry in cache.entries]
        mask = cache.previous_attention_mask
        for use in (
            lambda: model(tokens[:, n_past:], past_kv_cache=cache),
            lambda: model.run_with_cache(tokens[:, n_past:], past_kv_cache=cache),
            lambda: crop(cache, 5),
            lambda: reorder(cache, [0, 1, 2]),
        ):
            with pytest.raises(LRopeError, match=r"crop\(cache, n_tokens\) and reorder\(cache, rows\)"):
                use()
        assert cache.previous_attention_mask is mask, "what is refused changes nothing"
        for entry, (keys, values) in zip(cache.entries, before, strict=True):
            assert entry.past_keys is keys and entry.past_values is values


def move(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys.to("cpu"), entry.past_values.to("cpu")
        entry.position = entry.position.to("cpu")
    return cache


def clone(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys.clone(), entry.past_values.clone()
    return cache


def there_and_back(cache):
    for entry in cache.entries:
        entry.past_keys = entry.past_keys.double().float().contiguous()
    return cache


def pickled(cache):
    return pickle.loads(pickle.dumps(cache))


def thaw(cache):
    cache.freeze()
    cache.unfreeze()
    return cache


@pytest.mark.parametrize("keep", [copy.deepcopy, copy.copy, pickled, move, clone, there_and_back, thaw])
def test_copies_of_a_cache_go_on_exactly_and_can_be_cropped(make_model, keep):
    model = make_model(seed=1, increments="fixed", per_head=True)
    attach_increments(model, ContextualIncrements(make_model(seed=2, per_head=True)))
    with torch.no_grad():
        goes_on_exactly(model, keep(keep(filled(model))), TOKENS, N)
        other = torch.cat([TOKENS[:, :10], TOKENS[:, :8]], dim=1)
        goes_on_exactly(model, crop(keep(filled(model)), 10), other, 10)
        goes_on_exactly(model, keep(crop(filled(model), 10)), other, 10)


def test_a_deep_copy_and_its_original_go_different_ways(make_model):
    model = make_model()
    with torch.no_grad():
        cache = filled(model)
        copied = copy.deepcopy(cache)
        crop(cache, 10)
        goes_on_exactly(model, copied, TOKENS, N)
        goes_on_exactly(model, cache, TOKENS, 10)
        cache = filled(model)
        reorder_in_place(cache)
        for keep in (copy.deepcopy, pickled):
            with pytest.raises(LRopeError, match="written to by hand"):
                model(TOKENS[:, N:], past_kv_cache=keep(cache))
            copied = keep(filled(model))
            reorder_in_place(copied)
            with pytest.raises(LRopeError, match="written to by hand"):
                model(TOKENS[:, N:], past_kv_cache=copied)


def test_a_position_set_by_hand_is_taken_and_belongs_to_the_keys_from_then_on(make_model):
    model = make_model()
    with torch.no_grad():
        cache = filled(model)
        rows = torch.tensor([2, 0, 0])
        for entry in cache.entries:
            entry.past_keys, entry.past_values = entry.past_keys[rows], entry.past_values[rows]
            entry.position = entry.position[rows]
        tokens = torch.cat([TOKENS[rows, :N], TOKENS[:, N:]], dim=1)
        goes_on_exactly(model, cache, tokens, N)
        goes_on_exactly(model, crop(cache, N + 1), tokens, N + 1)
        goes_on_exactly(model, crop(cache, N), tokens, N)
        with pytest.raises(LRopeError, match="nobody knows where token 10 of this cache stands"):
            crop(cache, 10)
        reorder_by_hand(cache)
        with pytest.raises(LRopeError, match="reordered"):
            model(TOKENS[:, :1], past_kv_cache=cache)
        cache = filled(model)
        for entry in cache.entries:
            entry.position = torch.zeros(2, dtype=torch.float64)
        with pytest.raises(LRopeError, match=r"must be \[3\]; got \[2\]"):
            model(TOKENS[:, :1], past_kv_cache=cache)


def test_a_cache_whose_layers_hold_different_tokens_says_so(model):
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(TOKENS[:, :N], past_kv_cache=cache, stop_at_layer=1)
    with pytest.raises(LRopeError, match=r"layer 1 of the cache holds 0 tokens .* stop_at_layer"):
        model(TOKENS[:, N:], past_kv_cache=cache)
    stopped = model(TOKENS[:, N:], past_kv_cache=cache, stop_at_layer=1)  # the same layers again
    torch.testing.assert_close(stopped, model(TOKENS, stop_at_layer=1)[:, N:], atol=1e-4, rtol=1e-4)
    with pytest.raises(LRopeError, match="crop keeps 0 to 0 tokens"):
        crop(cache, 10)
    goes_on_exactly(model, crop(cache, 0), TOKENS, 0)


WHERE = ["blocks.1.hook_increments", "blocks.0.attn.hook_z", "blocks.1.hook_resid_post", "unembed.hook_out"]


@pytest.mark.parametrize("where", WHERE)
def test_after_an_exception_a_cache_says_so_and_can_be_taken_back(model, where):
    def stop(x, hook):
        raise KeyError("enough")

    for n_before in (0, N):
        cache = filled(model) if n_before else TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
        for _ in range(2):
            with pytest.raises(KeyError):
                model.run_with_hooks(TOKENS[:, N:], past_kv_cache=cache, fwd_hooks=[(where, stop)])
            for use in (
                lambda c=cache: model(TOKENS[:, N:], past_kv_cache=c),
                lambda c=cache: reorder(c, ROWS),
            ):
                with pytest.raises(LRopeError, match=rf"ended in an exception.*crop\(cache, {n_before}\)"):
                    use()
            crop(cache, n_before)
        goes_on_exactly(model, cache, TOKENS, n_before)
    cache = filled(model)
    cache.freeze()
    with pytest.raises(KeyError):
        model.run_with_hooks(TOKENS[:, N:], past_kv_cache=cache, fwd_hooks=[(where, stop)])
    cache.unfreeze()
    goes_on_exactly(model, cache, TOKENS, N)


def test_a_pass_that_is_refused_leaves_the_cache_as_it_was(make_model):
    model = make_model()
    cache = filled(model)
    for options in ({"attention_mask": torch.zeros(3, 1)}, {"return_type": "logit"}, {"stop_at_layer": 9}):
        with pytest.raises(LRopeError):
            model(TOKENS[:, N : N + 1], past_kv_cache=cache, **options)
    goes_on_exactly(model, cache, TOKENS, N)
    with pytest.raises(LRopeError, match="follows another one"):
        model(TOKENS[:, :1], past_kv_cache=cache, return_type="loss")
    with pytest.raises(LRopeError, match=r"crop\(cache, 20\)"):
        model(TOKENS[:, :1], past_kv_cache=cache)


def test_what_cannot_be_a_cache_of_this_model_is_refused(make_model):
    model, tokens = make_model(), TOKENS[:, N:]
    others = {
        "of a model of 3 layers; this one has 2": make_model(n_layers=3),
        r"\[4, 4\] \[n_heads, d_head\]; this one has \[2, 8\]": make_model(n_heads=4, d_head=4),
        r"position of layer 0 in the cache must be \[3\]; got \[3, 2\]": make_model(per_head=True),
    }
    for message, other in others.items():
        with pytest.raises(LRopeError, match=message):
            model(tokens, past_kv_cache=filled(other))
    with pytest.raises(LRopeError, match=r"the cache holds 2 rows and the input 3.*reorder"):
        model(tokens, past_kv_cache=filled(model, TOKENS[:2, :N]))
    cache = filled(model)
    cache[1].past_values = cache[1].past_values[:, :3]
    with pytest.raises(LRopeError, match="layer 1 of the cache holds 3 tokens"):
        model(tokens, past_kv_cache=cache)
    for n_tokens in (-1, N + 1, True):
        with pytest.raises(LRopeError, match=f"crop keeps 0 to {N} tokens"):
            crop(filled(model), n_tokens)
    for rows in ([3], [-1], []):
        with pytest.raises(LRopeError, match=r"has rows 0\.\.2|numbers of rows"):
            reorder(filled(model), rows)


def test_keys_of_another_model_or_layer_are_refused_and_those_of_a_copy_are_not(make_model):
    model, other = make_model(), make_model(seed=1)
    rest = TOKENS[:, N:]
    with torch.no_grad():
        for keep in (
            copy.copy,
            copy.deepcopy,
            lambda cache: crop(cache, N),
            lambda cache: reorder(cache, [0, 1, 2]),
        ):
            with pytest.raises(LRopeError, match="made by another model or layer"):
                model(rest, past_kv_cache=keep(filled(other)))
            goes_on_exactly(copy.deepcopy(model), keep(filled(model)), TOKENS, N)
        cache = filled(model)
        cache.entries.reverse()
        with pytest.raises(LRopeError, match="made by another model or layer"):
            model(rest, past_kv_cache=cache)
        cache = filled(other)
        for entry in cache.entries:  # who wants to may
            entry.position = entry.position.clone()
        assert torch.isfinite(model(rest, past_kv_cache=cache)).all()
        with pytest.raises(LRopeError, match="must be a TransformerLensKeyValueCache"):
            check_cache([1], model, [0], 3)


def test_an_in_place_hook_on_positions_is_not_carried_on_by_the_cache(make_model):
    def shift(positions, hook):
        positions += 100

    model = make_model()
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
    with model.hooks([(lambda name: name.endswith("hook_positions"), shift)]):
        parts = [model(part, past_kv_cache=cache) for part in TOKENS.split(5, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(TOKENS), atol=2e-4, rtol=2e-4)
