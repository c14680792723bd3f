"""Probes on a model whose tokens are longer than a byte: every number at the token that it belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from probe_samples import chinese, english, select

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.probes.boundaries.boundaries import boundaries
from lrope_interp.probes.boundaries.tables import stride_frame
from lrope_interp.probes.capture.capture import capture, capture_pattern, capture_unhurried, token_start_mask
from lrope_interp.probes.capture.controls import byte_mean, calibration_tokens
from lrope_interp.probes.capture.gaps import Characters, Gaps
from lrope_interp.probes.capture.signals import SIGNALS, columns
from lrope_interp.probes.evaluation.evaluation import evaluate
from lrope_interp.probes.spacing.spacing import EOS_CHARACTER, show
from lrope_interp.reports import render as render_boundaries
from lrope_interp.tokenizers.bpe import BPETokenizer, train_bpe

MakeModel = Callable[..., LRopeTransformer]
N_VOCAB = 300


@pytest.fixture(scope="module")
def bpe() -> BPETokenizer:
    return train_bpe([english(n).text + chinese(n).text for n in range(20)], N_VOCAB)


@pytest.fixture(scope="module")
def model(make_model: MakeModel, bpe: BPETokenizer) -> LRopeTransformer:
    made = make_model(d_vocab=N_VOCAB)
    made.tokenizer = bpe
    return made


def test_a_token_is_stored_at_its_first_byte_and_read_in_its_window(
    model: LRopeTransformer, bpe: BPETokenizer
) -> None:
    documents = [english(0, 40), Document("empty", "", "x", "en"), chinese(1, 30)]
    captured = capture(model, documents)
    ids, starts, _ = bpe.encode_spans(documents[0].text)
    n = len(ids)
    assert captured.n_bytes == sum(document.n_bytes for document in documents) > len(captured.tokens)
    assert captured.token_offsets.tolist()[:3] == [0, n, n]
    assert np.array_equal(captured.token_starts[:n], starts)
    with torch.no_grad():
        logits, cache = model.run_with_cache(torch.tensor([[bpe.eos_id, *ids[:31]]]))
    log_p = logits[0].log_softmax(-1).numpy()
    np.testing.assert_allclose(
        captured.increments[1, 0, starts[:31]], cache["increments", 1][0, 1:].numpy(), atol=1e-5
    )
    wanted = [-log_p[t, ids[t]] for t in range(31)]
    np.testing.assert_allclose(captured.surprisal[starts[:31]], wanted, atol=1e-4)
    entropy = -(np.exp(log_p) * log_p).sum(-1)
    np.testing.assert_allclose(captured.entropy[starts[:31]], entropy[:31], atol=1e-4)
    np.testing.assert_allclose(captured.entropy_next[starts[:31]], entropy[1:], atol=1e-4)


def test_within_a_token_nothing_is_added(model: LRopeTransformer) -> None:
    captured = capture(model, [english(0, 40), chinese(1, 30)])
    inside = ~captured.is_token_start
    assert 0 < inside.sum() == captured.n_bytes - len(captured.tokens)
    assert (captured.increments[..., inside] == 0).all()
    assert (captured.surprisal[inside] == 0).all()
    assert np.array_equal(captured.entropy[inside], captured.entropy[np.flatnonzero(inside) - 1])
    last = captured.positions(0)[1, 0, -1]
    assert last == pytest.approx(captured.increments[1, 0, captured.span(0)].sum(dtype=np.float64))
    rise = columns(SIGNALS["rise"], {"test": captured})[0].values["test"]
    starts = captured.token_starts[1:5]
    wanted = captured.entropy[starts] - captured.entropy[captured.token_starts[:4]]
    np.testing.assert_allclose(rise[starts], wanted)


def test_characters_align_over_their_tokens() -> None:
    # "中" is the tokens e4b8 | ad, and "ab" is one token.
    documents = [Document("d", "x中ab.", "x", "und")]
    is_start = np.array([True, True, False, True, True, False, True])
    characters = Characters.of(documents, is_start)
    values = np.array([1.0, 2, 99, 4, 5, 99, 7])
    gaps = np.array([1, 4, 6])
    assert characters.n_tokens.tolist() == [1, 2, 1, 0, 1]
    assert characters.align(values, gaps, "lead").tolist() == [2, 5, 7]
    assert characters.align(values, gaps, "last").tolist() == [4, 5, 7]
    assert characters.align(values, gaps, "sum").tolist() == [6, 5, 7]


def test_gaps_inside_a_token_are_left_out_and_counted() -> None:
    documents = [Document("d", "x中ab, c", "x", "und")]
    is_start = np.array([True, True, False, True, True, False, True, True, False])
    gaps = Gaps.of(documents, ["words", "whitespace"], None, is_start)
    # Gaps before bytes 1 (中), 4 (a), 5 (b), 6 (comma), 7 (space), 8 (c); inside tokens: 5 and 8.
    assert np.flatnonzero(gaps.strata["characters"]).tolist() == [1, 4, 6, 7]
    assert np.flatnonzero(gaps.strata["bytes"]).tolist() == [1, 3, 4, 6, 7]
    assert np.flatnonzero(gaps.unscored).tolist() == [5, 8]
    assert (gaps.labels["words"].is_boundary & gaps.unscored).sum() == 1
    plain = Gaps.of(documents, ["whitespace"])
    assert np.flatnonzero(plain.strata["characters"]).tolist() == [1, 4, 5, 6, 7, 8]
    assert not plain.unscored.any()


def test_every_byte_a_token_is_as_no_tokens_said() -> None:
    documents = [english(0), chinese(1)]
    n_bytes = sum(document.n_bytes for document in documents)
    plain, told = (Gaps.of(documents, ["words"], None, mask) for mask in (None, np.ones(n_bytes, dtype=bool)))
    values = np.random.default_rng(0).normal(size=n_bytes)
    for one, other in zip(plain.fields(), told.fields(), strict=True):
        assert np.array_equal(one.gaps, other.gaps)
        assert one.alignments == other.alignments
        for how in one.alignments:
            same = (gaps.characters.align(values, one.gaps, how) for gaps in (plain, told))
            assert np.array_equal(*same)


def test_the_token_mean_is_a_table_of_tokens(model: LRopeTransformer) -> None:
    fit, other = (capture(model, [english(n), chinese(n)], predictions=False) for n in (0, 1))
    table = columns(byte_mean(fit), {"test": other})
    assert {column.signal.name for column in table} == {"token_mean"}
    token = fit.tokens[3]
    own = fit.increments[1, 0, fit.token_starts[fit.tokens == token]]
    at = other.token_starts[other.tokens == token]
    assert len(at) and np.allclose(table[1].values["test"][at], own.mean())
    starts = other.token_starts
    np.testing.assert_allclose(table[0].values["test"][starts], other.increments[0, 0, starts], rtol=1e-5)


def test_an_unhurried_capture_agrees_where_all_context_fits(model: LRopeTransformer) -> None:
    document = english(3, 80)
    captured = capture(model, [document], predictions=False)
    got = capture_unhurried(model, document, slice(0, 20), layers=[0, 1], batch_size=4)
    np.testing.assert_allclose(got, captured.increments[..., captured.token_starts[:20]], atol=1e-5)
    frame = stride_frame(model, captured, 16)
    assert frame["n"].tolist() == [len(captured.tokens) - 32] * 2
    assert frame["shift"].iloc[0] == pytest.approx(0, abs=1e-5)
    assert 0 < frame["shift"].iloc[1] < 2


def test_the_untrained_control_is_calibrated_on_tokens(model: LRopeTransformer, bpe: BPETokenizer) -> None:
    tokens = calibration_tokens([english(0), chinese(0)], 32, bpe)
    assert tokens[0, 0] == bpe.eos_id and int((tokens == bpe.eos_id).sum()) <= 2
    control = randomised_control(model, tokens, 0).tokenizer
    assert control is not None and control.fingerprint == bpe.fingerprint


def test_boundaries_score_what_stands_before_a_token(model: LRopeTransformer) -> None:
    selection = select(lambda number: [english(number, 30), chinese(number, 20)], n=3)
    result = boundaries(model, data=selection, layers=[1], labels=["words"])
    mask = token_start_mask(model, selection.test)
    assert mask is not None and result.gaps is not None
    assert len(result.gaps) == int(mask.sum()) - len(selection.test)
    unscored = result.tables["unscored"].set_index("gaps")
    n_characters = sum(len(document.text) - 1 for document in selection.test)
    assert unscored.loc["any", "n"] == n_characters
    n_scored = int(result.gaps["in_characters"].sum())
    assert unscored.loc["any", "n_unscored"] == n_characters - n_scored
    assert result.headline["gaps inside tokens, not scored"] == n_characters - n_scored
    assert any("lie inside a token and are not scored" in said for said in result.warnings)
    scores = result.tables["scores"]
    assert "token_mean" in set(scores["signal"]) and "byte_mean" not in set(scores["signal"])
    one = scores[(scores["signal"] == "increments") & (scores["stratum"] == "characters")]
    assert set(one["n"]) == {n_scored}
    page = render_boundaries(result)
    assert "Gaps inside a token have no increment of their own" in page
    assert "token's mean increment" in page.replace("&#x27;", "'").replace("&#39;", "'")


def test_nats_are_summed_over_tokens_and_divided_by_bytes(model: LRopeTransformer, bpe: BPETokenizer) -> None:
    document = english(5, 12)
    ids = bpe.encode(document.text)
    with torch.no_grad():
        loss = model(torch.tensor([[bpe.eos_id, *ids]])[:, :32], return_type="loss", loss_per_token=True)
    assert len(ids) < 32 < document.n_bytes
    result = evaluate(model, [document])
    assert result.headline["nats_per_byte"] == pytest.approx(float(loss.sum()) / document.n_bytes, rel=1e-5)
    bits = result.headline["bits_per_byte"]
    assert bits is not None and bits == pytest.approx(float(loss.sum()) / document.n_bytes / math.log(2))


def test_show_places_tokens_and_counts_what_it_cannot_place(
    model: LRopeTransformer, bpe: BPETokenizer
) -> None:
    text = "the peace of 国家 é!"
    ids, starts, _ = bpe.encode_spans(text)
    result = show(model, text, attention="1.0", at=4)
    table = result.tables["characters"]
    row = table[table["layer"] == 1]
    assert "".join(row["text"]) == text
    assert row["n_tokens"].sum() == len(ids)
    assert row["byte_start"].isin(starts).all()
    captured = capture(model, [Document("d", text, "x", "en")])
    assert row["position"].iloc[-1] == pytest.approx(captured.increments[1, 0].sum(), rel=1e-5)
    assert row["position_normalised"].iloc[-1] == pytest.approx(len(ids), rel=1e-5)
    n_inside = len(text) - len(row)
    assert any(f"{n_inside} of {len(text) - 1} gaps" in said for said in result.warnings)
    attention = result.tables["attention"]
    assert attention["weight"].sum() == pytest.approx(1, abs=1e-5)
    assert attention["key_character"].iloc[0] == EOS_CHARACTER
    assert set(attention["key_character"].iloc[1:]) <= set(row["character"])
    assert set(attention["query_character"]) <= set(row["character"])
    assert "others" in repr(result) and "a token" in repr(result)


def test_a_slice_of_a_text_has_the_tokens_of_the_whole(model: LRopeTransformer) -> None:
    text = " ".join(["the peace of nations and a treaty"] * 60)
    whole = show(model, text, layers=1, length=len(text)).tables["characters"].set_index("character")
    part = show(model, text, layers=1, start=5, length=30).tables["characters"].set_index("character")
    assert part.index[0] <= 5 and len(part) > 4
    assert part["text"].tolist() == whole.loc[part.index, "text"].tolist()
    np.testing.assert_allclose(part["increment"], whole.loc[part.index, "increment"], rtol=1e-4)


def test_attention_is_looked_up_by_byte_and_given_by_token(
    model: LRopeTransformer, bpe: BPETokenizer
) -> None:
    document = Document("d", "the peace of nations", "x", "en")
    _, starts, ends = bpe.encode_spans(document.text)
    at = int(np.argmax(ends - starts))
    for byte in range(int(starts[at]), int(ends[at])):
        start, weights = capture_pattern(model, document, layer=0, head=1, byte=byte)
        assert (start, len(weights)) == (0, at + 2)
        assert weights.sum() == pytest.approx(1, abs=1e-5)
