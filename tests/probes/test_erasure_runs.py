"""Erasure runs: batches, resuming, tokens, odd texts, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from erasure_samples import (
    FIT,
    IS_SCORED,
    LAYER,
    LOUD,
    OPTIONS,
    TEST,
    MakeModel,
    assert_close,
    marked,
    planted,
    row,
    value,
)
from probe_samples import chinese, english

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import OTHER, Spans
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.concepts import erasures as erasures_module
from lrope_interp.probes.concepts.erasing import MarkedText, erase, fit_eraser
from lrope_interp.probes.concepts.erasures import ErasureOptions, erasures
from lrope_interp.tokenizers.bpe import train_bpe


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LROPE_INTERP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> LRopeTransformer:
    return planted(make_model, LOUD)


@pytest.fixture(scope="module")
def frame(model: LRopeTransformer, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LROPE_INTERP_CACHE", str(tmp_path_factory.mktemp("frame")))
        return erasures(model, FIT, TEST, IS_SCORED, OPTIONS)


@pytest.mark.parametrize("is_per_head", [False, True])
def test_batch_size_changes_no_number(make_model: MakeModel, is_per_head: bool, tmp_path: Path) -> None:
    made, found = make_model(per_head=is_per_head), []
    fit, test = marked(0, 3, 12), marked(50, 2, 12)
    for size in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LROPE_INTERP_CACHE", str(tmp_path / str(size)))
            options = ErasureOptions(n_random=1, n_shuffled=1, batch_size=size)
            found.append(erasures(made, fit, test, np.ones(len(test.concept_at), dtype=bool), options))
    assert set(found[0]["layer"]) == {1}  # all but layer 0
    assert_close(found[0], found[1], atol=1e-5)


def test_a_run_that_was_killed_goes_on_and_a_finished_one_is_not_run_again(
    model: LRopeTransformer, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = erasures_module._run_batch, []
    options = replace(OPTIONS, batch_size=8)

    def counted(*given: Any) -> np.ndarray:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(erasures_module, "_run_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        erasures(model, FIT, TEST, IS_SCORED, options)
    resumed = erasures(model, FIT, TEST, IS_SCORED, options)
    assert len(seen) == 3 + 1  # 22 windows, 8 at a time: the third was broken off
    told: list[tuple[str, int, int]] = []
    again = erasures(model, FIT, TEST, IS_SCORED, options, lambda *said: told.append(said))
    assert len(seen) == 4
    assert not told
    assert_close(resumed, again)
    assert_close(resumed, frame, atol=1e-5)


def test_without_others_beside_it_there_is_only_leace_and_layer_0_can_be_asked_for(
    model: LRopeTransformer,
) -> None:
    told: list[tuple[str, int, int]] = []
    options = ErasureOptions(layers=(0,), n_random=0, n_shuffled=0)
    found = erasures(model, FIT, TEST, IS_SCORED, options, lambda *said: told.append(said))
    assert (set(found["arm"]), set(found["layer"])) == ({"leace"}, {0})
    assert told[-1] == ("erasures", 44, 44)  # one window a document, read untouched and erased
    assert told[0][0] == "erasers"


def test_bytes_that_are_not_scored_do_not_count(model: LRopeTransformer, frame: pd.DataFrame) -> None:
    half = np.arange(len(IS_SCORED)) % 2 == 0
    found = erasures(model, FIT, TEST, half, replace(OPTIONS, n_random=0, n_shuffled=0))
    assert row(found, "leace", "nats_per_byte")["n"] == half.sum()
    is_gap = np.concatenate([np.arange(one.n_bytes) > 0 for one in TEST.documents])
    wanted = int((half & is_gap & (TEST.concept_at == 0)).sum())
    assert row(found, "leace", "increment_change")["n"] == wanted
    assert value(found, "leace", "increment_change") != value(frame, "leace", "increment_change")


def test_where_spans_overlap_the_shorter_one_counts_and_bytes_are_those_of_all_documents() -> None:
    documents = (Document("a", "über", "made up", "de"), Document("b", "one two", "made up", "en"))
    rows = [(1, 0, 7, "long"), (1, 4, 7, "short"), (0, 0, 1, "short")]
    text = MarkedText(documents, Spans.of(rows, ("long", "short")))
    assert text.concept_at.tolist() == [1, 1, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1]


def test_longer_tokens_count_at_their_first_byte(make_model: MakeModel) -> None:
    documents = (english(0, 30), english(1, 30), chinese(0, 20))
    bpe = train_bpe([english(n).text + chinese(n).text for n in range(5)], 300)
    made = make_model(d_vocab=300)
    made.tokenizer = bpe
    rows = [
        (number, at, at + len(word), "loud" if len(word) > 4 else OTHER)
        for number, document in enumerate(documents)
        for at, word in _words(document.text)
    ]
    text = MarkedText(documents, Spans.of(rows, ("loud", OTHER)))
    options = ErasureOptions(n_random=0, n_shuffled=0)
    found = erasures(made, text, text, np.ones(len(text.concept_at), dtype=bool), options)
    starts = capture(made, documents, layers=[], predictions=False)
    assert row(found, "leace", "states_moved", "all")["n"] == len(starts.tokens) < starts.n_bytes
    is_counted = starts.is_token_start & (starts.t > 0) & (text.concept_at == 0)
    assert row(found, "leace", "increment_change")["n"] == is_counted.sum()
    assert row(found, "leace", "nats_per_byte")["n"] == starts.n_bytes


def _words(text: str) -> list[tuple[int, str]]:
    at, found = 0, []
    for word in text.split(" "):
        found += [(at, word)] if word else []
        at += len(word) + 1
    return found


def test_what_cannot_be_erased_is_said(model: LRopeTransformer, make_model: MakeModel) -> None:
    for increments in ("shared", "fixed"):
        with pytest.raises(LRopeError, match=f"this one has {increments} increments"):
            erasures(make_model(increments=increments), FIT, TEST, IS_SCORED, OPTIONS)
    with pytest.raises(LRopeError, match="trained with per_layer"):
        fit_eraser(make_model(increments="shared"), FIT.documents, FIT.spans, LAYER)
    with pytest.raises(LRopeError, match="layers 0 to 2, not 3"):
        erasures(model, FIT, TEST, IS_SCORED, ErasureOptions(layers=(3,)))
    with pytest.raises(LRopeError, match="layers 1 and up"):
        erasures(make_model(n_layers=1), FIT, TEST, IS_SCORED)
    with pytest.raises(LRopeError, match="is_scored has 3 bytes"):
        erasures(model, FIT, TEST, IS_SCORED[:3], OPTIONS)
    with pytest.raises(LRopeError, match="no byte of the test text is scored"):
        erasures(model, FIT, TEST, ~IS_SCORED, OPTIONS)
    others = MarkedText(TEST.documents, replace(TEST.spans, concepts=("soft", OTHER)))
    with pytest.raises(LRopeError, match="mark both with one family"):
        erasures(model, FIT, others, IS_SCORED, OPTIONS)
    with pytest.raises(LRopeError, match="the same at all states"):
        fit_eraser(model, FIT.documents, FIT.spans.take(np.zeros(len(FIT.spans), dtype=bool)), LAYER)
    with pytest.raises(LRopeError, match="at least two states"):
        fit_eraser(model, (), Spans.of((), ("loud", OTHER)), LAYER)


def test_an_erasure_that_was_never_reached_is_said(model: LRopeTransformer) -> None:
    hook = erase(fit_eraser(model, FIT.documents, FIT.spans, LAYER))
    with pytest.raises(LRopeError, match="never fired"):
        model.run_with_hooks("abc", fwd_hooks=[("blocks.2.hook_increments_in", hook)], stop_at_layer=2)
