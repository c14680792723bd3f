"""Tokenizers on disk, those of other people, and what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers import models, normalizers, pre_tokenizers

from lrope_interp.data import Document
from lrope_interp.data.windows import training_stream
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.tokenizers import ByteTokenizer, chosen_tokenizer, load_tokenizer
from lrope_interp.tokenizers.bpe import BPETokenizer, train_bpe
from lrope_interp.tokenizers.files import read_tokenizer_file

Monkey = pytest.MonkeyPatch


def definition(bpe: BPETokenizer, folder: Path) -> dict[str, Any]:
    """The Hugging Face part of a file of ours."""
    bpe.save(folder)
    return json.loads((folder / "tokenizer.json").read_text())["tokenizer"]


def written(payload: object, folder: Path) -> Path:
    path = folder / "theirs.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return path


def test_a_saved_tokenizer_loads_with_the_same_ids(bpe: BPETokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == bpe.fingerprint != ByteTokenizer().fingerprint
    assert loaded.encode("the peace 中国").tolist() == bpe.encode("the peace 中国").tolist()
    assert (loaded.name, loaded.vocab_size, loaded.eos_id) == ("bpe", 300, 299)
    again = read_tokenizer_file(tmp_path / "tokenizer.json")
    assert again.fingerprint == bpe.fingerprint


def test_the_same_texts_train_the_same_tokenizer() -> None:
    texts = ["the treaty of peace and the peace of nations 中国人民"] * 5
    assert train_bpe(texts, 280).fingerprint == train_bpe(iter(texts), 280).fingerprint
    assert train_bpe(texts, 280).fingerprint != train_bpe(texts, 279).fingerprint


def test_a_changed_file_is_noticed(bpe: BPETokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    payload = json.loads(path.read_text())
    vocabulary = payload["tokenizer"]["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(payload))
    with pytest.raises(LRopeError, match="was changed since it was written"):
        load_tokenizer(tmp_path)


def test_a_file_without_eos_gets_one_and_one_with_keeps_it(bpe: BPETokenizer, tmp_path: Path) -> None:
    theirs = definition(bpe, tmp_path)
    assert read_tokenizer_file(written(theirs, tmp_path)).eos_id == 299
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pad = {"id": 299, "content": "<pad>", **special}
    end = {"id": 300, "content": "<|endoftext|>", **special}
    named = read_tokenizer_file(written({**theirs, "added_tokens": [pad, end]}, tmp_path))
    assert (named.vocab_size, named.eos_id) == (301, 300)
    assert named.str_tokens([299, 300]) == ["<pad>", "<|endoftext|>"]
    text = "peace<|endoftext|><pad>"
    assert not {299, 300} & set(named.encode(text).tolist())
    assert named.decode(named.encode(text)) == text


def test_dropout_truncation_and_templates_of_a_file_change_nothing(bpe: BPETokenizer, tmp_path: Path) -> None:
    theirs = definition(bpe, tmp_path)
    theirs["model"]["dropout"] = 0.5
    theirs["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    tokenizer = read_tokenizer_file(written(theirs, tmp_path))
    for _ in range(5):
        assert (
            tokenizer.encode("the peace of nations").tolist() == bpe.encode("the peace of nations").tolist()
        )


LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
NFC = {"type": "NFC"}
RARE = {"type": "Replace", "pattern": {"String": "never in a sample"}, "content": ""}
SPLIT = {"type": "Split", "pattern": {"Regex": "\\n{9}"}, "behavior": "Removed", "invert": False}
TAKES = {"id": 299, "content": "xyzzy", "single_word": False, "normalized": False, "special": False}


def without_a_lead_byte(theirs: dict[str, Any]) -> object:
    model = theirs["model"]
    kept = {token: i for token, i in model["vocab"].items() if token != "\u00f0"}  # of emoji
    return {**theirs, "model": {**model, "vocab": kept}}


def word_pieces(_: dict[str, Any]) -> object:
    tokenizer = HuggingFaceTokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return json.loads(tokenizer.to_str())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"normalizer": {"type": "Strip", "strip_left": True, "strip_right": True}},
            "the normalizer Strip",
        ),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [NFC, RARE]}},
            "the normalizer Replace",
        ),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, LEVEL]}}, "the pre-tokenizer Split"),
        # Drops white space at the beginning of a text.
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "UnicodeScripts"}, LEVEL]}},
            "does not keep text as it is",
        ),
        ({"pre_tokenizer": {**LEVEL, "add_prefix_space": True}}, "without prefix space"),
        (
            {"added_tokens": [{**TAKES, "lstrip": True, "rstrip": False}]},
            "'xyzzy', which takes",
        ),
        (without_a_lead_byte, "without the byte 0xf0"),
        (word_pieces, "lossless byte-level"),
        (lambda _: "{", "not valid JSON"),
        (lambda _: [1], "not a JSON object"),
        (lambda _: {"a": 1}, "not a Hugging Face tokenizer"),
        (lambda _: {"format": 99}, "Upgrade lrope-interp"),
        (lambda _: {"format": 1, "type": "unigram"}, "unknown tokenizer type"),
    ],
)
def test_what_is_no_lossless_tokenizer_is_refused(
    bpe: BPETokenizer, tmp_path: Path, change: dict[str, Any] | Callable[[dict[str, Any]], object], said: str
) -> None:
    theirs = definition(bpe, tmp_path)
    path = written(change(theirs) if callable(change) else {**theirs, **change}, tmp_path)
    with pytest.raises(LRopeError, match=said):
        read_tokenizer_file(path)


def test_a_tokenizer_that_composes_takes_text_that_is_composed(bpe: BPETokenizer, tmp_path: Path) -> None:
    theirs = definition(bpe, tmp_path)
    composing = read_tokenizer_file(written({**theirs, "normalizer": {"type": "NFC"}}, tmp_path))
    text = "caf\u00e9 \u4e2d\U0001f642 the peace"
    assert composing.encode(text).tolist() == bpe.encode(text).tolist()
    with pytest.raises(LRopeError, match=r"composes characters \(NFC\).*near .*normalize\('NFC', text\)"):
        composing.encode("the peace of cafe\u0301s")
    with pytest.raises(LRopeError, match="NFC"):
        composing.encode_batch(["fine", "\u212b"])


def wide(theirs: dict[str, Any]) -> dict[str, Any]:
    """Move all merged tokens past 16 bits, as many of Llama 3 and Qwen are."""
    vocab = {token: i if len(token) == 1 else i + 70_000 for token, i in theirs["model"]["vocab"].items()}
    return {**theirs, "model": {**theirs["model"], "vocab": vocab}}


def test_a_vocabulary_above_sixteen_bits_is_read_stored_and_captured(
    bpe: BPETokenizer, tmp_path: Path
) -> None:
    tokenizer = read_tokenizer_file(written(wide(definition(bpe, tmp_path)), tmp_path))
    assert tokenizer.vocab_size > 70_000
    text = "the peace of nations is a treaty"
    ids = tokenizer.encode(text)
    assert max(ids) > 65_536 and tokenizer.decode(ids) == text
    model = LRopeTransformer(
        LRopeConfig(n_layers=1, d_model=8, n_heads=2, n_ctx=64, d_vocab=tokenizer.vocab_size, seed=0)
    )
    model.tokenizer = tokenizer
    document = Document("d", text, "toy", "en")
    assert training_stream([document], tokenizer).tolist() == [tokenizer.eos_id, *ids, tokenizer.eos_id]
    captured = capture(model, [document])
    assert captured.tokens.tolist() == ids.tolist()
    again = model(model.to_tokens(text)).log_softmax(-1)[0, :-1]
    surprisal = -again[np.arange(len(ids)), ids]
    assert np.allclose(captured.at_tokens(captured.surprisal), surprisal.detach(), atol=1e-4)


def test_more_tokens_than_fit_are_refused(bpe: BPETokenizer, tmp_path: Path, monkeypatch: Monkey) -> None:
    theirs = definition(bpe, tmp_path)
    monkeypatch.setattr("lrope_interp.tokenizers.bpe.MOST_TOKENS", 298)
    with pytest.raises(LRopeError, match="has ids up to 298; at most 298"):
        read_tokenizer_file(written(theirs, tmp_path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LRopeError, match=r"nowhere\.json cannot be read: there is no such file"):
        read_tokenizer_file(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bpe:257", "from 258"),
        ("bpe:65537", "to 65,536"),
        ("bpe:many", "wants an N"),
        ("bpe:", "wants an N"),
        ("gpt2", "unknown tokenizer 'gpt2'"),
    ],
)
def test_what_is_asked_for_is_checked(words: str, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        chosen_tokenizer(words)


def test_a_text_with_too_few_pairs_says_what_it_is_enough_for() -> None:
    with pytest.raises(LRopeError, match=r"pairs enough for \d+ tokens, not 8,000; ask for bpe:\d+"):
        train_bpe(["the peace the peace"], 8000)
