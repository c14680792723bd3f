"""Text and masks: padded texts are read as each alone; what is no text, id or mask is refused in words."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from lrope_interp import ablated
from lrope_interp.errors import LRopeError
from lrope_interp.models.text import check_mask
from lrope_interp.probes.ablations.interventions import shuffle

TEXTS = ["The cat", "A longer text of dogs 中", "x"]
both_sides = pytest.mark.parametrize("side", ["left", "right"])


def rows_are(logits, mask, alone, **close) -> None:
    for row, single in enumerate(alone):
        torch.testing.assert_close(
            logits[row][mask[row].bool()], single, **(close or {"atol": 1e-4, "rtol": 1e-4})
        )


def test_text_methods(make_model):
    model = make_model()
    assert model.to_tokens("ab").tolist() == [[256, 97, 98]]
    assert model.to_str_tokens("a中\n") == ["<eos>", "a", "中·1/3", "中·2/3", "中·3/3", "\\n"]
    assert model.to_str_tokens(["a", "bc"], prepend_bos=False) == [["a"], ["b", "c"]]
    assert model.to_string(model.to_tokens("naïve 中")) == ["naïve 中"]
    assert model.to_string([0x41, 0xE4, 256]) == "A\ufffd"
    assert model.to_single_token("a") == 97 and model.to_single_str_token(10) == "\\n"
    assert model.get_token_position("b", "abcb", mode="last") == 4
    assert model.get_token_position("b", "abcb") == model.get_token_position(98, "abcb") == 2
    row = torch.tensor([[97, 98, 97]])
    assert model.to_str_tokens(row) == model.to_str_tokens(row[0]) == ["a", "b", "a"]
    assert model.get_token_position("a", row, mode="last") == 2
    for ask, message in (
        (lambda: model.to_single_token("中"), "3 tokens"),
        (lambda: model.get_token_position("z", "ab"), "does not occur"),
        (lambda: model.get_token_position("a", "ab", mode="middle"), "'first' or 'last'"),
        (lambda: model.to_str_tokens(row.repeat(2, 1)), "one row"),
        (lambda: model.get_token_position("a", row.repeat(2, 1)), "one row"),
        (lambda: make_model(d_vocab=50)("text"), "no tokenizer"),
    ):
        with pytest.raises(LRopeError, match=message):
            ask()


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
    cut = model.to_tokens("x" * 40, truncate=True, move_to_device=False)
    assert cut.shape == (1, 32) and cut[0, 0] == 256


@both_sides
@pytest.mark.parametrize(("mode", "prepend_bos"), [("per_layer", True), ("shared", False), ("fixed", True)])
def test_a_list_of_texts_is_read_as_each_text_alone(make_model, side, mode, prepend_bos):
    model = make_model(increments=mode, per_head=side == "left")
    options = {"padding_side": side, "prepend_bos": prepend_bos}
    alone = [model(text, prepend_bos=prepend_bos)[0] for text in TEXTS]
    tokens, mask = model.to_tokens(TEXTS, return_mask=True, **options)
    hooked = []
    hook = ("hook_embed", lambda x, hook: hooked.append(1))
    residual, _, shortformer, inferred = model.input_to_embed(TEXTS, **options)
    assert shortformer is None and torch.equal(inferred, mask)
    for logits in (
        model(TEXTS, **options),
        model.run_with_cache(TEXTS, **options)[0],
        model.run_with_hooks(TEXTS, fwd_hooks=[hook], **options),
        model(tokens, attention_mask=mask),
        model(residual, start_at_layer=0, tokens=tokens, attention_mask=mask),
        model(residual, start_at_layer=0, tokens=TEXTS, **options),
    ):
        rows_are(logits, mask, alone)
    assert hooked


@both_sides
def test_the_loss_of_a_list_is_the_mean_over_the_targets_of_its_texts(make_model, side):
    model = make_model()
    alone = [model(text, return_type="loss", loss_per_token=True)[0] for text in TEXTS]
    loss = model(TEXTS, return_type="loss", padding_side=side)
    torch.testing.assert_close(loss, torch.cat(alone).mean(), atol=1e-5, rtol=1e-5)
    each = model(TEXTS, return_type="loss", loss_per_token=True, padding_side=side)
    _, mask = model.to_tokens(TEXTS, padding_side=side, return_mask=True)
    counts = mask[:, 1:] * mask[:, :-1]
    rows_are(each, counts, alone)
    assert not each[counts == 0].any()
    assert torch.equal(model(TEXTS, return_type="both", padding_side=side).loss, loss)


@both_sides
def test_an_ablation_of_a_list_draws_for_each_text_what_it_draws_alone(make_model, side):
    model = make_model()
    _, mask = model.to_tokens(TEXTS, padding_side=side, return_mask=True)
    with ablated(model, shuffle(seed=1)):
        rows_are(model(TEXTS, padding_side=side), mask, [model(text)[0] for text in TEXTS])


@both_sides
def test_a_cache_that_began_with_a_list_of_texts_goes_on_after_each(make_model, side):
    model, more = make_model(n_ctx=64), [" and", " more", "!"]
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 3)
    model(TEXTS, padding_side=side, past_kv_cache=cache)
    logits = model(more, padding_side=side, prepend_bos=False, past_kv_cache=cache)
    _, mask = model.to_tokens(more, prepend_bos=False, padding_side=side, return_mask=True)
    rows_are(logits, mask, [model(a + b)[0, -len(b) :] for a, b in zip(TEXTS, more, strict=True)])


def test_tokens_are_read_as_they_stand_and_an_explicit_mask_comes_before_the_inferred_one(make_model):
    model = make_model()
    tokens = model.to_tokens(["abc", "d"])
    assert torch.equal(model(tokens), model(tokens, attention_mask=None, padding_side="left"))
    padded = torch.tensor([[256, 100, 256, 256]])
    torch.testing.assert_close(model(tokens)[1:], model(padded), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(tokens)[1, 2:], model(["abc", "d"])[1, 2:], atol=1e-3)
    given = model(["abc", "d"], attention_mask=torch.ones(2, 4, dtype=torch.long))
    torch.testing.assert_close(given, model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.float32])
def test_a_mask_may_be_of_any_dtype_and_one_more_token_of_a_cache_may_be_padding(make_model, dtype):
    model = make_model()
    tokens, mask = model.to_tokens(["abc", "d"], return_mask=True)
    logits, loss = model(tokens, attention_mask=mask, return_type="both")
    mask = mask.to(dtype)
    again = model(tokens, attention_mask=mask, return_type="both")
    assert torch.equal(again.logits, logits) and torch.equal(again.loss, loss)
    cache = TransformerLensKeyValueCache.init_cache(model.cfg, "cpu", 2)
    parts = [
        model(tokens[:, where], attention_mask=mask[:, where], past_kv_cache=cache)
        for where in (slice(0, 2), slice(2, 3), slice(3, 4))
    ]
    torch.testing.assert_close(torch.cat(parts, 1)[mask.bool()], logits[mask.bool()], atol=1e-5, rtol=1e-5)
    with pytest.raises(LRopeError, match=r"hides every token of row 0.*additive mask"):
        model(tokens[:, :1], attention_mask=torch.zeros(2, 1), past_kv_cache=cache)


ADDITIVE = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -torch.inf]])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (ADDITIVE, "from -inf to 0.0.*additive mask"),
        (torch.zeros(2, 3), "hides every token of row 0.*additive mask"),
        (torch.tensor([[1, 1, 1], [0, 0, 0]]), "hides every token of row 1"),
        (torch.tensor([[1, 1, 2], [1, 1, 1]]), "from 1 to 2"),
        (torch.full((2, 3), torch.nan), "nan"),
    ],
)
def test_what_is_no_mask_is_refused_by_a_pass_by_generation_and_by_the_loss(make_model, mask, message):
    model, tokens = make_model(), torch.tensor([[256, 97, 98], [256, 99, 100]])
    with pytest.raises(LRopeError, match=message):
        model(tokens, attention_mask=mask)
    with pytest.raises(LRopeError, match=message):
        model.generate(tokens, 1, attention_mask=mask, verbose=False)
    if "row 1" not in message:  # alone, the loss cannot tell a row that began earlier
        with pytest.raises(LRopeError, match=message):
            model.loss_fn(model(tokens), tokens, mask)
    for other in (torch.ones(2, 4), torch.ones(2, 1, 3, 3), [[1, 1, 1], [1, 1, 0]]):
        with pytest.raises(LRopeError, match=r"new tokens, \[2, 3\]; got"):
            check_mask(other, 2, 3)


def test_every_form_of_input_and_of_output(make_model):
    model = make_model()
    row = model.to_tokens("abc")
    for same in ("abc", ["abc"], row, row[0], *(row.to(dtype) for dtype in (torch.int16, torch.uint16))):
        assert torch.equal(model(same), model(row))
        assert model(same, return_type="loss") == model(row, return_type="loss")
    both = model(row, return_type="both")
    assert torch.equal(both.logits, both[0]) and both.loss.shape == ()
    losses = model(row, return_type="loss", loss_per_token=True)
    expected = -model(row).log_softmax(-1)[0, :-1].gather(-1, row[0, 1:, None])[:, 0]
    torch.testing.assert_close(losses[0], expected)
    torch.testing.assert_close(both.loss, losses.mean())
    assert model.loss_fn(both.logits, row.to(torch.int16)) == both.loss
    assert model("", return_type="loss", loss_per_token=True).shape == (1, 0)
    assert model(row, return_type=None) is None
    assert model("abc", prepend_bos=False).shape == (1, 3, 257)
    _, cache = model.run_with_cache(row[0], remove_batch_dim=True)
    assert cache["increments", 0].shape == (4,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model("abc", stop_at_layer=3), r"stop_at_layer must lie in -2\.\.2; got 3"),
        (lambda model: model(torch.zeros(1, 4, 16), start_at_layer=-3), "start_at_layer must lie"),
        (lambda model: model("abc", return_type="los", stop_at_layer=1), "return_type"),
        (lambda model: model(torch.zeros(1, 4, 16), start_at_layer=1), "give tokens= with start_at_layer"),
        (lambda model: model(torch.zeros(1, 4, 15), start_at_layer=1), "residual stream"),
        (
            lambda model: model(torch.zeros(2, 4, 16), start_at_layer=1, tokens=torch.zeros(2, 5).long()),
            r"those of the residual, \[2, 4\]; got \[2, 5\]",
        ),
        (lambda model: model("x" * 33), r"n_ctx=32 cannot hold 34 tokens.*from_pretrained"),
        (lambda model: model(torch.zeros(1, 33).long()), "n_ctx=32 cannot hold 33 tokens"),
        (lambda model: model(torch.tensor([[1, 300]])), r"token ids must lie in 0\.\.256"),
        (lambda model: model(torch.tensor([[1, -1]])), r"got -1\.\.1"),
        (lambda model: model(torch.randn(1, 4, 16)), "for a residual give start_at_layer"),
        (lambda model: model([97, 98]), r"torch\.tensor\(ids\)"),
        (lambda model: model(torch.zeros(0, 4, dtype=torch.long)), "not empty"),
        (lambda model: model("", prepend_bos=False), "the input is empty; leave prepend_bos on"),
        (lambda model: model.input_to_embed(["ab", ""], prepend_bos=False), "text 1 is empty"),
        (lambda model: model.generate(["", ""], prepend_bos=False), "text 0 is empty"),
        (lambda model: model(["", ""], return_type="loss"), "follows another one"),
        (
            lambda model: model.loss_fn(torch.zeros(2, 7, 257), torch.zeros(3, 5).long()),
            r"\[2, 7\]; got \[3, 5\]",
        ),
    ],
)
def test_impossible_requests_are_refused_in_words(make_model, monkeypatch, call, message):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the user has no type checker
    with pytest.raises(LRopeError, match=message):
        call(make_model(increments="shared"))
