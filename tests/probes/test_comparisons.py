"""Layers against controls: paired differences, shares of the ceiling, and family-wise p values."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from lrope_interp.probes.boundaries.comparisons import difference_rows, null_rows, share_rows, with_p_values
from lrope_interp.probes.boundaries.harness import Choice, Trial
from lrope_interp.probes.capture.signals import Kind, Signal, SignalColumn, Target


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
) -> Trial:
    """Make a trial whose resamples scatter around its AUC, and whose null lies two s.d. below it."""
    rng = np.random.default_rng(zlib.crc32(repr((name, layer, head, seed)).encode()))
    signal = Signal(name, lambda captured: captured.entropy, kind, seed=seed)
    only = Target("words", "characters", ("characters",), "lead") if kind == "ceiling" else None
    column = SignalColumn(signal, layer, head, {}, only)
    null = auc - 0.1 + 0.05 * rng.normal(size=999) if has_null else None
    shared = np.random.default_rng(0).normal(size=500) * 0.05
    return Trial(
        column, "words", "characters", Choice(), auc, auc + shared + noise * rng.normal(size=500), null
    )


def test_differences_are_paired_so_that_what_documents_share_cancels() -> None:
    rows = difference_rows([trial("increments", 0.8, kind="layer", layer=1), trial("entropy", 0.75)])
    (row,) = rows
    assert row["value"] == pytest.approx(0.05)
    assert row["ci_low"] > 0.05 - 0.05, "the shared scatter of 0.05 would hide the difference"
    assert row["ci_high"] < 0.1


def test_a_layer_is_held_against_its_own_controls_and_those_of_no_layer() -> None:
    trials = [
        trial("increments", 0.8, kind="layer", layer=0),
        trial("increments", 0.7, kind="layer", layer=1),
        trial("byte_mean", 0.6, layer=0),
        trial("byte_mean", 0.65, layer=1),
        trial("entropy", 0.9),
        *[trial("untrained", 0.5 + seed / 10, layer=1, seed=seed) for seed in range(3)],
    ]
    found = {(row["layer"], row["control"]): row["value"] for row in difference_rows(trials)}
    assert set(found) == {
        (0, "byte_mean"),
        (0, "entropy"),
        (1, "byte_mean"),
        (1, "entropy"),
        (1, "untrained"),
    }
    assert found[1, "byte_mean"] == pytest.approx(0.05)
    assert found[1, "untrained"] == pytest.approx(0.7 - 0.6), "the mean of its seeds"
    assert found[0, "entropy"] == pytest.approx(-0.1)


def test_heads_meet_controls_of_their_own_head() -> None:
    trials = [
        trial("increments", 0.8, kind="layer", layer=1, head=0),
        trial("increments", 0.7, kind="layer", layer=1, head=1),
        trial("byte_mean", 0.6, layer=1, head=0),
        trial("byte_mean", 0.65, layer=1, head=1),
        trial("cosine", 0.55, layer=1),
    ]
    found = {(row["head"], row["control"], row["control_head"]) for row in difference_rows(trials)}
    assert found == {(0, "byte_mean", 0), (1, "byte_mean", 1), (0, "cosine", None), (1, "cosine", None)}


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
