"""Any text comes back with its spans; Hugging Face's names, shown by the tools that ask for them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import EOS_ID, ByteTokenizer, Tokenizer
from lrope_interp.tokenizers.bpe import BPETokenizer, train_bpe

PARTS = st.sampled_from(
    ["the", " peace", "中国", "<eos>", "</s>", " ", "\n\n", "é", "e\u0301", "🙂", "\x00", "'s"]
)
TEXT = st.lists(st.one_of(PARTS, st.text(max_size=6))).map("".join)


@given(text=TEXT)
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back_and_its_spans_cover_it(bpe: BPETokenizer, text: str) -> None:
    raw = text.encode()
    for tokenizer in (ByteTokenizer(), bpe):
        ids, starts, ends = tokenizer.encode_spans(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(raw[a:b] for a, b in zip(starts, ends, strict=True)) == raw
        assert (ends > starts).all()
        assert np.array_equal(ends - starts, tokenizer.token_bytes(ids))
        assert [tokenizer.to_bytes([i]) for i in ids] == [raw[a:b] for a, b in zip(starts, ends, strict=True)]
        assert np.array_equal(ids, tokenizer.encode(text))
        assert tokenizer.eos_id not in ids
        assert len(tokenizer.str_tokens(ids)) == len(ids)


def test_the_tokens_of_bytes_are_the_bytes() -> None:
    tokenizer = ByteTokenizer()
    ids, starts, ends = tokenizer.encode_spans("a中")
    assert ids.tolist() == [97, 0xE4, 0xB8, 0xAD]
    assert (starts.tolist(), ends.tolist()) == ([0, 1, 2, 3], [1, 2, 3, 4])
    assert tokenizer.token_bytes(np.array([[97, EOS_ID]])).tolist() == [[1, 0]]


def test_a_bpe_has_eos_last_and_no_text_makes_it(bpe: BPETokenizer) -> None:
    assert (bpe.vocab_size, bpe.eos_id) == (300, 299)
    assert bpe.token_bytes(np.array([bpe.eos_id])).tolist() == [0]
    assert bpe.decode([bpe.eos_id, *bpe.encode("peace"), bpe.eos_id]) == "peace"
    assert bpe.to_bytes(np.array([5000])) == b""
    assert isinstance(bpe, Tokenizer) and isinstance(ByteTokenizer(), Tokenizer)


def test_tokens_read_as_text_and_parts_of_characters_say_so(bpe: BPETokenizer) -> None:
    shown = bpe.str_tokens([bpe.eos_id, *bpe.encode("of peace\n中国"), *bpe.encode("é🙂"), 5000])
    assert shown[:5] == ["<eos>", "of", " peace", "\\n", "中国"]
    assert shown[-5:] == ["🙂·1/4", "🙂·2/4", "🙂·3/4", "🙂·4/4", "<5000>"]


def test_a_token_of_two_bytes_of_three_is_named() -> None:
    tokenizer = train_bpe(["一丁七"] * 9, 258)  # all three begin with the bytes e4 b8
    ids, starts, ends = tokenizer.encode_spans("一")
    assert (starts.tolist(), ends.tolist()) == ([0, 2], [2, 3])
    assert tokenizer.str_tokens(ids) == ["一·1-2/3", "一·3/3"]
    assert tokenizer.decode(ids[:1]) == "\ufffd"


def test_many_texts_encode_as_each_does(bpe: BPETokenizer) -> None:
    texts = ["the peace", "", "中国 über"]
    for got, text in zip(bpe.encode_batch(texts), texts, strict=True):
        assert np.array_equal(got, bpe.encode(text))


def test_a_lone_surrogate_is_refused(bpe: BPETokenizer) -> None:
    for tokenizer in (ByteTokenizer(), bpe):
        with pytest.raises(LRopeError, match="no UTF-8 form at character 1"):
            tokenizer.encode("a\ud800")


def test_a_copy_shares_all_but_its_padding_side(bpe):
    copied = copy.deepcopy(bpe)
    assert copied._pieces is bpe._pieces and copied.fingerprint == bpe.fingerprint
    copied.padding_side = "left"
    assert bpe.padding_side == "right"


TEXTS = ["The peace of nations", "中国", "", "naïve <eos>"]


@pytest.fixture(params=["bytes", "bpe"])
def tokenizer(request, bpe):
    return ByteTokenizer() if request.param == "bytes" else copy.copy(bpe)


def test_one_special_token_is_bos_eos_and_pad(tokenizer):
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert ids == {tokenizer.eos_id} and len(tokenizer) == tokenizer.vocab_size
    assert {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token} == {"<eos>"}
    assert tokenizer.padding_side == "right" and tokenizer.name_or_path in ("bytes", "bpe:300")


@pytest.mark.parametrize("side", ["left", "right"])
def test_calling_a_tokenizer_gives_ids_and_their_mask(tokenizer, side):
    alone = tokenizer(TEXTS[0], add_special_tokens=False)
    assert alone["input_ids"] == alone.input_ids == tokenizer.encode(TEXTS[0]).tolist()
    assert tokenizer(TEXTS)["input_ids"] == [tokenizer.encode(text).tolist() for text in TEXTS]
    tokenizer.padding_side = side
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert batch.input_ids.shape == batch.attention_mask.shape
    for row, mask, text in zip(batch.input_ids, batch.attention_mask.bool(), TEXTS, strict=True):
        assert row[mask].tolist() == tokenizer.encode(text).tolist()
        assert (row[~mask] == tokenizer.pad_token_id).all()
        assert mask.tolist() == sorted(mask.tolist(), reverse=side == "right")
    assert tokenizer(TEXTS[0], truncation=True, max_length=3, return_tensors="pt").input_ids.shape == (1, 3)
    padded = tokenizer(["a", "bc"], padding="max_length", max_length=5, return_tensors="np").input_ids
    assert padded.shape == (2, 5) and (padded == tokenizer.pad_token_id).sum() == 7
    for options, message in (
        ({"text": TEXTS, "return_tensors": "pt"}, "padding=True"),
        ({"text": TEXTS, "truncation": True}, "max_length"),
        ({"text": TEXTS, "max_length": 5}, "truncation=True"),
        ({"text": TEXTS, "padding": "max_length"}, "and they with it"),
        ({"text": TEXTS, "padding": "most"}, "'longest' or 'max_length'"),
        ({"text": TEXTS, "padding_side": "up"}, "'left' or 'right'"),
    ):
        with pytest.raises(LRopeError, match=message):
            tokenizer(**options)


def test_ids_are_decoded_one_by_one_in_rows_and_with_or_without_eos(tokenizer):
    ids, eos = tokenizer.encode("naïve中", add_special_tokens=False), tokenizer.eos_id
    first = tokenizer.encode("n")[0]
    for one in (int(first), first, torch.tensor(first)):
        assert tokenizer.decode(one) == "n"
    row = [eos, *ids.tolist(), eos, eos, int(first)]
    for one in (row, tuple(row), torch.tensor(row), torch.tensor(row)[None]):
        assert tokenizer.decode(one, skip_special_tokens=True) == tokenizer.decode(one) == "naïve中n"
        assert tokenizer.decode(one, skip_special_tokens=False) == "<eos>naïve中<eos><eos>n"
    assert tokenizer.decode(iter([-1, int(first), 10**6])) == "n"
    assert tokenizer.batch_decode([ids, [first], []]) == ["naïve中", "n", ""]
    assert tokenizer.batch_decode(torch.tensor([row]), skip_special_tokens=True) == ["naïve中n"]


def test_transformer_lens_tokenizes_and_concatenates_with_it(tokenizer):
    from datasets import Dataset
    from transformer_lens.utilities import tokenize_and_concatenate

    rows = tokenize_and_concatenate(
        Dataset.from_dict({"text": TEXTS}), tokenizer, max_length=8, num_proc=None, add_bos_token=True
    )["tokens"]
    joined: list[int] = []
    for number, text in enumerate(TEXTS):
        joined += ([tokenizer.eos_id] if number else []) + tokenizer.encode(text).tolist()
    wanted = torch.tensor(joined[: len(joined) // 7 * 7]).reshape(-1, 7)
    assert torch.equal(torch.stack([torch.as_tensor(row) for row in rows])[:, 1:], wanted)
    assert all(int(row[0]) == tokenizer.bos_token_id for row in rows)


@pytest.mark.parametrize("side", ["left", "right"])
def test_transformer_lens_finds_the_mask_that_the_model_infers(make_model, bpe, side):
    from transformer_lens.utilities import LocallyOverridenDefaults, get_attention_mask

    for model in (make_model(n_ctx=64), make_model(d_vocab=300)):
        if model.tokenizer is None:
            model.set_tokenizer(bpe)
        texts = ["The peace", "naïve", "中国"]
        with LocallyOverridenDefaults(model, padding_side=side):
            tokens, mask = model.to_tokens(texts, return_mask=True)
            found = get_attention_mask(model.tokenizer, tokens, prepend_bos=True)
        assert torch.equal(found, mask) and model.tokenizer.padding_side == "right"


def test_a_model_takes_a_tokenizer_of_ours_of_hugging_face_or_of_a_file(make_model, bpe, tmp_path):
    import json

    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    definition = bpe.definition
    backend = Backend.from_str(json.dumps(definition))
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    backend.save(str(tmp_path / "plain.json"))
    wanted = [bpe.eos_id, *bpe.encode("The peace of 中国").tolist()]
    for source in (bpe, theirs, tmp_path / "plain.json", str(tmp_path / "plain.json")):
        model = make_model(d_vocab=300)
        model.set_tokenizer(source, default_padding_side="left")
        assert model.tokenizer is not bpe and model.tokenizer.padding_side == "left"
        assert model.to_tokens("The peace of 中国").tolist() == [wanted]
        assert model.to_tokens(["The peace", "of"])[1, 0] == bpe.eos_id
        model.save_pretrained(tmp_path / "saved")
        loaded = type(model).from_pretrained(tmp_path / "saved")
        assert loaded.to_tokens("The peace of 中国").tolist() == [wanted]
    assert bpe.padding_side == "right"
    model = make_model()
    with pytest.raises(LRopeError, match=r"300 ids .* d_vocab=257"):
        model.set_tokenizer(bpe)
    for source in (None, 7, object(), len):
        with pytest.raises(LRopeError, match="a fast one of Hugging Face"):
            model.set_tokenizer(source)
    with pytest.raises(LRopeError, match="cannot be read"):
        model.set_tokenizer(tmp_path / "missing.json")
    with pytest.raises(LRopeError, match="'left' or 'right'"):
        model.set_tokenizer(ByteTokenizer(), default_padding_side="middle")
    assert model.tokenizer.name == "bytes"
