"""Gap signals: functions from what was captured to one number a gap.

A signal says nothing about boundaries by itself; the harness in `scoring` treats all of them
alike. To add one:

    @register("surprise_drop")
    def surprise_drop(captured):
        return captured.surprisal - captured.entropy
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float32, Num, Shaped

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.probes.capture.captured import Captured

SignalFunction: TypeAlias = Callable[[Captured], Shaped[np.ndarray, "..."]]
Kind: TypeAlias = Literal["layer", "control", "ceiling", "combination"]


@dataclass(frozen=True)
class Signal:
    """A named gap signal.

    Attributes:
        name: As it stands in the tables.
        function: Returns one number a byte, or layer by head by byte.
        kind: "layer" for what the model learned to say, "control" for what it is held against, "ceiling" and
            "combination" for what was fitted on labels. Where it is constant a control scores nothing, and
            a note says so; of the model it is an error.
        is_rule: True for rules of the bytes alone, which may be constant whatever they are shown as.
        is_per_character: True where its value stands at a character's first byte and the other bytes
            have none to add: then no other alignment is tried.
        seed: Of a random control.
        is_segmentation: True where 1 is a call and 0 is none: words are scored as it cuts them.
    """

    name: str
    function: SignalFunction
    kind: Kind = "control"
    is_rule: bool = False
    seed: int | None = None
    is_per_character: bool = False
    is_segmentation: bool = False


SIGNALS: dict[str, Signal] = {}
_BUILT_IN: set[str] = set()


def register(
    name: str, *, kind: Kind = "control", is_rule: bool = False
) -> Callable[[SignalFunction], SignalFunction]:
    """Make a function a gap signal that every later `boundaries` scores; use as a decorator.

    Args:
        name: Its name in the tables. Registering it again replaces it, so that a notebook cell can
            run twice; the names of built-in signals are taken.
        kind: Where reports show it: beside the layers or among the controls.
        is_rule: Whether it may be constant although it is shown beside the layers.
    """
    if not isinstance(name, str) or not name:  # a decorator without its name would register nothing
        raise LRopeError(f'a signal has a name, as in @register_signal("mine"); got {name!r:.60}')
    if kind not in get_args(Kind):
        raise unknown("kind of signal", kind, get_args(Kind))
    if name in _BUILT_IN:
        raise LRopeError(f"the signal {name!r} is built in; register yours under another name")

    def add(function: SignalFunction) -> SignalFunction:
        SIGNALS[name] = Signal(name, function, kind, is_rule)
        return function

    return add


def user_signals() -> list[str]:
    """Return the names of the signals that were registered beside the built-in ones."""
    return [name for name in SIGNALS if name not in _BUILT_IN]


def unregister(name: str) -> None:
    """Forget a signal that was registered; an unknown name is ignored."""
    if name not in _BUILT_IN:
        SIGNALS.pop(name, None)


@dataclass(frozen=True)
class Target:
    """What a column was made for, where it is not for everything: a supervised probe is for one label.

    Attributes:
        label: The only label that it is scored for.
        scope: Name of the gaps that it was fitted on.
        strata: Where it is scored.
        align: The byte of a character that it reads.
    """

    label: str
    scope: str
    strata: tuple[str, ...]
    align: str


@dataclass(frozen=True)
class SignalColumn:
    """One signal, layer and head: a number for every byte of each split.

    Attributes:
        signal: Where it comes from.
        layer: The layer, None for a signal of the whole model.
        head: The head, None unless increments are per head.
        values: By split ("dev", "test").
        only: Where it was made for one label, that label, and what its name ends in; see `Target`.
    """

    signal: Signal
    layer: int | None
    head: int | None
    values: Mapping[str, Num[np.ndarray, " _"]]
    only: Target | None = None

    @property
    def name(self) -> str:
        """The column's name in `gaps.parquet`: signal, layer and head, seed, and what it was made for."""
        parts = [self.signal.name]
        if self.layer is not None:
            parts.append(f"L{self.layer}" + ("" if self.head is None else f"H{self.head}"))
        if self.signal.seed is not None:
            parts.append(f"S{self.signal.seed}")
        if self.only is not None:
            parts.append(f"{self.only.label}.{self.only.scope}")
        return ".".join(parts)

    @property
    def place(self) -> dict[str, str | int | None]:
        """What tables say of where the values come from: signal, layer and head."""
        return {"signal": self.signal.name, "layer": self.layer, "head": self.head}

    def is_for(self, label: str, stratum: str) -> bool:
        """Whether this column is to be scored for a label in a stratum."""
        return self.only is None or (self.only.label == label and stratum in self.only.strata)

    def alignments(self, possible: Sequence[str]) -> Sequence[str]:
        """Which alignments to try, of those that differ: all, unless the column knows better."""
        if self.only is not None:
            return [self.only.align]
        return possible[:1] if self.signal.is_per_character else possible


def columns(signal: Signal, captured: Mapping[str, Captured]) -> list[SignalColumn]:
    """Evaluate a signal on every split and take it apart into columns.

    Raises:
        LRopeError: The function returned another shape, or numbers that are not finite.
    """
    values = {split: _evaluate(signal, material) for split, material in captured.items()}
    if all(array.ndim == 1 for array in values.values()):
        return [SignalColumn(signal, None, None, values)]
    layers = next(iter(captured.values())).layers
    n_heads = next(iter(values.values())).shape[1]
    return [
        SignalColumn(
            signal, layer, head if n_heads > 1 else None, {s: a[at, head] for s, a in values.items()}
        )
        for at, layer in enumerate(layers)
        for head in range(n_heads)
    ]


def _evaluate(signal: Signal, captured: Captured) -> Num[np.ndarray, "..."]:
    array = np.asarray(signal.function(captured))
    by_layer = captured.increments.shape
    expected = [(captured.n_bytes,), by_layer]
    if array.shape not in (*expected, (by_layer[0], 1, by_layer[2])):
        raise LRopeError(
            f"the signal {signal.name!r} returned shape {array.shape}; wanted one number a byte, "
            f"{expected[0]}, or layer by head by byte, {expected[1]}"
        )
    array = array.astype(np.int64) if array.dtype.kind in "bui" else array
    if array.dtype.kind not in "if" or not np.isfinite(array).all():
        raise LRopeError(f"the signal {signal.name!r} returned values that are not finite numbers")
    return array


@register("increments", kind="layer")
def increments(captured: Captured) -> Float32[np.ndarray, "layers heads n_bytes"]:
    """The model's own increments: the step taken on arriving at each byte."""
    return captured.increments


@register("entropy")
def entropy(captured: Captured) -> Float32[np.ndarray, " n_bytes"]:
    """How uncertain the model was just before the byte."""
    return captured.entropy


@register("rise")
def rise(captured: Captured) -> Float32[np.ndarray, " n_bytes"]:
    """By how much the uncertainty rose from the byte before; 0 at the start of a document."""
    before = np.concatenate([captured.entropy[:1], captured.entropy[:-1]])
    return np.where(captured.t == 0, np.float32(0), captured.entropy - before)


@register("surprisal")
def surprisal(captured: Captured) -> Float32[np.ndarray, " n_bytes"]:
    """How unlikely the byte was; aligned by "sum" it is the surprisal of the character."""
    return captured.surprisal


@register("entropy_next")
def entropy_next(captured: Captured) -> Float32[np.ndarray, " n_bytes"]:
    """How uncertain the model is right after the byte, which it has seen as the increment has."""
    return captured.entropy_next


_BUILT_IN.update(SIGNALS)
