"""Layers beside controls and beside another run's: differences, shares, family-wise p, matches, errors."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from lrope_interp.probes.boundaries.comparisons import (
    confident_errors,
    difference_rows,
    match_layers,
    null_rows,
    share_rows,
    spearman_matrix,
    verdict_rows,
    with_bands,
    with_p_values,
)
from lrope_interp.probes.boundaries.harness import Choice, Trial
from lrope_interp.probes.capture.signals import Kind, Signal, SignalColumn, Target
from lrope_interp.probes.statistics.estimates import Estimate
from lrope_interp.results import AS_GOOD, LOSES, TIES, WINS


def trial(
    name: str,
    auc: float,
    *,
    kind: Kind = "control",
    layer: int | None = None,
    head: int | None = None,
    seed: int | None = None,
    noise: float = 0.01,
    has_null: bool = False,
    label: str = "words",
    dev: float | None = None,
) -> Trial:
    """Make a trial whose resamples scatter around its AUC, and whose null lies two s.d. below it."""
    rng = np.random.default_rng(zlib.crc32(repr((name, layer, head, seed)).encode()))
    signal = Signal(name, lambda captured: captured.entropy, kind, seed=seed)
    only = Target("words", "characters", ("characters",), "lead") if kind == "ceiling" else None
    column = SignalColumn(signal, layer, head, {}, only)
    null = auc - 0.1 + 0.05 * rng.normal(size=999) if has_null else None
    shared = np.random.default_rng(0).normal(size=500) * 0.05
    estimate = Estimate(auc, auc + shared + noise * rng.normal(size=500), 100)
    choice = Choice(dev_roc_auc=auc if dev is None else dev)
    return Trial(column, label, "characters", choice, estimate, null)


def test_differences_are_paired_so_that_what_documents_share_cancels() -> None:
    layer = trial("increments", 0.8, kind="layer", layer=1)
    controls = [trial("entropy", 0.75), trial("words", 0.9), trial("near", 0.8001)]
    entropy, words, near = difference_rows([layer, *controls])
    assert entropy["value"] == pytest.approx(0.05)
    assert entropy["ci_low"] > 0, "the shared scatter of 0.05 would hide the difference"
    assert entropy["ci_high"] < 0.1
    assert [row["verdict"] for row in (entropy, words, near)] == [WINS, LOSES, TIES]
    bare = replace(controls[1], auc=Estimate(0.9))
    assert difference_rows([layer, bare])[0]["verdict"] == "", "without an interval there is none"


def test_the_layer_and_the_control_of_a_verdict_are_picked_on_dev() -> None:
    trials = [
        trial("increments", 0.9, kind="layer", layer=0, dev=0.7),
        trial("increments", 0.8, kind="layer", layer=1, dev=0.75),
        trial("entropy", 0.6, dev=0.9),
        trial("surprisal", 0.95, dev=0.8),
        trial("byte_mean", 0.99, layer=0, dev=0.99),  # another layer's
    ]
    (row,) = verdict_rows(trials)
    assert (row["layer"], row["control"], row["difference"]) == (1, "entropy", pytest.approx(0.2))
    assert row["verdict"] == WINS and row["control_value"] == 0.6
    assert verdict_rows([trial("increments", 0.9, kind="layer", layer=0, dev=math.nan), trials[2]]) == []


def test_verdicts_count_the_labels_and_equality_needs_a_margin() -> None:
    names = ("a", "b", "c", "d", "e", "f")
    layers = [trial("increments", 0.735, kind="layer", layer=0, label=name, noise=0.015) for name in names]
    controls = [trial("entropy", 0.70, label=name, noise=1e-5) for name in names]
    (alone,) = verdict_rows([layers[0], controls[0]])
    assert alone["verdict"] == WINS and alone["p_holm"] == alone["p"] < 0.05 < 6 * alone["p"]
    many = verdict_rows([*layers, *controls])
    assert {row["verdict"] for row in many} == {AS_GOOD}, "above -0.02, and no more can be said of six"
    assert all(row["p_holm"] > 0.05 for row in many)
    narrow = [
        trial("increments", 0.69, kind="layer", layer=0, noise=0.001),
        trial("entropy", 0.69, noise=0.001),
    ]
    (row,) = verdict_rows(narrow)
    assert (row["verdict"], row["margin"]) == (AS_GOOD, 0.02) and row["power"] > 0.99
    wide = [trial("increments", 0.69, kind="layer", layer=0, noise=0.02), trial("entropy", 0.69, noise=0.02)]
    assert verdict_rows(wide)[0]["verdict"] == TIES and verdict_rows(wide)[0]["power"] < 0.3


def test_seeds_of_a_control_make_a_difference_less_sure() -> None:
    layer = trial("increments", 0.8, kind="layer", layer=0, noise=0.002)
    heads = [
        trial("untrained", auc, layer=0, seed=seed, noise=0.002)
        for seed, auc in enumerate((0.70, 0.78, 0.82))
    ]
    (row,) = difference_rows([layer, *heads])
    one, two = difference_rows([layer, heads[0]])[0], row
    assert one["ci_high"] - one["ci_low"] < 0.02 < two["ci_high"] - two["ci_low"]
    assert two["verdict"] == TIES, "heads differ more than the layer does from their mean"
    assert two["seed_low"] < two["ci_low"] and two["ci_high"] < two["seed_high"]


def test_bands_stand_beside_the_intervals_of_layers() -> None:
    layers = [trial("increments", 0.7, kind="layer", layer=k) for k in range(6)]
    score = {"signal": "increments", "head": None, "label": "words", "stratum": "characters"}
    scores = [score | {"layer": 2, "metric": metric} for metric in ("roc_auc", "f1")]
    with_bands(scores, layers)
    low, high = layers[2].auc.interval
    assert scores[0]["band_low"] < low and high < scores[0]["band_high"] and "band_low" not in scores[1]


def test_a_layer_is_held_against_its_own_controls_and_those_of_no_layer() -> None:
    trials = [
        trial("increments", 0.8, kind="layer", layer=0),
        trial("increments", 0.7, kind="layer", layer=1, head=0),
        trial("increments", 0.6, kind="layer", layer=1, head=1),
        trial("byte_mean", 0.6, layer=0),
        trial("byte_mean", 0.65, layer=1, head=0),
        trial("byte_mean", 0.5, layer=1, head=1),
        trial("cosine", 0.55, layer=1),
        trial("entropy", 0.9),
        *[trial("untrained", 0.5 + seed / 10, layer=0, seed=seed) for seed in range(3)],
    ]
    places = ("layer", "head", "control", "control_head")
    found = {tuple(row[name] for name in places): row["value"] for row in difference_rows(trials)}
    assert found == {
        (0, None, "byte_mean", None): pytest.approx(0.2),
        (0, None, "entropy", None): pytest.approx(-0.1),
        (0, None, "untrained", None): pytest.approx(0.8 - 0.6),  # the mean of its seeds
        (1, 0, "byte_mean", 0): pytest.approx(0.05),
        (1, 0, "cosine", None): pytest.approx(0.15),
        (1, 0, "entropy", None): pytest.approx(-0.2),
        (1, 1, "byte_mean", 1): pytest.approx(0.1),
        (1, 1, "cosine", None): pytest.approx(0.05),
        (1, 1, "entropy", None): pytest.approx(-0.3),
    }


def test_the_share_of_the_ceiling_is_empty_where_the_probe_finds_little() -> None:
    trials = [
        trial("increments", 0.7, kind="layer", layer=0, noise=0.001),
        trial("ceiling", 0.9, kind="ceiling", layer=0, noise=0.001),
        trial("increments", 0.6, kind="layer", layer=1),
        trial("ceiling", 0.6, kind="ceiling", layer=1),
    ]
    strong, weak = share_rows(trials)
    assert strong["share"] == pytest.approx(0.5)
    assert strong["ci_low"] < 0.5 < strong["ci_high"]
    assert weak["probe_low"] < 0.55
    assert math.isnan(weak["share"])
    assert weak["probe_value"] == pytest.approx(0.6)


def test_the_family_counts_its_chances_and_controls_stand_alone() -> None:
    layers = [trial("increments", 0.7, kind="layer", layer=k, has_null=True) for k in range(6)]
    rows = null_rows([*layers, trial("entropy", 0.7, has_null=True)])
    by_signal = {(row["signal"], row["layer"]): row for row in rows}
    assert by_signal["entropy", None]["p_shift"] == by_signal["entropy", None]["p_shift_alone"]
    for k in range(6):
        row = by_signal["increments", k]
        assert row["p_shift_alone"] == pytest.approx(0.023, abs=0.015)
        assert row["p_shift"] == pytest.approx(1 - (1 - 0.023) ** 6, abs=0.06), "six independent chances"
        assert row["p_shift"] > row["p_shift_alone"]
        assert row["null_low"] < row["null_high"]
    score = {"signal": "increments", "layer": 2, "head": None, "label": "words", "stratum": "characters"}
    scores = [score | {"metric": metric, "seed": None} for metric in ("roc_auc", "f1")]
    with_p_values(scores, rows)
    assert scores[0]["p_shift"] == by_signal["increments", 2]["p_shift"]
    assert "p_shift" not in scores[1]


def test_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(size=(3, 400)).astype(np.float32)
    other = (own[[2, 0]] + rng.normal(size=(2, 400))).astype(np.float32).round(1)
    found = spearman_matrix(own, other)
    for i, j in np.ndindex(3, 2):
        assert found[i, j] == pytest.approx(spearmanr(own[i], other[j]).statistic, abs=1e-9)
    constant = np.stack([np.ones(50), np.arange(50)]).astype(np.float32)
    assert spearman_matrix(constant, constant).tolist() == [[0, 0], [0, pytest.approx(1)]]


@pytest.mark.parametrize("seed", range(2))
def test_swapped_and_inverted_layers_are_matched(seed: int) -> None:
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(6, 500)).astype(np.float32)
    order = rng.permutation(6)
    signs = rng.choice([-1, 1], size=(6, 1))
    other = (signs * own[order] + rng.normal(size=(6, 500))).astype(np.float32)
    assert match_layers(spearman_matrix(own, other)) == [(int(order[k]), k) for k in np.argsort(order)]


def test_the_assignment_is_the_best_as_a_whole_not_pair_by_pair() -> None:
    correlation = np.array([[0.9, 0.8], [0.85, 0.1]])
    assert match_layers(correlation) == [(0, 1), (1, 0)], "0.8 + 0.85 beats 0.9 + 0.1"


def test_the_farthest_on_their_side_come_first() -> None:
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])
    is_boundary = np.array([False, True, True, True, False, True])
    # called: 5, 4, 3; wrong are 5 (false alarm) and 2 and 0 (misses), 2 being the least sure of its side
    found = confident_errors(values, is_boundary, 2.5, np.zeros(6, dtype=np.int64))
    assert found.tolist() == [0, 5, 3]
    right = confident_errors(values[[0, 5]], np.array([True, False]), 1.0, np.zeros(2, dtype=np.int64))
    assert not len(right)


def test_of_equally_confident_errors_every_document_gets_its_turn() -> None:
    document = np.repeat(np.arange(5), 20)
    values, is_boundary = np.ones(100), np.zeros(100, dtype=bool)
    found = confident_errors(values, is_boundary, 0.5, document)
    assert found.tolist() == [0, 20, 40, 60, 80, 1, 21, 41, 61, 81]
