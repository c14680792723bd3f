"""Attach interventions to a model's increments, and make sure that they were reached.

A hook that never fires gives a change of exactly 0, which looks like a finding. `ablated` and
`run_with_hooks` raise then; elsewhere the list that `ablation_hooks` returns can be asked (`check_fired`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lrope_interp.errors import LRopeError, whole_numbers
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.models.hooks import never_fired
from lrope_interp.probes.ablations.interventions import (
    Intervention,
    check_intervention,
    on_heads,
)
from lrope_interp.probes.capture.capture import check_layers

Written: TypeAlias = Intervention | Mapping[int, Intervention]
"""One intervention for all chosen layers, or one for each layer."""


class Attached:
    """An intervention on one layer that counts how often it fired, and checks what it gives.

    Attributes:
        name: Of the hook point.
        intervention: What is written.
        n_fired: Forward passes that went through it.
    """

    def __init__(self, layer: int, intervention: Intervention) -> None:
        self.name = f"blocks.{layer}.hook_increments"
        self.intervention = intervention
        self.n_fired = 0

    def __call__(self, increments: Tensor, hook: HookPoint) -> Tensor:
        """Return what the intervention writes.

        Raises:
            LRopeError: It wrote nothing, another shape or dtype, or a number that is not finite.
        """
        self.n_fired += 1
        written: Any = self.intervention(increments, hook)
        if not isinstance(written, Tensor) or written.shape != increments.shape:
            got = list(written.shape) if isinstance(written, Tensor) else type(written).__name__
            raise LRopeError(
                f"an intervention at {self.name} must return increments of shape {list(increments.shape)}; "
                f"got {got}"
            )
        if written.dtype != increments.dtype or not bool(torch.isfinite(written).all()):
            raise LRopeError(
                f"an intervention at {self.name} must return finite {increments.dtype} numbers; got "
                f"{written.dtype}, {int((~torch.isfinite(written)).sum())} of them not finite"
            )
        return written


class FwdHooks(list[tuple[str, Attached]]):
    """What `run_with_hooks(fwd_hooks=...)` takes: (hook name, intervention) pairs."""

    def check_fired(self) -> None:
        """Raise if a hook was not reached since it was made.

        Raises:
            LRopeError: The first that was not, as after `stop_at_layer` below it.
        """
        for name, attached in self:
            if not attached.n_fired:
                raise never_fired(name)


def ablation_hooks(
    written: Written,
    *,
    layers: Iterable[int] | int | None = None,
    heads: Iterable[int] | int | None = None,
    model: LRopeTransformer | None = None,
) -> FwdHooks:
    """Return hooks that write over increments, for `model.run_with_hooks(..., fwd_hooks=...)`.

    Args:
        written: An intervention, or one for each layer.
        layers: Which layers; needed unless `written` names them or `model` is given (then: all).
        heads: Which heads, in a model with increments per head; None for all.
        model: Checks that the layers exist; otherwise running does.

    Raises:
        LRopeError: No layer, or one that the model does not have.
    """
    if model is not None and not isinstance(model, LRopeTransformer):
        raise LRopeError(f"an LRopeTransformer can be ablated; got {model!r:.60}")
    by_layer = written if isinstance(written, Mapping) else None
    for one in [written] if by_layer is None else by_layer.values():
        check_intervention(one)
    if layers is None and by_layer is not None:
        layers = tuple(by_layer)
    if layers is None and model is None:
        raise LRopeError("ablation_hooks wants layers=[...] or model=..., to know which layers there are")
    chosen = None if layers is None else sorted(set(whole_numbers(layers, "layers")))
    if chosen == []:
        raise LRopeError("no layer is named, so nothing would be ablated")
    if chosen and by_layer is not None and (missing := set(chosen) - set(by_layer)):
        raise LRopeError(f"no intervention is given for layer {min(missing)}")
    only = None if heads is None else whole_numbers(heads, "heads")
    found = FwdHooks()
    for layer in (chosen or ()) if model is None else check_layers(model, chosen):
        one: Any = written if by_layer is None else by_layer[layer]
        attached = Attached(layer, one if only is None else on_heads(only, one))
        found.append((attached.name, attached))
    return found


@contextmanager
def ablated(
    model: LRopeTransformer,
    written: Written,
    *,
    layers: Iterable[int] | int | None = None,
    heads: Iterable[int] | int | None = None,
) -> Iterator[FwdHooks]:
    """Ablate everything that runs in a `with` block: calls, caches, generation.

    Args:
        model: Any model; hooks of its own stay and run first.
        written: An intervention, or one for each layer.
        layers: Which layers; None for all.
        heads: Which heads, in a model with increments per head; None for all.

    Raises:
        LRopeError: At the end, where an intervention never fired, or `model.reset_hooks()` took it off.
    """
    hooks = ablation_hooks(written, layers=layers, heads=heads, model=model)
    with model.hooks(fwd_hooks=hooks):
        handles = [(name, model.hook_dict[name].fwd_hooks[-1]) for name, _ in hooks]
        yield hooks
        lost = [name for name, one in handles if all(one is not it for it in model.hook_dict[name].fwd_hooks)]
    hooks.check_fired()
    if lost:
        raise LRopeError(
            f"the intervention at {lost[0]} was taken off inside the block (by reset_hooks?), and what ran "
            "after that was not ablated; take hooks off before or after the block"
        )
