"""Trees of gaps: by hand, against building them, and with brackets planted or not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from structure_samples import both_languages, planted, signal, text_of, unmarked

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.concepts.structure import structure_tables
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
from lrope_interp.probes.statistics.bootstrap import Bootstrap


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


def test_the_interval_is_that_of_resampled_documents() -> None:
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
    np.testing.assert_allclose([row.ci_low, row.ci_high], np.quantile(drawn, [0.025, 0.975]), rtol=1e-5)


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
    assert told == [("structure", n, 3) for n in (1, 2, 3)]
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
