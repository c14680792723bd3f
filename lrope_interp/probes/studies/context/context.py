"""What learned increments cost as context grows: parameters, operations, time and memory, and angles."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.studies.context.angles import angle_errors
from lrope_interp.probes.studies.context.facts import headline, machine_provenance, warnings
from lrope_interp.probes.studies.context.flops import forward_flops
from lrope_interp.probes.studies.context.memory import working_bytes
from lrope_interp.probes.studies.context.phases import (
    PATH_PARTS,
    decoded_token,
    filled_cache,
    forward_pass,
    path_parts,
    training_step,
)
from lrope_interp.probes.studies.context.plan import LONG, REFERENCE, CostPlan
from lrope_interp.probes.studies.context.tables import (
    arms_table,
    costs_table,
    flops_table,
    path_table,
    targets_table,
)
from lrope_interp.probes.studies.context.timing import interleaved, seconds_of
from lrope_interp.results import Result

OnProgress = Callable[[str, int, int], None]
PHASES = ("forward", "train_step", "decode", "increment_path")
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
        A result of kind "bench" with the tables `costs`, `path`, `flops`, `arms`, `angles`, `targets`,
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
        kind="bench",
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


_MEMORY = ("phase", "arm", "context", "standing", "working")


@dataclass
class _Bench:
    """The models, and every figure so far."""

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
        plan = self.plan
        if plan.has_forward(context):
            self._forward(context) if context <= LONG else self._long_forward(context)
        if context <= LONG:
            self._train(context)
        self._decode(context)
        self._path(context)
        self.on_progress(f"angles, {context:,} tokens", 0, 1)
        self.angles += angle_errors(self.models[REFERENCE].cfg, context, seed=plan.seed, device=plan.device)
        self.on_progress(f"angles, {context:,} tokens", 1, 1)

    def _forward(self, context: int) -> None:
        tokens = self._tokens(context)
        computes = {arm: forward_pass(model, tokens) for arm, model in self.models.items()}
        self._repeat("forward", context, computes, {arm: _bytes(model) for arm, model in self.models.items()})

    def _train(self, context: int) -> None:
        models = {arm: self.plan.model(arm, "float32") for arm in self.plan.arms}
        tokens = self._tokens(context + 1)
        computes = {arm: training_step(model, tokens, self.plan.dtype) for arm, model in models.items()}
        standing = {arm: 3 * _bytes(model) for arm, model in models.items()}  # weights and two moments
        self._repeat("train_step", context, computes, standing)

    def _decode(self, context: int) -> None:
        cache = filled_cache(self.models[REFERENCE], context)
        cached = sum(_size(entry.past_keys) + _size(entry.past_values) for entry in cache.entries)
        computes = {arm: decoded_token(model, cache) for arm, model in self.models.items()}
        standing = {arm: _bytes(model) + cached for arm, model in self.models.items()}
        self._repeat("decode", context, computes, standing)

    def _path(self, context: int) -> None:
        """Time each part of the path alone, over all layers."""
        generator = torch.Generator().manual_seed(self.plan.seed)
        drawn = torch.randn(1, context, self.models[REFERENCE].cfg.d_model, generator=generator)
        resid = drawn.to(self.plan.device, getattr(torch, self.plan.dtype))
        parts = {arm: path_parts(model, resid) for arm, model in self.models.items()}
        tick = self._ticks("increment_path", context, len(PATH_PARTS) * (self.plan.repeats + 1) + 1)
        for part in PATH_PARTS:
            computes = {arm: own[part] for arm, own in parts.items()}
            self._keep(
                "increment_path",
                context,
                interleaved(computes, self.plan.repeats, self.plan.device, tick),
                part,
            )
        whole = {arm: partial(_run_all, own) for arm, own in parts.items()}
        self._weigh("increment_path", context, whole, dict.fromkeys(whole, 0), 1)
        tick()

    def _repeat(
        self,
        phase: str,
        context: int,
        computes: Mapping[str, Callable[[], object]],
        standing: Mapping[str, int],
    ) -> None:
        """Time a phase in alternation, then measure its memory."""
        tick = self._ticks(phase, context, self.plan.repeats + 2)
        seconds = interleaved(computes, self.plan.repeats, self.plan.device, tick)
        self._keep(phase, context, seconds)
        self._weigh(phase, context, computes, standing, min(_MEMORY_ROUNDS, self.plan.repeats))
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

    def _weigh(
        self,
        phase: str,
        context: int,
        computes: Mapping[str, Callable[[], object]],
        standing: Mapping[str, int],
        n_rounds: int,
    ) -> None:
        gc.collect()  # what is collected later would hide a part of the peak
        for _ in range(n_rounds):
            for arm, compute in computes.items():
                used = working_bytes(compute, self.plan.device)
                self._remember(phase, context, arm, standing[arm], used)

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


def _run_all(parts: Mapping[str, Callable[[], object]]) -> None:
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
