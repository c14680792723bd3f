"""Matched pairs of words and statistics within strata, against loops over all pairs and planted effects."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from structure_samples import both_languages, planted, signal, text_of, unmarked

from lrope_interp.data import Document
from lrope_interp.probes.concepts.structure import (
    MAX_PAIRS,
    PAIR_COLUMNS,
    PairedWords,
    pair_designs,
    pair_rows,
)
from lrope_interp.probes.concepts.units import StructuredText
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.strata import Strata, informative


def weighted(strata: Strata, values: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """AUC and ratio of means with a weight a thing, by their definitions."""
    wins = pairs = upper = lower = 0.0
    for number in np.unique(strata.number):
        one, two = (
            np.flatnonzero((strata.number == number) & kind) for kind in (strata.is_one, ~strata.is_one)
        )
        for i, j in itertools.product(one, two):
            both = weights[i] * weights[j]
            pairs += both
            wins += both * ((values[i] > values[j]) + 0.5 * (values[i] == values[j]))
        a, b = weights[one].sum(), weights[two].sum()
        if a and b:
            upper += a * b / (a + b) * np.average(values[one], weights=weights[one])
            lower += a * b / (a + b) * np.average(values[two], weights=weights[two])
    return wins / pairs, upper / lower


@pytest.fixture(scope="module")
def things() -> tuple[Strata, np.ndarray]:
    rng = np.random.default_rng(0)
    number = np.sort(rng.integers(0, 6, size=80))
    is_one = rng.random(80) < 0.4
    known, number = informative(number, is_one)
    values = np.round(rng.normal(5 + number / 2 + is_one[: len(number)], 1), 1)
    return Strata(number[known], is_one[known]), values[known]


def test_statistics_within_strata_are_those_of_their_definitions(things: tuple[Strata, np.ndarray]) -> None:
    strata, values = things
    found = strata.roc_auc(values).value, strata.ratio_of_means(values).value
    assert found == pytest.approx(weighted(strata, values, np.ones(len(values))))


def test_influences_are_the_derivatives_by_the_weights(things: tuple[Strata, np.ndarray]) -> None:
    strata, values = things
    for at, one in enumerate((strata.roc_auc(values), strata.ratio_of_means(values))):
        assert one.influence.sum() == pytest.approx(0, abs=1e-12)
        for i in range(0, len(values), 7):
            step = np.zeros(len(values))
            step[i] = 1e-5
            up, down = (weighted(strata, values, 1 + sign * step)[at] for sign in (1, -1))
            assert one.influence[i] == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_resamples_to_first_order_spread_as_exact_ones_do() -> None:
    rng = np.random.default_rng(1)
    number, cluster = rng.integers(0, 3, size=240), np.repeat(np.arange(60), 4)
    is_one = rng.random(240) < 0.5
    values = np.round(rng.normal(size=240) + 0.5 * is_one + rng.normal(size=60)[cluster] + 4, 2)
    strata, units = Strata(number, is_one), Units(cluster, 60, 60, True)
    bootstrap = Bootstrap(0, 60)
    exact = [weighted(strata, values, weights[cluster]) for weights in bootstrap.weights(60)]
    for at, one in enumerate((strata.roc_auc(values), strata.ratio_of_means(values))):
        drawn = one.estimate(bootstrap, units).resampled
        assert drawn is not None
        theirs = np.array([pair[at] for pair in exact])
        assert np.corrcoef(drawn, theirs)[0, 1] > 0.95
        assert drawn.std() == pytest.approx(theirs.std(), rel=0.15)


def test_pairs_are_matched_on_every_count_and_told_apart_by_unit() -> None:
    english = Document("en", "ab cd, ef gh-ij. kl", "made up", "en")
    chinese = Document("zh", "中国人民，银行", "made up", "zh")
    words = [(0, 0, 2), (0, 3, 5), (0, 7, 9), (0, 10, 12), (0, 13, 15), (0, 17, 19)]
    words += [(1, 0, 2), (1, 2, 4), (1, 5, 7)]
    clauses = [(0, 0, 5), (0, 7, 15), (0, 17, 19), (1, 0, 4), (1, 5, 7)]
    text = text_of([english, chinese], {"word": words, "clause": clauses}, {})
    pairs = PairedWords.of(text)
    assert len(pairs.first) == 15 + 3
    found = {}
    for document, a, b, same in zip(
        pairs.document, pairs.first, pairs.second, pairs.are_in_one(text.stretches["clause"]), strict=True
    ):
        offset = text.captured.offsets[document]
        found[int(document), int(a - offset), int(b - offset)] = bool(same)
    assert {key for key, same in found.items() if same} == {
        (0, 0, 3), (0, 7, 10), (0, 7, 13), (0, 10, 13), (1, 0, 6),
    }  # fmt: skip
    by_place = dict(zip(found, pairs.stratum.tolist(), strict=True))
    assert by_place[0, 0, 3] == by_place[0, 7, 10]
    assert by_place[0, 3, 7] == by_place[0, 13, 17]
    assert len({by_place[0, 0, 3], by_place[0, 10, 13], by_place[0, 3, 7], by_place[1, 0, 6]}) == 4
    unscored = np.ones(text.captured.n_bytes, dtype=bool)
    unscored[5] = False
    crossing = sum(a < 5 <= b for document, a, b in found if document == 0)
    assert len(PairedWords.of(replace(text, is_scored=unscored)).first) == 18 - crossing


def scores(text: StructuredText, name: str = "") -> pd.DataFrame:
    return pd.DataFrame(pair_rows(text, pair_designs(text), name), columns=list(PAIR_COLUMNS))


def of_phrases(frame: pd.DataFrame, metric: str = "roc_auc", language: str = "all") -> pd.Series:
    one = frame[(frame.unit == "phrase") & (frame.metric == metric) & (frame.language == language)]
    assert len(one) == 1
    return one.iloc[0]


def test_a_planted_widening_makes_pairs_of_one_unit_closer() -> None:
    documents, units = both_languages(30)
    frame = scores(text_of(documents, units, {"": planted(documents, units["phrase"], 1.0)}))
    assert set(frame.language) == {"all", "en", "zh"}
    for language in ("all", "en", "zh"):
        assert of_phrases(frame, "roc_auc", language).ci_low > 0.7
        ratio = of_phrases(frame, "distance_ratio", language)
        assert ratio.ci_high < 0.95
        assert ratio.ci_low < ratio.value < ratio.ci_high
    narrow = scores(text_of(documents, units, {"": planted(documents, units["phrase"], -0.4)}))
    assert of_phrases(narrow).ci_high < 0.4
    assert of_phrases(narrow, "distance_ratio").ci_low > 1


def test_the_ratio_of_distances_is_that_of_the_planted_sums() -> None:
    documents, units = unmarked(20)
    captured = text_of(documents, units, {}).captured
    values = np.ones(captured.n_bytes)
    is_space = captured.byte == ord(" ")
    text = text_of(documents, units, {"": signal(values)})
    starts = text.stretches["phrase"].first
    values[starts] += 2.0
    row = of_phrases(scores(text_of(documents, units, {"": signal(values)})), "distance_ratio")
    (design,) = [one for one in pair_designs(text) if one.unit == "phrase"]
    n_borders = np.cumsum(np.isin(np.arange(captured.n_bytes), starts))
    crossed = n_borders[design.second] - n_borders[design.first]
    assert is_space.any()
    assert not crossed[design.strata.is_one].any()
    assert crossed[~design.strata.is_one].all()
    sums = (design.second - design.first) + 2.0 * crossed
    assert row.value == pytest.approx(weighted(design.strata, sums, np.ones(len(sums)))[1])


def test_noise_and_increments_that_count_bytes_tell_nothing() -> None:
    documents, units = both_languages(30)
    noise = of_phrases(scores(text_of(documents, units, {"": planted(documents, [], 0.0)})))
    assert noise.ci_low < 0.5 < noise.ci_high
    n_bytes = sum(one.n_bytes for one in documents)
    counted = of_phrases(scores(text_of(documents, units, {"": signal(np.full(n_bytes, 1 / 3))})))
    assert counted.value == 0.5
    assert (counted.ci_low, counted.ci_high) == (0.5, 0.5)


def test_too_few_pairs_have_no_value() -> None:
    documents, units = unmarked(1)
    units["phrase"] = units["phrase"][:4]
    row = of_phrases(scores(text_of(documents, units, {"": planted(documents, [], 0.0)})))
    assert row.n > 0
    assert np.isnan(row.value)


def test_the_draw_keeps_the_rarer_kind_and_is_the_same_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, units = unmarked(12)
    text = text_of(documents, units, {})
    (every,) = [one for one in pair_designs(text) if one.unit == "phrase"]
    assert len(every.first) < MAX_PAIRS
    monkeypatch.setattr("lrope_interp.probes.concepts.structure.MAX_PAIRS", 400)
    few, again = (next(one for one in pair_designs(text) if one.unit == "phrase") for _ in range(2))
    assert 300 < len(few.first) <= 400
    assert abs(int(few.strata.is_one.sum()) - 200) < 50
    np.testing.assert_array_equal(few.first, again.first)
    other = replace(text, bootstrap=Bootstrap(1, 50))
    assert set(pair_designs(other)[0].first.tolist()) != set(few.first.tolist())
