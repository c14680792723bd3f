"""What an ablation run is given: odd models, odd texts, labels that hold here and there, and mistakes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ablation_runs import MakeModel, spread_out, value

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.ablations import ablate
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.evaluation.evaluation import evaluate
from lrope_interp.results import Result
from lrope_interp.tokenizers.bpe import train_bpe


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> LRopeTransformer:
    return spread_out(make_model(n_layers=3, seed=1))


def test_freezing_only_where_a_label_holds_changes_less_than_everywhere_and_is_named(
    model: LRopeTransformer, texts: Selection
) -> None:
    found = ablate(model, data=texts, freeze="mean", layers=(1,), where="punctuation")
    rows = found.tables["ablations"]
    assert set(rows["where"]) == {"punctuation"} and set(rows["layers"]) == {"1"}
    everywhere = ablate(model, data=texts, freeze="mean", layers=(1,))
    here = value(found, "mean", "1", "kl", where="punctuation")
    assert 0 < here < value(everywhere, "mean", "1", "kl")
    assert found.provenance["suite"] == "asked"


def test_heads_of_their_own_are_frozen_one_by_one(make_model: MakeModel, texts: Selection) -> None:
    per_head = spread_out(make_model(per_head=True, n_layers=2))
    found = ablate(per_head, data=texts, freeze="mean", heads=True)
    rows = found.tables["ablations"]
    rows = rows[(rows["metric"] == "kl") & (rows["language"] == "all") & (rows["byte_class"] == "all")]
    assert list(zip(rows["layer"], rows["head"], strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert rows["value"].is_unique and (rows["value"] > 0).all()


def test_bytes_that_stand_in_training_text_are_not_scored(model: LRopeTransformer, texts: Selection) -> None:
    masks = tuple(np.arange(one.n_bytes) < 50 for one in texts.test)
    found = ablate(model, data=replace(texts, shared={**texts.shared, "test": masks}), freeze="1")
    n_left = sum(max(0, one.n_bytes - 50) for one in texts.test)
    assert found.tables["base"]["n"].iloc[0] == n_left


def test_longer_tokens_are_scored_per_byte(make_model: MakeModel, texts: Selection) -> None:
    tokenizer = train_bpe([one.text for one in texts.fit], 300)
    model = spread_out(make_model(d_vocab=tokenizer.vocab_size, n_layers=2))
    model.tokenizer = tokenizer
    found = ablate(model, data=texts, freeze="1")
    untouched = evaluate(model, texts.test).headline["nats_per_byte"]
    assert found.headline["untouched"] == pytest.approx(untouched)
    rows = found.tables["ablations"]
    rows = rows[(rows["language"] == "all") & (rows["byte_class"] == "all")].set_index("metric")
    assert rows.loc["kl", "n"] < rows.loc["nats_per_byte", "n"] == sum(one.n_bytes for one in texts.test)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"freeze": "1", "layers": (7,)}, "layers 0 to 2"),
        ({"freeze": "1", "where": "brackets_open"}, "code"),
        ({"freeze": "1", "where": "0-9"}, "never occurs"),
        ({"freeze": "1", "where": "punktuation"}, "punctuation"),
        ({"heads": True}, "share their increments"),
        ({"freeze": "2"}, "unknown value to freeze to: '2'"),
        ({"suite": "huge"}, "unknown suite 'huge'"),
        ({"freeze": "1", "suite": "full"}, "give one of them"),
        ({"layers": (0,)}, "choose layers together with an intervention"),
        ({"is_each": True}, "choose layers together with an intervention"),
        ({"freeze": "1", "layers": ()}, "no layer is named"),
        ({"freeze": "1", "layers": (0, 1)}, "neither one layer nor all 3"),
    ],
)
def test_what_cannot_be_ablated_is_an_error_and_not_a_zero(
    model: LRopeTransformer, texts: Selection, options: dict, words: str
) -> None:
    if options.get("where") == "0-9":
        one = replace(texts.test[0], text="no digit here, none at all. " * 4, words=None)
        texts = Selection.of("x", {"fit": texts.fit, "dev": texts.dev, "test": [one]})
    with pytest.raises(LRopeError, match=words):
        ablate(model, data=texts, **options)


def test_one_layer_is_enough_for_every_suite(make_model: MakeModel, few: Selection) -> None:
    found = ablate(make_model(n_layers=1), data=few, suite="full")
    assert found.headline["one_all"] == value(found, "one", "0")
    assert len(found.tables["attention"]) > 0
    asked = ablate(make_model(n_layers=1), data=few, freeze="1")
    assert asked.headline["one_all"] == found.headline["one_all"]
    assert len(asked.tables["attention"]) > 0


def test_a_text_without_words_is_ablated_all_the_same(make_model: MakeModel, few: Selection) -> None:
    only = Document("smiles", "🙂🙃😀" * 20, "made up", "en")
    texts = Selection.of("x", {"fit": few.fit, "dev": few.dev, "test": [only]})
    found = ablate(make_model(), data=texts)
    assert "local" not in set(found.tables["ablations"]["intervention"])
    assert found.tables["distances"].empty
    assert "no words" in " ".join(found.warnings)
    asked = ablate(make_model(), data=texts, freeze="1", where="other lead")
    assert asked.tables["places"]["n_gaps"].tolist() == [60]


def test_a_label_marks_the_token_that_holds_its_gap(make_model: MakeModel, texts: Selection) -> None:
    english_only = {
        split: [one for one in getattr(texts, split) if one.language == "en"]
        for split in ("fit", "dev", "test")
    }
    tokenizer = train_bpe([one.text for one in english_only["fit"]], 285)
    model = spread_out(make_model(d_vocab=tokenizer.vocab_size, n_layers=2))
    model.tokenizer = tokenizer
    found = ablate(model, data=Selection.of("x", english_only), freeze="mean", where="words")
    n_marked = 0
    for document in english_only["test"]:
        starts = tokenizer.encode_spans(document.text)[1]
        at, offset, previous = [], 0, " "
        for character in document.text:
            if character.isalnum() and not previous.isalnum():
                at.append(offset)
            offset, previous = offset + len(character.encode()), character
        n_marked += len({int(np.searchsorted(starts, one, side="right")) for one in at})
    assert found.tables["places"]["n_gaps"].tolist() == [n_marked]
    assert value(found, "mean", "all", "kl", where="words") > 0
    assert "longer than a byte" in " ".join(found.warnings)


def test_documents_that_do_not_know_a_label_are_counted(make_model: MakeModel, few: Selection) -> None:
    sources = ["x = 1\n\n\ndef f():\n    return x\n", "def broken(:\n"]
    code = [Document(f"{n}.py", text, "made up", "code") for n, text in enumerate(sources)]
    texts = Selection.of("x", {"fit": few.fit, "dev": few.dev, "test": code})
    found = ablate(make_model(), data=texts, freeze="1", where="scopes")
    places = found.tables["places"].iloc[0]
    assert (places["n_known"], places["n_documents"]) == (1, 2)
    assert "known in 1 of 2 documents" in " ".join(found.warnings)


def test_as_many_random_gaps_stand_beside_each_label(full_suite: Result) -> None:
    found, counts = full_suite, full_suite.tables["places"].set_index("where")["n_gaps"]
    for place in ("words", "punctuation", "whitespace", "inside_words"):
        assert counts[place] == counts[f"random:{place}"] > 0
        more = value(found, "mean", "all", where=place) - value(found, "mean", "all", where=f"random:{place}")
        assert value(found, "beyond_random", "all", where=place) == pytest.approx(more, abs=1e-9)
        assert value(found, "mean", "all", "kl", where=f"random:{place}") != value(
            found, "mean", "all", "kl", where=place
        )
