"""Every tokenizer keeps any text as it is, and its spans are the bytes of the text, cut in order."""

from __future__ import annotations

import copy

import numpy as np
import pytest
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
