"""Which interventions a run makes, on which layers: arms, and the forward passes that they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from lrope_interp.probes.capture.suites import DEFAULT, is_full

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
_ELSEWHERE = (RESAMPLE, SHUFFLE, SHIFT)
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
    def is_fitted(self) -> bool:
        """Whether what is written was fitted on other text."""
        return self.intervention in (MEAN, LEXICAL, RESAMPLE, *_LOCAL)

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
        return vars(self) | {"layers": self.words()}


def plan(
    n_layers: int,
    layers: Sequence[int] = (),
    *,
    freeze: str | None = None,
    is_each: bool = False,
    where: str = "",
    suite: str = DEFAULT,
    heads: int = 0,
    local: str | None = None,
    places: Sequence[str] = (),
) -> list[AblationArm]:
    """Return the arms of a run, in the order in which they are reported; for most see `ablate`.

    Args:
        n_layers: Of the model.
        layers: Which of them are frozen, with `freeze`.
        freeze: One of `FROZEN`; None plans a suite.
        is_each: With `freeze`, whether each layer is frozen alone, also where all are named.
        where: With `freeze`, at which gaps only.
        suite: "default" or "full".
        heads: How many heads are frozen one by one; 0 where none is.
        local: At which gaps the full suite makes local edits; None leaves them out.
        places: At which gaps alone the full suite freezes to the mean.
    """
    every = tuple(range(n_layers))

    def singly(name: str, layers: Sequence[int], **how: Any) -> list[AblationArm]:
        return [AblationArm(name, SINGLE, (layer,), layer, **how) for layer in layers]

    def by_head(name: str, layers: Sequence[int], **how: Any) -> list[AblationArm]:
        cells = product(layers, range(heads))
        return [AblationArm(name, SINGLE, (layer,), layer, head, **how) for layer, head in cells]

    def each_and_all(name: str, **how: Any) -> list[AblationArm]:
        return [*singly(name, every, **how), AblationArm(name, ALL, every, **how)]

    if freeze is not None:
        name = FROZEN[freeze]
        if heads:
            return by_head(name, layers, where=where)
        if not is_each and tuple(layers) == every:
            return [AblationArm(name, ALL, every, where=where)]
        return singly(name, layers, where=where)
    arms = [arm for name in SPLIT for arm in each_and_all(name)] + by_head(MEAN, every)
    if not is_full(suite):
        return arms
    arms += [arm for name in _ELSEWHERE for arm in each_and_all(name)]
    arms += each_and_all(SCALE, parameter=DEFAULT_FACTOR)
    arms += [arm for name in _LOCAL if local for arm in each_and_all(name, where=local)]
    factors = [factor for factor in FACTORS if factor != DEFAULT_FACTOR]
    arms += [arm for factor in factors for arm in each_and_all(SCALE, parameter=factor)]
    for name in (ONE, MEAN):
        arms += [AblationArm(name, UP, every[: layer + 1], layer) for layer in every]
        arms += [AblationArm(name, DOWN, every[layer:], layer) for layer in every]
        others = [(layer, every[:layer] + every[layer + 1 :]) for layer in every]
        arms += [AblationArm(name, RESTORE, layers, layer) for layer, layers in others if layers]
    arms += [arm for place in places for arm in each_and_all(MEAN, where=place)]
    return arms + [AblationArm(MEAN, ALL, every, where=f"{RANDOM}{place}") for place in places]


def passes(arms: Sequence[AblationArm]) -> list[AblationArm]:
    """Return one arm for each forward pass; of equal ones one that reads attention, if any does."""
    found: dict[tuple[Any, ...], AblationArm] = {}
    for arm in arms:
        if arm.what() not in found or arm.reads_attention:
            found[arm.what()] = arm
    return list(found.values())
