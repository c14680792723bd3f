"""What a result of `bench` says beside its tables: headline, warnings, and where it was measured."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.studies.context.plan import CostPlan
from lrope_interp.results import provenance


def headline(plan: CostPlan, targets: Any) -> dict[str, float | None]:
    """Return the largest context, and the worst arm's figure for each target there."""
    worst = targets.groupby("target")["value"].max()
    names = {"time": "time_share", "memory": "memory_share", "angle": "angle_error"}
    found = {name: float(worst[target]) for target, name in names.items()}
    return {"largest_context": float(plan.contexts[-1]), **found}


def warnings(plan: CostPlan, rounds: Any, memory: Any) -> Iterator[str]:
    """Yield what a reader must know before believing the figures."""
    if memory.empty:
        yield "peak memory was not measured: this system does not tell (it takes Linux, or CUDA)"
    skipped = [f"{context:,}" for context in plan.contexts if not plan.has_forward(context)]
    if skipped:
        yield f"no forward pass at {', '.join(skipped)} tokens, so that no share of one is known there"
    forward = rounds[rounds["phase"] == "forward"]
    counts = forward.groupby("context")["round"].nunique()
    once = [f"{context:,}" for context, n in counts.items() if n == 1]
    if once:
        yield f"one forward pass an arm at {', '.join(once)} tokens: its time has no spread to judge it by"


def machine_provenance(plan: CostPlan, model: LRopeTransformer) -> dict[str, Any]:
    """Return the result's provenance, with what was measured and on what."""
    differing = ("increments", "per_head")
    config = {name: value for name, value in model.cfg.to_dict().items() if name not in differing}
    measured = {
        "arms": list(plan.arms),
        "contexts": list(plan.contexts),
        "repeats": plan.repeats,
        "batch_size": 1,
        "dtype": plan.dtype,
        "device": plan.device,
        "device_name": _device_name(plan.device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
    return provenance(config=config, data={}, seed=plan.seed) | {"measured": measured}


def _device_name(device: str) -> str:
    """Return what the processor or accelerator calls itself; "" where it does not say."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor()
