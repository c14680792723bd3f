"""The arms of a paired experiment: what may differ between its runs, and how many weights that adds.

Runs of one seed read the same batches and start from the same weights wherever they have weights in
common: a batch is a function of (seed, step), an initial weight of (seed, parameter name).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.training.config import TrainConfig

DEFAULT_ARMS = ("fixed", "fixed_wide", "shared", "per_layer")
REFERENCE = "fixed"
WIDENED_TO = "per_layer"
"""The arm whose number of parameters `fixed_wide` comes nearest to."""


@dataclass(frozen=True)
class Arm:
    """What an arm changes in a config."""

    increments: str
    per_head: bool = False
    is_widened: bool = False


ARMS: Mapping[str, Arm] = {
    "fixed": Arm("fixed"),
    "fixed_wide": Arm("fixed", is_widened=True),
    "shared": Arm("shared"),
    "per_layer": Arm("per_layer"),
    "shared_per_head": Arm("shared", per_head=True),
    "per_layer_per_head": Arm("per_layer", per_head=True),
}


def parse_arms(text: str) -> tuple[str, ...]:
    """Return the arms of a list like ``fixed,per-layer``; "per-layer" and "per_layer" are the same.

    Raises:
        LRopeError: An arm is unknown or named twice.
    """
    names = [word.strip().replace("-", "_") for word in text.split(",")]
    for name in names:
        check_arm(name)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LRopeError(f"the arm {spoken(twice[0])} is named twice in {text!r}: name each arm once")
    return tuple(names)


def check_arm(name: str) -> str:
    """Return the name of an arm as folders have it, or refuse it."""
    name = name.replace("-", "_")
    if name not in ARMS:
        raise unknown("arm", spoken(name), map(spoken, ARMS))
    return name


def check_reference(reference: str, arms: Sequence[str]) -> str:
    """Return the reference, which must be one of at least two arms."""
    reference = check_arm(reference)
    if reference not in arms:
        raise LRopeError(
            f"the reference {spoken(reference)} is not among the arms {', '.join(map(spoken, arms))}: add it "
            "to --arms, or name one of them by --reference"
        )
    if len(arms) < 2:
        raise LRopeError(f"{spoken(reference)} alone has nothing to be compared with: name two arms or more")
    return reference


def spoken(name: str) -> str:
    """Return an arm's name as the command line spells it."""
    return name.replace("_", "-")


def arm_config(arm: str, base: TrainConfig, seed: int) -> TrainConfig:
    """Return `base` as `arm` trains it with `seed`."""
    known = ARMS[check_arm(arm)]
    return replace(
        base,
        increments=known.increments,
        per_head=known.per_head,
        widened=extra_units(base) if known.is_widened else 0,
        seed=seed,
    )


def extra_units(base: TrainConfig) -> int:
    """Return the MLP units a layer whose weights come nearest to those of the per-layer heads.

    Raises:
        LRopeError: The heads weigh less than half a unit a layer, so that nothing would be added.
    """
    from lrope_interp.training.widening import units_for

    heads = n_head_parameters(base, ARMS[WIDENED_TO])
    units = units_for(heads, base.n_layers, base.d_model)
    if not units:
        raise LRopeError(
            f"the per-layer heads of this shape have {heads} parameters, less than one MLP unit a layer, so "
            "fixed-wide would be fixed: leave it out of --arms"
        )
    return units


def n_extra_parameters(arm: str, base: TrainConfig) -> int:
    """Return how many parameters `arm` has beyond those of fixed RoPE."""
    known = ARMS[check_arm(arm)]
    if known.is_widened:
        return 3 * base.d_model * base.n_layers * extra_units(base)
    return n_head_parameters(base, known)


def n_head_parameters(base: TrainConfig, arm: Arm) -> int:
    """Return the parameters of an arm's increment heads, counted on a model of that shape."""
    shape = (base.n_layers, base.d_model, base.n_heads, base.d_head)
    return _n_head_parameters(shape, arm)


@cache
def _n_head_parameters(shape: tuple[int, int, int, int], arm: Arm) -> int:
    from lrope_interp.models import LRopeConfig, LRopeTransformer

    n_layers, d_model, n_heads, d_head = shape
    rest: dict[str, Any] = {"d_mlp": 1, "d_vocab": 2, "n_ctx": 2, "seed": 0, "device": "cpu"}
    model = LRopeTransformer(
        LRopeConfig(
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            d_head=d_head,
            increments=arm.increments,
            per_head=arm.per_head,
            **rest,
        )
    )
    return sum(weight.numel() for name, weight in model.named_parameters() if "increments." in name)
