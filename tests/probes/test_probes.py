"""Probes of arrays and claims made of them: what they find, what they must not, what speaks against it."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest
from concept_samples import random_by_type, sample_of
from scipy import sparse, stats
from sklearn.linear_model import LogisticRegression

from lrope_interp.errors import LRopeError
from lrope_interp.probes.concepts import claims as claims_module
from lrope_interp.probes.concepts.claims import (
    BEYOND,
    DOCUMENT,
    N_BINS,
    TYPE,
    UNDECIDED,
    UNMEASURED,
    WINS,
    Claims,
    _verdict,
    log_odds,
)
from lrope_interp.probes.concepts.features import (
    BYTE_WINDOW,
    JOINT,
    JOINT_PLUS,
    JOINT_UNTRAINED,
    NGRAM,
    NONE,
    UNTRAINED,
    FeatureSet,
    ngrams,
)
from lrope_interp.probes.concepts.probes import run_probes, sparse_path
from lrope_interp.probes.concepts.spans import SpanSample, sample_spans
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring
from lrope_interp.probes.statistics.logistic import (
    TYPE_FOLDS,
    Prober,
    Task,
    beside,
    control_labels,
    grouped_folds,
    online_code,
    standardised,
    type_split,
)
from lrope_interp.probes.statistics.ranking import roc_auc


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
    uniform = np.log2(3) * (~task.is_test).sum()
    assert told < uniform / 5
    assert uniform < noise < 1.1 * uniform  # it pays for what it learned by chance
    only = Task(task.y[:20], 3, np.arange(20), np.arange(20) >= 1, task.fold[:20])
    first = online_code(Prober(only), x[:20], 1.0)
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
    with pytest.raises(LRopeError, match=r"raise max_spans \(now 1\)"):
        sample_spans("colours", sample.documents, sample.spans, np.arange(120) >= 80, most=1)
    few = sample_spans("colours", sample.documents, sample.spans, np.arange(120) >= 80, most=300)
    assert len(few.spans) == pytest.approx(300, abs=2)
    assert few.n_left_out == len(sample.spans) - len(few.spans)


UNKNOWN = {"is_hooked": True}  # nothing is remembered
DISTANCE = 2.0
REACH = (
    1.9842 * (100 / 99 / 3) ** 0.5
)  # of 95 % intervals of 100 documents, if resamples spread evenly from -1 to 1
BOUNDS = {"above_low": 0.01, "type_above_low": 0.01, "selectivity_low": 0.1}


def outcomes(sample: SpanSample, x: np.ndarray, **others: np.ndarray) -> list:
    """Probe made-up increments of layer 0 beside n-grams, and controls that are given as arrays."""
    text = ngrams(sample.texts, ~sample.is_test)
    sets = [FeatureSet(NGRAM, "", None, (lambda: text,)), FeatureSet(JOINT, "", None, (lambda: text,))]
    sets.append(FeatureSet(NONE, "increments", 0, (lambda: x,)))
    plus = beside(x, text, sample.is_test)
    sets.append(FeatureSet(JOINT_PLUS, "increments", 0, (lambda: plus,)))
    for name, matrix in others.items():
        is_model = name in (UNTRAINED, JOINT_UNTRAINED)
        key = (name, "increments", 0) if is_model else (name, "", None)
        sets.append(FeatureSet(*key, (lambda matrix=matrix: matrix,) * (2 if name == UNTRAINED else 1)))
    return run_probes(sample, sets, UNKNOWN, with_codes=True)


def by_document(number: int, text: str) -> int:
    """A label that no text can tell: half of each document's words, by their place."""
    return int(np.random.default_rng([number, len(text), ord(text[0])]).integers(2))


@pytest.fixture(scope="module")
def planted() -> tuple[SpanSample, list]:
    sample = sample_of(90, label=by_document)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(sample.spans), 3)).astype(np.float32)
    x[:, 0] += DISTANCE * (sample.spans.concept == 0)
    noise = rng.normal(size=x.shape).astype(np.float32)
    joint = beside(noise, ngrams(sample.texts, ~sample.is_test), sample.is_test)
    others = {UNTRAINED: noise, JOINT_UNTRAINED: joint, BYTE_WINDOW: sparse.csr_matrix(noise > 1)}
    return sample, outcomes(sample, x, **others)


@pytest.fixture(scope="module")
def claim(planted: tuple[SpanSample, list]) -> pd.Series:
    claims = Claims(*planted, Bootstrap(0)).claims()
    assert len(claims) == 1
    return claims.iloc[0]


def test_a_planted_concept_is_found_with_its_size_and_all_that_speaks_against_it(claim: pd.Series) -> None:
    wanted = NormalDist().cdf(DISTANCE / math.sqrt(2))
    assert (claim["auc"], claim["type_auc"]) == (pytest.approx(wanted, abs=0.03),) * 2
    assert claim["auc_low"] < claim["auc"] < claim["auc_high"]
    assert claim["verdict"] == BEYOND
    singles = {name: claim[f"{name}_auc"] for name in ("ngram", "byte_window", "joint", "untrained")}
    best = max(singles, key=singles.__getitem__)
    assert claim["best_control"] == (best if singles[best] > 0.5 else "majority")
    assert claim["above"] == pytest.approx(claim["auc"] - claim["best_control_auc"])
    assert claim["above_low"] < claim["above"] < claim["above_high"]
    assert np.isfinite(claim[["selectivity", "untrained_auc", "mdl_bits", "gain"]].to_numpy(float)).all()
    assert claim["selectivity_low"] > 0
    assert claim["gain_low"] > 0 and claim["type_gain_low"] > 0 and claim["is_adding"]
    assert claim["n_documents"] == 30


@pytest.mark.parametrize("seed", range(2))
def test_labels_that_are_random_by_type_are_won_by_a_control(seed: int) -> None:
    sample = sample_of(90, label=lambda _, text: random_by_type(text, seed=seed))
    rng = np.random.default_rng(seed)
    by_type = rng.normal(size=(int(sample.types.max()) + 1, 9)).astype(np.float32)
    x = by_type[sample.types] + 0.1 * rng.normal(size=(len(sample.types), 9)).astype(np.float32)
    claims = Claims(sample, outcomes(sample, x), Bootstrap(0)).claims()
    assert claims["auc"].iloc[0] > 0.55  # increments that know the word look as if they knew the concept
    assert claims["verdict"].tolist() == [WINS] * len(claims)
    assert not claims["is_adding"].any()


@pytest.mark.parametrize("left_out", [UNTRAINED, JOINT_UNTRAINED])
def test_what_no_untrained_model_stands_beside_is_not_claimed(
    planted: tuple[SpanSample, list], left_out: str
) -> None:
    sample, every = planted
    kept = [one for one in every if one.of.control != left_out]
    claim = Claims(sample, kept, Bootstrap(0)).claims().iloc[0]
    assert claim["verdict"] == (UNMEASURED if left_out == UNTRAINED else BEYOND)
    assert bool(claim["is_adding"]) == (left_out == UNTRAINED)


def test_features_that_an_untrained_model_has_as_well_add_nothing(planted: tuple[SpanSample, list]) -> None:
    sample, every = planted
    plus = next(one for one in every if one.of.control == JOINT_PLUS)
    same = [
        replace(one, by_document=plus.by_document, by_type=plus.by_type)
        if one.of.control == JOINT_UNTRAINED
        else one
        for one in every
    ]
    claim = Claims(sample, same, Bootstrap(0)).claims().iloc[0]
    assert claim["gain_low"] > 0 and claim["type_gain_low"] > 0
    assert claim["type_gain_untrained"] == pytest.approx(claim["type_gain"])
    assert not claim["is_adding"]


@pytest.mark.parametrize(
    ("half_document", "half_type", "verdict"),
    [(0.05, 0.05, BEYOND), (0.2, 0.05, UNDECIDED), (0.05, 0.2, UNDECIDED)],
)
def test_a_claim_stands_by_its_lower_bound_against_every_control_and_not_by_its_value(
    planted: tuple[SpanSample, list], half_document: float, half_type: float, verdict: str
) -> None:
    """The value is 0.1 above every control; the interval of one split reaches below it, or none does."""
    row, above = {**BOUNDS, "untrained_auc": 0.5}, [(0.01, 0.2), (0.1, 0.3)]
    assert _verdict(row, above) == BEYOND
    assert _verdict(row, [*above, (-0.002, 0.1)]) == UNDECIDED
    assert _verdict(row, [*above, (-0.2, -0.1)]) == WINS
    claims = Claims(*planted, Bootstrap(0))
    spread = np.linspace(-1, 1, claims.bootstrap.n_resamples)
    halves = {DOCUMENT: half_document, TYPE: half_type}
    claims.__dict__["areas"] = {
        (key, split, concept): [
            Estimate(0.7, 0.7 + halves[split] * spread, 100)
            if key[0] == NONE
            else Estimate(0.6, np.full(len(spread), 0.6), 100)
        ]
        * len(seeds)
        for (key, split, concept), seeds in claims.areas.items()
    }
    found = claims.claims().iloc[0]
    assert (found["above"], found["type_above"]) == (pytest.approx(0.1), pytest.approx(0.1))
    assert found["above_low"] == pytest.approx(0.1 - REACH * half_document, abs=1e-3)
    assert found["above_high"] == pytest.approx(0.1 + REACH * half_document, abs=1e-3)
    assert found["selectivity_low"] > 0
    assert found["verdict"] == verdict


def test_seeds_of_a_control_widen_the_difference_on_new_words_as_on_new_documents(
    planted: tuple[SpanSample, list],
) -> None:
    """On new words each fold has another seed, so that only new documents tell how much seeds differ."""
    claims = Claims(*planted, Bootstrap(0))
    still, seeds = np.zeros(claims.bootstrap.n_resamples), 0.6 + 0.05 * np.arange(5)

    def known(control: str, split: str) -> list[Estimate]:
        values = {NONE: [0.7], UNTRAINED: seeds.tolist() if split == DOCUMENT else [0.6]}.get(control, [0.5])
        return [Estimate(value, value + still, 100) for value in values]

    claims.__dict__["areas"] = {where: known(where[0][0], where[1]) for where in claims.areas}
    found, half = claims.claims().iloc[0], stats.t.ppf(0.975, 4) * seeds.std(ddof=1) / np.sqrt(5)
    for split in ("above", "type_above"):
        assert found[f"{split}_high"] - found[f"{split}_low"] == pytest.approx(2 * half)


@pytest.mark.parametrize(
    ("half", "untrained", "is_adding"),
    [(0.05, 0.0, True), (0.2, 0.0, False), (0.05, 0.08, False), (0.2, -0.3, False)],
)
def test_a_gain_counts_by_its_lower_bound_alone_and_less_that_of_the_untrained_model(
    planted: tuple[SpanSample, list],
    half: float,
    untrained: float,
    is_adding: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sample, every = planted
    spread = np.linspace(-1, 1, Bootstrap(0).n_resamples)
    losses = {
        JOINT: Estimate(0.6, 0.6 + 0 * spread, 100),
        JOINT_PLUS: Estimate(0.5, 0.5 - half * spread, 100),
        JOINT_UNTRAINED: Estimate(0.6 - untrained, 0.6 - untrained + 0 * spread, 100),
    }

    def control_of(log_p: np.ndarray, _: np.ndarray) -> list[str]:
        """The control whose log-probabilities these are."""
        return [
            one.of.control
            for one in every
            if any(np.shares_memory(log_p, own) for own in (one.by_document, one.by_type))
        ]

    def mean(scoring: Scoring, amount: Any) -> Estimate:
        return losses[amount[0]] if isinstance(amount, list) else whole(scoring, amount)

    whole = Scoring.mean
    monkeypatch.setattr(claims_module, "binary_loss", control_of)
    monkeypatch.setattr(Scoring, "mean", mean)
    found = Claims(sample, every, Bootstrap(0)).claims().iloc[0]
    assert found["gain"] == found["type_gain"] == pytest.approx(0.1)
    assert found["gain_low"] == pytest.approx(0.1 - REACH * half, abs=1e-3)
    assert bool(found["is_adding"]) is is_adding


def test_on_new_types_a_probe_of_noise_is_at_chance_though_its_folds_differ_in_their_shares() -> None:
    rng = np.random.default_rng(0)
    fold, document = rng.integers(5, size=4_000), rng.integers(80, size=4_000)
    y = (rng.random(4_000) < np.array([0.1, 0.3, 0.5, 0.7, 0.9])[fold]).astype(np.int64)
    share = np.array([(y[fold != k] == 1).mean() for k in range(5)])[fold]  # all that noise teaches
    logit = np.log(share / (1 - share)) + rng.normal(0, 0.01, size=4_000)
    log_p = -np.logaddexp(0, np.stack([logit, -logit], axis=1)).astype(np.float32)
    scoring = Scoring(Units.of(document), Bootstrap(0), N_BINS)
    odds, is_one = log_odds(log_p[:, 1]), y == 1
    assert scoring.roc_auc(scoring.rank(odds), is_one).value < 0.3
    found = scoring.roc_auc_within(odds, is_one, fold)
    areas = [roc_auc(logit[own], y[own] == 1) for own in (fold == k for k in range(5))]
    pairs = [y[own].sum() * (1 - y[own]).sum() for own in (fold == k for k in range(5))]
    assert found.value == pytest.approx(np.average(areas, weights=pairs), abs=1e-4)
    low, high = found.interval
    assert low < 0.5 < high and low < found.value < high
    alone = scoring.roc_auc_within(odds, is_one, np.zeros_like(fold))
    wanted = scoring.roc_auc(scoring.rank(odds), is_one)
    assert alone.value == pytest.approx(wanted.value, abs=1e-12), "a single fold is scored as without folds"
    np.testing.assert_array_equal(alone.resampled, wanted.resampled)


def test_without_intervals_nothing_is_claimed() -> None:
    sample = sample_of(12, label=by_document)
    x = np.random.default_rng(0).normal(size=(len(sample.spans), 2)).astype(np.float32)
    claims = Claims(sample, outcomes(sample, x), Bootstrap(0)).claims()
    assert claims["verdict"].tolist() == [UNMEASURED]


def test_every_score_has_its_row(planted: tuple[SpanSample, list]) -> None:
    claims = Claims(*planted, Bootstrap(0))
    probes = claims.probes()
    probes = probes[probes["split"] == "document"]
    own = probes[probes["features"] == "increments"]
    random = own[(own["control"] == "control_task") & (own["metric"] == "accuracy")]["value"]
    accuracy = own[(own["control"] == "none") & (own["metric"] == "accuracy")]["value"].iloc[0]
    selectivity = own[own["metric"] == "selectivity"]["value"].iloc[0]
    assert len(random) == 5
    assert selectivity == pytest.approx(accuracy - random.mean())
    rows = probes[(probes["control"] == "untrained") & (probes["metric"] == "roc_auc")]
    seeds, mean = rows[rows["seed"].notna()], rows[rows["seed"].isna()].iloc[0]
    assert seeds["seed"].tolist() == [0, 1]
    assert mean["value"] == pytest.approx(seeds["value"].mean())
    assert (mean["ci_low"], mean["ci_high"]) == (seeds["value"].min(), seeds["value"].max())
    fits = claims.fits()
    fit = fits[fits["control"] == "none"].iloc[0]
    assert fit["n_features"] == 3
    assert fit["n_fits"] > 20 and fit["n_unconverged"] == 0
