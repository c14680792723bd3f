"""Log-odds of labels by characters against slow, obvious counting."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from probe_samples import chinese, english
from text_samples import ODD, held_out, made_up, training

from lrope_interp.data import Document, label_gaps
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries import label_odds
from lrope_interp.probes.boundaries.label_odds import PSEUDO_COUNT, LabelOdds, cross_fitted

Counts = dict[tuple[str, ...], list[bool]]


def gaps_of(documents: Sequence[Document]) -> list[tuple[int, str, str]]:
    """Return first byte, character before ("" at a start) and character of everything."""
    found, at = [], 0
    for document in documents:
        for place, character in enumerate(document.text):
            found.append((at, document.text[place - 1] if place else "", character))
            at += len(character.encode())
    return found


def by_hand(counted: Sequence[tuple[str, str, bool]], asked: Sequence[tuple[str, str]]) -> np.ndarray:
    singles: Counts = defaultdict(list)
    pairs: Counts = defaultdict(list)
    for before, after, holds in counted:
        singles[after,].append(holds)
        pairs[before, after].append(holds)
    base = (sum(holds for *_, holds in counted) + 0.5) / (len(counted) + 1)

    def shrunk(seen: list[bool], wider: float) -> float:
        return (sum(seen) + PSEUDO_COUNT * wider) / (len(seen) + PSEUDO_COUNT)

    rows = []
    for before, after in asked:
        single = shrunk(singles.get((after,), []), base)
        pair = shrunk(pairs.get((before, after), []) if before else [], single)
        rows.append([math.log(p / (1 - p)) for p in (single, pair)])
    return np.array(rows)


def labels_of(documents: Sequence[Document], label: str) -> np.ndarray:
    return np.concatenate([label_gaps(document, label).is_boundary for document in documents])


@pytest.mark.parametrize("label", ["words", "whitespace", "punctuation"])
def test_odds_are_those_of_counting_by_hand(label: str) -> None:
    texts, asked = training(), held_out()
    odds = LabelOdds.of(texts, label)
    assert odds is not None
    truth = labels_of(texts, label)
    counted = [(before, after, bool(truth[at])) for at, before, after in gaps_of(texts) if before]
    expected = by_hand(counted, [(before, after) for _, before, after in gaps_of(asked)])
    values, first = odds.of_documents(asked), np.array([at for at, *_ in gaps_of(asked)])
    assert values.shape == (sum(one.n_bytes for one in asked), 2)
    np.testing.assert_allclose(values[first], expected, atol=1e-12)
    turned = LabelOdds.of(texts[::-1], label)
    assert turned is not None
    assert np.array_equal(turned.of_documents(asked), values), "whatever the order of documents"
    within = np.delete(values, first, axis=0)
    assert len(within)
    assert (within <= values[first].min(axis=0)).all()


def test_a_label_that_no_document_can_have_gives_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(document: Document, label: str) -> None:
        raise LRopeError(f"{document.name} has no {label}")

    monkeypatch.setattr(label_odds, "label_gaps", refuse)
    assert LabelOdds.of(training(), "words") is None
    assert LabelOdds.of([], "words") is None


def test_no_more_is_labelled_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(document: Document, label: str) -> object:
        asked.append(document.sha256)
        return label_gaps(document, label)

    monkeypatch.setattr(label_odds, "label_gaps", counting)
    documents = [english(number) for number in range(40)]
    odds = LabelOdds.of(documents, "words", max_bytes=1_500)
    assert odds is not None
    assert 1_490 < odds.n_bytes <= 1_500
    assert asked[:-1] == sorted(one.sha256 for one in documents)[: len(asked) - 1]
    silver = LabelOdds.of([chinese(n, is_gold=False) for n in range(40)], "words", max_bytes=3_000)
    assert silver is not None
    assert 700 < silver.n_bytes < 1_500, "silver bytes count three times"


def test_odd_documents_get_finite_odds() -> None:
    for table in (LabelOdds.of(training(2), "words"), LabelOdds.of([made_up(0, "中")], "whitespace")):
        assert table is not None
        for documents in ([], *([one] for one in ODD)):
            values = table.of_documents(documents)
            assert values.shape == (sum(document.n_bytes for document in documents), 2)
            assert np.isfinite(values).all()


def every_gap(documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps between characters and whether each begins a word."""
    gaps = np.array([at for at, before, _ in gaps_of(documents) if before])
    return gaps, labels_of(documents, "words")[gaps]


def test_cross_fitted_odds_are_counted_on_the_other_documents() -> None:
    documents = [english(0), chinese(0), english(1)]
    gaps, holds = every_gap(documents)
    values = cross_fitted(documents, holds, gaps, n_folds=5)
    ends = np.cumsum([document.n_bytes for document in documents])
    own = np.searchsorted(ends, gaps, side="right")
    known = [(before, after) for _, before, after in gaps_of(documents) if before]
    for fold in range(3):
        counted = [(*known[k], bool(holds[k])) for k in np.flatnonzero(own != fold)]
        expected = by_hand(counted, [known[k] for k in np.flatnonzero(own == fold)])
        np.testing.assert_allclose(values[own == fold], expected, atol=1e-12)


def test_boundaries_of_a_fold_never_reach_its_own_values() -> None:
    documents = [*training(6), training(6)[0]]
    gaps, _ = every_gap(documents)
    noise = np.random.default_rng(0).random(len(gaps)) < 0.5
    own = gaps < documents[0].n_bytes
    flipped = np.where(own | (gaps >= sum(one.n_bytes for one in documents[:-1])), ~noise, noise)
    one, other = (cross_fitted(documents, holds, gaps) for holds in (noise, flipped))
    assert np.array_equal(one[own], other[own]), "a copy of a document is in its own fold"
    assert not np.array_equal(one[~own], other[~own])


def test_cross_fitting_does_not_depend_on_the_order_of_documents() -> None:
    documents = [one for one in training(5) if one.text]
    gaps, holds = every_gap(documents)
    forward = cross_fitted(documents, holds, gaps)
    turned = documents[::-1]
    gaps_turned, holds_turned = every_gap(turned)
    backward = cross_fitted(turned, holds_turned, gaps_turned)

    def split(values: np.ndarray, at: np.ndarray, order: Sequence[Document]) -> dict[str, np.ndarray]:
        starts = np.cumsum([0] + [one.n_bytes for one in order])
        return {one.name: values[(at >= starts[k]) & (at < starts[k + 1])] for k, one in enumerate(order)}

    first, second = split(forward, gaps, documents), split(backward, gaps_turned, turned)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_gap_within_a_character_is_not_counted() -> None:
    documents = [chinese(0), english(0), chinese(1)]
    gaps, holds = every_gap(documents)
    n_bytes = sum(one.n_bytes for one in documents)
    everywhere, all_holds = np.arange(n_bytes), np.zeros(n_bytes, dtype=bool)
    all_holds[gaps] = holds
    values = cross_fitted(documents, all_holds, everywhere)
    np.testing.assert_array_equal(values[gaps], cross_fitted(documents, holds, gaps))
    assert (np.delete(values, gaps, axis=0)[:, 0] <= values[gaps, 0].max()).all()
    gaps, holds = every_gap([english(0)])
    assert (cross_fitted([english(0)], holds, gaps) == 0).all(), "a single document has nothing to count on"
    with pytest.raises(LRopeError, match="at least 2 folds"):
        cross_fitted([english(0)], holds, gaps, n_folds=1)
