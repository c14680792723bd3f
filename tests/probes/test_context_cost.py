"""What increments cost: operations counted by torch, ratios worked out again, angles by fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lrope_interp import LRopeTransformer
from lrope_interp.errors import LRopeError
from lrope_interp.models.increments import angles_at
from lrope_interp.probes.studies.context import context as context_cost
from lrope_interp.probes.studies.context.context import interleaved, measure_costs, working_bytes
from lrope_interp.probes.studies.context.plan import (
    ARMS,
    CostPlan,
    decoded_token,
    filled_cache,
    parse_arms,
    parse_contexts,
    path_parts,
)
from lrope_interp.probes.studies.context.tables import (
    angle_errors,
    costs_table,
    exact_positions,
    exact_turns,
    forward_flops,
    saturated_increments,
    targets_table,
)
from lrope_interp.results import Result

SHAPE = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "d_mlp": 32, "d_vocab": 31}
THREE = ("fixed", "shared", "per_layer")


@pytest.fixture(autouse=True, scope="module")
def _short_rounds() -> Iterator[None]:
    """One call makes a round: the tests look at counts and ratios, not at times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context_cost, "SHORTEST_ROUND", 0.0)
        yield


@pytest.fixture(scope="module")
def result() -> Result:
    return measure_costs(CostPlan(SHAPE, THREE, (16, 64), repeats=2))


@pytest.mark.parametrize("arm", ARMS)
def test_counted_products_are_those_that_torch_counts(arm: str) -> None:
    n, arms = 48, dict.fromkeys(["fixed", arm])
    model = CostPlan(SHAPE | {"attn_impl": "eager"}, tuple(arms), (n,)).model(arm, "float32")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, n, dtype=torch.int64))
    own, full_square = forward_flops(model.cfg, n), 2 * 2 * 2 * 16 * n * n
    assert counter.get_total_flops() == own["linears"] + own["increment_heads"] + full_square
    assert own["attention"] / full_square == pytest.approx((n + 1) / (2 * n))  # the causal half


def test_every_phase_is_measured_for_every_arm_and_context(result: Result) -> None:
    costs = result.tables["costs"]
    wanted = {
        (arm, context, phase)
        for arm in THREE
        for context in (16, 64)
        for phase in ("forward", "train_step", "decode", "increment_path")
    }
    assert set(zip(costs["arm"], costs["context"], costs["phase"], strict=True)) == wanted
    assert (costs["n"] == 2).all()
    assert (costs["seconds_median"] > 0).all()


def test_ratios_follow_from_the_rounds(result: Result) -> None:
    rounds, costs = result.tables["rounds"], result.tables["costs"]
    for line in costs[costs["phase"] != "increment_path"].itertuples():
        own = rounds[(rounds["context"] == line.context) & (rounds["phase"] == line.phase)]
        times = {arm: part.sort_values("round")["seconds"].to_numpy() for arm, part in own.groupby("arm")}
        ratios = times[line.arm] / times["fixed"]
        found = [line.ratio_q1, line.ratio_to_fixed, line.ratio_q3]
        np.testing.assert_allclose(found, np.quantile(ratios, [0.25, 0.5, 0.75]))
        assert line.seconds_median == np.median(times[line.arm])


def test_the_path_is_set_against_a_forward_pass_of_fixed_rope() -> None:
    rows = []
    for arm, forward, heads in (("fixed", 2.0, 0.0), ("per_layer", 2.5, 0.1)):
        for k in range(3):
            same = {"arm": arm, "context": 64, "round": k}
            rows += [
                {"phase": "forward", "part": "", **same, "seconds": forward * (k + 1)},
                {"phase": "increment_path", "part": "heads", **same, "seconds": heads},
                {"phase": "increment_path", "part": "sum", **same, "seconds": 0.05},
            ]
    memory = pd.DataFrame(
        [("forward", "fixed", 64, 10, 90), ("forward", "per_layer", 64, 15, 95)],
        columns=["phase", "arm", "context", "standing", "working"],
    )
    costs = costs_table(pd.DataFrame(rows), memory).set_index(["phase", "arm"])
    assert costs.loc[("increment_path", "per_layer"), "seconds_median"] == pytest.approx(0.15)
    assert costs.loc[("increment_path", "per_layer"), "ratio_to_fixed"] == pytest.approx(1 + 0.1 / 4)
    assert costs.loc[("forward", "per_layer"), "ratio_to_fixed"] == pytest.approx(1.25)
    assert costs.loc[("forward", "per_layer"), "peak_ratio"] == pytest.approx(1.1)


def test_parameters_and_memory_are_those_of_the_models(result: Result) -> None:
    arms = result.tables["arms"].set_index("arm")
    head = 16 + 16 * 4 + 4 + 4 + 1
    assert dict(arms["extra"]) == {"fixed": 0, "shared": head, "per_layer": 2 * head}
    memory = result.tables["memory"]
    standing = memory[memory["arm"] == "fixed"].groupby("phase")["standing"].max()
    weights = 4 * int(arms.loc["fixed", "n_parameters"])
    cache = 2 * 2 * 64 * 16 * 4
    assert standing["forward"] == weights
    assert standing["train_step"] == 3 * weights
    assert standing["decode"] == weights + cache


def test_a_large_tensor_is_seen_in_the_peak_though_it_is_gone_afterwards() -> None:
    n_bytes = 64 * 2**20
    found = working_bytes(lambda: torch.ones(n_bytes, dtype=torch.uint8), "cpu")
    if found is None:
        pytest.skip("this system does not tell the peak of memory")
    assert n_bytes * 0.9 < found < n_bytes * 1.2
    nothing = working_bytes(lambda: None, "cpu")
    assert nothing is not None
    assert nothing < n_bytes / 8


def test_the_peak_is_read_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def passes() -> None:
        (tmp_path / "status").write_text("Name:\tx\nVmHWM:\t    5000 kB\nVmRSS:\t    3000 kB\n")

    passes()
    monkeypatch.setattr(context_cost, "_PROCESS", tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    assert working_bytes(passes, "cpu") == 2000 * 1024
    assert (tmp_path / "clear_refs").read_text() == "5", "resets the high-water mark"


def test_a_forward_pass_can_be_skipped_and_then_has_no_share() -> None:
    plan = CostPlan(SHAPE, ("fixed", "shared"), (16, 64), repeats=1, skip_forward_above=16)
    found = measure_costs(plan)
    costs = found.tables["costs"]
    assert set(costs[costs["phase"] == "forward"]["context"]) == {16}
    path = costs[(costs["phase"] == "increment_path") & (costs["context"] == 64)]
    assert path["ratio_to_fixed"].isna().all()
    assert any("no forward pass at 64 tokens" in warning for warning in found.warnings)


def test_long_passes_are_announced_run_once_and_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context_cost, "LONG", 16)
    monkeypatch.setattr(context_cost, "_BUDGET", 0.0)
    notes, told = [], []
    plan = CostPlan(SHAPE, ("fixed", "per_layer"), (16, 64), repeats=2)
    found = measure_costs(plan, on_progress=lambda *one: told.append(one), on_note=notes.append)
    (note,) = notes
    assert note.startswith("forward at 64 tokens: about a second a pass, 1 of each of 2 arms")
    assert ("forward pass, 64 tokens", 4, 4) in told
    costs = found.tables["costs"]
    long = costs[(costs["context"] == 64) & (costs["phase"] == "forward")]
    assert (long["n"] == 1).all() and long["ratio_q1"].isna().all()
    assert "train_step" not in set(costs[costs["context"] == 64]["phase"])
    assert any(warning.startswith("one forward pass an arm at 64 tokens") for warning in found.warnings)
    assert not any(block._forward_hooks for block in plan.model("fixed", "float32").blocks)


def test_arms_take_turns_and_each_begins_a_round() -> None:
    calls: list[str] = []
    computes = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = interleaved(computes, 2, "cpu")
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}
    runs = [name for k, name in enumerate(calls) if k == 0 or calls[k - 1] != name]
    assert "".join(runs) == "ababa"  # a b, a b to warm up; then a b and b a, where neighbours merge


def test_a_token_decoded_after_a_filled_cache_stands_at_its_context() -> None:
    model = CostPlan(SHAPE, ("fixed", "per_layer"), (16,)).model("per_layer", "float32").eval()
    cache = filled_cache(model, 16)
    decode = decoded_token(model, cache)
    seen: list[tuple[int, ...]] = []
    hook = ("blocks.0.attn.hook_pattern", lambda value, hook: seen.append(tuple(value.shape)))
    with model.hooks(fwd_hooks=[hook]):
        decode()
        decode()
    assert seen == [(1, 2, 1, 17)] * 2


@pytest.mark.parametrize("arm", ARMS)
def test_the_path_that_is_timed_gives_the_angles_of_the_model(arm: str) -> None:
    arms = ("fixed", arm) if arm != "fixed" else ("fixed",)
    model = CostPlan(SHAPE, arms, (16,)).model(arm, "float32").eval()
    tokens = torch.arange(16)[None]
    _, cache = model.run_with_cache(tokens)
    parts = path_parts(model, cache["resid_pre", 0])
    heads: Any = parts["heads"]()
    torch.testing.assert_close(heads[0], cache["increments", 0])
    assert len(heads) == model.cfg.n_layers
    if arm != "fixed":
        assert float(cache["increments", 0].std()) > 0.03


def test_angles_are_exact_to_the_rounding_of_float32_and_a_float32_sum_is_not(
    make_model: Callable[..., LRopeTransformer],
) -> None:
    cfg = make_model(d_head=16, n_heads=1).cfg
    rows = {row["method"]: row for row in angle_errors(cfg, 4096, seed=0, device="cpu")}
    assert 0 < rows["float64"]["max_error"] < 2.5e-7
    assert rows["float32"]["max_error"] > 1e-3
    assert 9 * 4096 < rows["float64"]["largest"] < 10 * 4096


def test_exact_turns_are_those_of_fractions(make_model: Callable[..., LRopeTransformer]) -> None:
    cfg = make_model(rope_base=16.0, d_head=8).cfg  # frequencies 1, 1/2, 1/4, 1/8
    increments = saturated_increments(cfg, 50, seed=1)
    whole = sum((Fraction(float(one)) for one in increments), Fraction(0))
    exact = exact_positions(increments)
    assert Fraction(int(exact[-1]), 2**26) == whole
    for plane in range(4):
        radians = math.fmod(float(whole) / 2**plane, 2 * math.pi)
        assert 2 * math.pi * exact_turns(exact, plane, cfg)[-1] == pytest.approx(radians, abs=1e-12)


def test_a_wrong_angle_would_be_found(
    make_model: Callable[..., LRopeTransformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = make_model().cfg
    off = lambda positions, inv_freq: angles_at(positions + 1e-5, inv_freq)  # noqa: E731
    monkeypatch.setattr("lrope_interp.probes.studies.context.tables.angles_at", off)
    rows = angle_errors(cfg, 64, seed=0, device="cpu")
    assert rows[0]["max_error"] == pytest.approx(1e-5, rel=0.05)


@pytest.mark.parametrize(
    ("text", "longest", "found"),
    [
        ("8192, 512", None, (512, 8192)),
        ("512,2048,8192", 100_000, (512, 2048, 8192, 32_768, 100_000)),
        ("512,2048,8192", 2048, (512, 2048)),
        ("512,2048,8192", 1000, (512, 1000)),
    ],
)
def test_contexts_grow_fourfold_up_to_the_longest(
    text: str, longest: int | None, found: tuple[int, ...]
) -> None:
    assert parse_contexts(text, longest) == found


@pytest.mark.parametrize(
    ("text", "longest", "said"),
    [
        ("512,x", None, "whole numbers with commas"),
        ("1,512", None, "2 to 1,048,576 tokens; got 1"),
        ("512", 2**21, "2 to 1,048,576 tokens; got 2097152"),
        ("512,1024", 100, "below the smallest of --contexts, 512"),
    ],
)
def test_contexts_that_cannot_be_are_refused(text: str, longest: int | None, said: str) -> None:
    with pytest.raises(LRopeError, match=said):
        parse_contexts(text, longest)


def test_arms_begin_with_fixed_and_unknown_ones_are_refused() -> None:
    assert parse_arms("per-layer,shared") == ("fixed", "per_layer", "shared")
    assert parse_arms("per_layer, fixed") == ("fixed", "per_layer")
    for text, said in (
        ("fixed,per-lair", "did you mean 'per-layer'"),
        ("shared,shared", "named twice"),
        ("fixed", "nothing to be compared with"),
    ):
        with pytest.raises(LRopeError, match=f"(?i){said}"):
            parse_arms(text)


def test_targets_are_judged_at_their_length_only() -> None:
    def verdicts(context: int, error: float, ratio: float) -> list[str]:
        costs = pd.DataFrame(
            [
                ("per_layer", context, "increment_path", ratio, 1.0),
                ("per_layer", context, "forward", 1.0, 1.05),
            ],
            columns=["arm", "context", "phase", "ratio_to_fixed", "peak_ratio"],
        )
        other = [(context // 4, "float64", 0.5 * error), (context, "float32 sum", 40.0)]
        angles = pd.DataFrame(
            [*other, (context, "float64", error)], columns=["context", "method", "max_error"]
        )
        plan = CostPlan(SHAPE, ("fixed", "per_layer"), (context,))
        return list(targets_table(plan, costs, angles)["verdict"])

    assert verdicts(131_072, 1e-6, 1.049) == ["met", "met", "met"]
    assert verdicts(131_072, 1.1e-6, 1.05) == ["not met", "met", "not met"]
    assert verdicts(131_072, 1e-7, math.nan) == ["none", "met", "met"]
    assert verdicts(8192, 1e-7, 1.0) == ["none"] * 3
