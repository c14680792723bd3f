"""A run's tokenizer comes from its training text, and stays what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrope_interp.data import Corpus, CorpusPart, Document, load_corpus, training_streams
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import save_pretrained
from lrope_interp.tokenizers import ByteTokenizer, load_tokenizer
from lrope_interp.training.config import TrainConfig
from lrope_interp.training.metrics import nats_per_byte, validation_windows
from lrope_interp.training.preparation import (
    build_model,
    make_tokenizer,
    prepare,
    tokenizer_sample,
    tokens_per_byte,
)

MakeConfig = Callable[..., TrainConfig]


def made_up(n: int = 40) -> Corpus:
    parts = tuple(
        CorpusPart(
            name,
            "und",
            tuple(Document(f"{name}{i}", f"{name} {i} " * 30, name, "und") for i in range(n)),
            0.3,
        )
        for name in ("left", "right")
    )
    return Corpus("made up", parts)


def test_the_sample_is_training_text_an_equal_share_of_each_part() -> None:
    corpus = made_up()
    train = {document.text for document in corpus.documents("train")}
    whole = list(tokenizer_sample(corpus))
    assert set(whole) == train
    cut = list(tokenizer_sample(corpus, 1000))
    assert sum(len(text) for text in cut if text.startswith("left")) == 500
    assert sum(len(text) for text in cut) == 1000
    assert cut == list(tokenizer_sample(corpus, 1000))


@given(limit=st.integers(1, 40))
def test_a_sample_is_never_cut_within_a_character(limit: int) -> None:
    part = CorpusPart("zh", "zh", (Document("d", "中国人民é🙂" * 3, "zh", "zh"),), 0.0)
    [text] = tokenizer_sample(Corpus("zh", (part,)), limit)
    assert part.documents[0].text.startswith(text)
    assert len(text.encode()) > limit - 4
    assert len(text.encode()) <= limit


def test_a_bpe_stream_is_the_text_and_counts_its_bytes() -> None:
    corpus = made_up()
    tokenizer = make_tokenizer("bpe:280", corpus)
    streams = training_streams(corpus, tokenizer)
    for name, stream in streams:
        texts = [document.text for document in corpus.documents("train", part=name)]
        pieces = np.split(stream, np.flatnonzero(stream == tokenizer.eos_id))[1:-1]
        assert sorted(tokenizer.decode(piece) for piece in pieces) == sorted(texts)
    share = tokens_per_byte(streams, tokenizer)
    ratios = [
        tokenizer.token_bytes(stream.astype(np.int64)).sum() / (stream != tokenizer.eos_id).sum()
        for _, stream in streams
    ]
    assert share == pytest.approx(1 / np.mean(ratios)) and share < 0.5
    assert tokens_per_byte(training_streams(corpus, ByteTokenizer()), ByteTokenizer()) == 1.0


def test_validation_divides_by_bytes(make_config: MakeConfig) -> None:
    corpus = made_up()
    tokenizer = make_tokenizer("bpe:280", corpus)
    documents = corpus.documents("dev")
    windows = validation_windows(documents, tokenizer, 16)
    assert windows.n_bytes == sum(document.n_bytes for document in documents)
    model = build_model(make_config(n_ctx=16), tokenizer)
    per_byte = nats_per_byte(model, windows)
    n_tokens = int(windows.is_scored.sum())
    assert per_byte == pytest.approx(np.log(280) * n_tokens / windows.n_bytes, rel=0.05)
    assert model.tokenizer is tokenizer and model.cfg.d_vocab == 280


def test_a_run_that_goes_on_keeps_its_tokenizer(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    text = load_corpus(config.data)
    own = make_tokenizer("bpe:270", text)
    path = tmp_path / "theirs.json"
    own.save(tmp_path)
    shutil.move(tmp_path / "tokenizer.json", path)
    asked = replace(config, tokenizer=str(path))
    prepared = prepare(asked, lambda event: None)
    assert prepared.tokenizer.fingerprint == own.fingerprint
    path.unlink()
    with pytest.raises(LRopeError, match="cannot be read"):
        prepare(asked, lambda event: None)
    resumed = prepare(asked, lambda event: None, own)
    assert np.array_equal(resumed.sampler.batch(3), prepared.sampler.batch(3))


def test_a_config_without_the_field_is_one_of_bytes(make_config: MakeConfig) -> None:
    values = make_config().to_dict()
    del values["tokenizer"]
    assert TrainConfig.from_dict(values).tokenizer == "bytes"
    with pytest.raises(LRopeError, match="unknown tokenizer"):
        make_config(tokenizer="words")


def test_a_model_is_saved_with_its_tokenizer_and_refuses_another(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    tokenizer = make_tokenizer("bpe:270", made_up())
    model = build_model(make_config(), tokenizer)
    save_pretrained(model, tmp_path / "a")
    loaded = LRopeTransformer.from_pretrained(tmp_path / "a")
    assert loaded.tokenizer is not None and loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.generate("left 1", 4, verbose=False, seed=0).startswith("left 1")
    assert loaded.to_tokens(["left", "left 1 left"])[0, -1] == tokenizer.eos_id
    assert loaded.perceived_distance("left 1 right", "left", "right").n_tokens == (
        len(tokenizer.encode("left 1 right")) - len(tokenizer.encode("left"))
    )
    make_tokenizer("bpe:271", made_up()).save(tmp_path / "a")
    with pytest.raises(LRopeError, match="271 tokens and the model d_vocab=270"):
        LRopeTransformer.from_pretrained(tmp_path / "a")
    assert load_tokenizer(tmp_path / "a").vocab_size == 271
