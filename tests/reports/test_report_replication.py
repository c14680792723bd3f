"""The page of a paired experiment shows every verdict in words, and the numbers it rests on."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replication_samples import replication_result

from lrope_interp.reports.replication.figures import plot_curves, plot_differences, plot_gaps
from lrope_interp.reports.replication.frames import (
    arms_frame,
    comparisons,
    curve_frame,
    gap_frame,
    languages_frame,
    mean_over_seeds,
    pairs_frame,
    verdict_frame,
)
from lrope_interp.reports.replication.page import PUBLISHED, render_replication
from lrope_interp.reports.replication.words import sentences
from lrope_interp.results import Result, load_result, save_result


@pytest.fixture(scope="module")
def result() -> Result:
    return replication_result()


def _with(result: Result, **values: object) -> Result:
    """Set columns of the comparison of per layer with fixed."""
    table = result.tables["differences"].copy()
    where = (table["arm"] == "per_layer") & (table["reference"] == "fixed")
    for name, value in values.items():
        table.loc[where, name] = value
    return replace(result, tables={**result.tables, "differences": table})


def _said(result: Result) -> str:
    return dict(sentences(result))["per layer against fixed"]


def test_the_differences_are_drawn_as_they_are_in_the_table(result: Result):
    figure, table = plot_differences(result), verdict_frame(result)
    for share in (90, 95):
        drawn = [trace.x for trace in figure.data if trace.name == f"{share} % interval"]
        np.testing.assert_array_equal(drawn, table[[f"ci{share}_low", f"ci{share}_high"]])
    means = [trace.x[0] for trace in figure.data if trace.name == "mean"]
    np.testing.assert_array_equal(means, table["mean"])
    dots = next(trace for trace in figure.data if trace.name == "seeds")
    np.testing.assert_array_equal(dots.x, pairs_frame(result)["difference"])
    bands = sorted(shape.x1 for shape in figure.layout.shapes if shape.type == "rect")
    assert bands == [0.002, 0.003, 0.005]


def test_the_dots_of_a_row_have_its_mean(result: Result):
    means = pairs_frame(result).groupby(["arm", "reference"], sort=False)["difference"].mean()
    np.testing.assert_allclose(means, verdict_frame(result)["mean"])
    assert list(means.index) == comparisons(result)


def test_curves_have_a_line_a_run_and_their_mean(result: Result):
    frame, traces = curve_frame(result), {trace.name: trace for trace in plot_curves(result).data}
    assert len(traces) == 4 * 5 + 4
    own = frame[(frame["arm"] == "shared") & (frame["seed"] == 3)]
    np.testing.assert_array_equal(traces["shared, seed 3"].y, own["loss"])
    at_the_end = frame[(frame["arm"] == "shared") & (frame["step"] == 600)]["loss"].mean()
    assert traces["shared"].y[-1] == pytest.approx(at_the_end)


def test_gaps_are_differences_from_the_reference_of_the_same_seed(result: Result):
    frame, gaps = curve_frame(result).set_index(["arm", "seed", "step"])["loss"], gap_frame(result)
    assert set(gaps["arm"]) == {"fixed_wide", "shared", "per_layer"}
    for line in gaps.itertuples():
        expected = frame[line.arm, line.seed, line.step] - frame["fixed", line.seed, line.step]
        assert line.difference == pytest.approx(expected)
    drawn = {trace.name: trace for trace in plot_gaps(result).data}
    np.testing.assert_allclose(
        drawn["per layer"].y, gaps[gaps["arm"] == "per_layer"].groupby("step")["difference"].mean()
    )


def test_a_mean_is_of_all_seeds_or_not_drawn(result: Result):
    frame = curve_frame(result)
    cut = frame[~((frame["arm"] == "shared") & (frame["seed"] == 0) & (frame["step"] > 300))]
    means = mean_over_seeds(cut, "loss")
    assert means[means["arm"] == "shared"]["step"].max() == 300
    assert means[means["arm"] == "fixed"]["step"].max() == 600


def test_the_arms_are_set_beside_the_reference(result: Result):
    arms = arms_frame(result).set_index("arm")
    assert arms.loc["fixed_wide", "extra_parameters"] == 25_344
    assert arms.loc["per_layer", "extra_parameters"] == 25_734
    losses = result.tables["runs"].query("arm == 'shared'")["nats_per_byte"]
    assert arms.loc["shared", "mean"] == pytest.approx(losses.mean())
    assert arms.loc["shared", "sd"] == pytest.approx(losses.std(ddof=1))
    english = languages_frame(result).set_index("arm").loc["fixed", "en"]
    assert english == pytest.approx(arms.loc["fixed", "mean"] - 0.1)


@pytest.mark.parametrize(
    ("values", "begins", "holds"),
    [
        ({"verdict": "equivalent", "is_nonzero": False}, "Equivalent: mean", "lies within ±0.003"),
        ({"verdict": "equivalent", "is_nonzero": True}, "Equivalent, yet not identical", "better, by less"),
        ({"verdict": "different", "mean": 0.02}, "Different: the arm is worse: mean", "leaves out 0"),
        ({"verdict": "different", "mean": -0.001}, "Different: the arm is better, though by less", "leaves"),
        (
            {"verdict": "inconclusive", "power": 0.31, "n_seeds_for_power": 14},
            "Inconclusive: mean",
            "5 seeds would find it in 31 % of experiments; 14 seeds would find it in 80 %",
        ),
        (
            {"verdict": "inconclusive", "power": 0.001, "n_seeds_for_power": None},
            "Inconclusive",
            "under 1 % of experiments; not even 1,000 seeds",
        ),
    ],
)
def test_every_verdict_has_words(result: Result, values: dict[str, object], begins: str, holds: str):
    said = _said(_with(result, **values))
    assert said.startswith(begins)
    assert holds in said


def test_a_single_seed_has_no_verdict_and_the_page_stands():
    result = replication_result(n_seeds=1)
    assert _said(result).startswith("No verdict: mean difference")
    html = render_replication(result)
    assert "a single seed gives no verdict" in html
    assert "nan" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_the_page_is_made_from_the_saved_result_alone(result: Result, tmp_path: Path):
    save_result(result, tmp_path)
    assert render_replication(load_result(tmp_path)) == render_replication(result)


def test_the_page_quotes_the_published_numbers_as_published(result: Result):
    html = render_replication(result)
    for arm, loss in PUBLISHED:
        assert f'<td class="left">{arm}</td><td>{loss}</td>' in html
    assert "not measured here" in html


def test_every_margin_has_its_table(result: Result):
    html = render_replication(replication_result(margin=0.01))
    for margin in ("0.002", "0.003", "0.005"):
        assert f"At ±{margin} nats per byte." in html
    assert "At the margin of ±0.01 nats per byte" in html
