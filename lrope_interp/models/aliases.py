"""TransformerBridge's spellings of the hook points: other names for the same points.

A user of transformer-lens 4 writes `blocks.0.hook_out` where HookedTransformer wrote
`blocks.0.hook_resid_post`. Both names work here; only HookedTransformer's are listed, so that no
activation is cached twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lrope_interp.errors import LRopeError, unknown

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


def hook_aliases(n_layers: int) -> dict[str, str]:
    """Return every Bridge spelling of a model with `n_layers` blocks, and the name it stands for."""
    aliases = dict(_MODEL_ALIASES)
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        aliases |= {prefix + alias: prefix + name for alias, name in _BLOCK_ALIASES.items()}
    return aliases


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
        key = self.key_of(name)
        return super().get(name, super().get(key, default))

    def key_of(self, name: Any) -> Any:
        """Return the listed form of a name (gradients, ``..._grad``, too)."""
        if not isinstance(name, str):
            return name
        bare = name.removesuffix("_grad")
        return self.aliases.get(bare, bare) + name[len(bare) :]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy with the aliases."""
        return type(self), (dict(self), self.aliases)


def canonical_predicate(
    accepts: Callable[[str], Any], names: Iterable[str], aliases: dict[str, str]
) -> Callable[[str], bool]:
    """Return a predicate over the listed names.

    A predicate sees HookedTransformer's names; if it accepts none of them, it is asked about the
    Bridge spellings instead. Never both: `"mlp." in name` must not come to mean `hook_mlp_out`.
    """
    accepted = {name for name in names if accepts(name)}
    if not accepted:
        accepted = {name for alias, name in aliases.items() if accepts(alias)}
    return lambda name: name in accepted


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
