"""What learned increments cost as context grows: parameters, operations, time and memory, and angles."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.studies.context.plan import (
    LONG,
    PATH_PARTS,
    REFERENCE,
    Compute,
    CostPlan,
    decoded_token,
    filled_cache,
    forward_pass,
    path_parts,
    training_step,
)
from lrope_interp.probes.studies.context.tables import (
    angle_errors,
    arms_table,
    costs_table,
    flops_table,
    forward_flops,
    headline,
    machine_provenance,
    path_table,
    targets_table,
    warnings,
)
from lrope_interp.results import Result

OnProgress = Callable[[str, int, int], None]
_NAMES = {
    "forward": "forward pass",
    "train_step": "training step",
    "decode": "decoding a token",
    "increment_path": "increment path",
}
_MEMORY_ROUNDS = 3
_BUDGET = 60.0
"""Seconds: beyond `LONG` tokens an arm's forward passes are repeated as far as this lasts."""
_CALIBRATION = 1024
_MOST_CALLS = 1000
SHORTEST_ROUND = 0.05
"""Seconds: what is faster is repeated within a round, and the time divided."""
_MEMORY = ("phase", "arm", "context", "standing", "working")
_PROCESS = Path("/proc/self")


def _ignore(*_told: object) -> None:
    """Listen to nothing."""


def measure_costs(
    plan: CostPlan,
    *,
    on_progress: OnProgress = _ignore,
    on_note: Callable[[str], None] = _ignore,
) -> Result:
    """Measure every arm at every context, in alternation, against fixed RoPE.

    Weights are untrained: no cost depends on their values, and increments are made to differ from 1.

    Args:
        plan: What to measure.
        on_progress: Told the stage, what is done of it and all of it.
        on_note: Told how long the long forward passes will take, before they start.

    Returns:
        A result of kind "context" with the tables `costs`, `path`, `flops`, `arms`, `angles`, `targets`,
        and `rounds` and `memory`, from which the first two can be recomputed.
    """
    bench = _Bench(plan, on_progress, on_note)
    for context in plan.contexts:
        bench.measure(context)
    rounds, memory = pd.DataFrame(bench.rounds), pd.DataFrame(bench.memory, columns=list(_MEMORY))
    angles = pd.DataFrame(bench.angles)
    costs = costs_table(rounds, memory)
    targets = targets_table(plan, costs, angles)
    return Result(
        kind="context",
        provenance=machine_provenance(plan, bench.models[REFERENCE]),
        headline=headline(plan, targets),
        tables={
            "costs": costs,
            "path": path_table(rounds),
            "flops": flops_table(bench.models, plan.contexts),
            "arms": arms_table(bench.models),
            "angles": angles,
            "targets": targets,
            "rounds": rounds,
            "memory": memory,
        },
        warnings=tuple(warnings(plan, rounds, memory)),
    )


@dataclass
class _Bench:
    """The models, and every figure so far. What a phase holds is freed with its method, before the next."""

    plan: CostPlan
    on_progress: OnProgress
    on_note: Callable[[str], None]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    memory: list[dict[str, Any]] = field(default_factory=list)
    angles: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, LRopeTransformer] = field(init=False)

    def __post_init__(self) -> None:
        self.models = {arm: self.plan.model(arm, self.plan.dtype).eval() for arm in self.plan.arms}

    def measure(self, context: int) -> None:
        """Measure all phases at one context."""
        plan, is_long = self.plan, context > LONG
        if plan.has_forward(context) and is_long:
            self._long_forward(context)
        for phase in _NAMES:
            if phase == "train_step" and is_long:
                continue
            if phase != "forward" or (plan.has_forward(context) and not is_long):
                self._repeat(phase, context, *self._prepared(phase, context))
        self.on_progress(f"angles, {context:,} tokens", 0, 1)
        self.angles += angle_errors(self.models[REFERENCE].cfg, context, seed=plan.seed, device=plan.device)
        self.on_progress(f"angles, {context:,} tokens", 1, 1)

    def _prepared(
        self, phase: str, context: int
    ) -> tuple[Mapping[str, Mapping[str, Compute]], Mapping[str, Compute], Mapping[str, int]]:
        """Return what is timed, by part and arm; what is weighed, by arm; and what stands beside that."""
        plan, reference = self.plan, self.models[REFERENCE]
        standing = {arm: _bytes(model) for arm, model in self.models.items()}
        if phase == "forward":
            tokens = self._tokens(context)
            computes = {arm: forward_pass(model, tokens) for arm, model in self.models.items()}
        elif phase == "train_step":
            models = {arm: plan.model(arm, "float32") for arm in plan.arms}
            tokens = self._tokens(context + 1)
            computes = {arm: training_step(model, tokens, plan.dtype) for arm, model in models.items()}
            standing = {arm: 3 * _bytes(model) for arm, model in models.items()}  # weights and two moments
        elif phase == "decode":
            cache = filled_cache(reference, context)
            cached = sum(_size(entry.past_keys) + _size(entry.past_values) for entry in cache.entries)
            computes = {arm: decoded_token(model, cache) for arm, model in self.models.items()}
            standing = {arm: own + cached for arm, own in standing.items()}
        else:  # the increment path: each of its parts alone, over all layers
            generator = torch.Generator().manual_seed(plan.seed)
            drawn = torch.randn(1, context, reference.cfg.d_model, generator=generator)
            resid = drawn.to(plan.device, getattr(torch, plan.dtype))
            by_arm = {arm: path_parts(model, resid) for arm, model in self.models.items()}
            parts = {part: {arm: own[part] for arm, own in by_arm.items()} for part in PATH_PARTS}
            whole = {arm: partial(_run_all, own) for arm, own in by_arm.items()}
            return parts, whole, dict.fromkeys(whole, 0)
        return {"": computes}, computes, standing

    def _repeat(
        self,
        phase: str,
        context: int,
        parts: Mapping[str, Mapping[str, Compute]],
        whole: Mapping[str, Compute],
        standing: Mapping[str, int],
    ) -> None:
        """Time each part of a phase in alternation, then measure the memory of the whole."""
        plan = self.plan
        tick = self._ticks(phase, context, len(parts) * (plan.repeats + 1) + 1)
        for part, computes in parts.items():
            self._keep(phase, context, interleaved(computes, plan.repeats, plan.device, tick), part)
        gc.collect()  # what is collected later would hide a part of the peak
        for _ in range(1 if len(parts) > 1 else min(_MEMORY_ROUNDS, plan.repeats)):
            for arm, compute in whole.items():
                used = working_bytes(compute, plan.device)
                self._remember(phase, context, arm, standing[arm], used)
        tick()

    def _long_forward(self, context: int) -> None:
        """Run as many passes of each arm as the budget allows, at least one, for time and memory at once."""
        arms, tokens = list(self.models), self._tokens(context)
        expected = self._expected(context)
        n_rounds = max(1, min(self.plan.repeats, int(_BUDGET / expected)))
        self.on_note(
            f"forward at {context:,} tokens: about {_duration(expected)} a pass, {n_rounds} of each of "
            f"{len(arms)} arms, so about {_duration(expected * len(arms) * n_rounds)}"
        )
        layers = self.models[REFERENCE].cfg.n_layers
        tick = self._ticks("forward", context, n_rounds * len(arms) * layers)
        seconds: dict[str, list[float]] = {arm: [] for arm in arms}
        for arm in arms if n_rounds > 1 else []:
            forward_pass(self.models[arm], tokens)()  # warm up
        for k in range(n_rounds):
            for arm in arms[k % len(arms) :] + arms[: k % len(arms)]:
                compute, found = forward_pass(self.models[arm], tokens), seconds[arm]
                with _watched_layers(self.models[arm], tick):
                    used = working_bytes(
                        lambda once=compute, into=found: into.append(seconds_of(once, self.plan.device)),
                        self.plan.device,
                    )
                self._remember("forward", context, arm, _bytes(self.models[arm]), used)
        self._keep("forward", context, seconds)

    def _expected(self, context: int) -> float:
        """Extrapolate the seconds of a forward pass by its operations, from the longest one measured."""
        model = self.models[REFERENCE]
        known = [one for one in self.rounds if one["phase"] == "forward" and one["arm"] == REFERENCE]
        if known:
            length = max(one["context"] for one in known)
            seconds = min(one["seconds"] for one in known if one["context"] == length)
        else:
            length = min(_CALIBRATION, context)
            compute = forward_pass(model, self._tokens(length))
            compute()
            seconds = seconds_of(compute, self.plan.device)
        done, wanted = (sum(forward_flops(model.cfg, n).values()) for n in (length, context))
        return max(seconds * wanted / done, 1e-6)

    def _remember(self, phase: str, context: int, arm: str, standing: int, used: int | None) -> None:
        if used is not None:
            self.memory.append(dict(zip(_MEMORY, (phase, arm, context, standing, used), strict=True)))

    def _keep(self, phase: str, context: int, seconds: Mapping[str, list[float]], part: str = "") -> None:
        for arm, found in seconds.items():
            same = {"phase": phase, "part": part, "arm": arm, "context": context}
            self.rounds += [same | {"round": k, "seconds": value} for k, value in enumerate(found)]

    def _ticks(self, phase: str, context: int, total: int) -> Callable[[], None]:
        """Return what to call whenever another part of a stage is done."""
        stage, done = f"{_NAMES[phase]}, {context:,} tokens", 0
        self.on_progress(stage, 0, total)

        def tick() -> None:
            nonlocal done
            done += 1
            self.on_progress(stage, min(done, total), total)

        return tick

    def _tokens(self, n: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.plan.seed)
        vocabulary = self.models[REFERENCE].cfg.d_vocab
        return torch.randint(vocabulary, (1, n), generator=generator).to(self.plan.device)


@contextmanager
def _watched_layers(model: LRopeTransformer, tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` after each layer: a long pass shows how far it is."""
    handles = [block.register_forward_hook(lambda *_: tick()) for block in model.blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run_all(parts: Mapping[str, Compute]) -> None:
    for compute in parts.values():
        compute()


def _bytes(model: LRopeTransformer) -> int:
    return sum(map(_size, model.parameters()))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "a second"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def seconds_of(compute: Compute, device: str, calls: int = 1) -> float:
    """Return the seconds that one of `calls` calls takes; an accelerator is waited for."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        compute()
    _wait(device)
    return (time.perf_counter() - start) / calls


def interleaved(
    computes: Mapping[str, Compute],
    rounds: int,
    device: str,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[float]]:
    """Time every arm in each of `rounds` rounds, beginning with another arm each time.

    They alternate, so that a slow minute of the machine meets them all.
    A call of each warms up, and where it was short another, which says how many calls make a round long
    enough to be timed.

    Args:
        computes: What is timed, by arm.
        rounds: Times that each is measured.
        device: Where it runs.
        on_round: Called after each round, and after the warm-up.

    Returns:
        By arm, the seconds of a call in each round.
    """
    calls = _calls(computes, device)
    on_round()
    names = list(computes)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        first = k % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(seconds_of(computes[name], device, calls))
        on_round()
    return seconds


def _calls(computes: Mapping[str, Compute], device: str) -> int:
    """Warm up, and return how many calls fill a round."""
    warm = 0.0
    for _ in range(2):
        warm = statistics.median([seconds_of(compute, device) for compute in computes.values()])
        if warm > SHORTEST_ROUND:
            return 1
    return max(1, min(_MOST_CALLS, math.ceil(SHORTEST_ROUND / max(warm, 1e-9))))


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def working_bytes(compute: Compute, device: str) -> int | None:
    """Run `compute` once and return the peak of memory during it minus the memory before it.

    On CUDA this is what torch's allocator handed out. On a CPU it is resident memory: freed memory is
    given back first, the kernel's high-water mark is reset, and read again afterwards. Allocator and
    threads blur it by some per cent.

    Args:
        compute: What is run; its result is dropped.
        device: "cpu", "cuda" or "mps".

    Returns:
        Bytes; None where the system does not tell (not Linux, MPS). `compute` has run all the same.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        allocated = torch.cuda.memory_allocated()
        compute()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - allocated
    before = _resident_after_reset() if device == "cpu" else None
    compute()
    after = _field("VmHWM")
    return None if before is None or after is None else max(0, after - before)


def _resident_after_reset() -> int | None:
    """Give freed memory back, set the high-water mark to the present, and return the present."""
    if not sys.platform.startswith("linux"):
        return None
    with suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return None
    return _field("VmRSS")


def _field(name: str) -> int | None:
    """Return a size out of the process's status, in bytes."""
    try:
        lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None
