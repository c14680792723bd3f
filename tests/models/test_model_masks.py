"""Masks: texts that the model pads are read as if each were alone; a mask that is none is refused."""

from __future__ import annotations

import pytest
import torch

from lrope_interp import ablated
from lrope_interp.errors import LRopeError
from lrope_interp.models.text import check_mask
from lrope_interp.probes.ablations.interventions import shuffle

TEXTS = ["The cat", "A longer text of dogs 中", "x"]
SIDES = ["left", "right"]


def one_by_one(model, texts, **options):
    return [model(text, **options)[0] for text in texts]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("mode", ["per_layer", "shared", "fixed"])
@pytest.mark.parametrize("prepend_bos", [True, False])
def test_a_list_of_texts_is_read_as_each_text_alone(make_model, side, mode, prepend_bos):
    model = make_model(increments=mode, per_head=side == "left")
    options = {"prepend_bos": prepend_bos}
    alone = one_by_one(model, TEXTS, **options)
    tokens, mask = model.to_tokens(TEXTS, padding_side=side, return_mask=True, **options)
    hooked = []
    ways = {
        "forward": model(TEXTS, padding_side=side, **options),
        "run_with_cache": model.run_with_cache(TEXTS, padding_side=side, **options)[0],
        "run_with_hooks": model.run_with_hooks(
            TEXTS, padding_side=side, fwd_hooks=[("hook_embed", lambda x, hook: hooked.append(1))], **options
        ),
        "tokens and their mask": model(tokens, attention_mask=mask),
    }
    residual, _, _, inferred = model.input_to_embed(TEXTS, padding_side=side, **options)
    assert torch.equal(inferred, mask)
    ways["from the embedding"] = model(residual, start_at_layer=0, tokens=tokens, attention_mask=mask)
    ways["from the embedding, with texts"] = model(
        residual, start_at_layer=0, tokens=TEXTS, padding_side=side, **options
    )
    for name, logits in ways.items():
        for row, single in enumerate(alone):
            torch.testing.assert_close(
                logits[row][mask[row].bool()], single, atol=1e-4, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
    assert hooked


@pytest.mark.parametrize("side", SIDES)
def test_the_loss_of_a_list_is_the_mean_over_the_targets_of_its_texts(make_model, side):
    model = make_model()
    alone = [model(text, return_type="loss", loss_per_token=True)[0] for text in TEXTS]
    loss = model(TEXTS, return_type="loss", padding_side=side)
    torch.testing.assert_close(loss, torch.cat(alone).mean(), atol=1e-5, rtol=1e-5)
    each = model(TEXTS, return_type="loss", loss_per_token=True, padding_side=side)
    _, mask = model.to_tokens(TEXTS, padding_side=side, return_mask=True)
    counts = (mask[:, 1:] * mask[:, :-1]).bool()
    for row, single in enumerate(alone):
        torch.testing.assert_close(each[row][counts[row]], single, atol=1e-4, rtol=1e-4)
    assert not each[~counts].any()
    both = model(TEXTS, return_type="both", padding_side=side)
    assert torch.equal(both.loss, loss)


@pytest.mark.parametrize("side", SIDES)
def test_an_ablation_of_a_list_draws_for_each_text_what_it_draws_alone(make_model, side):
    model = make_model()
    with ablated(model, shuffle(seed=1)):
        alone = one_by_one(model, TEXTS)
        _, mask = model.to_tokens(TEXTS, padding_side=side, return_mask=True)
        logits = model(TEXTS, padding_side=side)
    for row, single in enumerate(alone):
        torch.testing.assert_close(logits[row][mask[row].bool()], single, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", SIDES)
def test_a_cache_that_began_with_a_list_of_texts_goes_on_after_each(make_model, side):
    from transformer_lens import TransformerLensKeyValueCache

    model = make_model(n_ctx=64)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(TEXTS, padding_side=side, past_kv_cache=cache)
    logits = model([" and", " more", "!"], padding_side=side, prepend_bos=False, past_kv_cache=cache)
    _, mask = model.to_tokens([" and", " more", "!"], prepend_bos=False, padding_side=side, return_mask=True)
    for row, text in enumerate(["The cat and", "A longer text of dogs 中 more", "x!"]):
        new = logits[row][mask[row].bool()]
        torch.testing.assert_close(new, model(text)[0, -len(new) :], atol=1e-4, rtol=1e-4)


def test_the_side_comes_from_the_argument_the_configuration_or_the_tokenizer(make_model):
    model = make_model()
    right, left = model.to_tokens(["ab", "c"]), model.to_tokens(["ab", "c"], padding_side="left")
    assert right.tolist() == [[256, 97, 98], [256, 99, 256]]
    assert left.tolist() == [[256, 97, 98], [256, 256, 99]]
    model.tokenizer.padding_side = "left"
    assert torch.equal(model.to_tokens(["ab", "c"]), left)
    torch.testing.assert_close(model(["ab", "c"])[1, -1], model("c")[0, -1], atol=1e-5, rtol=1e-5)
    assert make_model().tokenizer.padding_side == "right", "another model has a tokenizer of its own"
    model.cfg.default_padding_side = "right"
    assert torch.equal(model.to_tokens(["ab", "c"]), right)
    assert torch.equal(model.to_tokens(["ab", "c"], padding_side="left"), left)
    with pytest.raises(LRopeError, match="'left' or 'right'; got 'middle'"):
        model(["ab", "c"], padding_side="middle")


def test_the_mask_goes_by_lengths_and_not_by_ids(make_model):
    model = make_model()
    tokens, mask = model.to_tokens(["ab", "", "c"], return_mask=True)
    assert tokens.tolist() == [[256, 97, 98], [256, 256, 256], [256, 99, 256]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    torch.testing.assert_close(model(["ab", "", "c"])[1, 0], model("")[0, 0], atol=1e-5, rtol=1e-5)
    tokens, mask = model.to_tokens("ab", return_mask=True, truncate=True, move_to_device=False)
    assert tokens.tolist() == [[256, 97, 98]] and mask.tolist() == [[1, 1, 1]]


def test_tokens_are_read_as_they_stand(make_model):
    model = make_model()
    tokens = model.to_tokens(["abc", "d"])
    assert torch.equal(model(tokens), model(tokens, attention_mask=None, padding_side="left"))
    padded = torch.tensor([[256, 100, 256, 256]])
    torch.testing.assert_close(model(tokens)[1:], model(padded), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(tokens)[1, 2:], model(["abc", "d"])[1, 2:], atol=1e-3)


def test_an_explicit_mask_comes_before_the_inferred_one(make_model):
    model = make_model()
    everything = torch.ones(2, 4, dtype=torch.long)
    given = model(["abc", "d"], attention_mask=everything)
    torch.testing.assert_close(given, model(model.to_tokens(["abc", "d"])), atol=1e-5, rtol=1e-5)


def test_texts_without_a_token_are_refused(make_model):
    model = make_model()
    for run in (model, model.generate, model.input_to_embed):
        with pytest.raises(LRopeError, match="text 1 is empty; leave prepend_bos on"):
            run(["ab", ""], prepend_bos=False)
        with pytest.raises(LRopeError, match="text 0 is empty; leave prepend_bos on"):
            run(["", ""], prepend_bos=False)
    with pytest.raises(LRopeError, match="n_ctx=32 cannot hold 41"):
        model(["a", "b" * 40])
    for text in ("", ["", ""]):
        with pytest.raises(LRopeError, match="follows another one"):
            model(text, return_type="loss")
        assert model(text, return_type="loss", loss_per_token=True).shape[1] == 0


def test_frequencies_are_counted_without_padding(make_model, monkeypatch):
    model, seen, draw = make_model(n_ctx=64), [], torch.multinomial
    texts = ["a", "a much longer prompt than the other"]
    options = {"max_new_tokens": 3, "freq_penalty": 1.0, "verbose": False, "stop_at_eos": False, "top_k": 1}
    alone = [model.generate(text, return_type="tokens", **options)[0, -3:] for text in texts]

    def spy(probabilities, *args, **kwargs):
        seen.append(probabilities.clone())
        return draw(probabilities, *args, **kwargs)

    monkeypatch.setattr(torch, "multinomial", spy)
    tokens, mask = model.to_tokens(texts, return_mask=True)
    for use_past_kv_cache in (True, False):
        options |= {"use_past_kv_cache": use_past_kv_cache}
        for out in (
            model.generate(texts, return_type="tokens", **options),
            model.generate(tokens, attention_mask=mask, **options),
            torch.cat(list(model.generate_stream(texts, return_type="tokens", **options)), dim=1),
        ):
            assert torch.equal(out[:, -3:], torch.stack(alone))
    options |= {"max_new_tokens": 1, "top_k": None}
    seen.clear()
    model.generate(texts, **options)
    model.generate("a", **options)
    torch.testing.assert_close(seen[0][0], seen[1][0], atol=1e-6, rtol=1e-4)


ADDITIVE = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]])
NO_MASKS = [
    (ADDITIVE, "from -inf to 0.0.*additive mask"),
    (torch.where(ADDITIVE < 0, torch.finfo(torch.float32).min, 0.0), "additive mask"),
    (torch.zeros(2, 3), "hides every token of row 0.*additive mask"),
    (torch.tensor([[1, 1, 1], [0, 0, 0]]), "hides every token of row 1"),
    (torch.full((2, 3), 0.5), "0.5"),
    (torch.tensor([[1, 1, 2], [1, 1, 1]]), "from 1 to 2"),
    (torch.full((2, 3), torch.nan), "nan"),
    (torch.ones(2, 4, dtype=torch.long), r"\[2, 3\]; got \[2, 4\]"),
    (torch.ones(2, 1, 3, 3, dtype=torch.bool), r"got \[2, 1, 3, 3\]"),
    (torch.ones(3, dtype=torch.long), r"got \[3\]"),
    ([[1, 1, 1], [1, 1, 0]], "got <class 'list'>"),
]


@pytest.mark.parametrize(("mask", "message"), NO_MASKS)
def test_what_is_no_mask_is_refused(make_model, mask, message):
    model = make_model()
    tokens = torch.tensor([[256, 97, 98], [256, 99, 100]])
    if not isinstance(mask, torch.Tensor) or mask.shape != tokens.shape:  # the tests' own type checks refuse
        with pytest.raises(LRopeError, match=message):
            check_mask(mask, 2, 3)
        return
    with pytest.raises(LRopeError, match=message):
        model(tokens, attention_mask=mask)
    with pytest.raises(LRopeError, match=message):
        model.run_with_cache(tokens, attention_mask=mask)
    with pytest.raises(LRopeError, match=message):
        model.generate(tokens, 1, attention_mask=mask, verbose=False)
    if "row 1" not in message:  # alone, the loss cannot tell a row that began earlier
        with pytest.raises(LRopeError, match=message):
            model.loss_fn(model(tokens), tokens, mask)


def test_a_mask_may_be_of_any_dtype_and_one_more_token_of_a_cache_may_be_padding(make_model):
    from transformer_lens import TransformerLensKeyValueCache

    model = make_model()
    tokens, mask = model.to_tokens(["abc", "d"], return_mask=True)
    logits, loss = model(tokens, attention_mask=mask, return_type="both")
    for dtype in (torch.bool, torch.int32, torch.float32):
        again = model(tokens, attention_mask=mask.to(dtype), return_type="both")
        assert torch.equal(again.logits, logits) and torch.equal(again.loss, loss)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 2)
    parts = [
        model(tokens[:, where], attention_mask=mask[:, where], past_kv_cache=cache)
        for where in (slice(0, 2), slice(2, 3), slice(3, 4))
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[mask.bool()], logits[mask.bool()], atol=1e-5, rtol=1e-5)
    with pytest.raises(LRopeError, match=r"hides every token of row 0.*additive mask"):
        model(tokens[:, :1], attention_mask=torch.zeros(2, 1), past_kv_cache=cache)


@torch.no_grad()
def by_hand(model, prompt, answer, lead=(256,)):
    """One token after the other, each from a pass of its own."""
    tokens, total = [*lead, *prompt.encode()], 0.0
    for byte in answer.encode():
        total += float(model(torch.tensor([tokens]))[0, -1].log_softmax(-1)[byte])
        tokens.append(byte)
    return total


def test_the_log_probability_of_an_answer_is_the_sum_over_its_bytes(make_model):
    model = make_model(d_vocab=257, per_head=True)
    prompts, answers = ["John and", "I saw 中", ""], [" Mary", "国", "\x00ab"]
    wanted = torch.tensor([by_hand(model, *pair) for pair in zip(prompts, answers, strict=True)])
    close = {"atol": 1e-4, "rtol": 1e-5}
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
    model.tokenizer.padding_side = "left"
    torch.testing.assert_close(model.answer_logprob(prompts, answers), wanted, **close)
    every = model.answer_logprob("ab", [chr(byte) for byte in range(128)])
    logits = model("ab")[0, -1].log_softmax(-1)
    torch.testing.assert_close(every, logits[:128], **close)


def test_hooks_act_on_the_log_probability_of_an_answer_and_gradients_flow(make_model):
    model = make_model()
    with ablated(model, shuffle(seed=1)):
        inside = model.answer_logprob(["The cat sat", "x"], " down")
        alone = torch.stack([model.answer_logprob(prompt, " down") for prompt in ("The cat sat", "x")])
    torch.testing.assert_close(inside, alone, atol=1e-4, rtol=1e-4)
    untouched = model.answer_logprob("The cat sat", " down")
    assert not torch.allclose(inside[0], untouched, atol=1e-3)
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
