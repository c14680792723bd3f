"""A planted use of a concept is found and taken away, and nothing else; batches, resuming, refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from erasure_samples import (
    EOS,
    FIT,
    IS_SCORED,
    LAYER,
    LOUD,
    N_CTX,
    OPTIONS,
    QUIET,
    TEST,
    MakeModel,
    assert_close,
    marked,
    planted,
    row,
    value,
)
from probe_samples import chinese, english
from torch import Tensor

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import OTHER, Spans
from lrope_interp.errors import LRopeError
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.probes.capture.capture import capture
from lrope_interp.probes.capture.losses import Untouched
from lrope_interp.probes.concepts.erasing import MarkedText, erase, fit_eraser, fit_layers
from lrope_interp.probes.concepts.erasures import COLUMNS, erasures
from lrope_interp.tokenizers.bpe import train_bpe

AFTER = ("k", "q", "v")


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
        return erasures(model, FIT, TEST, IS_SCORED, **OPTIONS)


def test_a_planted_use_of_a_concept_is_found_and_leace_takes_it_away(frame: pd.DataFrame) -> None:
    before = value(frame, "leace", "contrast_before")
    assert before > 1
    assert row(frame, "leace", "contrast_before")["ci_low"] > 1
    # What is left is not linear: the head's norm divides by lengths that differ between the classes.
    assert abs(value(frame, "leace", "contrast_after")) < 0.15 * before
    assert value(frame, "random", "contrast_after") > 0.7 * before
    assert row(frame, "difference", "contrast_after")["ci_high"] < -0.5
    assert row(frame, "difference", "increment_change")["ci_low"] > 0.3
    assert value(frame, "leace", "increment_change") > 5 * value(frame, "random", "increment_change")
    # It is of the concept, and not of spans.
    assert value(frame, "shuffled", "contrast_after") > 0.7 * before
    assert row(frame, "beyond_shuffled", "contrast_after")["ci_high"] < -0.5
    assert row(frame, "beyond_shuffled", "increment_change")["ci_low"] > 0.3


def test_what_only_tells_words_from_spaces_is_beyond_random_and_not_beyond_shuffled(
    make_model: MakeModel,
) -> None:
    words = planted(make_model, LOUD + QUIET)
    for seed in range(2):
        found = erasures(words, FIT.shuffled(seed), TEST.shuffled(seed + 100), IS_SCORED, **OPTIONS)
        beyond_random = row(found, "difference", "increment_change_elsewhere")
        assert beyond_random["ci_low"] > 0.04
        beyond_shuffled = value(found, "beyond_shuffled", "increment_change_elsewhere")
        assert abs(beyond_shuffled) < 0.2 * beyond_random["value"]


def test_labels_drawn_by_span_are_not_beyond_shuffled_labels(
    model: LRopeTransformer, frame: pd.DataFrame
) -> None:
    for seed in range(2):
        found = erasures(model, FIT.shuffled(seed), TEST.shuffled(seed + 100), IS_SCORED, **OPTIONS)
        contrast = row(found, "beyond_shuffled", "contrast_after")
        assert contrast["ci_low"] < 0 < contrast["ci_high"]
        assert abs(contrast["value"]) < 0.2 * abs(value(frame, "beyond_shuffled", "contrast_after"))


def test_shuffling_moves_concepts_between_spans_and_nothing_else() -> None:
    found = [FIT.shuffled(seed) for seed in (1, 1, 2)]
    concepts = [one.spans.concept.tolist() for one in found]
    assert concepts[0] == concepts[1] != concepts[2] != FIT.spans.concept.tolist()
    for one, own in zip(found, concepts, strict=True):
        assert sorted(own) == sorted(FIT.spans.concept.tolist())
        np.testing.assert_array_equal(one.concept_at >= 0, FIT.concept_at >= 0)
        for number, (first, past) in enumerate(zip(*FIT.edges, strict=True)):
            assert set(one.concept_at[first:past].tolist()) == {own[number]}


def test_shuffled_fitters_of_one_reading_are_those_of_shuffled_text(model: LRopeTransformer) -> None:
    together, _ = fit_layers(model, FIT, [0, LAYER], shuffles=(5, 6))
    for at, seed in enumerate((5, 6)):
        alone, _ = fit_layers(model, FIT.shuffled(seed), [0, LAYER])
        for layer, (fitter,) in alone.items():
            other = together[layer][1 + at]
            assert (other.n, other.n_classes) == (fitter.n, fitter.n_classes)
            np.testing.assert_allclose(other.mean, fitter.mean, atol=1e-12)
            np.testing.assert_allclose(other.scatter, fitter.scatter, atol=1e-9)
    plain, _ = fit_layers(model, FIT, [LAYER])
    assert [len(own) for own in plain.values()] == [1]
    np.testing.assert_allclose(plain[LAYER][0].scatter, together[LAYER][0].scatter, atol=1e-9)


def plain_pass(
    model: LRopeTransformer, document: Document, hooks: Sequence = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Increments of the layer and losses at the bytes of a document that fits one window."""
    tokens = torch.tensor([[EOS, *document.encoded]])
    kept: list[Tensor] = []
    name = f"blocks.{LAYER}.hook_increments"
    with torch.no_grad():
        logits = model.run_with_hooks(
            tokens, fwd_hooks=[*hooks, (name, lambda values, hook: kept.append(values[0, 1:]))]
        )
    losses = F.cross_entropy(logits[0, :-1], tokens[0, 1:], reduction="none")
    return kept[0].double().numpy(), losses.double().numpy()


def test_every_number_is_what_plain_passes_and_loops_give(
    model: LRopeTransformer, frame: pd.DataFrame
) -> None:
    eraser = fit_eraser(model, FIT.documents, FIT.spans, LAYER)
    hooks = [(f"blocks.{LAYER}.hook_increments_in", erase(eraser))]
    mean = capture(model, FIT.documents).increments[LAYER, 0].mean(dtype=np.float64)
    own: list[float] = []
    elsewhere: list[float] = []
    nats: list[float] = []
    near: list[float] = []
    starts: dict[tuple[bool, str], list[float]] = {
        (is_after, name): [] for is_after in (False, True) for name in ("loud", OTHER)
    }
    for number, document in enumerate(TEST.documents):
        (old, loss), (new, erased_loss) = (plain_pass(model, document, one) for one in ((), hooks))
        spans = TEST.spans.take(TEST.spans.document == number)
        for t, letter in enumerate(document.text):
            nats.append(erased_loss[t] - loss[t])
            if letter in LOUD or (t and document.text[t - 1] in LOUD):
                near.append(nats[-1])
            if t:
                (own if letter in LOUD else elsewhere).append(abs(new[t] - old[t]) / mean)
        for start, name in zip(spans.start.tolist(), spans.names, strict=True):
            if start:
                starts[False, name].append(old[start] / mean)
                starts[True, name].append(new[start] / mean)
    wanted = {
        "increment_change": np.mean(own),
        "increment_change_elsewhere": np.mean(elsewhere),
        "contrast_before": np.mean(starts[False, "loud"]) - np.mean(starts[False, OTHER]),
        "contrast_after": np.mean(starts[True, "loud"]) - np.mean(starts[True, OTHER]),
        "nats_per_byte": np.mean(nats),
        "nats_per_byte_concept": np.mean(near),
    }
    for metric, number in wanted.items():
        assert value(frame, "leace", metric) == pytest.approx(number, abs=2e-5), metric
    counts = {"increment_change": own, "nats_per_byte": nats, "contrast_after": starts[True, "loud"]}
    assert {metric: row(frame, "leace", metric)["n"] for metric in counts} == {
        metric: len(counted) for metric, counted in counts.items()
    }


def test_rows_are_complete_leave_other_out_and_arms_differ_by_their_difference(frame: pd.DataFrame) -> None:
    assert tuple(frame.columns) == COLUMNS
    assert (set(frame["family"]), set(frame["concept"])) == ({"voices"}, {"all", "loud"})
    assert set(frame["rank"]) == {2}  # loud, other, none
    assert len(frame) == 5 + 3 * 6 + 2 * 5
    assert frame["value"].notna().all()
    for compared, arm in (("difference", "random"), ("beyond_shuffled", "shuffled")):
        for metric in set(frame.loc[frame["arm"] == compared, "metric"]):
            concept = "all" if metric == "states_moved" else "loud"
            leace, other, found = (value(frame, one, metric, concept) for one in ("leace", arm, compared))
            assert found == pytest.approx(leace - other, abs=1e-9)
        assert value(frame, "leace", "contrast_before") == value(frame, arm, "contrast_before")


def named(text: MarkedText, names: Sequence[str], concepts: tuple[str, ...]) -> MarkedText:
    """Give the spans of a text other concepts."""
    concept = np.array([concepts.index(one) for one in names], dtype=np.int64)
    return MarkedText(text.documents, replace(text.spans, concept=concept, concepts=concepts))


def test_a_concept_that_the_test_text_lacks_leaves_no_row_without_a_value(model: LRopeTransformer) -> None:
    concepts = ("loud", "soft", "rare")
    heard = [("soft", "loud")[name == "loud"] for name in FIT.spans.names]
    fit = named(FIT, ["rare", *heard[1:-1], "rare"], concepts)
    without_rare = named(TEST, [("soft", "loud")[name == "loud"] for name in TEST.spans.names], concepts)
    found = erasures(model, fit, without_rare, IS_SCORED, **OPTIONS)
    assert set(found["concept"]) == {"all", "loud", "soft"}
    assert len(found) == 5 + 2 * (3 * 6 + 2 * 5)
    only_loud = named(TEST, ["loud"] * len(TEST.spans), concepts)
    alone = erasures(model, fit, only_loud, IS_SCORED, **OPTIONS)
    assert set(alone["concept"]) == {"all", "loud"}
    assert not alone["metric"].str.startswith("contrast").any()  # there is no other span to compare with
    for one in (found, alone):
        assert one["value"].notna().all()
        assert one.loc[one["concept"] != "all", ["ci_low", "ci_high"]].notna().all(axis=None)


def test_where_all_spans_are_of_one_concept_nothing_is_shuffled(model: LRopeTransformer) -> None:
    fit, test = (named(one, ["loud"] * len(one.spans), ("loud",)) for one in (FIT, TEST))
    found = erasures(model, fit, test, IS_SCORED, **OPTIONS)
    assert set(found["arm"]) == {"leace", "random", "difference"}
    assert set(found["rank"]) == {1}


def kept_by(model: LRopeTransformer, tokens: Tensor, hooks: Sequence = ()) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    wanted = ["hook_resid_pre", "hook_increments", *(f"attn.hook_{name}" for name in AFTER)]
    names = [f"blocks.{layer}.{name}" for layer in range(3) for name in wanted]
    reads = [(name, lambda values, hook: kept.update({hook.name: values.clone()})) for name in names]
    with torch.no_grad():
        model.run_with_hooks(tokens, fwd_hooks=[*hooks, *reads])
    return kept


@pytest.mark.parametrize("is_in_place", [False, True])
def test_nothing_but_the_increment_head_sees_an_erasure(model: LRopeTransformer, is_in_place: bool) -> None:
    tokens = torch.tensor([[EOS, *TEST.documents[0].encoded]])
    eraser = fit_eraser(model, FIT.documents, FIT.spans, LAYER)

    def erase_in_place(x: Tensor, hook: HookPoint) -> None:
        del hook
        x[:] = eraser(x)

    before = kept_by(model, tokens)
    hook = erase_in_place if is_in_place else erase(eraser)
    after = kept_by(model, tokens, [(f"blocks.{LAYER}.hook_increments_in", hook)])
    same = [name for name in before if torch.equal(before[name], after[name])]
    of_layer_0 = [name for name in before if name.startswith("blocks.0.")]
    assert len(of_layer_0) == 5
    assert set(same) == {
        *of_layer_0,
        "blocks.1.hook_resid_pre",
        *(f"blocks.1.attn.hook_{name}" for name in AFTER),
    }


def by_letter(text: MarkedText, seed: int) -> MarkedText:
    """Mark every character with a concept that means nothing."""
    rng = np.random.default_rng(seed)
    rows = [
        (number, at, at + 1, str(rng.choice(["loud", OTHER])))
        for number, document in enumerate(text.documents)
        for at in range(len(document.text))
    ]
    return MarkedText(text.documents, Spans.of(rows, ("loud", OTHER)))


def test_a_concept_that_nothing_knows_of_is_no_more_used_than_random_directions(
    model: LRopeTransformer, frame: pd.DataFrame
) -> None:
    found = [
        erasures(model, by_letter(FIT, seed), by_letter(TEST, seed + 100), IS_SCORED, **OPTIONS)
        for seed in range(2)
    ]
    changes = {arm: [value(one, arm, "increment_change") for one in found] for arm in ("leace", "random")}
    assert np.mean(changes["leace"]) < 2 * np.mean(changes["random"])
    assert np.mean(changes["leace"]) < 0.5 * value(frame, "leace", "increment_change_elsewhere")
    for one in found:
        for metric in ("contrast_before", "contrast_after"):
            assert abs(value(one, "leace", metric)) < 0.25


def test_every_token_is_fitted_on_once_whatever_windows_it_is_read_in(model: LRopeTransformer) -> None:
    assert max(document.n_bytes for document in FIT.documents) > 2 * N_CTX
    n_bytes = sum(document.n_bytes for document in FIT.documents)
    fitter = fit_layers(model, FIT, [LAYER], batch_size=5)[0][LAYER][0]
    whole = capture(model, FIT.documents, layers=[LAYER], hidden_at=np.arange(n_bytes))
    states = whole.hidden[0].astype(np.float64)
    assert fitter.n == n_bytes
    np.testing.assert_allclose(fitter.mean[:16], states.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(fitter.scatter[:16, :16] / n_bytes, np.cov(states.T, ddof=0), atol=1e-5)
    shares = [np.mean(FIT.concept_at == number) for number in (-1, 0, 1)]
    np.testing.assert_allclose(fitter.mean[16:], shares, atol=1e-12)


@pytest.mark.parametrize("is_per_head", [False, True])
def test_batch_size_changes_no_number(make_model: MakeModel, is_per_head: bool, tmp_path: Path) -> None:
    made, found = make_model(per_head=is_per_head), []
    fit, test = marked(0, 3, 12), marked(50, 2, 12)
    for size in (1, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LROPE_INTERP_CACHE", str(tmp_path / str(size)))
            options = dict(n_random=1, n_shuffled=1, batch_size=size)
            found.append(erasures(made, fit, test, np.ones(len(test.concept_at), dtype=bool), **options))
    assert set(found[0]["layer"]) == {1}  # all but layer 0
    assert_close(found[0], found[1], atol=1e-5)


def test_a_run_that_was_killed_goes_on_and_a_finished_one_is_not_run_again(
    model: LRopeTransformer, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = Untouched.of, []
    options = OPTIONS | {"batch_size": 8}

    def counted(*given: Any, **how: Any) -> Untouched:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return whole(*given, **how)

    monkeypatch.setattr(Untouched, "of", counted)
    with pytest.raises(KeyboardInterrupt):
        erasures(model, FIT, TEST, IS_SCORED, **options)
    resumed = erasures(model, FIT, TEST, IS_SCORED, **options)
    assert len(seen) == 3 + 1  # 22 windows, 8 at a time: the third was broken off
    told: list[tuple[str, int, int]] = []
    again = erasures(model, FIT, TEST, IS_SCORED, **options, on_progress=lambda *said: told.append(said))
    assert len(seen) == 4
    assert not told
    assert_close(resumed, again)
    assert_close(resumed, frame, atol=1e-5)


def test_without_others_beside_it_there_is_only_leace_and_layer_0_can_be_asked_for(
    model: LRopeTransformer,
) -> None:
    told: list[tuple[str, int, int]] = []
    options = dict(layers=(0,), n_random=0, n_shuffled=0)
    found = erasures(model, FIT, TEST, IS_SCORED, **options, on_progress=lambda *said: told.append(said))
    assert (set(found["arm"]), set(found["layer"])) == ({"leace"}, {0})
    assert told[-1] == ("erasures", 44, 44)  # one window a document, read untouched and erased
    assert told[0][0] == "erasers"


def test_bytes_that_are_not_scored_do_not_count(model: LRopeTransformer, frame: pd.DataFrame) -> None:
    half = np.arange(len(IS_SCORED)) % 2 == 0
    found = erasures(model, FIT, TEST, half, **OPTIONS | {"n_random": 0, "n_shuffled": 0})
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
    options = dict(n_random=0, n_shuffled=0)
    found = erasures(made, text, text, np.ones(len(text.concept_at), dtype=bool), **options)
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
    with pytest.raises(LRopeError, match="this one has fixed increments"):
        erasures(make_model(increments="fixed"), FIT, TEST, IS_SCORED, **OPTIONS)
    with pytest.raises(LRopeError, match="trained with per_layer"):
        fit_eraser(make_model(increments="shared"), FIT.documents, FIT.spans, LAYER)
    with pytest.raises(LRopeError, match="layers 0 to 2, not 3"):
        erasures(model, FIT, TEST, IS_SCORED, layers=(3,))
    with pytest.raises(LRopeError, match="layers 1 and up"):
        erasures(make_model(n_layers=1), FIT, TEST, IS_SCORED)
    with pytest.raises(LRopeError, match="is_scored has 3 bytes"):
        erasures(model, FIT, TEST, IS_SCORED[:3], **OPTIONS)
    with pytest.raises(LRopeError, match="no byte of the test text is scored"):
        erasures(model, FIT, TEST, ~IS_SCORED, **OPTIONS)
    others = MarkedText(TEST.documents, replace(TEST.spans, concepts=("soft", OTHER)))
    with pytest.raises(LRopeError, match="mark both with one family"):
        erasures(model, FIT, others, IS_SCORED, **OPTIONS)


def test_an_erasure_that_was_never_reached_is_said(model: LRopeTransformer) -> None:
    hook = erase(fit_eraser(model, FIT.documents, FIT.spans, LAYER))
    with pytest.raises(LRopeError, match="never fired"):
        model.run_with_hooks("abc", fwd_hooks=[("blocks.2.hook_increments_in", hook)], stop_at_layer=2)
