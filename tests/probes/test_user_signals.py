"""Signals of the user's own go through the same harness, with nulls and what is beyond surprisal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from probe_samples import english, select

from lrope_interp.data.labels.kinds import label_gaps
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.boundaries import boundaries
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import SIGNALS, register, unregister
from lrope_interp.reports.boundaries.page import render_boundaries
from lrope_interp.results import Result

MakeModel = Callable[..., LRopeTransformer]
Add = Callable[[str, Callable[[Captured], np.ndarray]], None]


@pytest.fixture
def user_signal() -> Iterator[Add]:
    names: list[str] = []

    def add(name: str, function: Callable[[Captured], np.ndarray]) -> None:
        names.append(name)
        register(name)(function)

    yield add
    for name in names:
        unregister(name)


def label(captured: Captured) -> np.ndarray:
    return np.concatenate([label_gaps(one, "words").is_boundary for one in captured.documents])


@pytest.fixture(scope="module")
def result(make_model: MakeModel) -> Iterator[Result]:
    """Sixty documents a split, so that they are the units and there is an interval."""
    signals: dict[str, Callable[[Captured], np.ndarray]] = {
        "oracle": label,
        "anti_oracle": lambda captured: -2.5 * label(captured),
        "shuffled": lambda captured: np.random.default_rng(0).permutation(label(captured)),
        "squashed": lambda captured: np.tanh(captured.entropy - 5),
    }
    for name, function in signals.items():
        register(name)(function)
    try:
        selection = select(lambda number: [english(number)], n=60)
        yield boundaries(make_model(), data=selection, layers=0, labels=["words"], batch_size=64)
    finally:
        for name in signals:
            unregister(name)


def test_the_label_itself_its_shuffle_and_a_function_of_entropy(result: Result) -> None:
    scores = result.tables["scores"]
    scores = scores[(scores["stratum"] == "characters") & scores["seed"].isna()]
    auc = scores[scores["metric"] == "roc_auc"].drop_duplicates("signal").set_index("signal")
    assert auc.loc["oracle", "value"] == auc.loc["oracle", "ci_low"] == 1
    assert (auc.loc["anti_oracle", "value"], auc.loc["anti_oracle", "raw_value"]) == (1, 0)
    assert auc.loc["anti_oracle", "sign"] == -1
    assert auc.loc["shuffled", "value"] == pytest.approx(0.5, abs=0.02)
    for p in ("p_shift", "p_same_byte"):
        assert auc.loc["oracle", p] == pytest.approx(1 / 1001)
        assert auc.loc["shuffled", p] > 0.01
    assert auc.loc["increments", "p_same_byte"] == 1, "layer 0 knows nothing but the byte"
    for metric in ("f1", "mcc", "precision", "recall", "token_f1"):
        own = scores[(scores["metric"] == metric) & (scores["signal"] == "oracle")]
        assert own["value"].tolist() == [1], metric
    for metric in ("pk", "windowdiff"):
        assert scores[(scores["metric"] == metric) & (scores["signal"] == "oracle")]["value"].tolist() == [0]
    assert result.gaps is not None
    assert {"oracle", "squashed"} <= set(result.gaps)


def test_what_is_beyond_surprisal_is_the_label_and_no_function_of_entropy(result: Result) -> None:
    beyond = result.tables["beyond"].set_index(["signal", "baseline"])
    assert bool(beyond.loc[("oracle", "M0"), "is_beyond"])
    assert beyond.loc[("oracle", "M0"), "bits"] > 0.01
    for baseline in ("M0", "M0_lexical", "bins"):
        assert not bool(beyond.loc[("squashed", baseline), "is_beyond"]), baseline
        assert not bool(beyond.loc[("shuffled", baseline), "is_beyond"]), baseline
    differences = result.tables["differences"]
    own = differences[(differences["control"] == "oracle") & (differences["stratum"] == "characters")]
    assert (own["ci_high"] < 0).all(), "the oracle beats layer 0, and the paired interval says so"
    assert not math.isnan(own["value"].iloc[0])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda captured: np.zeros(3), r"returned shape \(3,\)"),
        (lambda captured: np.full(captured.n_bytes, np.nan), "not finite"),
        (lambda captured: np.array(["a"] * captured.n_bytes), "not finite numbers"),
    ],
)
def test_a_useless_user_signal_is_an_error(
    make_model: MakeModel, user_signal: Add, function: Callable, said: str
) -> None:
    user_signal("useless", function)
    with pytest.raises(LRopeError, match=said):
        boundaries(make_model(), data=select(lambda number: [english(number, 15)], n=2), layers=[0])


def test_a_constant_control_scores_nothing_and_is_noted_while_the_analysis_goes_on(
    make_model: MakeModel, user_signal: Add
) -> None:
    user_signal("flat", lambda captured: np.full(captured.n_bytes, 0.25))
    selection = select(lambda number: [english(number, 20)], n=2)
    result = boundaries(make_model(), data=selection, layers=[0], labels=["words"])
    scores = result.tables["scores"]
    assert scores.loc[scores["signal"] == "flat", "value"].isna().all()
    assert scores.loc[scores["signal"] == "increments", "value"].notna().any()
    assert "flat is constant in bytes: no score there" in result.warnings
    assert "flat" not in set(result.tables["differences"]["control"])
    render_boundaries(result)


def test_a_constant_signal_of_the_model_is_an_error(make_model: MakeModel) -> None:
    register("flat", kind="layer")(lambda captured: np.full(captured.n_bytes, 0.25))
    try:
        with pytest.raises(LRopeError, match="at every test gap"):
            boundaries(make_model(), data=select(lambda number: [english(number, 15)], n=2), layers=[0])
    finally:
        unregister("flat")


def test_the_names_of_built_in_signals_are_taken() -> None:
    with pytest.raises(LRopeError, match="built in"):
        register("entropy")
    unregister("entropy")
    assert "entropy" in SIGNALS
