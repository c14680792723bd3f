"""Planted effects of names are found, and effects of frequency alone are not taken for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.studies.entities.matched import (
    Matches,
    adjusted,
    balance,
    match,
    paired_difference,
    plain_difference,
)
from lrope_interp.probes.studies.entities.regression import Design, curves, has_both

EFFECT = -0.2


def planted(seed: int, effect: float, n: int = 4_000) -> dict[str, np.ndarray]:
    """Pairs of words in which names are likelier, and a response that follows likelihood in a curve."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 240, n)
    log_p = rng.normal(-4, 1.5, 240)
    is_name = (rng.random(240) < 1 / (1 + np.exp(-1.5 * (log_p + 3)))) & (np.arange(240) % 3 > 0)
    document = rng.integers(0, 30, n)
    response = 1 + np.tanh(log_p[kind] + 4) + effect * is_name[kind] + 0.3 * rng.normal(size=n)
    response += 0.05 * rng.normal(size=30)[document] + 0.05 * rng.normal(size=240)[kind]
    return {"kind": kind, "log_p": log_p, "is_name": is_name, "document": document, "response": response}


def designs(given: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, Design]]:
    """The regression without and with controls, and within first words (of which there are 24)."""
    kind, is_name = given["kind"], given["is_name"][given["kind"]]
    groups = np.stack([given["document"], kind], axis=1)
    columns, word = curves(given["log_p"][kind]), kind % 24
    kept = has_both(word, is_name)
    everything = np.ones(len(kind), dtype=bool)
    return {
        "raw": (everything, Design.of(is_name, columns[:, :0], groups)),
        "controls": (everything, Design.of(is_name, columns, groups)),
        "first_words": (kept, Design.of(is_name[kept], columns[kept], groups[kept], word[kept])),
    }


def test_a_planted_effect_is_found_with_sign_and_size() -> None:
    n_held = {"controls": 0, "first_words": 0}
    for seed in range(20):
        given = planted(seed, EFFECT)
        for name in n_held:
            kept, design = designs(given)[name]
            found = design.estimate(given["response"][kept])
            assert found["ci_high"] < 0
            assert found["p"] < 1e-4
            assert found["coefficient"] == pytest.approx(EFFECT, abs=0.06)
            n_held[name] += found["ci_low"] < EFFECT < found["ci_high"]
    assert min(n_held.values()) >= 16


def test_an_effect_of_frequency_alone_is_no_effect_of_names_though_the_plain_difference_shows_it() -> None:
    n_found = {"raw": 0, "controls": 0, "first_words": 0}
    for seed in range(20):
        given = planted(seed, 0.0)
        for name, (kept, design) in designs(given).items():
            found = design.estimate(given["response"][kept])
            n_found[name] += found["ci_low"] > 0 or found["ci_high"] < 0
    assert n_found["raw"] == 20
    assert max(n_found["controls"], n_found["first_words"]) <= 3


def test_two_way_errors_are_those_worked_out_by_hand() -> None:
    rng = np.random.default_rng(0)
    n = 300
    document, kind = rng.integers(0, 12, n), rng.integers(0, 25, n)
    is_name = kind < 8
    response = rng.normal(size=n) + 0.5 * rng.normal(size=12)[document] + 0.5 * rng.normal(size=25)[kind]
    found = Design.of(is_name, np.zeros((n, 0)), np.stack([document, kind], axis=1)).estimate(response)
    x = is_name - is_name.mean()
    slope = x @ response / (x @ x)
    score = x * (response - response.mean() - slope * x)

    def meat(group: np.ndarray) -> float:
        _, number = np.unique(group, return_inverse=True)
        sums = np.bincount(number, weights=score)
        return float(sums @ sums) * len(sums) / (len(sums) - 1)

    variance = (meat(document) + meat(kind) - meat(document * 25 + kind)) / (x @ x) ** 2
    assert found["coefficient"] == pytest.approx(slope)
    assert found["coefficient"] == pytest.approx(response[is_name].mean() - response[~is_name].mean())
    assert found["se"] == pytest.approx(np.sqrt(variance * (n - 1) / (n - 2)))
    assert found["ci_high"] - found["coefficient"] == pytest.approx(
        2.2009852 * found["se"]
    )  # t, 11 degrees of freedom


def test_a_constant_response_has_no_effect_and_too_few_names_have_no_number() -> None:
    is_name = np.arange(100) < 30
    groups = np.stack([np.arange(100) % 10, np.arange(100) % 50], axis=1)
    flat = Design.of(is_name, np.zeros((100, 0)), groups).estimate(np.full(100, 3.0))
    assert (flat["coefficient"], flat["ci_low"], flat["ci_high"]) == (0.0, 0.0, 0.0)
    few = Design.of(np.arange(100) < 5, np.zeros((100, 0)), groups).estimate(np.arange(100.0))
    assert np.isnan(few["coefficient"])


def texts_with(effect: float, seed: int, exact: str = "AB") -> tuple[Matches, np.ndarray]:
    """400 texts, of which likelier ones are names more often, and a response that follows likelihood."""
    rng = np.random.default_rng(seed)
    log_p = rng.normal(-4, 1.2, 400)
    is_name = rng.random(400) < 0.6 / (1 + np.exp(-2 * (log_p + 3.5)))
    values = pd.DataFrame({"log_p": log_p, "length_first": rng.integers(3, 9, 400).astype(float)})
    kinds = [exact[at % 2] if exact else str(is_name[at]) for at in range(400)]
    texts = match(is_name, values, {"log_p": None, "length_first": 2.0}, kinds)
    return texts, np.tanh(log_p + 4) + effect * is_name + 0.1 * rng.normal(size=400)


def test_matching_keeps_its_promises_and_nothing_comes_twice() -> None:
    found, _ = texts_with(0.0, 0)
    assert len(found.name) >= 20
    assert found.is_name[found.name].all()
    assert not found.is_name[found.other].any()
    assert len(set(found.name)) == len(set(found.other)) == len(found.name)
    values = found.covariates.to_numpy()
    apart = np.abs(values[found.name] - values[found.other])
    assert (apart <= np.array([found.caliper, 2.0]) + 1e-9).all()
    assert (found.name % 2 == found.other % 2).all(), "what must be the same is"
    first = balance(found)[0]
    assert abs(float(first["before"])) > 0.5
    assert abs(float(first["after"])) < 0.1


def test_no_match_has_other_capitals() -> None:
    assert len(texts_with(0.0, 0, exact="")[0].name) == 0


def test_matched_names_show_a_planted_effect_and_not_that_of_frequency() -> None:
    draw, n_found = Bootstrap(0, 400), 0
    for seed in range(10):
        for effect in (0.0, EFFECT):
            texts, response = texts_with(effect, seed)
            plain, _ = plain_difference(response, texts.is_name, draw)
            assert plain.value > plain.interval[0] > effect
            found, n = paired_difference(adjusted(response, texts), texts, draw)
            low, high = found.interval
            assert low <= found.value <= high
            assert found.value == pytest.approx(effect, abs=0.06)
            assert n >= 20
            n_found += (low > 0 or high < 0) and effect == 0.0
            assert effect == 0.0 or high < 0
    assert n_found <= 2
