"""Which interventions a run makes, on which layers: arms, and the forward passes that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrope_interp.errors import LRopeError
from lrope_interp.probes.ablations.options import AblationOptions

UNTOUCHED = "untouched"
BEYOND_RANDOM = "beyond_random"
ONE, MEAN, LEXICAL, SCALE = "one", "mean", "lexical", "scale"
RESAMPLE, SHUFFLE, SHIFT = "resample", "shuffle", "shift"
LOCAL, LOCAL_COMPENSATED = "local", "local_compensated"
SINGLE, ALL, UP, DOWN, RESTORE = "single", "all", "up", "down", "restore"
FROZEN = {"1": ONE, "mean": MEAN, "lexical": LEXICAL}
SPLIT = (ONE, MEAN, LEXICAL)
FACTORS = (0.25, 0.5, 2**-0.5, 2**0.5, 2.0, 4.0)
DEFAULT_FACTOR = 2.0
RANDOM = "random:"
"""In front of a place: as many gaps as it has, drawn at random. The control of freezing there."""
_EVERYWHERE = (ONE, MEAN, LEXICAL, RESAMPLE, SHUFFLE, SHIFT)
_LOCAL = (LOCAL, LOCAL_COMPENSATED)


@dataclass(frozen=True)
class AblationArm:
    """One intervention at one set of layers.

    Attributes:
        intervention: Its name.
        design: "single", "all", "up" (layers 0..layer), "down" (layer..last), "restore" (all but layer).
        layers: Which layers are written to, rising.
        layer: The layer that the design turns on; None where it is all of them.
        head: The only head written to; None for all.
        parameter: The factor of "scale", else NaN.
        where: At which gaps only; "" everywhere.
    """

    intervention: str
    design: str
    layers: tuple[int, ...]
    layer: int | None = None
    head: int | None = None
    parameter: float = math.nan
    where: str = ""

    @property
    def restored(self) -> int | None:
        """The layer that keeps the increments of the untouched model, whatever reaches it."""
        return self.layer if self.design == RESTORE else None

    @property
    def reads_attention(self) -> bool:
        """Whether attention is looked at: for the terms of the split, on all layers."""
        return self.design == ALL and self.intervention in SPLIT and not self.where and self.head is None

    def words(self) -> str:
        """Name the layers as tables do."""
        if self.design in (SINGLE, ALL):
            return str(self.layer) if self.design == SINGLE else "all"
        if self.design == RESTORE:
            return f"all but {self.layer}"
        first, last = min(self.layers), max(self.layers)
        return f"{first}-{last}" if first < last else str(first)

    def what(self) -> tuple[Any, ...]:
        """What is written: arms that are equal in this share a forward pass."""
        return (
            self.intervention,
            self.layers,
            self.restored,
            self.head,
            None if math.isnan(self.parameter) else self.parameter,
            self.where,
        )

    def row(self) -> dict[str, Any]:
        """Return the columns that say which arm a row of a table belongs to."""
        return {
            "intervention": self.intervention,
            "parameter": self.parameter,
            "design": self.design,
            "layers": self.words(),
            "layer": self.layer,
            "head": self.head,
            "where": self.where,
        }


def plan(
    options: AblationOptions, n_layers: int, n_heads: int, local: str | None, places: Sequence[str]
) -> list[AblationArm]:
    """Return the arms of a run, in the order in which they are reported.

    Args:
        options: What was asked for.
        n_layers: Of the model.
        n_heads: Increments a token: the heads, or 1 where they share.
        local: At which gaps local edits are made; None leaves them out.
        places: At which gaps alone the full suite freezes to the mean.

    Raises:
        LRopeError: Single heads are asked for and all heads share their increments, or layers together
            that are neither one nor all.
    """
    if options.heads and n_heads == 1:
        raise LRopeError(
            "the heads of this model share their increments, so none can be ablated alone; train with "
            "--per-head for that"
        )
    every = tuple(range(n_layers))
    if options.freeze is not None:
        return _asked(options, every, n_heads)
    arms = [arm for name in _EVERYWHERE for arm in _each_and_all(every, name)]
    arms += _each_and_all(every, SCALE, parameter=DEFAULT_FACTOR)
    arms += [arm for name in _LOCAL if local for arm in _each_and_all(every, name, where=local)]
    arms += _by_head(MEAN, every, n_heads) if options.heads else []
    return arms + (_full(every, places) if options.suite == "full" else [])


def passes(arms: Sequence[AblationArm]) -> list[AblationArm]:
    """Return one arm for each forward pass; of equal ones one that reads attention, if any does."""
    found: dict[tuple[Any, ...], AblationArm] = {}
    for arm in arms:
        if arm.what() not in found or arm.reads_attention:
            found[arm.what()] = arm
    return list(found.values())


def _asked(options: AblationOptions, every: tuple[int, ...], n_heads: int) -> list[AblationArm]:
    """Return the arms of one intervention."""
    name = FROZEN[str(options.freeze)]
    layers = every if options.layers is None else tuple(sorted(set(options.layers)))
    if options.heads:
        return _by_head(name, layers, n_heads, options.where)
    if not options.is_each and layers == every:
        return [AblationArm(name, ALL, layers, where=options.where)]
    if not options.is_each and len(layers) > 1:
        raise LRopeError(
            f"layers {', '.join(map(str, layers))} together are neither one layer nor all {len(every)}: "
            "ask for each alone, or use ablated(model, ..., layers=[...]) in Python"
        )
    return [AblationArm(name, SINGLE, (layer,), layer, where=options.where) for layer in layers]


def _full(every: tuple[int, ...], places: Sequence[str]) -> list[AblationArm]:
    """Return what the full suite has beyond the default one."""
    factors = [factor for factor in FACTORS if factor != DEFAULT_FACTOR]
    arms = [arm for factor in factors for arm in _each_and_all(every, SCALE, parameter=factor)]
    for name in (ONE, MEAN):
        arms += [AblationArm(name, UP, every[: layer + 1], layer) for layer in every]
        arms += [AblationArm(name, DOWN, every[layer:], layer) for layer in every]
        others = [(layer, every[:layer] + every[layer + 1 :]) for layer in every]
        arms += [AblationArm(name, RESTORE, layers, layer) for layer, layers in others if layers]
    arms += [arm for place in places for arm in _each_and_all(every, MEAN, where=place)]
    return arms + [AblationArm(MEAN, ALL, every, where=f"{RANDOM}{place}") for place in places]


def _each_and_all(every: tuple[int, ...], name: str, **how: Any) -> list[AblationArm]:
    single = [AblationArm(name, SINGLE, (layer,), layer, **how) for layer in every]
    return [*single, AblationArm(name, ALL, every, **how)]


def _by_head(name: str, layers: Sequence[int], n_heads: int, where: str = "") -> list[AblationArm]:
    """Return an arm for every head of every layer."""
    cells = [(layer, head) for layer in layers for head in range(n_heads)]
    return [AblationArm(name, SINGLE, (layer,), layer, head, where=where) for layer, head in cells]
