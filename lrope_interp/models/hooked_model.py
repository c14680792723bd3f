"""The model's root module: hooks and caches as in HookedRootModule, put right.

**Compiled models.** Compiled code does not look for hooks that came later, so a cache would come back
empty without a word. Three cases:

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

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from transformer_lens import ActivationCache
from transformer_lens.HookedRootModule import HookedRootModule
from transformer_lens.utilities.slice import Slice

from lrope_interp.errors import LRopeError
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooks import (
    AliasedDict,
    SilentHookError,
    UnknownHookError,
    fill_cache,
    has_live_hook,
    never_fired,
    unknown_hook,
)
from lrope_interp.models.notebook import cache_html
from lrope_interp.tokenizers import Tokenizer

# TransformerBridge's spellings. A user of transformer-lens 4 writes `blocks.0.hook_out` where
# HookedTransformer wrote `blocks.0.hook_resid_post`. Both name the same point here; only
# HookedTransformer's are listed, so that no activation is cached twice.
_MODEL_ALIASES = {"embed.hook_out": "hook_embed", "hook_unembed": "unembed.hook_out"}
_BLOCK_ALIASES = {
    "hook_in": "hook_resid_pre",
    "hook_out": "hook_resid_post",
    "ln2.hook_in": "hook_resid_mid",
    "attn.hook_attn_in": "hook_attn_in",
    "attn.hook_out": "hook_attn_out",
    "attn.q.hook_out": "attn.hook_q",
    "attn.k.hook_out": "attn.hook_k",
    "attn.v.hook_out": "attn.hook_v",
    "attn.o.hook_in": "attn.hook_z",
    "mlp.hook_out": "hook_mlp_out",
    "mlp.gate.hook_out": "mlp.hook_pre",
    "mlp.in.hook_out": "mlp.hook_pre_linear",
    "mlp.out.hook_in": "mlp.hook_post",
}

# Points that cost something and therefore fire only when a flag asks for them.
_FLAG_OF_HOOK = {
    "hook_result": "use_attn_result",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_mlp_in": "use_hook_mlp_in",
    "hook_attn_in": "use_attn_in",
    "hook_tokens": "use_hook_tokens",
}
_EAGER_HOOKS = ("hook_attn_scores", "hook_pattern")


class Activations(ActivationCache):
    """ActivationCache that keeps answering to the Bridge spellings after `to` and slicing."""

    def __getitem__(self, key: Any) -> Tensor:
        """Return an activation by full name, Bridge spelling or shorthand.

        Raises:
            LRopeError: An unknown name (the nearest is named), or one that was not cached.
        """
        model: Any = self.model
        if not isinstance(key, str | tuple):
            raise LRopeError(f'a cache wants a name, or a tuple like ("increments", 0); got {key!r:.60}')
        try:
            return super().__getitem__(model.hook_dict.key_of(key))
        except UnknownHookError as error:
            name = error.name
        point = name.removesuffix("_grad")
        if point not in model.hook_dict:
            raise unknown_hook(name, list(model.hook_dict))
        what = model.remedy(point) or ("Name it in names_filter" if name == point else "Give incl_bwd=True")
        raise UnknownHookError(f"{name} is not in this cache. {what}, and run again.", name)

    def __contains__(self, key: object) -> bool:
        """Whether `cache[key]` would give an activation: any spelling, and ``(name, layer)`` too."""
        try:
            self[key]
        except (LRopeError, KeyError, IndexError, TypeError):
            return False
        return True

    def _repr_html_(self) -> str:
        """Return what was kept and how far each layer steps, for notebooks."""
        return cache_html(self.cache_dict, self.has_batch_dim)

    def apply_slice_to_batch_dim(self, batch_slice: Any) -> Activations:
        """Return a cache of some rows of the batch."""
        cut = super().apply_slice_to_batch_dim(batch_slice)
        return Activations(cut.cache_dict, self.model, cut.has_batch_dim)


class HookedModel(HookedRootModule):
    """HookedRootModule whose `run_with_cache` returns an ActivationCache.

    The base class cuts position slices on the batch axis of [batch, pos] tensors; here every hook
    point carries its own `pos_dim`. Names may be the Bridge's; unknown ones raise and the nearest
    is named; a hook asked for by name on a point whose flag is off raises too.
    """

    cfg: LRopeConfig
    tokenizer: Tokenizer | None
    hook_dict: Any  # an AliasedDict: hook points by HookedTransformer's names, found by the Bridge's too
    is_watched: bool = False

    def setup(self) -> None:
        """Name all modules and collect the hook points; call it last in `__init__`."""
        super().setup()
        aliases = dict(_MODEL_ALIASES)
        for layer in range(self.cfg.n_layers):
            aliases |= {
                f"blocks.{layer}.{alias}": f"blocks.{layer}.{name}" for alias, name in _BLOCK_ALIASES.items()
            }
        self.hook_dict = AliasedDict(self.hook_dict, aliases)
        self.mod_dict = AliasedDict(self.mod_dict, aliases)

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
        if model_args and isinstance(model_args[0], Tensor) and model_args[0].ndim == 1:
            model_args = (model_args[0].unsqueeze(0), *model_args[1:])
        out, cache = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if not return_cache_object:
            return out, cache
        return out, Activations(cache, self, has_batch_dim=not remove_batch_dim)

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
            LRopeError: A name given in `names_filter` that is no hook point (the nearest is named), or
                one whose point would not fire (the `set_use_*` to call is named); a function that
                accepts none, or none that fires.
        """
        cache = AliasedDict({}, self.hook_dict.aliases) if cache is None else cache
        fill = partial(
            fill_cache,
            cache=cache,
            device=device,
            remove_batch_dim=remove_batch_dim,
            pos_slice=Slice.unwrap(pos_slice),
        )
        self.is_caching = True
        names = self._reached(names_filter) if callable(names_filter) else self._names(names_filter)
        silent = {name: what for name in names if (what := self.remedy(name)) is not None}
        if silent and names_filter is not None and not callable(names_filter):
            raise SilentHookError(
                f"{', '.join(silent)} would not fire and so be missing from the cache. "
                f"{', '.join(sorted(set(silent.values())))} first."
            )
        names = [name for name in names if name not in silent]
        fwd_hooks = [(name, partial(fill, suffix="")) for name in names]
        bwd_hooks = [(name, partial(fill, suffix="_grad")) for name in names if incl_bwd]
        return cache, fwd_hooks, bwd_hooks

    def add_caching_hooks(self, names_filter: Any = None, *args: Any, **kwargs: Any) -> dict:
        """Add hooks that fill a cache whenever the model runs, and return that cache."""
        cache, *both = self.get_caching_hooks(names_filter, *args, **kwargs)
        for direction, hooks in zip(("fwd", "bwd"), both, strict=True):
            for name, hook in hooks:
                self.hook_dict[name].add_hook(hook, direction)
        self.note_watchers()
        return cache

    def add_hook(self, name: Any, hook: Callable, *args: Any, **kwargs: Any) -> None:
        """Add a hook to one point, by name, or to all points that a predicate accepts.

        Raises:
            LRopeError: An unknown name, or one whose flag is off, so that the hook would never fire;
                a predicate that accepts no name, or only such ones.
        """
        for part, module in self.named_modules():
            if part and module._compiled_call_impl is not None:
                raise LRopeError(
                    f"{part} was compiled in place, so a lasting hook would be ignored; use "
                    "run_with_hooks, run_with_cache or hooks(...), which run uncompiled, or compile the "
                    "whole model: torch.compile(model)"
                )
        ((name, hook),) = _pairs([(name, hook)])
        for reached in self._reached(name):
            self.hook_dict[reached].add_hook(hook, *args, **kwargs)
        self.note_watchers()

    def remove_all_hook_fns(self, *args: Any, **kwargs: Any) -> None:
        """Remove hooks; see HookedRootModule."""
        super().remove_all_hook_fns(*args, **kwargs)
        self.note_watchers()

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Iterable[tuple[Any, Callable]] = (),
        bwd_hooks: Iterable[tuple[Any, Callable]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[HookedModel]:
        """Add hooks for the time of a `with` block; what is compiled in place runs uncompiled in it."""
        with (
            self.uncompiled(),
            super().hooks(_pairs(fwd_hooks), _pairs(bwd_hooks), reset_hooks_end, clear_contexts),
        ):
            self.note_watchers()
            yield self

    def run_with_hooks(
        self,
        *model_args: Any,
        fwd_hooks: Iterable[tuple[Any, Callable]] = (),
        bwd_hooks: Iterable[tuple[Any, Callable]] = (),
        **kwargs: Any,
    ) -> Any:
        """Run the model with hooks for this call; see HookedRootModule.

        Raises:
            LRopeError: A hook that counts its firings (those of `ablate` do) had none.
        """
        given = _pairs(fwd_hooks)
        before = [getattr(hook, "n_fired", None) for _, hook in given]
        out = super().run_with_hooks(*model_args, fwd_hooks=given, bwd_hooks=_pairs(bwd_hooks), **kwargs)
        for (name, hook), n_fired in zip(given, before, strict=True):
            if n_fired is not None and getattr(hook, "n_fired", None) == n_fired:
                raise never_fired(name)
        return out

    def list_hooks(self, name_filter: Any = None, *args: Any, **kwargs: Any) -> dict[str, list]:
        """Return the hooks attached now, by the name of their point."""
        names = set(self._names(name_filter))
        return super().list_hooks(lambda name: name in names, *args, **kwargs)

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Choose whether `attn.hook_result` fires: each head's output, [batch, pos, head, d_model]."""
        self.cfg.use_attn_result = use_attn_result

    def set_use_split_qkv_input(self, use_split_qkv_input: bool) -> None:
        """Choose whether `hook_q_input/k_input/v_input` fire: each head's own copy of `resid_pre`."""
        self.cfg.use_split_qkv_input = use_split_qkv_input

    def set_use_hook_mlp_in(self, use_hook_mlp_in: bool) -> None:
        """Choose whether `hook_mlp_in` fires: the MLP's own copy of `resid_mid`."""
        self.cfg.use_hook_mlp_in = use_hook_mlp_in

    def set_use_attn_in(self, use_attn_in: bool) -> None:
        """Choose whether `hook_attn_in` fires: each head's copy of `resid_pre`, for q, k and v at once."""
        self.cfg.use_attn_in = use_attn_in

    def set_use_hook_tokens(self, use_hook_tokens: bool) -> None:
        """Choose whether `hook_tokens` fires: the ids that are embedded, and that the loss predicts."""
        self.cfg.use_hook_tokens = use_hook_tokens

    def check_hooks_to_add(self, hook_point: Any, hook_point_name: str, *args: Any, **kwargs: Any) -> None:
        """Refuse a hook that would never fire.

        Raises:
            LRopeError: The point's flag is off; the message names the method that sets it.
        """
        del hook_point, args, kwargs
        what = self.remedy(hook_point_name)
        if what is not None:
            raise SilentHookError(
                f"Cannot add hook {hook_point_name}: as the model is set it would never fire. {what} first."
            )

    def remedy(self, hook_name: str) -> str | None:
        """Return what makes a hook point fire that is silent now; None if it fires."""
        leaf = hook_name.rsplit(".", 1)[-1]
        flag = _FLAG_OF_HOOK.get(leaf)
        if flag is not None and not getattr(self.cfg, flag):
            return f"Call model.set_{flag}(True)"
        if leaf in _EAGER_HOOKS and self.cfg.attn_impl == "sdpa":
            return 'Set model.cfg.attn_impl = "auto"'
        return None

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

    def _enable_hook(self, name: Any, hook: Callable, dir: Any) -> None:  # the base class's name
        for reached in self._reached(name):
            self.hook_dict[reached].add_hook(hook, dir=dir, level=self.context_level)

    def _names(self, names_filter: Any) -> list[str]:
        """Return the names that any form of a filter stands for, in the order in which the modules stand."""
        if names_filter is None:
            return list(self.hook_dict)
        if callable(names_filter):
            wanted = {name for name in self.hook_dict if names_filter(name)}
            # The Bridge's spellings only then: `"mlp." in name` must not come to mean `hook_mlp_out`.
            aliases = self.hook_dict.aliases
            wanted = wanted or {name for alias, name in aliases.items() if names_filter(alias)}
        elif isinstance(names_filter, Iterable):
            given = [names_filter] if isinstance(names_filter, str) else list(names_filter)
            for name in given:
                if name not in self.hook_dict:
                    raise unknown_hook(str(name), list(self.hook_dict))
            wanted = set(map(self.hook_dict.key_of, given))
        else:
            raise LRopeError(
                f"names are one name, several, or a function of a name; got {names_filter!r:.60}"
            )
        return [name for name in self.hook_dict if name in wanted]

    def _reached(self, wanted: str | Callable[[str], Any]) -> list[str]:
        """Return the points that a hook goes to; raise if there is none, or none that would fire."""
        names = self._names(wanted)
        if isinstance(wanted, str):
            self.check_hooks_to_add(self.hook_dict[names[0]], names[0])
            return names
        predicate = f"the predicate {getattr(wanted, '__name__', type(wanted).__name__)}"
        if not names:
            raise unknown_hook("", list(self.hook_dict), f"{predicate} accepts no hook point.")
        remedies = [self.remedy(name) for name in names]
        if None not in remedies:
            raise SilentHookError(
                f"{predicate} accepts only points that never fire as the model is set, {names[0]} "
                f"among them. {', '.join(sorted(set(filter(None, remedies))))} first."
            )
        return names


def _pairs(hooks: Any) -> list[tuple[Any, Callable]]:
    """Return hooks as a list, which an iterator is only once, checked for their form."""
    pairs = list(hooks) if isinstance(hooks, Iterable) else [hooks]
    for pair in pairs:
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not (is_pair and (isinstance(pair[0], str) or callable(pair[0])) and callable(pair[1])):
            raise LRopeError(
                "hooks are a list of pairs, (name or function of a name, function of an activation and "
                f"hook=); got {pair!r:.80}"
            )
    return pairs
