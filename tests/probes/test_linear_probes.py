"""Probes of arrays: what they find, what they must not, and that no type is on both sides."""

from __future__ import annotations

import numpy as np
import pytest
from concept_samples import random_by_type, sample_of
from scipy import sparse
from sklearn.linear_model import LogisticRegression

from lrope_interp.errors import LRopeError
from lrope_interp.probes.concepts.probes import sparse_path
from lrope_interp.probes.concepts.spans import sample_spans
from lrope_interp.probes.statistics.logistic import (
    TYPE_FOLDS,
    Prober,
    Task,
    control_labels,
    grouped_folds,
    online_code,
    standardised,
    type_split,
)


def made_up(n: int = 900, n_classes: int = 3, strength: float = 2.0) -> tuple[Task, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:, :n_classes] += strength * (y[:, None] == np.arange(n_classes))
    document = np.arange(n) // 10
    return Task(y, n_classes, document, document >= 60, rng.integers(TYPE_FOLDS, size=n)), x


def test_a_probe_is_scikit_learns_on_standardised_features() -> None:
    task, x = made_up()
    found = Prober(task).by_document(x, 0.1)
    fitted, scored = standardised(x, np.flatnonzero(~task.is_test), np.flatnonzero(task.is_test))
    wanted = LogisticRegression(C=0.1, tol=1e-8, max_iter=5_000).fit(fitted, task.y[~task.is_test])
    np.testing.assert_allclose(np.exp(found), wanted.predict_proba(scored), atol=0.01)


def test_standardisation_knows_the_train_rows_alone_and_survives_constants() -> None:
    task, x = made_up()
    x[:, 5] = 3.0
    x[task.is_test] += 10
    fitted, scored = standardised(x, np.flatnonzero(~task.is_test), np.flatnonzero(task.is_test))
    np.testing.assert_allclose(fitted[:, :5].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(fitted[:, :5].std(axis=0), 1, atol=1e-5)
    assert (scored[:, :5].mean(axis=0) > 5).all()
    assert (fitted[:, 5] == 0).all() and (scored[:, 5] == 0).all()


def test_the_regularisation_is_the_one_with_the_least_loss_on_held_out_documents() -> None:
    task, x = made_up(strength=6.0)
    assert Prober(task).regularisation(x) == 1.0
    noise = np.random.default_rng(1).normal(size=(900, 200)).astype(np.float32)
    assert Prober(task).regularisation(noise) == 1e-3


def test_no_lexical_type_and_no_document_stands_on_both_sides_of_a_type_fold() -> None:
    sample = sample_of()
    n_tested = 0
    for fold in range(TYPE_FOLDS):
        train, test = type_split(sample.task, fold)
        assert not {sample.texts[row] for row in train} & {sample.texts[row] for row in test}
        assert not {*sample.spans.document[train]} & {*sample.spans.document[test]}
        n_tested += len(test)
    assert n_tested == sample.task.n_test  # every test span is scored once


def test_labels_random_by_type_are_learned_by_heart_and_lost_on_new_types() -> None:
    sample = sample_of()
    one_hot = sparse.csr_matrix(np.eye(60 + 1, dtype=np.float32)[sample.types])
    prober, y = Prober(sample.task), sample.task.y[sample.is_test]
    assert (prober.by_document(one_hot, 1.0).argmax(axis=1) == y).mean() > 0.95
    assert (prober.by_type(one_hot, 1.0).argmax(axis=1) == y).mean() < 0.65


def test_control_labels_are_one_a_type_and_as_frequent_as_the_classes() -> None:
    sample = sample_of(120, label=lambda number, text: int(random_by_type(text, 4) > 0))
    labels = np.concatenate([control_labels(sample.types, sample.task, seed) for seed in range(40)])
    assert labels.mean() == pytest.approx(sample.task.y[~sample.is_test].mean(), abs=0.05)
    once = control_labels(sample.types, sample.task, 0)
    assert all(len({*once[sample.types == one]}) == 1 for one in np.unique(sample.types))
    assert (once != control_labels(sample.types, sample.task, 1)).any()


def test_folds_keep_groups_together_and_a_class_that_train_lacks_a_small_probability() -> None:
    group = np.repeat(np.arange(30), 7)
    fold = grouped_folds(group, 3, seed=0)
    assert all(len({*fold[group == one]}) == 1 for one in range(30))
    assert np.bincount(fold).tolist() == [70, 70, 70]
    task, x = made_up()
    y = np.where((task.y == 2) & ~task.is_test, 0, task.y)
    log_p = Prober(Task(y, 3, task.document, task.is_test, task.fold)).by_document(x, 1.0)
    assert np.isfinite(log_p).all() and (log_p[:, 2] < -15).all()


def test_the_online_code_is_short_for_a_rule_and_of_no_use_for_noise() -> None:
    task, x = made_up(n=3_000, strength=8.0)
    told = online_code(Prober(task), x, 1.0)
    noise = online_code(Prober(task), x[:, 3:], 1e-3)
    assert told.compression > 5
    assert np.log2(3) < noise.bits_a_span < 1.1 * np.log2(3)  # it pays for what it learned by chance
    assert told.n == int((~task.is_test).sum())
    only = Task(task.y[:20], 3, np.arange(20), np.arange(20) >= 1, task.fold[:20])
    first = online_code(Prober(only), x[:20], 1.0).bits
    assert first == pytest.approx(np.log2(3)), "the first block costs what no probe could say"


def test_the_sparse_path_picks_the_feature_that_carries_the_concept() -> None:
    sample = sample_of()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(sample.spans), 5)).astype(np.float32)
    x[:, 3] += 2.0 * (sample.spans.concept == 0)
    rows = sparse_path(sample, "blue", x, [f"feature {k}" for k in range(5)])
    assert [row["n_features"] for row in rows] == [1, 2, 4]
    assert rows[0]["selected"] == "feature 3"
    assert rows[0]["value"] == pytest.approx(0.92, abs=0.04)
    assert abs(rows[0]["shuffled_value"] - 0.5) < 0.45


def test_rare_concepts_count_as_other_and_too_few_are_refused() -> None:
    sample = sample_of(concepts=("blue", "red", "other"), label=lambda n, text: 1 if n == 0 else 2 * (n % 2))
    found = sample_spans("colours", sample.documents, sample.spans, np.arange(60) >= 40, most=10_000)
    assert found.rare == ("red",) and found.spans.concepts == ("blue", "other")
    only = sample.spans.take(sample.spans.concept > 0)
    with pytest.raises(LRopeError, match=r"colours: .* red 12 and 0"):
        sample_spans("colours", sample.documents, only, np.arange(60) >= 40, most=10_000)


def test_a_sample_is_no_larger_than_asked_and_takes_no_more_others_than_concepts() -> None:
    sample = sample_of(120, label=lambda n, text: int(random_by_type(text, 4) > 0))
    found = sample_spans("colours", sample.documents, sample.spans, np.arange(120) >= 80, most=10_000)
    counts = np.bincount(found.spans.concept)
    assert counts[0] == counts[1]
    with pytest.raises(LRopeError, match=r"raise --max-spans \(now 1\)"):
        sample_spans("colours", sample.documents, sample.spans, np.arange(120) >= 80, most=1)
    few = sample_spans("colours", sample.documents, sample.spans, np.arange(120) >= 80, most=300)
    assert len(few.spans) == pytest.approx(300, abs=2)
    assert few.n_left_out == len(sample.spans) - len(few.spans)
