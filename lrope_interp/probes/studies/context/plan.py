"""What is measured when the cost of learned increments is: arms, contexts, repeats, all checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeConfig, LRopeTransformer

REFERENCE = "fixed"
ARMS: Mapping[str, tuple[str, bool]] = {
    "fixed": ("fixed", False),
    "shared": ("shared", False),
    "per_layer": ("per_layer", False),
    "shared_per_head": ("shared", True),
    "per_layer_per_head": ("per_layer", True),
}
"""An arm's `increments` and `per_head`."""
LONG = 8192
"""Up to this context training is measured and everything is repeated."""
MOST_CONTEXT = 2**20
_STEP = 4


@dataclass(frozen=True)
class CostPlan:
    """How the cost of learned increments is measured.

    Attributes:
        shape: Fields of `LRopeConfig`; its increments, per_head, n_ctx, seed and dtype are the plan's.
        arms: Names from `ARMS`; fixed RoPE is among them, because it is what all are compared with.
        contexts: Tokens, ascending.
        repeats: Timed rounds, in each of which every arm has its turn.
        device: "cpu", "cuda" or "mps".
        dtype: "float32" or "bfloat16": of the weights in a forward pass and in decoding, and of
            autocast in training. Increment heads stay float32.
        seed: Of weights and inputs.
        skip_forward_above: No forward pass beyond so many tokens; None: one at every context.
    """

    shape: Mapping[str, Any]
    arms: tuple[str, ...]
    contexts: tuple[int, ...]
    repeats: int = 5
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    skip_forward_above: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if self.repeats < 1:
            raise LRopeError(f"repeats must be at least 1; got {self.repeats}")
        if self.dtype not in ("float32", "bfloat16"):
            raise unknown("dtype", self.dtype, ("float32", "bfloat16"))
        assert self.arms[:1] == (REFERENCE,)
        assert list(self.contexts) == sorted(set(self.contexts))

    def has_forward(self, context: int) -> bool:
        """Whether a forward pass of `context` tokens is run."""
        return self.skip_forward_above is None or context <= self.skip_forward_above

    def model(self, arm: str, dtype: str) -> LRopeTransformer:
        """Build an untrained model of an arm whose increments are not all 1."""
        increments, per_head = ARMS[arm]
        own = {"increments": increments, "per_head": per_head, "n_ctx": self.contexts[-1] + 1}
        fields = {**self.shape, **own, "seed": self.seed, "device": self.device}
        model = LRopeTransformer(LRopeConfig.from_dict(fields))
        _spread_increments(model, self.seed)
        return model.to(dtype=getattr(torch, dtype))


def parse_arms(text: str) -> tuple[str, ...]:
    """Return the arms of a list like ``fixed,per-layer``, fixed RoPE first and always there.

    Raises:
        LRopeError: An arm is unknown or named twice.
    """
    names = [word.strip().replace("-", "_") for word in text.split(",")]
    for name in names:
        if name not in ARMS:
            raise unknown("arm", name.replace("_", "-"), [arm.replace("_", "-") for arm in ARMS])
        if names.count(name) > 1:
            raise LRopeError(f"the arm {name.replace('_', '-')} is named twice in {text!r}: name it once")
    others = [name for name in names if name != REFERENCE]
    if not others:
        raise LRopeError("--arms fixed alone has nothing to be compared with: add shared or per-layer")
    return (REFERENCE, *others)


def parse_contexts(text: str, max_context: int | None = None) -> tuple[int, ...]:
    """Return the contexts of a list like ``512,2048,8192``, ascending.

    Args:
        text: Whole numbers, with commas.
        max_context: The largest; between the list's last and this, contexts grow fourfold. Contexts
            of the list beyond it are left out. None: the list as it is.

    Raises:
        LRopeError: Not a list of whole numbers, or one outside 2..1,048,576.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise LRopeError(f"--contexts takes whole numbers with commas, like 512,2048,8192; got {text!r}")
    contexts = sorted({int(word) for word in words})
    if max_context is None:
        return _checked(contexts)
    _checked([max_context])
    if max_context < contexts[0]:
        raise LRopeError(
            f"--max-context {max_context} is below the smallest of --contexts, {contexts[0]}: raise it, or "
            "give smaller --contexts"
        )
    kept = [context for context in contexts if context <= max_context]
    while kept[-1] < max_context:
        kept.append(min(kept[-1] * _STEP, max_context))
    return _checked(kept)


def _checked(contexts: Sequence[int]) -> tuple[int, ...]:
    for context in contexts:
        if not 2 <= context <= MOST_CONTEXT:
            raise LRopeError(f"a context is 2 to {MOST_CONTEXT:,} tokens; got {context}")
    return tuple(contexts)


def _spread_increments(model: LRopeTransformer, seed: int) -> None:
    """Draw the heads' last weights, which start at zero: increments then differ from token to token."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.increment_parameters():
            if name.endswith("W_out"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
