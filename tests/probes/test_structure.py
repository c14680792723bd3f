"""Gap contrasts, matched pairs and gap trees: by hand, against slow loops, with effects planted or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student_t
from structure_samples import both_languages, planted, signal, text_of, unmarked

from lrope_interp.data import BYTE_CLASSES, Document, byte_class
from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError
from lrope_interp.probes.concepts.structure import (
    CONTRAST_COLUMNS,
    MAX_PAIRS,
    MIN_GAPS,
    PAIR_COLUMNS,
    PairedWords,
    contrast_designs,
    contrast_rows,
    pair_designs,
    pair_rows,
    structure_tables,
)
from lrope_interp.probes.concepts.trees import (
    METRICS,
    TREE_COLUMNS,
    Brackets,
    Sentences,
    Trees,
    balanced_gaps,
    shape_rows,
    tree_rows,
)
from lrope_interp.probes.concepts.units import StructuredText
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.strata import Strata, informative


def contrasts(text: StructuredText, name: str = "") -> pd.DataFrame:
    rows = contrast_rows(text, contrast_designs(text), name)
    return pd.DataFrame(rows, columns=list(CONTRAST_COLUMNS))


def cell(frame: pd.DataFrame, unit: str, byte_class: str = "all", language: str = "all") -> pd.Series:
    one = frame[(frame.unit == unit) & (frame.byte_class == byte_class) & (frame.language == language)]
    assert len(one) == 1
    return one.iloc[0]


def by_hand(text: StructuredText, unit: str, values: np.ndarray) -> dict[str, list[list[float]]]:
    """Values at gaps between and within units of a level, by byte class; gap by gap."""
    found: dict[str, list[list[float]]] = {}
    offset = 0
    for number, document in enumerate(text.captured.documents):
        spans, words = (
            [(a, b) for d, a, b in zip(one.document, one.start, one.end, strict=True) if d == number]
            for one in (text.units[unit], text.units["word"])
        )
        classes = byte_class(document.text)
        for character in range(1, len(document.text)):
            t = len(document.text[:character].encode())
            if unit != "word" and any(a < character < b for a, b in words):
                continue
            is_within = any(a < character < b for a, b in spans)
            sides = found.setdefault(BYTE_CLASSES[classes[t]], [[], []])
            sides[is_within].append(float(values[0, 0, offset + t]))
        offset += document.n_bytes
    return found


def test_means_and_counts_are_those_of_going_through_the_gaps_one_by_one() -> None:
    documents, units = both_languages(4)
    values = planted(documents, units["phrase"], 0.3)
    text = text_of(documents, units, {"": values})
    frame = contrasts(text)
    for unit in units:
        sides = {k: v for k, v in by_hand(text, unit, values).items() if v[0] and v[1]}
        assert sides
        for name, (between, within) in sides.items():
            row = cell(frame, unit, name)
            assert (row.n_between, row.n_within) == (len(between), len(within))
            if min(len(between), len(within)) >= MIN_GAPS:
                np.testing.assert_allclose(
                    [row["between"], row["within"], row.ratio],
                    [np.mean(between), np.mean(within), np.mean(between) / np.mean(within)],
                    rtol=1e-6,
                )
            else:
                assert np.isnan(row.ratio)
        enough = [one for one in sides.values() if min(map(len, one)) >= MIN_GAPS]
        weights = [len(within) for _, within in enough]
        means = [np.average([np.mean(one[side]) for one in enough], weights=weights) for side in (0, 1)]
        row = cell(frame, unit)
        np.testing.assert_allclose([row["between"], row["within"]], means, rtol=1e-6)
        assert row.ratio == pytest.approx(row["between"] / row["within"])


@pytest.mark.parametrize(
    ("language", "letters", "extra"), [("en", "a-z", 0.5), ("zh", "han lead", 0.5), ("en", "a-z", -0.3)]
)
def test_a_planted_change_is_found_with_its_size(language: str, letters: str, extra: float) -> None:
    documents, units = unmarked(60, language=language)
    frame = contrasts(text_of(documents, units, {"": planted(documents, units["phrase"], extra)}))
    row = cell(frame, "phrase", letters)
    assert row.ci_low < 1 + extra < row.ci_high
    assert row.ci_low > 1.3 if extra > 0 else row.ci_high < 0.9
    assert row.n_documents == 60


def test_noise_covers_one_and_increments_by_byte_class_alone_are_exactly_one() -> None:
    documents, units = both_languages(60)
    classes = np.concatenate([byte_class(one.text) for one in documents])
    frame = contrasts(text_of(documents, units, {"": signal(1.0 + classes)}))
    np.testing.assert_allclose(frame[frame.byte_class == "all"].ratio, 1, rtol=1e-6)
    documents, units = unmarked(60)
    frame = contrasts(text_of(documents, units, {"": planted(documents, [], 0.0)}))
    for unit in ("word", "phrase", "sentence"):
        row = cell(frame, unit)
        assert row.ci_low < 1 < row.ci_high


def test_gaps_inside_words_do_not_count_above_the_word() -> None:
    documents, units = unmarked(20)
    text = text_of(documents, units, {"": planted(documents, units["word"], 2.0)})
    frame = contrasts(text)
    assert cell(frame, "word").ratio > 2
    assert cell(frame, "phrase").ratio == pytest.approx(1, abs=0.05)
    assert cell(frame, "phrase", "a-z").n_within < cell(frame, "word", "a-z").n_within


def half_width(drawn: Sequence[float], n_documents: int) -> float:
    """Half of a 95 % interval by Student's t and the s.d. of resamples."""
    free = n_documents - 1
    return float(student_t.ppf(0.975, free) * np.std(drawn) * (n_documents / free) ** 0.5)


def test_the_interval_of_a_contrast_is_that_of_resampled_documents() -> None:
    documents, units = unmarked(60)
    text = text_of(documents, units, {"": planted(documents, units["phrase"], 0.5)}, n_resamples=40)
    row = cell(contrasts(text), "phrase", "a-z")
    (design,) = [one for one in contrast_designs(text) if one.unit == "phrase"]
    values = text.signals[""][0, 0, design.at].astype(float)  # pyright: ignore
    is_class = design.cell // 2 == BYTE_CLASSES.index("a-z")
    drawn = []
    for weights in text.bootstrap.weights(60):
        own = weights[design.units.index] * is_class
        between, within = (own * (design.cell % 2 == side) for side in (0, 1))
        means = [(side * values).sum() / side.sum() for side in (between, within)]
        drawn.append(means[0] / means[1])
    bounds = row.ratio + half_width(drawn, 60) * np.array([-1, 1])
    np.testing.assert_allclose([row.ci_low, row.ci_high], bounds, rtol=1e-4)


def test_text_shared_with_training_and_unmarked_documents_are_left_out() -> None:
    documents, units = unmarked(6)
    values = planted(documents, [], 0.0)
    text = text_of(documents, units, {"": values})
    is_scored = text.captured.document != 0
    halved = contrasts(replace(text, is_scored=is_scored))
    without = {name: [one for one in rows if one[0] != 0] for name, rows in units.items()}
    unmarked_first = contrasts(text_of(documents, without, {"": values}))
    pd.testing.assert_frame_equal(halved, unmarked_first)


def test_several_draws_of_a_control_give_their_mean_and_range() -> None:
    documents, units = unmarked(25)
    draws = [planted(documents, units["phrase"], extra, seed) for seed, extra in enumerate((0.1, 0.2, 0.6))]
    row = cell(contrasts(text_of(documents, units, {"untrained": draws}), "untrained"), "phrase")
    single = [
        cell(contrasts(text_of(documents, units, {"untrained": one}), "untrained"), "phrase").ratio
        for one in draws
    ]
    assert row.control == "untrained"
    assert row.ratio == pytest.approx(np.mean(single))
    assert (row.ci_low, row.ci_high) == pytest.approx((min(single), max(single)))


def test_a_signal_of_another_text_is_refused() -> None:
    document = Document("a", "ab cd", "made up", "en")
    with pytest.raises(LRopeError, match=r"'increments' must be \[1 layers or 1, heads, 5 bytes\]"):
        text_of([document], {"word": [(0, 0, 2)]}, {"": np.ones((1, 1, 4), dtype=np.float32)})


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
    strata, units = Strata(number, is_one), Units(cluster, 60, 60)
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


def pairs_of(text: StructuredText, name: str = "") -> pd.DataFrame:
    return pd.DataFrame(pair_rows(text, pair_designs(text), name), columns=list(PAIR_COLUMNS))


def of_phrases(frame: pd.DataFrame, metric: str = "roc_auc", language: str = "all") -> pd.Series:
    one = frame[(frame.unit == "phrase") & (frame.metric == metric) & (frame.language == language)]
    assert len(one) == 1
    return one.iloc[0]


def test_a_planted_widening_makes_pairs_of_one_unit_closer() -> None:
    documents, units = both_languages(30)
    frame = pairs_of(text_of(documents, units, {"": planted(documents, units["phrase"], 1.0)}))
    assert set(frame.language) == {"all", "en", "zh"}
    for language in ("all", "en", "zh"):
        assert of_phrases(frame, "roc_auc", language).ci_low > 0.7
        ratio = of_phrases(frame, "distance_ratio", language)
        assert ratio.ci_high < 0.95
        assert ratio.ci_low < ratio.value < ratio.ci_high
    narrow = pairs_of(text_of(documents, units, {"": planted(documents, units["phrase"], -0.4)}))
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
    row = of_phrases(pairs_of(text_of(documents, units, {"": signal(values)})), "distance_ratio")
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
    noise = of_phrases(pairs_of(text_of(documents, units, {"": planted(documents, [], 0.0)})))
    assert noise.ci_low < 0.5 < noise.ci_high
    n_bytes = sum(one.n_bytes for one in documents)
    counted = of_phrases(pairs_of(text_of(documents, units, {"": signal(np.full(n_bytes, 1 / 3))})))
    assert counted.value == 0.5
    assert (counted.ci_low, counted.ci_high) == (0.5, 0.5)


def test_too_few_pairs_have_no_value() -> None:
    documents, units = unmarked(1)
    units["phrase"] = units["phrase"][:4]
    row = of_phrases(pairs_of(text_of(documents, units, {"": planted(documents, [], 0.0)})))
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


def tree_brackets(gaps: np.ndarray) -> set[tuple[int, int]]:
    """Return the spans [start, stop) of n + 1 leaves that cutting at the largest gap first gives.

    gaps[k] stands between leaf k and k + 1; equal gaps are cut from the left. Single leaves and the
    whole are left out.
    """
    found: set[tuple[int, int]] = set()
    todo = [(0, len(gaps) + 1)]
    while todo:
        start, stop = todo.pop()
        if stop - start < 2:
            continue
        if (start, stop) != (0, len(gaps) + 1):
            found.add((start, stop))
        cut = start + 1 + int(np.argmax(gaps[start : stop - 1]))
        todo += [(start, cut), (cut, stop)]
    return found


def test_trees_by_hand() -> None:
    assert tree_brackets(np.array([1.0, 5.0, 2.0, 3.0])) == {(0, 2), (2, 5), (2, 4)}
    assert tree_brackets(np.array([1.0, 2.0, 3.0])) == {(0, 3), (0, 2)}
    assert tree_brackets(np.array([1.0, 1.0, 1.0])) == {(1, 4), (2, 4)}, "equal gaps are cut from the left"
    assert tree_brackets(np.array([1.0])) == set()
    assert tree_brackets(balanced_gaps(3)) == {(0, 2), (2, 4)}
    assert tree_brackets(balanced_gaps(6)) == {(0, 3), (1, 3), (3, 7), (3, 5), (5, 7)}


def hand_made() -> StructuredText:
    """One sentence of five words that is read, one of two that is too short, one with no bracket."""
    text = "ab cd, ef gh ij. kl mn. op qr st."
    words = [(0, at, at + 2) for at in (0, 3, 7, 10, 13, 17, 20, 24, 27, 30)]
    units = {
        "word": words,
        "sentence": [(0, 0, 16), (0, 17, 23), (0, 24, 33)],
        "phrase": [(0, 0, 5), (0, 7, 16), (0, 17, 22)],
        "entity": [(0, 7, 12), (0, 13, 15), (0, 0, 15), (0, 27, 33), (0, 12, 19)],
    }
    return text_of([Document("a", text, "made up", "en")], units, {})


def test_gaps_run_from_the_end_of_a_word_to_the_first_byte_of_the_next() -> None:
    text = hand_made()
    sentences = Sentences.of(text)
    assert sentences.n_leaves.tolist() == [5, 3]
    values = np.arange(33.0)
    wanted = [2 + 3, 5 + 6 + 7, 9 + 10, 12 + 13, 26 + 27, 29 + 30]
    assert sentences.sums(values).tolist() == wanted


def test_reference_brackets_by_hand() -> None:
    text = hand_made()
    brackets = Brackets.of(text, Sentences.of(text))
    every = list(
        zip(brackets.sentence.tolist(), brackets.start.tolist(), brackets.stop.tolist(), strict=True)
    )
    found = {
        unit: {one for one, own in zip(every, mask, strict=True) if own}
        for unit, mask in brackets.levels.items()
    }
    assert found["phrase"] == {(0, 0, 2), (0, 2, 5)}
    assert found["entity"] == {(0, 2, 4), (1, 1, 3)}
    assert found["any"] == found["phrase"] | found["entity"]


def test_scores_by_hand() -> None:
    text = hand_made()
    rows = shape_rows(text, Trees.of(text))
    scores = {(row["unit"], row["tree"], row["metric"]): row["value"] for row in rows}
    assert scores["phrase", "right", "recall"] == 0.5
    assert scores["phrase", "right", "precision"] == pytest.approx(1 / 3)
    assert scores["phrase", "right", "f1"] == pytest.approx(2 / 5)
    assert scores["phrase", "left", "recall"] == 0.5
    assert scores["phrase", "balanced", "recall"] == 1
    assert scores["phrase", "bytes", "recall"] == 1
    assert scores["entity", "right", "recall"] == 0.5
    assert scores["entity", "left", "recall"] == 0


@pytest.mark.parametrize("seed", range(2))
def test_brackets_are_found_exactly_where_the_trees_have_them(seed: int) -> None:
    documents, units = both_languages(5, seed)
    rng = np.random.default_rng(seed)
    units["entity"] = [
        (d, units["word"][at][1], units["word"][at + n][2])
        for at, n in zip(rng.integers(0, len(units["word"]) - 6, 120), rng.integers(1, 6, 120), strict=True)
        for d in [units["word"][at][0]]
        if units["word"][at + n][0] == d
    ]
    text = text_of(documents, units, {})
    sentences = Sentences.of(text)
    brackets = Brackets.of(text, sentences)
    gaps = rng.integers(0, 4, size=len(sentences.gap_start)).astype(float)
    found = brackets.found_by(gaps, sentences)
    assert 0 < found.sum() < len(found)
    for at, sentence in enumerate(brackets.sentence):
        offset, n = sentences.gap[sentence], sentences.n_leaves[sentence] - 1
        tree = tree_brackets(gaps[offset : offset + n])
        assert len(tree) == n - 1
        assert found[at] == ((brackets.start[at], brackets.stop[at]) in tree)


def tree_scores(text: StructuredText) -> pd.DataFrame:
    trees = Trees.of(text)
    rows = [*shape_rows(text, trees), *(row for name in text.signals for row in tree_rows(text, trees, name))]
    return pd.DataFrame(rows, columns=list(TREE_COLUMNS))


def f1(frame: pd.DataFrame, tree: str, language: str = "all", metric: str = "f1") -> pd.Series:
    own = (frame.tree == tree) & (frame.language == language) & (frame.unit == "phrase")
    (row,) = [row for _, row in frame[own & (frame.metric == metric)].iterrows()]
    return row


def test_planted_brackets_are_found_narrow_ones_lost_and_noise_is_as_a_random_tree() -> None:
    documents, units = both_languages(40)
    signals = {
        "": planted(documents, units["phrase"], 3.0),
        "noise": planted(documents, [], 0.0),
        "narrow": planted(documents, units["phrase"], -0.4),
    }
    frame = tree_scores(text_of(documents, units, signals))
    for language in ("all", "en", "zh"):
        assert f1(frame, "increments", language, "recall").value > 0.99
        noise, random = (f1(frame, name, language) for name in ("noise", "random"))
        assert noise.ci_low < random.value < noise.ci_high
        assert random.ci_low < random.value < random.ci_high
        assert f1(frame, "narrow", language).ci_high < random.value
        assert f1(frame, "increments", language).ci_low > max(
            f1(frame, name, language).ci_high for name in ("random", "right", "left", "balanced", "noise")
        )


def test_scaling_changes_no_tree_and_a_constant_branches_to_the_right_without_spaces() -> None:
    documents, units = unmarked(8, language="zh")
    values = planted(documents, units["phrase"], 0.3)
    n_bytes = values.shape[-1]
    signals = {"": values, "scaled": 4 * values, "constant": signal(np.full(n_bytes, 0.1))}
    frame = tree_scores(text_of(documents, units, signals))
    for metric in METRICS:
        names = ("increments", "scaled"), ("constant", "right"), ("constant", "bytes")
        for a, b in names:
            assert f1(frame, a, metric=metric).value == f1(frame, b, metric=metric).value


def test_the_interval_of_a_tree_is_that_of_resampled_documents() -> None:
    documents, units = unmarked(60)
    text = text_of(documents, units, {"": planted(documents, units["phrase"], 0.5)}, n_resamples=40)
    trees = Trees.of(text)
    row = f1(tree_scores(text), "increments")
    sums = trees.sentences.sums(text.signals[""][0, 0])  # pyright: ignore
    found = trees.brackets.found_by(sums, trees.sentences)
    document = text.captured.document[trees.sentences.first]
    drawn = []
    for weights in text.bootstrap.weights(60):
        right, wanted = (
            weights[document[trees.brackets.sentence]] @ one for one in (found, np.ones(len(found)))
        )
        drawn.append(2 * right / (wanted + weights[document] @ (trees.sentences.n_leaves - 2)))
    bounds = row.value + half_width(drawn, 60) * np.array([-1, 1])
    np.testing.assert_allclose([row.ci_low, row.ci_high], bounds, rtol=1e-5)


def test_the_three_tables_have_every_signal_and_layer() -> None:
    documents, units = both_languages(4)
    text = text_of(documents, units, {})
    captured = text.captured
    spans = {name: Spans.of([(*one, name) for one in rows], [name]) for name, rows in units.items()}
    one = planted(documents, units["phrase"], 1.0)
    signals = {"": one, "entropy": one, "untrained": [one, 2 * one]}
    told = []
    tables = structure_tables(
        captured, signals, spans, text.is_scored, Bootstrap(0, 20), lambda *said: told.append(said)
    )
    assert told == [("structure", n, 3) for n in range(4)]
    for name, column in (("contrasts", "control"), ("pairs", "control"), ("trees", "tree")):
        table = tables[name]
        assert set(table.language) == {"all", "en", "zh"}
        assert set(table.layer[table[column] == "entropy"].isna()) == {True}
        own = "increments" if name == "trees" else ""
        assert set(table.layer[table[column].isin([own, "untrained"])]) == {0}
        assert set(table["head"].isna()) == {True}


def test_text_without_units_gives_empty_tables() -> None:
    documents, _ = unmarked(2)
    text = text_of(documents, {}, {})
    empty = {"word": Spans.of([], []), "phrase": Spans.of([], [])}
    tables = structure_tables(
        text.captured, {"": planted(documents, [], 0.0)}, empty, text.is_scored, Bootstrap(0, 20)
    )
    assert not len(tables["contrasts"])
    assert not len(tables["trees"])
    assert tables["pairs"].value.isna().all()
