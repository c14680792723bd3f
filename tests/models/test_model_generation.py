"""Generation, and the probability of answers: the same with a cache, in pieces, and beside other rows."""

from __future__ import annotations

import pytest
import torch

from lrope_interp import ablated
from lrope_interp.errors import LRopeError
from lrope_interp.models.frozen import ContextualIncrements, attach_increments
from lrope_interp.probes.ablations.interventions import shuffle

PROMPTS = torch.randint(0, 256, (2, 5), generator=torch.Generator().manual_seed(3))
FREE = {"verbose": False, "stop_at_eos": False}
GREEDY = {**FREE, "do_sample": False}
ONES = [(lambda name: name.endswith("hook_increments"), lambda x, hook: torch.ones_like(x))]


@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed", "contextual"])
@pytest.mark.parametrize(
    "how",
    [{"do_sample": False}, {"seed": 1, "top_k": 5}, {"seed": 1, "top_p": 0.6, "temperature": 2.0}],
    ids=["greedy", "top_k", "top_p"],
)
def test_generation_is_the_same_with_and_without_cache_and_in_pieces(make_model, mode, how):
    model = make_model(increments="fixed" if mode == "contextual" else mode, per_head=mode == "shared")
    if mode == "contextual":
        attach_increments(model, ContextualIncrements(make_model(seed=2)))
    cached = model.generate(PROMPTS, 12, **FREE, **how)
    assert cached.shape == (2, 17)
    assert torch.equal(model.generate(PROMPTS, 12, use_past_kv_cache=False, **FREE, **how), cached)
    pieces = list(model.generate_stream(PROMPTS, 12, 5, **FREE, **how))
    assert [piece.shape[1] for piece in pieces] == [10, 5, 2]
    assert torch.equal(torch.cat(pieces, dim=1), cached)
    if how == {"do_sample": False}:
        assert torch.equal(model(cached)[:, 4:-1].argmax(-1), cached[:, 5:])
        assert torch.equal(model.generate(PROMPTS, 12, temperature=0, **FREE), cached)


def test_hooks_on_increments_act_during_generation(make_model):
    model = make_model()
    with model.hooks(ONES):
        frozen = model.generate(PROMPTS, 15, **GREEDY)
        assert torch.equal(model.generate(PROMPTS, 15, use_past_kv_cache=False, **GREEDY), frozen)
        assert torch.equal(model(frozen)[:, 4:-1].argmax(-1), frozen[:, 5:])
    assert not torch.equal(model.generate(PROMPTS, 15, **GREEDY), frozen)


def test_sampling_draws_from_the_distribution_that_is_asked_for(make_model):
    model, prompts = make_model(), PROMPTS[:1].repeat(2000, 1)
    likely = model(PROMPTS[:1])[0, -1].softmax(-1)
    order = likely.argsort(descending=True)
    n_nucleus = int((likely[order].cumsum(0) < 0.6).sum()) + 1
    for options, wanted in (
        ({}, likely),
        ({"temperature": 2.0}, (model(PROMPTS[:1])[0, -1] / 2).softmax(-1)),
        ({"top_k": 5}, torch.zeros(257).index_put((order[:5],), likely[order[:5]])),
        ({"top_p": 0.6}, torch.zeros(257).index_put((order[:n_nucleus],), likely[order[:n_nucleus]])),
    ):
        drawn = model.generate(prompts, 1, seed=0, **FREE, **options)[:, -1]
        share = drawn.bincount(minlength=257) / len(drawn)
        torch.testing.assert_close(share, wanted / wanted.sum(), atol=0.05, rtol=0)
        if "top_k" in options or "top_p" in options:
            assert torch.equal(share > 0, wanted > 0)


@pytest.mark.parametrize("use_past_kv_cache", [True, False])
def test_texts_of_different_length_are_continued_as_each_would_be_alone(make_model, use_past_kv_cache):
    model = make_model(per_head=True)
    texts, options = ["a longer text", "short", "中"], {**GREEDY, "max_new_tokens": 8}
    together = model.generate(texts, return_type="tokens", use_past_kv_cache=use_past_kv_cache, **options)
    strings = model.generate(texts, use_past_kv_cache=use_past_kv_cache, **options)
    for row, text in enumerate(texts):
        alone = model.generate(text, return_type="tokens", **options)
        assert torch.equal(together[row, -8:], alone[0, -8:])
        assert strings[row] == model.generate(text, **options) and strings[row].startswith(text)
    tokens, mask = model.to_tokens(texts, padding_side="right", return_mask=True)
    assert torch.equal(model.generate(tokens, attention_mask=mask, **options)[:, -8:], together[:, -8:])


def test_frequencies_are_counted_without_padding(make_model):
    model, texts = make_model(n_ctx=64), ["a", "a much longer prompt than the other"]
    options = {**FREE, "freq_penalty": 30.0, "top_k": 1, "return_type": "tokens", "prepend_bos": False}

    def favour_the_pad(logits, hook):
        logits[..., 256] += 20

    with model.hooks([("unembed.hook_out", favour_the_pad)]):
        alone = torch.cat([model.generate(text, 6, **options)[:, -6:] for text in texts])
        assert alone[:, 0].tolist() == [256, 256] and 97 not in alone
        assert len(set(alone[0].tolist())) == 6, "what occurred is not likeliest again"
        tokens, mask = model.to_tokens(texts, prepend_bos=False, return_mask=True)
        for use_past_kv_cache in (True, False):
            options["use_past_kv_cache"] = use_past_kv_cache
            for out in (
                model.generate(texts, 6, **options),
                model.generate(tokens, 6, attention_mask=mask, **options),
                torch.cat(list(model.generate_stream(texts, 6, **options)), dim=1),
            ):
                assert torch.equal(out[:, -6:], alone)


def test_a_seed_makes_generation_repeatable_and_leaves_the_global_generator_alone(make_model):
    model = make_model()
    state = torch.random.get_rng_state()
    first, again, other = (model.generate("x", 20, seed=seed, verbose=False) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)
    one = model.generate("x", 20, verbose=False)
    torch.manual_seed(5)
    assert model.generate("x", 20, verbose=False) == one


def test_a_row_stops_at_eos_and_waits_for_the_others(make_model):
    model = make_model()
    free = model.generate(PROMPTS, 12, **GREEDY)
    stop = int(free[0, 7])
    out = model.generate(PROMPTS, 12, verbose=False, do_sample=False, eos_token_id=stop)
    where = int((free[0, 5:] == stop).nonzero()[0]) + 6
    assert torch.equal(out[0, :where], free[0, :where])
    assert (out[0, where:] == stop).all()
    single = model.generate(PROMPTS[:1], 12, verbose=False, do_sample=False, eos_token_id=[stop])
    assert single.shape[1] == where


def test_streamed_text_never_breaks_a_character(make_model):
    written = iter("中文 é".encode())

    def write(logits, hook):
        logits[:, -1] = -torch.inf
        logits[:, -1, next(written)] = 0.0
        return logits

    model = make_model()
    with model.hooks([("unembed.hook_out", write)]):
        pieces = list(model.generate_stream("> ", 9, 1, verbose=False))
    assert pieces == ["> ", "", "中", "", "", "文", " ", "", "é"]


def test_generation_refuses_what_it_cannot_do(make_model):
    model = make_model()
    for options, message in (
        ({"max_new_tokens": 40}, "n_ctx=32 cannot hold 42"),
        ({"max_new_tokens": -1}, "max_new_tokens must be at least 0"),
        ({"top_k": 3, "top_p": 0.5}, "exclude each other"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1.0}, "temperature"),
        ({"freq_penalty": -1.0}, "freq_penalty"),
        ({"return_type": "string"}, "Did you mean 'str'"),
        ({"prepend_bos": False, "input": ""}, "empty"),
        ({"input": []}, "list of texts"),
    ):
        with pytest.raises(LRopeError, match=message):
            model.generate(**({"input": "a", "verbose": False} | options))
    with pytest.raises(LRopeError, match="max_tokens_per_yield"):
        next(model.generate_stream("a", max_tokens_per_yield=0))
    with pytest.raises(LRopeError, match="eos_token_id or stop_at_eos"):
        make_model(d_vocab=50).generate(torch.tensor([[1]]), verbose=False)
    assert model.generate(verbose=False, max_new_tokens=0) == ""
    assert model.generate(PROMPTS, 28, **FREE).shape == (2, 33), "the last token is not read"


@torch.no_grad()
def by_hand(model, prompt, answer, lead=(256,)):
    """One token after the other, each from a pass of its own."""
    tokens, total = [*lead, *prompt.encode()], 0.0
    for byte in answer.encode():
        total += float(model(torch.tensor([tokens]))[0, -1].log_softmax(-1)[byte])
        tokens.append(byte)
    return total


def test_the_log_probability_of_an_answer_is_the_sum_over_its_bytes(make_model):
    model = make_model(per_head=True)
    prompts, answers = ["John and", "I saw 中", ""], [" Mary", "国", "\x00ab"]
    close = {"atol": 1e-4, "rtol": 1e-5}
    wanted = torch.tensor([by_hand(model, *pair) for pair in zip(prompts, answers, strict=True)])
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        torch.testing.assert_close(model.answer_logprob(prompts, answers), wanted, **close)
    single = model.answer_logprob(prompts[0], answers[0])
    assert single.shape == ()
    torch.testing.assert_close(single, wanted[0], **close)
    one_answer = torch.tensor([by_hand(model, prompt, " Mary") for prompt in prompts])
    torch.testing.assert_close(model.answer_logprob(prompts, " Mary"), one_answer, **close)
    one_prompt = torch.tensor([by_hand(model, "so", answer) for answer in answers])
    torch.testing.assert_close(model.answer_logprob("so", answers), one_prompt, **close)
    bare = torch.tensor(by_hand(model, "so", "中", lead=()))
    torch.testing.assert_close(model.answer_logprob("so", "中", prepend_bos=False), bare, **close)


def test_hooks_act_on_the_log_probability_of_an_answer_and_gradients_flow(make_model):
    model = make_model()
    with ablated(model, shuffle(seed=1)):
        inside = model.answer_logprob(["The cat sat", "x"], " down")
        alone = torch.stack([model.answer_logprob(prompt, " down") for prompt in ("The cat sat", "x")])
    torch.testing.assert_close(inside, alone, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(inside[0], model.answer_logprob("The cat sat", " down"), atol=1e-3)
    (model.answer_logprob("I", "o") - model.answer_logprob("I", "x")).backward()
    assert float(model.blocks[0].increments.W_in.grad.abs().sum()) > 0
    full = "a" * 31
    assert torch.isfinite(model.answer_logprob(full, "b")), "the last token of an answer is not read"
    for prompt, answer, options, message in (
        ("a", "", {}, "an answer needs a token"),
        ("", "a", {"prepend_bos": False}, "a token before it"),
        (["a", "b"], ["a", "b", "c"], {}, "got 2 prompts and 3"),
        ([], "a", {}, "got 0 prompts and 1"),
        (full, "bc", {}, "n_ctx=32 cannot hold 33"),
    ):
        with pytest.raises(LRopeError, match=message):
            model.answer_logprob(prompt, answer, **options)
    with pytest.raises(LRopeError, match="no tokenizer"):
        make_model(d_vocab=50).answer_logprob("a", "b")
