"""Costs made by hand, up to the length that the targets are for."""

from __future__ import annotations

import pandas as pd

from lrope_interp.probes.studies.context.plan import CostPlan
from lrope_interp.probes.studies.context.tables import costs_table, path_table, targets_table
from lrope_interp.results import Result, provenance

ARMS = {"fixed": 0.0, "shared": 0.01, "per_layer": 0.04}
CONTEXTS = (512, 8192, 131_072)


def cost_rounds(contexts: tuple[int, ...] = CONTEXTS, n: int = 5) -> pd.DataFrame:
    """Times that grow with the square of the context; round k is k per cent slower in every arm."""
    rows = []
    for context in contexts:
        seconds = context / 1e5 + context**2 / 1e9
        for arm, extra in ARMS.items():
            for k in range(1 if context > 8192 else n):
                slow, same = 1 + k / 100, {"arm": arm, "context": context, "round": k}
                wobble = 1 + extra * (1 + k / 10)
                rows.append({"phase": "forward", "part": "", **same, "seconds": seconds * slow * wobble})
                if context <= 8192:
                    rows.append({"phase": "train_step", "part": "", **same, "seconds": 3 * seconds * wobble})
                rows.append({"phase": "decode", "part": "", **same, "seconds": 0.01 * slow * wobble})
                for part, share in (("heads", extra), ("sum", 0.001), ("angles", 0.002), ("rotation", 0.01)):
                    rows.append(
                        {"phase": "increment_path", "part": part, **same, "seconds": context / 1e5 * share}
                    )
    return pd.DataFrame(rows)


def cost_memory(contexts: tuple[int, ...] = CONTEXTS) -> pd.DataFrame:
    rows = [
        (phase, arm, context, 20_000_000, int(context * 1000 * (1 + extra / 2)))
        for context in contexts
        for phase in ("forward", "train_step", "decode", "increment_path")
        if phase != "train_step" or context <= 8192
        for arm, extra in ARMS.items()
    ]
    return pd.DataFrame(rows, columns=["phase", "arm", "context", "standing", "working"])


def cost_result(contexts: tuple[int, ...] = CONTEXTS, angle_error: float = 2.4e-7) -> Result:
    angles = pd.DataFrame(
        [(c, "float64", angle_error, 4, c // 2, 9.9 * c) for c in contexts]
        + [(c, "float32", 1e-6 * c, 0, c - 1, 9.9 * c) for c in contexts],
        columns=["context", "method", "max_error", "plane", "position", "largest"],
    )
    flops = [
        (arm, context, part, int(context * size * (1 + extra * (part == "increment_heads"))))
        for context in contexts
        for arm, extra in ARMS.items()
        for part, size in (("linears", 1e6), ("attention", context * 10), ("increment_heads", 1e5 * extra),
                           ("rotation", 1e3))
    ]  # fmt: skip
    rounds, memory = cost_rounds(contexts), cost_memory(contexts)
    costs = costs_table(rounds, memory)
    arms = [(arm, 1_000_000 + int(1e6 * extra), int(1e6 * extra), extra) for arm, extra in ARMS.items()]
    plan = CostPlan({}, tuple(ARMS), contexts)
    measured = {"device": "cpu", "device_name": "a processor", "threads": 2, "cores": 2, "dtype": "float32",
                "repeats": 5}  # fmt: skip
    return Result(
        kind="bench",
        provenance=provenance(config={"n_layers": 6, "n_heads": 8, "d_model": 256}, data={}, seed=0)
        | {"measured": measured},
        headline={"largest_context": float(contexts[-1])},
        tables={
            "costs": costs,
            "path": path_table(rounds),
            "flops": pd.DataFrame(flops, columns=["arm", "context", "part", "flops"]),
            "arms": pd.DataFrame(arms, columns=["arm", "n_parameters", "extra", "extra_share"]),
            "angles": angles,
            "targets": targets_table(plan, costs, angles),
            "rounds": rounds,
            "memory": memory,
        },
        warnings=("one forward pass an arm at 131,072 tokens: its time has no spread to judge it by",),
        created="2026-11-22T01:57:00+00:00",
    )
