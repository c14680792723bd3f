"""Hook points, and the errors and dictionaries that know their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor
from transformer_lens.hook_points import HookPoint as LensHookPoint
from transformer_lens.hook_points import LensHandle
from transformer_lens.utilities.slice import Slice

from lrope_interp.errors import LRopeError, unknown

_TORCH_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class UnknownHookError(LRopeError, KeyError):
    """A hook name that the model or a cache does not have; also a KeyError, as in TransformerLens.

    Args:
        message: What is said.
        name: The full name that was looked for.
    """

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments."""
        return type(self), (str(self), self.name)

    __str__ = Exception.__str__


class SilentHookError(LRopeError, AssertionError):
    """A hook on a point whose flag is off; also an AssertionError, as in HookedTransformer."""


class HookPoint(LensHookPoint):
    """TransformerLens' HookPoint, at which writing into an activation is returning the edited one.

    What passes may be the residual stream that others read too, the caller's own tensor, or what the
    backward pass needs; a gradient may be that of the whole stream. So hooks get a tensor of their own.
    Filling a cache copies nothing.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation, or a copy where a hook might write into it."""
        return x.clone() if self._forward_hooks and self.may_be_edited else x

    def add_hook(self, hook: Callable, dir: Any = "fwd", *args: Any, **kwargs: Any) -> LensHandle:
        """Add a hook; see TransformerLens."""
        is_copying = dir == "bwd" and not _fills_a_cache(hook)
        handle = super().add_hook(partial(_on_a_copy, hook) if is_copying else hook, dir, *args, **kwargs)
        handle.user_hook = hook
        return handle

    @property
    def may_be_edited(self) -> bool:
        """Whether a forward hook sits here that does something else than fill a cache."""
        return len(self._forward_hooks) > sum(_fills_a_cache(handle.user_hook) for handle in self.fwd_hooks)


def has_live_hook(point: nn.Module) -> bool:
    """Whether a hook of any kind sits on a module (`HookPoint.has_hooks` misses torch's own)."""
    return any(getattr(point, name) for name in _TORCH_HOOKS)


def has_backward_hook(point: nn.Module) -> bool:
    """Whether somebody wants a module's gradient."""
    return bool(point._backward_hooks or point._backward_pre_hooks)


def fill_cache(
    tensor: Tensor,
    hook: HookPoint,
    *,
    suffix: str,
    cache: dict[str, Tensor],
    device: Any,
    remove_batch_dim: bool,
    pos_slice: Slice,
) -> None:
    """Put one activation into a cache, sliced on its true position axis."""
    pos_dim = 1 if hook.pos_dim is None else hook.pos_dim
    stored = tensor.detach()
    if hook.may_be_edited:  # by a hook here that comes later and writes in place
        stored = stored.clone()
    stored = stored if device is None else stored.to(torch.device(device))
    stored = pos_slice.apply(stored, dim=pos_dim)
    if remove_batch_dim and stored.shape[0] == 1:
        stored = stored[0]
    cache[f"{hook.name}{suffix}"] = stored


def _fills_a_cache(hook: Any) -> bool:
    return getattr(hook, "func", None) is fill_cache


def _on_a_copy(given: Callable, gradient: Tensor, hook: HookPoint) -> Any:
    """Return what a backward hook returns, or what it wrote into its copy of the gradient."""
    own = gradient.clone()
    returned = given(own, hook=hook)
    # None where nothing was written: of several hooks on one point the last that returns something counts.
    return own if returned is None and own._version else returned


class AliasedDict(dict):
    """A dict that also answers to other names of its keys, and lists each key once.

    Args:
        items: The dict.
        aliases: Other name -> key.
    """

    def __init__(self, items: dict[str, Any], aliases: dict[str, str]) -> None:
        super().__init__(items)
        self.aliases = aliases

    def __missing__(self, name: Any) -> Any:
        """Look the name up by what it stands for."""
        key = self.key_of(name)
        if key == name or not super().__contains__(key):
            raise unknown_hook(str(name), list(self))
        return self[key]

    def __contains__(self, name: object) -> bool:
        """Whether a name or another name for it is there."""
        return super().__contains__(name) or super().__contains__(self.key_of(name))

    def get(self, name: Any, default: Any = None) -> Any:
        """Return what stands under a name or another name for it."""
        return super().get(name, super().get(self.key_of(name), default))

    def key_of(self, name: Any) -> Any:
        """Return the listed form of a name (gradients, ``..._grad``, too)."""
        if not isinstance(name, str):
            return name
        bare = name.removesuffix("_grad")
        return self.aliases.get(bare, bare) + name[len(bare) :]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with the aliases."""
        return type(self), (dict(self), self.aliases)


def unknown_hook(name: str, known: list[str], said: str = "") -> UnknownHookError:
    """Build the error for an unknown hook name, showing only the names of one layer.

    Args:
        name: What was asked for.
        known: All names that there are.
        said: In place of the nearest name: what is wrong, as a sentence.
    """
    shown = [known_name for known_name in known if not known_name.startswith("blocks.")]
    shown += [known_name for known_name in known if known_name.startswith("blocks.0.")]
    said = said or str(unknown("hook", name, known)).split(" Choose from:")[0]
    return UnknownHookError(f"{said} There are (layer 0 standing for all): {', '.join(shown)}.", name)


def never_fired(name: str) -> LRopeError:
    """Return the error for a hook that the forward pass did not reach."""
    return LRopeError(
        f"the intervention at {name} never fired: the forward pass did not reach it (look at start_at_layer "
        "and stop_at_layer), or the model was not run"
    )
