"""The numbers behind the page of context costs, each from the saved result alone."""

from __future__ import annotations

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

REFERENCE = "fixed"
PHASES = {
    "forward": "forward pass",
    "increment_path": "increment path",
    "train_step": "training step",
    "decode": "decoding a token",
}


def arm_word(arm: str) -> str:
    """Return an arm in words: "per layer"."""
    return arm.replace("_", " ")


def learned_arms(result: Result) -> list[str]:
    """Return the arms beside fixed RoPE, in the order of the result."""
    return [arm for arm in result.tables["arms"]["arm"] if arm != REFERENCE]


def main_arm(result: Result) -> str:
    """Return the arm that the first sentences are about: per layer, or else the last."""
    arms = learned_arms(result)
    return "per_layer" if "per_layer" in arms else arms[-1]


def contexts_of(result: Result) -> list[int]:
    """Return every context that was measured, ascending."""
    return sorted(int(context) for context in set(result.tables["costs"]["context"]))


def phase_frame(result: Result, phase: str) -> Frame:
    """Return the rows of `costs` of one phase, fixed RoPE left out, by arm and context."""
    costs: Frame = result.tables["costs"]
    own = costs[(costs["phase"] == phase) & (costs["arm"] != REFERENCE)]
    return own.sort_values("context", kind="stable").reset_index(drop=True)


def flops_frame(result: Result) -> Frame:
    """Return operations with a column a part, their total, and the total over that of fixed RoPE."""
    flops: Frame = result.tables["flops"]
    wide = flops.pivot(index=["context", "arm"], columns="part", values="flops")
    wide = wide[list(dict.fromkeys(flops["part"]))]
    wide["total"] = wide.sum(axis=1)
    fixed = wide["total"].xs(REFERENCE, level="arm")
    wide["ratio"] = wide["total"] / fixed.reindex(wide.index.get_level_values("context")).to_numpy()
    order = {arm: k for k, arm in enumerate(dict.fromkeys(flops["arm"]))}
    found = wide.reset_index()
    return found.sort_values(
        ["context", "arm"], key=lambda column: column.map(order) if column.name == "arm" else column
    ).reset_index(drop=True)
