"""Hooks on a compiled model: they run, uncompiled, or an error says why they cannot.

Compiled code does not look for hooks that came later, so a cache would come back empty without a
word. Three cases:

* ``torch.compile(model)``, a wrapper: `is_watched`, which the compiled code is guarded on, sends it
  through the uncompiled forward pass while the original has hooks.
* ``model.compile()``, in place: the same; `hooks`, `run_with_cache` and `run_with_hooks` run uncompiled.
* ``block.compile()``: the last three run uncompiled, and a lasting hook (`add_hook`) is refused.

The limit: hooks must come and go through the model. One put on a HookPoint itself, by its `add_hook`
or torch's `register_forward_hook`, after compiling is silently ignored, and one taken off there may
leave the model uncompiled or the hook compiled in. `note_watchers()` after each such change prevents
both in the first two cases; in the third such a hook fires only inside `hooks` and the two `run_with_*`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn as nn

from lrope_interp.errors import LRopeError

TORCH_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def has_live_hook(point: nn.Module) -> bool:
    """Whether a hook of any kind sits on a module (`HookPoint.has_hooks` misses torch's own)."""
    return any(getattr(point, name) for name in TORCH_HOOKS)


def has_backward_hook(point: nn.Module) -> bool:
    """Whether somebody wants a module's gradient."""
    return bool(point._backward_hooks or point._backward_pre_hooks)


class CompileAware(nn.Module):
    """Mixed into the model: knows whether it is watched, and runs uncompiled where it must."""

    hook_dict: Any
    is_watched: bool = False

    def note_watchers(self) -> None:
        """Set `is_watched`: whether any hook point has a hook; compiled code is guarded on it."""
        self.is_watched = any(map(has_live_hook, self.hook_dict.values()))

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Undo every in-place `compile()`, of the model and of its parts, for a while."""
        compiled = {
            module: module._compiled_call_impl
            for module in self.modules()
            if module._compiled_call_impl is not None
        }
        try:
            for module in compiled:
                module._compiled_call_impl = None
            yield
        finally:
            for module, call in compiled.items():
                module._compiled_call_impl = call

    def refuse_compiled_parts(self) -> None:
        """Raise if a part of the model is compiled in place, where a lasting hook would be ignored."""
        for name, module in self.named_modules():
            if name and module._compiled_call_impl is not None:
                raise LRopeError(
                    f"{name} was compiled in place, so a lasting hook would be ignored; use "
                    "run_with_hooks, run_with_cache or hooks(...), which run uncompiled, or compile the "
                    "whole model: torch.compile(model)"
                )


def run_uncompiled(model: nn.Module, arguments: dict[str, Any]) -> Any:
    """Leave the compiled code and run the model's forward pass as it is written."""
    return torch.compiler.disable(model.forward)(**arguments)
