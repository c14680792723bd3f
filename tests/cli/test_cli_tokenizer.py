"""A model of BPE tokens from one end of the command line to the other."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from cli_words import Cli

from lrope_interp.models import LRopeTransformer
from lrope_interp.tokenizers import load_tokenizer
from lrope_interp.training import config

SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "n_ctx": 32}


@pytest.fixture
def tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = {**SHAPE, "validation_bytes": 500}
    monkeypatch.setitem(config.PRESETS, "tiny", shape)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_preset")
def test_a_model_of_tokens_trains_and_everything_works_on_it(
    cli: Cli, text_file: Path, tmp_path: Path
) -> None:
    asked = ["--data", f"file:{text_file}", "--steps", "3", "--batch-size", "4"]
    trained = cli("train", *asked, "--tokenizer", "bpe:300", "--out", "run", "--json")
    assert trained.code == 0, trained.err
    run, summary = tmp_path / "run", json.loads(trained.out)["summary"]
    tokenizer = load_tokenizer(run)
    assert (tokenizer.name, tokenizer.vocab_size) == ("bpe", 300)
    info = json.loads((run / "run.json").read_text())
    assert info["tokenizer"]["fingerprint"] == tokenizer.fingerprint
    assert 0 < info["tokenizer"]["tokens_per_byte"] < 0.7
    assert "--tokenizer bpe:300" in info["command"]
    assert summary["validation_nats_per_byte"] < 0.7 * summary["train_loss"], "a byte, not a token"
    model = LRopeTransformer.from_pretrained(run)
    assert model.cfg.d_vocab == 300
    assert model.to_string(model.to_tokens("green 中国")) == ["green 中国"]

    found = cli("boundaries", "--model", "run", "--max-bytes", "1500", "--layer", "1", "--out", "b", "--json")
    assert found.code == 0, found.err
    unscored = pd.read_csv(tmp_path / "b" / "unscored.csv").set_index("gaps")
    headline = json.loads(found.out)["headline"]
    assert headline["gaps inside tokens, not scored"] == unscored.loc["any", "n_unscored"] > 0
    assert "how many lie inside a token" in (tmp_path / "b" / "report.html").read_text()

    shown = cli("show", "the green fox 中国", "--model", "run", "--out", "s")
    assert shown.code == 0, shown.err
    assert "Widest steps a token" in shown.out and "lie inside a token" in shown.err
    assert "one step a token" in (tmp_path / "s" / "report.html").read_text()

    evaluated = cli("eval", "--model", "run", "--out", "e", "--json")
    assert evaluated.code == 0, evaluated.err
    nats = json.loads(evaluated.out)["headline"]["nats_per_byte"]
    assert nats == pytest.approx(summary["validation_nats_per_byte"], rel=0.1)

    written = cli("generate", "the 中", "--model", "run", "--max-new-tokens", "5", "--json")
    assert json.loads(written.out)["text"].startswith("the 中")
    again = cli("generate", "the", "--model", "run", "--max-new-tokens", "40")
    assert again.code == 2 and "tokens of prompt" in again.err

    other = cli("train", *asked, "--tokenizer", "run/tokenizer.json", "--out", "second", "--json")
    assert other.code == 0, other.err
    assert load_tokenizer(tmp_path / "second").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("tokenizer", "said"),
    [
        ("bpe:100", "from 258"),
        ("bpe:60000", "the training text has pairs enough for"),
        ("nowhere.json", "cannot be read"),
        ("gpt2", "unknown tokenizer 'gpt2'"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_leaves_nothing(
    cli: Cli, text_file: Path, tmp_path: Path, tokenizer: str, said: str
) -> None:
    answer = cli("train", "--data", f"file:{text_file}", "--tokenizer", tokenizer, "--out", "run")
    assert answer.code == 2 and said in answer.err
    assert not (tmp_path / "run").exists()
