"""What stands before the first step: the text and what of it is held out, tokenizer, first weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_samples import MakeConfig, MakeModel, of, slow_nats

from lrope_interp.data import Corpus, CorpusPart, Document, load_corpus, training_streams
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.checkpoint import save_pretrained
from lrope_interp.tokenizers import ByteTokenizer, load_tokenizer
from lrope_interp.training import preparation
from lrope_interp.training.events import Event, Warned, ignore
from lrope_interp.training.loop import train
from lrope_interp.training.metrics import nats_per_byte, validation_documents, validation_windows
from lrope_interp.training.preparation import (
    build_model,
    make_tokenizer,
    prepare,
    tokenizer_sample,
    tokens_per_byte,
    widened_model,
)


def made_up(*names: str, n: int = 40, share: float = 0.3) -> Corpus:
    """A corpus of parts (and languages) with these names."""
    parts = tuple(
        CorpusPart(
            one, one, tuple(Document(f"{one}{i}", f"{one} {i} " * 30, one, one) for i in range(n)), share
        )
        for one in names
    )
    return Corpus("made up", parts)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return made_up("left", "right")


# The text


@pytest.mark.parametrize("split", ["fit", "dev", "test"])
def test_held_out_text_in_the_training_stream_is_noticed(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """The assertion runs in `train`, on the stream itself, and it can fail."""
    right = preparation.training_streams

    def leaking(corpus: Any, tokenizer: Any) -> Any:
        ((name, stream),) = right(corpus, tokenizer)
        held_out = tokenizer.encode(corpus.documents(split)[0].text).astype(stream.dtype)
        return [(name, np.concatenate([stream, held_out, stream[:1]]))]

    monkeypatch.setattr(preparation, "training_streams", leaking)
    with pytest.raises(LRopeError, match="was in the training text"):
        train(make_config(), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_names_exactly_the_documents_of_the_stream(
    uninterrupted: Path, make_config: MakeConfig
) -> None:
    manifest = json.loads((uninterrupted / "data.json").read_text())
    text = load_corpus(make_config().data)
    trained = {document.sha256 for document in text.documents("train")}
    assert set(manifest["splits"]["train"]["sha256"]) == trained
    assert trained.isdisjoint(document.sha256 for document in text.documents("dev"))


def test_a_corpus_is_read_as_the_config_says(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, text = list[tuple[str, dict[str, Any]]](), load_corpus(make_config().data)

    def load(name: str, **how: Any) -> Corpus:
        asked.append((name, how))
        return text

    monkeypatch.setattr(preparation, "load_corpus", load)
    how = {"encoding_errors": "replace", "text_column": "body", "max_train_bytes": 777, "despaced": True}
    preparation.training_corpus(make_config(**how))
    assert asked == [(make_config().data, how)]


def test_steps_are_capped_at_the_epochs_of_the_preset_and_obeyed_where_they_were_asked_for(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    told: list[Event] = []
    config = make_config(max_epochs=0.02, n_steps=10_000)
    run = train(config, tmp_path / "run", on_event=told.append)
    n_tokens = sum(one.n_bytes + 1 for one in load_corpus(config.data).documents("train")) + 1
    assert run.n_steps == int(0.02 * n_tokens / (4 * 32))
    assert "lowered to" in of(Warned, told)[0].message
    assert json.loads((run.folder / "config.json").read_text())["training"]["n_steps"] == run.n_steps
    told.clear()
    assert prepare(make_config(n_steps=10_000), told.append).config.n_steps == 10_000
    assert "by heart" in of(Warned, told)[0].message


# The validation text

N_CTX = 16


def document(text: str) -> Document:
    return Document(name="a", text=text, corpus="test", language="und")


@pytest.mark.parametrize(
    "texts",
    [
        ["a"],
        ["fifteen bytes .."],
        ["a longer text, 中文 too, that needs several windows"],
        ["short", "and a text of more than one window"],
    ],
)
def test_nats_per_byte_equals_a_byte_at_a_time(make_model: MakeModel, texts: list[str]) -> None:
    model, n_bytes = make_model(n_ctx=N_CTX).train(), sum(len(text.encode()) for text in texts)
    windows = validation_windows([document(text) for text in texts], ByteTokenizer(), N_CTX)
    assert windows.n_bytes == n_bytes
    expected = sum(slow_nats(model, text) for text in texts) / n_bytes
    assert nats_per_byte(model, windows, batch_size=2) == pytest.approx(expected, rel=1e-5)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_byte_is_scored_once() -> None:
    windows = validation_windows([document("x" * 100)], ByteTokenizer(), N_CTX)
    assert windows.n_bytes == 100
    assert windows.tokens.shape[1] == N_CTX
    assert windows.is_scored.shape == (len(windows.tokens), N_CTX - 1)
    assert np.all(windows.tokens[-1][1:][windows.is_scored[-1]] == ord("x"))
    with pytest.raises(LRopeError, match="no held-out text"):
        validation_windows([], ByteTokenizer(), N_CTX)


def test_the_validation_text_is_dev_text_of_the_size_asked_for_and_languages_share_it(
    make_config: MakeConfig,
) -> None:
    config = make_config(validation_bytes=1500)
    text = load_corpus(config.data)
    documents = validation_documents(text, 1500)
    assert documents == validation_documents(text, 1500)
    assert {text.split_of(one) for one in documents} == {"dev"}
    assert 500 <= sum(one.n_bytes for one in documents) <= 1500
    assert prepare(config, ignore).validation.n_bytes == sum(one.n_bytes for one in documents)
    two = validation_documents(made_up("en", "zh", n=60, share=0.5), 2_000)
    for one in ("en", "zh"):
        assert 500 <= sum(document.n_bytes for document in two if document.language == one) <= 1_000


def test_validation_of_a_bpe_divides_by_bytes(make_config: MakeConfig, corpus: Corpus) -> None:
    tokenizer, documents = make_tokenizer("bpe:280", corpus), corpus.documents("dev")
    windows = validation_windows(documents, tokenizer, N_CTX)
    assert windows.n_bytes == sum(document.n_bytes for document in documents)
    model = build_model(make_config(n_ctx=N_CTX), tokenizer)
    n_tokens = int(windows.is_scored.sum())
    expected = np.log(280) * n_tokens / windows.n_bytes
    assert nats_per_byte(model, windows) == pytest.approx(expected, rel=0.05)
    assert model.tokenizer is tokenizer and model.cfg.d_vocab == 280


# The tokenizer comes from the training text, and stays what it was


def test_the_sample_is_training_text_an_equal_share_of_each_part(corpus: Corpus) -> None:
    assert {*tokenizer_sample(corpus)} == {document.text for document in corpus.documents("train")}
    cut = list(tokenizer_sample(corpus, 1000))
    assert sum(len(text) for text in cut if text.startswith("left")) == 500
    assert sum(len(text) for text in cut) == 1000
    assert cut == list(tokenizer_sample(corpus, 1000))
    two = (Document("a", "abc", "en", "en"), Document("b", "def", "en", "en"))
    [only] = tokenizer_sample(Corpus("en", (CorpusPart("en", "en", two, 0.0),)), 3)
    assert only in ("abc", "def"), "nothing follows a document that fills the limit"


@given(limit=st.integers(1, 40))
def test_a_sample_is_never_cut_within_a_character(limit: int) -> None:
    part = CorpusPart("zh", "zh", (Document("d", "中国人民é🙂" * 3, "zh", "zh"),), 0.0)
    [text] = tokenizer_sample(Corpus("zh", (part,)), limit)
    assert part.documents[0].text.startswith(text)
    assert limit - 4 < len(text.encode()) <= limit


def test_a_bpe_stream_is_the_text_and_counts_its_bytes(corpus: Corpus) -> None:
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


def test_a_run_that_goes_on_keeps_its_tokenizer(make_config: MakeConfig, tmp_path: Path) -> None:
    own = make_tokenizer("bpe:270", load_corpus(make_config().data))
    own.save(tmp_path)
    path = Path(shutil.move(tmp_path / "tokenizer.json", tmp_path / "theirs.json"))
    asked = replace(make_config(), tokenizer=str(path))
    prepared = prepare(asked, ignore)
    assert prepared.tokenizer.fingerprint == own.fingerprint
    path.unlink()
    with pytest.raises(LRopeError, match="cannot be read"):
        prepare(asked, ignore)
    assert np.array_equal(prepare(asked, ignore, own).sampler.batch(3), prepared.sampler.batch(3))


def test_a_model_is_saved_with_its_tokenizer_and_refuses_another(
    make_config: MakeConfig, tmp_path: Path, corpus: Corpus
) -> None:
    tokenizer = make_tokenizer("bpe:270", corpus)
    save_pretrained(build_model(make_config(), tokenizer), tmp_path / "a")
    loaded = LRopeTransformer.from_pretrained(tmp_path / "a")
    assert loaded.tokenizer is not None and loaded.tokenizer.fingerprint == tokenizer.fingerprint
    assert loaded.generate("left 1", 4, verbose=False, seed=0).startswith("left 1")
    assert loaded.to_tokens(["left", "left 1 left"])[0, -1] == tokenizer.eos_id
    assert loaded.perceived_distance("left 1 right", "left", "right").n_tokens == (
        len(tokenizer.encode("left 1 right")) - len(tokenizer.encode("left"))
    )
    make_tokenizer("bpe:271", corpus).save(tmp_path / "a")
    with pytest.raises(LRopeError, match="271 tokens and the model d_vocab=270"):
        LRopeTransformer.from_pretrained(tmp_path / "a")
    assert load_tokenizer(tmp_path / "a").vocab_size == 271


# The first weights

EXTRA = 3
MLP = ("mlp.W_in", "mlp.W_gate", "mlp.W_out")


def test_the_seed_decides_the_batches_and_the_first_weights_and_not_the_text(make_config: MakeConfig) -> None:
    one, other = (prepare(make_config(seed=seed), ignore) for seed in (3, 4))
    assert (one.sampler.seed, other.sampler.seed) == (3, 4)
    assert not np.array_equal(one.sampler.batch(0), other.sampler.batch(0))
    assert np.array_equal(one.validation.tokens, other.validation.tokens)
    first, second = (build_model(prepared.config) for prepared in (one, other))
    assert first.cfg.seed == 3
    assert not torch.equal(first.W_E, second.W_E)


@pytest.mark.parametrize("increments", ["fixed", "shared", "per_layer"])
def test_a_widened_model_has_the_weights_of_the_narrow_one_and_three_more_a_unit_layer_and_dimension(
    make_model: MakeModel, increments: str
) -> None:
    narrow = make_model(increments=increments)
    assert widened_model(narrow, 0) is narrow
    wide = widened_model(narrow, EXTRA)
    assert wide.cfg.d_mlp == narrow.cfg.d_mlp + EXTRA
    weights, n_added = dict(wide.named_parameters()), 0
    assert weights.keys() == dict(narrow.named_parameters()).keys()
    for name, weight in narrow.named_parameters():
        both = tuple(map(slice, weight.shape)) if name.endswith(MLP) else ...
        assert torch.equal(weights[name][both], weight), name
        n_added += weights[name].numel() - weight.numel()
    assert n_added == 3 * narrow.cfg.d_model * narrow.cfg.n_layers * EXTRA


def test_with_the_extra_units_silenced_it_computes_what_the_narrow_model_does(make_model: MakeModel) -> None:
    narrow = make_model()
    wide = widened_model(narrow, EXTRA).eval()
    tokens = torch.arange(20)[None] * 11 % 257
    for size_of_extra, is_silent in ((0.0, True), (30.0, False)):
        with torch.no_grad():
            for block in wide.blocks:
                block.mlp.W_out[narrow.cfg.d_mlp :] = size_of_extra
            assert torch.allclose(wide(tokens), narrow(tokens), atol=1e-4) == is_silent


def test_the_extra_units_are_drawn_and_depend_on_the_seed(make_config: MakeConfig) -> None:
    def units(seed: int) -> torch.Tensor:
        model = build_model(make_config(increments="fixed", widened=EXTRA, seed=seed))
        return model.blocks[0].mlp.W_in[:, -EXTRA:]

    assert torch.equal(units(0), units(0))
    assert not torch.equal(units(0), units(1))
    assert 0 < float(units(0).detach().std()) < 1
