"""The result of a paired experiment holds the differences of pairs, and survives being saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.equivalence import MARGINS, paired, verdict
from lrope_interp.probes.studies.replication.replication import (
    Comparison,
    compare,
    next_look,
    replicate_result,
)
from lrope_interp.results import Result


def runs(losses: dict[str, list[float]]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "seed": seed, "nats_per_byte": loss, "n_parameters": 10, "model_sha256": "ab"}
        for arm, values in losses.items()
        for seed, loss in enumerate(values)
    ]


def result_of(losses: dict[str, list[float]], comparison: Comparison | None = None) -> Result:
    languages = [{"arm": "fixed", "seed": 0, "language": "en", "nats_per_byte": 1.0, "n_bytes": 3}]
    curves = [{"arm": "fixed", "seed": 0, "step": 2, "split": "train", "loss": 1.5}]
    rows = {"runs": runs(losses), "languages": languages, "curves": curves}
    return replicate_result(rows, comparison or Comparison(), config={}, data={})


LOSSES = {
    "fixed": [1.80, 1.90, 1.70],
    "fixed_wide": [1.8001, 1.9002, 1.7000],
    "shared": [1.81, 1.88, 1.70],
    "per_layer": [1.77, 1.871, 1.669],
}


def test_each_difference_is_that_of_a_pair() -> None:
    found = result_of(LOSSES).tables["differences"]
    own = found[(found["arm"] == "per_layer") & (found["reference"] == "fixed")]
    assert list(own["margin"]) == list(MARGINS)
    assert set(own["n_seeds"]) == {3}
    np.testing.assert_allclose(own["mean"], (-0.03 - 0.029 - 0.031) / 3)
    np.testing.assert_allclose(own["sd"], 0.001)
    assert set(own["verdict"]) == {"different"}
    wide = found[found["arm"] == "fixed_wide"]
    assert set(wide["verdict"]) == {"equivalent"}
    assert set(found["verdict"]) == {"equivalent", "different", "inconclusive"}


def test_learned_arms_are_also_compared_with_the_widened_one() -> None:
    found = result_of(LOSSES).tables["differences"]
    pairs = list(dict.fromkeys(zip(found["arm"], found["reference"], strict=True)))
    assert pairs == [
        ("fixed_wide", "fixed"),
        ("shared", "fixed"),
        ("per_layer", "fixed"),
        ("shared", "fixed_wide"),
        ("per_layer", "fixed_wide"),
    ]
    found = result_of(LOSSES, Comparison("fixed_wide")).tables["differences"]
    assert set(found["reference"]) == {"fixed_wide"}


def test_turned_around_the_difference_changes_its_sign_and_nothing_else() -> None:
    two = {name: LOSSES[name] for name in ("fixed", "per_layer")}
    there = result_of(two).tables["differences"]
    back = result_of(two, Comparison("per_layer")).tables["differences"]
    np.testing.assert_allclose(there["mean"], -back["mean"])
    np.testing.assert_allclose(there["ci90_low"], -back["ci90_high"])
    np.testing.assert_allclose(there["p_lower"], back["p_upper"])
    assert list(there["verdict"]) == list(back["verdict"])


def test_a_margin_of_ones_own_stands_among_the_others() -> None:
    result = result_of(LOSSES, Comparison(margin=0.01))
    assert sorted(result.tables["differences"]["margin"].unique()) == [*MARGINS, 0.01]
    assert result.provenance["margin"] == 0.01
    assert result.headline["per_layer - fixed"] == pytest.approx(-0.03)


def test_a_single_seed_gives_no_verdict_and_a_warning() -> None:
    result = result_of({name: values[:1] for name, values in LOSSES.items()})
    assert set(result.tables["differences"]["verdict"]) == {"none"}
    assert any("a single seed gives no verdict" in warning for warning in result.warnings)
    assert not any("single seed" in warning for warning in result_of(LOSSES).warnings)


def test_arms_without_spread_are_warned_of() -> None:
    result = result_of({"fixed": [1.5, 1.25], "shared": [1.5, 1.25]})
    assert set(result.tables["differences"]["verdict"]) == {"equivalent"}
    assert any("differ by exactly the same" in warning for warning in result.warnings)


def test_only_seeds_that_both_arms_have_make_pairs() -> None:
    frame = pd.DataFrame(runs({"fixed": [1.0, 2.0, 3.0], "shared": [1.5, 2.5]}))
    found = compare(frame, Comparison())
    assert set(found["n_seeds"]) == {2}
    np.testing.assert_allclose(found["mean"], 0.5)
    other = pd.DataFrame([*runs({"fixed": [1.0]}), runs({"shared": [0.0, 1.5]})[1]])
    with pytest.raises(LRopeError, match="no seed has both shared and fixed"):
        compare(other, Comparison())


def test_seeds_are_not_added_after_a_look_unless_looks_were_declared() -> None:
    assert next_look(None, 5, None) == (1, (5,))
    once = result_of(LOSSES, Comparison(looked_at=(3,)))
    assert next_look(once, 3, None) == (1, (3,)), "the same seeds once more"
    for n_seeds, looks, said in ((8, None, "too often"), (2, None, "too often"), (8, 2, "1 were declared")):
        with pytest.raises(LRopeError, match=said):
            next_look(once, n_seeds, looks)
    twice = result_of(LOSSES, Comparison(looks=2, looked_at=(3,)))
    assert next_look(twice, 8, None) == (2, (3, 8))
    one = {name: losses[:1] for name, losses in LOSSES.items()}
    assert next_look(result_of(one, Comparison(looked_at=())), 5, None) == (1, (5,)), "one seed is no look"


def test_declared_looks_keep_a_false_equivalent_at_five_in_a_hundred() -> None:
    """Differences at the margin: four looks at 5 % each find "equivalent" in more than 8 of 100 cases."""
    rng, at, margin = np.random.default_rng(4), (5, 8, 12, 20), 0.003
    found = {1: 0, 4: 0}
    for _ in range(300):
        values = rng.normal(margin, 0.003, size=20)
        for looks in found:
            said = [verdict(paired(values[:n]), margin, looks)["verdict"] for n in at]
            found[looks] += "equivalent" in said
    assert found[1] > 24
    assert found[4] < 18
