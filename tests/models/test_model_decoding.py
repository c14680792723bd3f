"""KV cache, padding, generation: learned positions go on exactly where they stopped."""

from __future__ import annotations

import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp.errors import LRopeError
from lrope_interp.models import reorder

MODES = [(mode, per_head) for mode in ("per_layer", "shared", "fixed") for per_head in (False, True)]
N = 20


def new_cache(model, batch: int = 2) -> TransformerLensKeyValueCache:
    return TransformerLensKeyValueCache.init_cache(model.cfg, model.cfg.device, batch)


def some_tokens(n_pos: int = N, batch: int = 2, seed: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, n_pos), generator=torch.Generator().manual_seed(seed))


def calibrated(model, tokens: torch.Tensor):
    """Scale the heads so that every layer's increments have a standard deviation of about 0.5."""
    for _ in range(6):
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_increments"))
        for layer, block in enumerate(model.blocks):
            head = getattr(block, "increments", None) or getattr(model, "shared_increments", None)
            if head is not None and (layer == 0 or hasattr(block, "increments")):
                with torch.no_grad():
                    head.W_out.mul_(0.5 / cache["increments", layer][:, 1:].std())
    return model


def make(make_model, mode: str, per_head: bool, **config):
    model = calibrated(make_model(increments=mode, per_head=per_head, n_ctx=64, **config), some_tokens())
    if mode != "fixed":
        _, cache = model.run_with_cache(some_tokens())
        for layer in range(2):
            assert 0.3 < cache["increments", layer][:, 1:].std() < 0.8
    return model


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_gradients_go_through_the_cache_by_keys_and_by_positions(make_model, mode, per_head):
    model, tokens = make(make_model, mode, per_head), some_tokens()

    def gradient(*parts: int) -> torch.Tensor:
        cache = new_cache(model) if len(parts) > 1 else None
        model.zero_grad()
        logits = [model(chunk, past_kv_cache=cache) for chunk in tokens.split(parts, dim=1)]
        torch.cat(logits, dim=1)[:, 13:].square().mean().backward()
        return torch.cat([weight.grad.flatten() for weight in model.parameters()])

    whole = gradient(N)
    for parts in ((13, 7), (5, 8, 1, 6)):
        assert (gradient(*parts) - whole).norm() < 1e-4 * whole.norm()


@pytest.mark.parametrize(("mode", "per_head"), MODES)
@pytest.mark.parametrize("chunks", [[N], [7, 13], [5, 1, 9, 5], [1] * N])
def test_the_cache_gives_the_logits_of_the_whole(make_model, mode, per_head, chunks):
    model, tokens = make(make_model, mode, per_head), some_tokens()
    whole, activations = model.run_with_cache(tokens)
    cache = new_cache(model)
    parts = [model(chunk, past_kv_cache=cache) for chunk in tokens.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)
    for layer, entry in enumerate(cache.entries):
        assert entry.position.dtype == torch.float64
        assert entry.position.shape == ((2, 2) if per_head else (2,))
        torch.testing.assert_close(entry.position, activations["positions", layer][:, -1], atol=1e-5, rtol=0)
        torch.testing.assert_close(entry.past_keys, activations["rot_k", layer], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_batches_give_each_row_its_own_logits_cached_or_not(make_model, mode, per_head, side):
    model = make(make_model, mode, per_head)
    lengths = [20, 13, 6]
    rows = [some_tokens(n, 1, seed) for seed, n in enumerate(lengths)]
    tokens, mask = torch.full((3, 20), 256), torch.zeros(3, 20, dtype=torch.long)
    for row, (n, single) in enumerate(zip(lengths, rows, strict=True)):
        where = slice(20 - n, 20) if side == "left" else slice(0, n)
        tokens[row, where], mask[row, where] = single[0], 1
    cache = new_cache(model, 3)
    chunked = [
        model(tokens[:, part], attention_mask=mask[:, part], past_kv_cache=cache)
        for part in (slice(0, 9), slice(9, 10), slice(10, 20))
    ]
    for logits in (model(tokens, attention_mask=mask), torch.cat(chunked, dim=1)):
        assert torch.isfinite(logits).all()
        for row, single in enumerate(rows):
            torch.testing.assert_close(logits[row][mask[row].bool()], model(single)[0], atol=1e-4, rtol=1e-4)
    loss = model(tokens, return_type="loss", attention_mask=mask)
    single_losses = [model(row, return_type="loss", loss_per_token=True)[0] for row in rows]
    torch.testing.assert_close(loss, torch.cat(single_losses).mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_a_frozen_cache_serves_many_continuations_and_stays_as_it_was(make_model, mode, per_head):
    model, tokens = make(make_model, mode, per_head), some_tokens()
    cache = new_cache(model)
    model(tokens[:, :8], past_kv_cache=cache)
    cache.freeze()
    before = [
        (entry.past_keys.clone(), entry.past_values.clone(), entry.position.clone())
        for entry in cache.entries
    ]
    for seed in (1, 2):
        rest = some_tokens(7, seed=seed)
        whole = model(torch.cat([tokens[:, :8], rest], dim=1))
        for _ in range(2):
            torch.testing.assert_close(model(rest, past_kv_cache=cache), whole[:, 8:], atol=1e-4, rtol=1e-4)
    for entry, (keys, values, position) in zip(cache.entries, before, strict=True):
        assert torch.equal(entry.past_keys, keys) and torch.equal(entry.past_values, values)
        assert torch.equal(entry.position, position)
    assert cache.previous_attention_mask.shape == (2, 8)
    cache.unfreeze()
    model(tokens[:, 8:10], past_kv_cache=cache)
    assert cache.previous_attention_mask.shape == (2, 10)


def test_hooks_on_increments_act_while_decoding_and_hooks_on_positions_are_not_carried_on(make_model):
    model, tokens = make(make_model, "per_layer", False), some_tokens()
    halved = [(lambda name: name.endswith("hook_increments"), lambda x, hook: x / 2)]
    whole = model.run_with_hooks(tokens, fwd_hooks=halved)
    cache = new_cache(model)
    with model.hooks(halved):
        parts = [model(tokens[:, t : t + 1], past_kv_cache=cache) for t in range(N)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-4, rtol=1e-4)
    cache = new_cache(model)
    shifted = [(lambda name: name.endswith("hook_positions"), lambda x, hook: x + 100)]
    with model.hooks(shifted):
        parts = [model(part, past_kv_cache=cache) for part in tokens.split(5, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), atol=2e-4, rtol=2e-4)
    assert cache[0].position.max() < 100, "the running position is stored before hook_positions"


def test_pads_do_not_advance_whatever_a_hook_makes_of_their_increment(make_model):
    model = make(make_model, "per_layer", False)
    row, pads = some_tokens(6, 1), torch.full((1, 3), 256)
    ones = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]
    with model.hooks(ones):
        mask = torch.tensor([[1] * 3 + [0] * 3 + [1] * 3])
        tokens = torch.cat([row[:, :3], pads, row[:, 3:]], dim=1)
        cache = new_cache(model, 1)
        logits, activations = model.run_with_cache(tokens, attention_mask=mask, past_kv_cache=cache)
        assert activations["positions", 0].tolist() == [[1, 2, 3, 3, 3, 3, 4, 5, 6]]
        assert cache[0].position.tolist() == [6.0]
        torch.testing.assert_close(logits[:, mask[0].bool()], model(row), atol=1e-4, rtol=1e-4)


def test_a_cache_without_a_position_starts_at_zero_and_a_broadcast_prefix_works(make_model):
    model, tokens = make(make_model, "per_layer", True), some_tokens(6, 1)
    cache = new_cache(model, 1)
    assert not hasattr(cache[0], "position")
    model(tokens, past_kv_cache=cache)
    reorder(cache, [0, 0, 0])
    rest = some_tokens(4, 3)
    whole = model(torch.cat([tokens.repeat(3, 1), rest], dim=1))
    torch.testing.assert_close(model(rest, past_kv_cache=cache), whole[:, 6:], atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_the_cache_is_refused(make_model):
    model = make_model()
    cache = new_cache(model)
    model(some_tokens(30), past_kv_cache=cache)
    with pytest.raises(LRopeError, match="n_ctx=32 cannot hold 33"):
        model(some_tokens(3), past_kv_cache=cache)
    with pytest.raises(LRopeError, match="2 rows and the input 1"):
        model(some_tokens(1, 1), past_kv_cache=cache)
    with pytest.raises(LRopeError, match="new tokens"):
        model("ab", attention_mask=torch.ones(1, 31, dtype=torch.long))


GREEDY = {"do_sample": False}
WAYS = [GREEDY, {"seed": 1}, {"seed": 1, "top_k": 5}, {"seed": 1, "top_p": 0.6, "temperature": 2.0}]


@pytest.mark.parametrize(("mode", "per_head"), MODES)
@pytest.mark.parametrize("how", WAYS, ids=["greedy", "sampled", "top_k", "top_p"])
def test_generation_is_the_same_with_and_without_cache_and_in_pieces(make_model, mode, per_head, how):
    model = make(make_model, mode, per_head)
    options = {"max_new_tokens": 12, "verbose": False, "stop_at_eos": False, **how}
    cached = model.generate(some_tokens(5), **options)
    assert cached.shape == (2, 17)
    assert torch.equal(model.generate(some_tokens(5), use_past_kv_cache=False, **options), cached)
    pieces = list(model.generate_stream(some_tokens(5), max_tokens_per_yield=5, **options))
    assert [piece.shape[1] for piece in pieces] == [10, 5, 2]
    assert torch.equal(torch.cat(pieces, dim=1), cached)


@pytest.mark.parametrize(("mode", "per_head"), MODES)
def test_greedy_generation_takes_the_likeliest_token_at_every_step(make_model, mode, per_head):
    model = make(make_model, mode, per_head)
    out = model.generate(
        "seed text", 10, do_sample=False, verbose=False, return_type="tokens", stop_at_eos=False
    )
    logits = model(out)
    assert torch.equal(logits[0, 9:-1].argmax(-1), out[0, 10:])
    at_zero = model.generate(
        "seed text", 10, temperature=0, verbose=False, return_type="tokens", stop_at_eos=False
    )
    assert torch.equal(at_zero, out)


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_texts_of_different_length_are_continued_as_each_would_be_alone(make_model, use_past_kv_cache):
    model = make(make_model, "per_layer", True)
    texts = ["a longer text", "short", "中"]
    options = {"max_new_tokens": 8, "verbose": False, "stop_at_eos": False, "do_sample": False}
    together = model.generate(texts, return_type="tokens", use_past_kv_cache=use_past_kv_cache, **options)
    strings = model.generate(texts, use_past_kv_cache=use_past_kv_cache, **options)
    for row, text in enumerate(texts):
        alone = model.generate(text, return_type="tokens", **options)
        assert torch.equal(together[row, -8:], alone[0, -8:])
        assert strings[row] == model.generate(text, **options) and strings[row].startswith(text)
    tokens, mask = torch.full((2, 6), 256), torch.zeros(2, 6, dtype=torch.long)
    tokens[0], mask[0] = some_tokens(6, 1)[0], 1
    tokens[1, :3], mask[1, :3] = some_tokens(3, 1)[0], 1
    right = model.generate(tokens, attention_mask=mask, **options)
    assert torch.equal(right[1, -8:], model.generate(some_tokens(3, 1), **options)[0, -8:])


def test_a_seed_makes_generation_repeatable_and_leaves_the_global_generator_alone(make_model):
    model = make(make_model, "per_layer", False)
    state = torch.random.get_rng_state()
    first, again, other = (model.generate("x", 20, seed=seed, verbose=False) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    one = model.generate("x", 20, verbose=False)
    torch.manual_seed(5)
    assert model.generate("x", 20, verbose=False) == one


def test_a_row_stops_at_eos_and_waits_for_the_others(make_model):
    model = make(make_model, "per_layer", False)
    free = model.generate(some_tokens(5), 12, verbose=False, do_sample=False, stop_at_eos=False)
    stop = int(free[0, 7])
    out = model.generate(some_tokens(5), 12, verbose=False, do_sample=False, eos_token_id=stop)
    where = int((free[0, 5:] == stop).nonzero()[0]) + 6
    assert torch.equal(out[0, :where], free[0, :where])
    assert (out[0, where:] == stop).all()
    single = model.generate(some_tokens(5)[:1], 12, verbose=False, do_sample=False, eos_token_id=[stop])
    assert single.shape[1] == where


def test_streamed_text_never_breaks_a_character(make_model):
    model = make(make_model, "per_layer", False)
    written = iter("中文 é".encode())

    def write(logits, hook):
        logits[:, -1] = -torch.inf
        logits[:, -1, next(written)] = 0.0
        return logits

    with model.hooks([("unembed.hook_out", write)]):
        pieces = list(model.generate_stream("> ", 9, 1, verbose=False))
    assert pieces == ["> ", "", "中", "", "", "文", " ", "", "é"] and all(isinstance(p, str) for p in pieces)


def test_hooks_on_increments_act_during_generation(make_model):
    model = make(make_model, "per_layer", False)
    ones = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]
    options = {"max_new_tokens": 15, "verbose": False, "do_sample": False, "stop_at_eos": False}
    with model.hooks(ones):
        frozen = model.generate(some_tokens(5), **options)
        assert torch.equal(model.generate(some_tokens(5), use_past_kv_cache=False, **options), frozen)
        logits = model(frozen)
    assert torch.equal(logits[:, 4:-1].argmax(-1), frozen[:, 5:])


def test_generation_refuses_what_it_cannot_do(make_model):
    model = make_model()
    for options, message in (
        ({"max_new_tokens": 40}, "n_ctx=32 cannot hold 42"),
        ({"top_k": 3, "top_p": 0.5}, "exclude each other"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1.0}, "temperature"),
        ({"freq_penalty": -1.0}, "freq_penalty"),
        ({"return_type": "string"}, "Did you mean 'str'"),
        ({"prepend_bos": False, "input": ""}, "empty"),
    ):
        with pytest.raises(LRopeError, match=message):
            model.generate(**({"input": "a", "verbose": False} | options))
    with pytest.raises(LRopeError, match="eos_token_id or stop_at_eos"):
        make_model(d_vocab=50).generate(torch.tensor([[1]]), verbose=False)
    assert model.generate(verbose=False, max_new_tokens=0) == ""
