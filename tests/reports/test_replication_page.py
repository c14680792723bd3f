"""The page of a paired experiment: every verdict both ways, and figures that draw what was compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from study_samples import replication_result

from lrope_interp.reports import render
from lrope_interp.reports.replication import (
    PUBLISHED,
    arms_frame,
    curve_frame,
    differences_frame,
    gap_frame,
    mean_over_seeds,
    pairs_frame,
    verdicts,
)
from lrope_interp.results import Result


@pytest.fixture
def compared(result_of: Callable[[str], Result]) -> Result:
    return result_of("replicate")


@pytest.mark.parametrize(
    ("values", "verdict", "power"),
    [
        ({"verdict": "equivalent", "is_nonzero": False}, "= equivalent", None),
        ({"verdict": "equivalent", "is_nonzero": True}, "≈ equivalent, not 0", None),
        ({"verdict": "different", "mean": 0.02}, "▼ different, worse", None),
        ({"verdict": "different", "mean": -0.001}, "▲ different, better", None),
        ({"verdict": "inconclusive", "power": 0.31, "n_seeds_for_power": 14}, "? inconclusive", "31 %; 14"),
        ({"power": 0.001, "n_seeds_for_power": None}, "▲ different, better", "under 1 %; > 1,000"),
    ],
)
def test_every_verdict_of_a_paired_experiment_has_words(
    compared: Result, values: dict[str, object], verdict: str, power: str | None
) -> None:
    table = compared.tables["differences"].copy()
    rows = (table["arm"] == "per_layer") & (table["reference"] == "fixed")
    for name, value in values.items():
        table.loc[rows, name] = value
    found = verdicts(dataclasses.replace(compared, tables=compared.tables | {"differences": table}))
    cells = {row.cells[0]: row.cells for row in found.rows}["per layer − fixed"]
    assert cells[-1] == verdict
    assert power in (None, cells[1])
    assert verdict.split(maxsplit=1)[1] in found.headline and len(found.headline.split()) <= 25


def test_a_row_is_the_mean_with_its_90_percent_interval_at_the_margin_of_the_experiment(
    compared: Result,
) -> None:
    bounds = verdicts(compared).frame[["difference", "difference_low", "difference_high"]]
    table = compared.tables["differences"].query("margin == 0.003")
    np.testing.assert_array_equal(bounds, table[["mean", "ci90_low", "ci90_high"]])


def test_a_single_seed_has_no_verdict_and_every_margin_has_its_table() -> None:
    sole = replication_result(n_seeds=1, margin=0.01)
    assert set(verdicts(sole).frame["verdict"]) == {"no verdict"}
    assert verdicts(sole).headline.endswith("±0.01 nats per byte, 1 paired seed: all 3 arms no verdict.")
    html = render(sole)
    assert "a single seed gives no verdict" in html
    assert all(f"At ±{margin} nats per byte." in html for margin in ("0.002", "0.003", "0.005", "0.01"))
    assert all(f">{arm}</th><td>{loss}</td>" in html for arm, loss in PUBLISHED.items())
    assert "not measured here" in html


def test_pairs_of_runs_are_drawn_as_they_are_compared(compared: Result) -> None:
    figure, table, pairs = compared.plot(), differences_frame(compared), pairs_frame(compared)
    for share in (90, 95):
        drawn = [trace.x for trace in figure.data if trace.name == f"{share} % interval"]
        np.testing.assert_array_equal(drawn, table[[f"ci{share}_low", f"ci{share}_high"]])
    np.testing.assert_array_equal([t.x[0] for t in figure.data if t.name == "mean"], table["mean"])
    np.testing.assert_array_equal(figure.data[-1].x, pairs["difference"])
    means = pairs.groupby(["arm", "reference"], sort=False)["difference"].mean()
    np.testing.assert_allclose(means, table["mean"])


def test_curves_are_means_of_all_seeds_and_gaps_are_taken_seed_by_seed(compared: Result) -> None:
    frame, gaps = curve_frame(compared), gap_frame(compared)
    losses = frame.set_index(["arm", "seed", "step"])["loss"]
    for line in gaps.itertuples():
        fixed = losses["fixed", line.seed, line.step]
        assert line.difference == pytest.approx(losses[line.arm, line.seed, line.step] - fixed)
    drawn = {trace.name: trace.y for trace in compared.plot("gaps").data}
    runs = gaps.groupby(["arm", "seed"], sort=False)["difference"]
    lines = [trace for trace in compared.plot("gaps").data if "seed" in str(trace.name)]
    for line, ((_, seed), own) in zip(lines, runs, strict=True):
        assert line.name.endswith(f", seed {seed}") and list(line.y) == own.tolist()
    mean = gaps[gaps["arm"] == "per_layer"].groupby("step")["difference"].mean()
    np.testing.assert_allclose(drawn["per layer"], mean)
    cut = frame[~((frame["arm"] == "shared") & (frame["seed"] == 0) & (frame["step"] > 300))]
    ends = mean_over_seeds(cut, "loss").groupby("arm")["step"].max()
    assert (ends["shared"], ends["fixed"]) == (300, 600), "a mean is of all seeds or not drawn"
    arms, runs = arms_frame(compared).set_index("arm"), compared.tables["runs"].query("arm == 'shared'")
    assert arms.loc["fixed_wide", "extra_parameters"] == 25_344
    assert arms.loc["shared", "sd"] == pytest.approx(runs["nats_per_byte"].std(ddof=1))
