"""Hooks and caches: HookedRootModule's, with the position axis and unknown names put right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.hook_points import HookPoint
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.slice import Slice

from lrope_interp.errors import unknown


class HookedModel(HookedRootModule):
    """HookedRootModule whose `run_with_cache` returns an ActivationCache.

    The base class cuts position slices on the batch axis of [batch, pos] tensors; here every hook
    point carries its own `pos_dim`.
    """

    def run_with_cache(
        self,
        *model_args: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any]:
        """Run the model and return its output and every activation that passed a hook point.

        Args:
            *model_args: What `forward` takes.
            return_cache_object: Whether to wrap the activations in an ActivationCache.
            remove_batch_dim: Whether to drop the batch axis (of a batch of one).
            **kwargs: `names_filter` (None, name, list of names, or function of a name), `device`,
                `incl_bwd`, `reset_hooks_end`, `clear_contexts`, `pos_slice`, and what `forward` takes.
        """
        out, cache = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return out, cache
        return out, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: Any = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Tensor] | None = None,
        pos_slice: Any = None,
    ) -> tuple[dict[str, Tensor], list[tuple[str, Callable]], list[tuple[str, Callable]]]:
        """Return an empty cache and the hooks that fill it; see HookedRootModule.

        Raises:
            LRopeError: A name in `names_filter` that is no hook point; the nearest is named.
        """
        cache = {} if cache is None else cache
        wanted = self._name_predicate(names_filter)
        options = {
            "cache": cache,
            "device": device,
            "remove_batch_dim": remove_batch_dim,
            "pos_slice": Slice.unwrap(pos_slice),
        }
        self.is_caching = True
        names = [name for name in self.hook_dict if wanted(name)]
        fwd_hooks = [(name, partial(_store, suffix="", **options)) for name in names]
        bwd_hooks = [(name, partial(_store, suffix="_grad", **options)) for name in names] if incl_bwd else []
        return cache, fwd_hooks, bwd_hooks

    def add_hook(self, name: Any, hook: Callable, *args: Any, **kwargs: Any) -> None:
        """Add a hook; an unknown name raises LRopeError and names the nearest."""
        super().add_hook(self._checked(name), hook, *args, **kwargs)

    def _enable_hook(self, name: Any, hook: Callable, dir: Any) -> None:  # the base class's name
        super()._enable_hook(self._checked(name), hook, dir)

    def _checked(self, name: Any) -> Any:
        """Return `name`, or raise if it is a string that is no hook point."""
        if isinstance(name, str) and name not in self.hook_dict:
            raise unknown_hook(name, list(self.hook_dict))
        return name

    def _name_predicate(self, names_filter: Any) -> Callable[[str], bool]:
        """Turn any form of a names filter into a function, checking names that are given."""
        if names_filter is None:
            return lambda _: True
        if callable(names_filter):
            return names_filter
        names = [names_filter] if isinstance(names_filter, str) else list(names_filter)
        wanted: set[str] = {self._checked(name) for name in names}
        return lambda name: name in wanted


def unknown_hook(name: str, known: list[str]) -> Exception:
    """Build the error for an unknown hook name, showing only the names of one layer."""
    shown = [known_name for known_name in known if not known_name.startswith("blocks.")]
    shown += [known_name for known_name in known if known_name.startswith("blocks.0.")]
    error = unknown("hook", name, known)
    message = str(error).split(" Choose from:")[0]
    return type(error)(f"{message} Hooks of this model (layer 0 standing for all): {', '.join(shown)}.")


def _store(
    tensor: Tensor,
    hook: HookPoint,
    *,
    suffix: str,
    cache: dict[str, Tensor],
    device: Any,
    remove_batch_dim: bool,
    pos_slice: Slice,
) -> None:
    """Put one activation into the cache, sliced on its true position axis."""
    pos_dim = 1 if hook.pos_dim is None else hook.pos_dim
    stored = tensor.detach()
    stored = stored if device is None else stored.to(torch.device(device))
    stored = pos_slice.apply(stored, dim=pos_dim)
    if remove_batch_dim and stored.shape[0] == 1:
        stored = stored[0]
    cache[f"{hook.name}{suffix}"] = stored
