"""The key-value cache: a pass in parts is the whole; `crop` and `reorder` are exact; stale keys refused."""

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
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(params=KINDS, ids=lambda pair: f"{pair[0]}-{'per_head' if pair[1] else 'one'}")
def model(make_model, request):
    kind, per_head = request.param
    if kind in ("per_layer", "shared", "fixed"):
        return make_model(increments=kind, per_head=per_head)
    made = make_model(seed=1, increments="fixed", per_head=per_head)
    table = 3 * torch.rand(2, 257, generator=torch.Generator().manual_seed(3))
    source = make_model(seed=2, per_head=per_head)
    attach_increments(made, LexicalIncrements(table) if kind == "lexical" else ContextualIncrements(source))
    return made


def new_cache(model, n_rows: int = 3) -> TransformerLensKeyValueCache:
    return TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", n_rows)


def filled(model, tokens=TOKENS[:, :N], mask=None) -> TransformerLensKeyValueCache:
    cache = new_cache(model, len(tokens))
    for part in (slice(0, 9), slice(9, 10), slice(10, None)):
        own = None if mask is None else mask[:, part]
        model(tokens[:, part], past_kv_cache=cache, attention_mask=own)
    return cache


def goes_on_exactly(model, cache, tokens, n_past: int) -> None:
    whole = model(tokens)
    for part in (slice(n_past, n_past + 1), slice(n_past + 1, None)):
        torch.testing.assert_close(model(tokens[:, part], past_kv_cache=cache), whole[:, part], **CLOSE)


@pytest.mark.parametrize("chunks", [[20], [5, 1, 9, 5], [1] * 20], ids=len)
def test_the_cache_gives_the_logits_of_the_whole(model, chunks):
    whole, activations = model.run_with_cache(TOKENS)
    cache = new_cache(model)
    assert not hasattr(cache[0], "position")
    parts = [model(chunk, past_kv_cache=cache) for chunk in TOKENS.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, **CLOSE)
    for layer, entry in enumerate(cache.entries):
        positions = activations["positions", layer][:, -1]
        assert entry.position.dtype == torch.float64 and entry.position.shape == positions.shape
        torch.testing.assert_close(entry.position, positions, atol=1e-5, rtol=0)
        torch.testing.assert_close(entry.past_keys, activations["rot_k", layer], **CLOSE)


def test_gradients_go_through_the_cache_by_keys_and_by_positions(model):
    def gradient(*parts: int) -> torch.Tensor:
        cache = new_cache(model) if len(parts) > 1 else None
        model.zero_grad()
        logits = [model(chunk, past_kv_cache=cache) for chunk in TOKENS.split(parts, dim=1)]
        torch.cat(logits, dim=1)[:, 13:].square().mean().backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters()])

    whole = gradient(20)
    assert (gradient(5, 8, 1, 6) - whole).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_have_their_own_logits_and_loss_cached_or_not(model, side):
    lengths = [20, 13, 6]
    mask = torch.zeros(3, 20, dtype=torch.long)
    tokens = torch.full_like(mask, 256)
    for row, n in enumerate(lengths):
        where = slice(20 - n, 20) if side == "left" else slice(n)
        tokens[row, where], mask[row, where] = TOKENS[row, :n], 1
    cache, parts = new_cache(model), (slice(0, 9), slice(9, 10), slice(10, 20))
    cached = [model(tokens[:, at], attention_mask=mask[:, at], past_kv_cache=cache) for at in parts]
    rows = [TOKENS[row : row + 1, :n] for row, n in enumerate(lengths)]
    for logits in (model(tokens, attention_mask=mask), torch.cat(cached, dim=1)):
        assert torch.isfinite(logits).all()
        for row, alone in enumerate(rows):
            torch.testing.assert_close(logits[row][mask[row].bool()], model(alone)[0], **CLOSE)
    losses = [model(alone, return_type="loss", loss_per_token=True)[0] for alone in rows]
    loss = model(tokens, return_type="loss", attention_mask=mask)
    torch.testing.assert_close(loss, torch.cat(losses).mean(), **CLOSE)


def test_pads_do_not_advance_whatever_a_hook_makes_of_their_increment(make_model):
    model, row, pads = make_model(), TOKENS[:1, :6], torch.full((1, 3), 256)
    ones = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]
    with model.hooks(ones):
        mask = torch.tensor([[1] * 3 + [0] * 3 + [1] * 3])
        tokens, cache = torch.cat([row[:, :3], pads, row[:, 3:]], dim=1), new_cache(model, 1)
        logits, activations = model.run_with_cache(tokens, attention_mask=mask, past_kv_cache=cache)
        assert activations["positions", 0].tolist() == [[1, 2, 3, 3, 3, 3, 4, 5, 6]]
        assert cache[0].position.tolist() == [6.0]
        torch.testing.assert_close(logits[:, mask[0].bool()], model(row), **CLOSE)


def test_hooks_on_increments_act_while_decoding_and_hooks_on_positions_are_not_carried_on(make_model):
    def shift_in_place(positions, hook):
        positions += 1000

    model = make_model()
    for leaf, edit, is_carried in (
        ("hook_increments", lambda x, hook: x / 2, True),
        ("hook_positions", lambda x, hook: x + 1000, False),
        ("hook_positions", shift_in_place, False),
    ):
        hooks, cache = [(lambda name, leaf=leaf: name.endswith(leaf), edit)], new_cache(model)
        wanted = model.run_with_hooks(TOKENS, fwd_hooks=hooks) if is_carried else model(TOKENS)
        with model.hooks(hooks):
            parts = [model(part, past_kv_cache=cache) for part in TOKENS.split(5, dim=1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), wanted, atol=2e-4, rtol=2e-4)
        assert cache[0].position.max() < 1000, "the running position is stored before hook_positions"


@pytest.mark.parametrize("grad", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_cropped_cache_goes_on_as_if_it_had_never_been_longer(model, grad):
    with grad():
        cache = filled(model)
        assert crop(cache, N) is cache
        crop(crop(cache, 12), 10)
        assert cache.previous_attention_mask.shape == (3, 10)
        goes_on_exactly(model, cache, torch.cat([TOKENS[:, :10], TOKENS[:, :8]], dim=1), 10)
        goes_on_exactly(model, crop(filled(model), 1), TOKENS, 1)
        goes_on_exactly(model, crop(filled(model), 0), TOKENS, 0)


def test_reordered_rows_go_on_as_the_rows_that_they_were(model):
    cache = filled(model)
    assert reorder(cache, ROWS) is cache
    goes_on_exactly(model, cache, torch.cat([TOKENS[ROWS, :N], TOKENS[[0, 1, 2, 0], N:]], dim=1), N)
    prefix = crop(reorder(filled(model, TOKENS[:1, :N]), torch.tensor([0, 0, 0])), 12)
    goes_on_exactly(model, prefix, torch.cat([TOKENS[[0, 0, 0], :12], TOKENS[:, 12:]], 1), 12)


def test_a_frozen_cache_serves_many_continuations_and_stays_as_it_was(model):
    cache = filled(model)
    cache.freeze()
    reorder(crop(cache, 10), ROWS)
    assert cache.frozen and all(entry.frozen for entry in cache.entries)
    before = [(entry.past_keys.clone(), entry.past_values.clone()) for entry in cache.entries]
    positions = [entry.position.clone() for entry in cache.entries]
    for last in (slice(0, 9), slice(5, 14)):
        tokens = torch.cat([TOKENS[ROWS, :10], TOKENS[[0, 1, 2, 0], last]], dim=1)
        whole = model(tokens)
        for _ in range(2):
            torch.testing.assert_close(model(tokens[:, 10:], past_kv_cache=cache), whole[:, 10:], **CLOSE)
    for entry, (keys, values), position in zip(cache.entries, before, positions, strict=True):
        assert torch.equal(entry.past_keys, keys) and torch.equal(entry.past_values, values)
        assert torch.equal(entry.position, position)
    assert cache.previous_attention_mask.shape == (4, 10)
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
        torch.testing.assert_close(logits[row], alone, **CLOSE)


def roll_back(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys[:, :10], entry.past_values[:, :10]
    cache.previous_attention_mask = cache.previous_attention_mask[:, :10]


def cut_the_data(cache):
    for entry in cache.entries:
        entry.past_keys.data, entry.past_values.data = entry.past_keys[:, :10], entry.past_values[:, :10]
    cache.previous_attention_mask = cache.previous_attention_mask[:, :10]


def reorder_by_hand(cache):
    for entry in cache.entries:
        entry.past_keys, entry.past_values = entry.past_keys[[2, 0, 0]], entry.past_values[[2, 0, 0]]


def reorder_in_place(cache):
    for entry in cache.entries:
        entry.past_keys[:], entry.past_values[:] = entry.past_keys[[2, 0, 0]], entry.past_values[[2, 0, 0]]


def rebuild(cache):
    entries = [(entry.past_keys.clone(), entry.past_values.clone()) for entry in cache.entries]
    cache.entries = [TransformerLensKeyValueCacheEntry(*one) for one in entries]


@pytest.mark.parametrize("edit", [roll_back, cut_the_data, reorder_by_hand, reorder_in_place, rebuild])
@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_keys_edited_by_hand_are_refused_by_a_pass_and_by_crop_and_reorder(make_model, edit, grad):
    model = make_model(per_head=True)
    with grad():
        cache = filled(model)
        edit(cache)
        before = [(entry.past_keys, entry.past_values) for entry in cache.entries]
        mask = cache.previous_attention_mask
        for use in (
            lambda: model(TOKENS[:, N:], past_kv_cache=cache),
            lambda: crop(cache, 5),
            lambda: reorder(cache, [0, 1, 2]),
        ):
            with pytest.raises(LRopeError, match=r"crop\(cache, n_tokens\) and reorder\(cache, rows\)"):
                use()
        assert cache.previous_attention_mask is mask, "what is refused changes nothing"
        for entry, (keys, values) in zip(cache.entries, before, strict=True):
            assert entry.past_keys is keys and entry.past_values is values


def pickled(cache):
    return pickle.loads(pickle.dumps(cache))


def there_and_back(cache):
    for entry in cache.entries:
        entry.past_keys, entry.position = entry.past_keys.double().float(), entry.position.to("cpu")
    return cache


def thaw(cache):
    cache.freeze()
    cache.unfreeze()
    return cache


@pytest.mark.parametrize("keep", [copy.deepcopy, copy.copy, pickled, there_and_back, thaw])
def test_copies_of_a_cache_go_on_exactly_and_can_be_cropped(make_model, keep):
    model = make_model(seed=1, increments="fixed", per_head=True)
    attach_increments(model, ContextualIncrements(make_model(seed=2, per_head=True)))
    with torch.no_grad():
        goes_on_exactly(model, keep(keep(filled(model))), TOKENS, N)
        other = torch.cat([TOKENS[:, :10], TOKENS[:, :8]], dim=1)
        goes_on_exactly(model, crop(keep(filled(model)), 10), other, 10)
        goes_on_exactly(model, keep(crop(filled(model), 10)), other, 10)


@torch.no_grad()
def test_a_copy_and_its_original_go_different_ways(make_model):
    model = make_model()
    cache = filled(model)
    copied = copy.deepcopy(cache)
    crop(cache, 10)
    goes_on_exactly(model, copied, TOKENS, N)
    goes_on_exactly(model, cache, TOKENS, 10)
    for keep in (copy.deepcopy, pickled):
        edited_before, edited_after = filled(model), keep(filled(model))
        reorder_in_place(edited_before)
        reorder_in_place(edited_after)
        for cache in (keep(edited_before), edited_after):
            with pytest.raises(LRopeError, match="written to by hand"):
                model(TOKENS[:, N:], past_kv_cache=cache)


@torch.no_grad()
def test_a_position_set_by_hand_is_taken_and_belongs_to_the_keys_from_then_on(make_model):
    model, rows = make_model(), [2, 0, 0]
    cache = filled(model)
    reorder_by_hand(cache)
    for entry in cache.entries:
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
    cache[0].position = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(LRopeError, match=r"must be \[3\]; got \[2\]"):
        model(TOKENS[:, :1], past_kv_cache=cache)


def test_a_cache_whose_layers_hold_different_tokens_says_so(model):
    cache = new_cache(model)
    model(TOKENS[:, :N], past_kv_cache=cache, stop_at_layer=1)
    with pytest.raises(LRopeError, match=r"layer 1 of the cache holds 0 tokens .* stop_at_layer"):
        model(TOKENS[:, N:], past_kv_cache=cache)
    stopped = model(TOKENS[:, N:], past_kv_cache=cache, stop_at_layer=1)  # the same layers again
    torch.testing.assert_close(stopped, model(TOKENS, stop_at_layer=1)[:, N:], **CLOSE)
    with pytest.raises(LRopeError, match="crop keeps 0 to 0 tokens"):
        crop(cache, 10)
    goes_on_exactly(model, crop(cache, 0), TOKENS, 0)


WHERE = ["blocks.1.hook_increments", "blocks.0.attn.hook_z", "unembed.hook_out"]


@pytest.mark.parametrize("where", WHERE)
def test_after_an_exception_a_cache_says_so_and_can_be_taken_back(model, where):
    def stop(x, hook):
        raise KeyError("enough")

    def interrupt(cache):
        with pytest.raises(KeyError):
            model.run_with_hooks(TOKENS[:, N:], past_kv_cache=cache, fwd_hooks=[(where, stop)])

    for n_before in (0, N):
        cache = filled(model) if n_before else new_cache(model)
        for _ in range(2):
            interrupt(cache)
            said = rf"ended in an exception.*crop\(cache, {n_before}\)"
            with pytest.raises(LRopeError, match=said):
                model(TOKENS[:, N:], past_kv_cache=cache)
            with pytest.raises(LRopeError, match=said):
                reorder(cache, ROWS)
            crop(cache, n_before)
        goes_on_exactly(model, cache, TOKENS, n_before)
    cache = filled(model)
    cache.freeze()
    interrupt(cache)
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
    torn = filled(model)
    torn[1].past_values = torn[1].past_values[:, :3]
    for message, cache in (
        ("of a model of 3 layers; this one has 2", filled(make_model(n_layers=3))),
        (r"\[4, 4\] \[n_heads, d_head\]; this one has \[2, 8\]", filled(make_model(n_heads=4, d_head=4))),
        (r"of layer 0 in the cache must be \[3\]; got \[3, 2\]", filled(make_model(per_head=True))),
        (r"the cache holds 2 rows and the input 3.*reorder", filled(model, TOKENS[:2, :N])),
        ("layer 1 of the cache holds 3 tokens", torn),
        ("n_ctx=32 cannot hold 35", filled(model, TOKENS[:, :N].repeat(1, 2))),
    ):
        with pytest.raises(LRopeError, match=message):
            model(tokens, past_kv_cache=cache)
    with pytest.raises(LRopeError, match="must be a TransformerLensKeyValueCache"):
        check_cache([1], model, [0], 3)
    for n_tokens in (-1, N + 1, True):
        with pytest.raises(LRopeError, match=f"crop keeps 0 to {N} tokens"):
            crop(filled(model), n_tokens)
    for rows in ([3], [-1], []):
        with pytest.raises(LRopeError, match=r"has rows 0\.\.2|numbers of rows"):
            reorder(filled(model), rows)


@torch.no_grad()
def test_keys_of_another_model_or_layer_are_refused_and_those_of_a_copy_are_not(make_model):
    model, other, rest = make_model(), make_model(seed=1), TOKENS[:, N:]
    for keep in (copy.copy, copy.deepcopy, lambda cache: crop(reorder(cache, [0, 1, 2]), N)):
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
