"""Arrays that are kept between runs, because nothing that decides them has changed.

Reading five untrained models takes longer than everything else in an analysis, and gives the same
numbers whenever the trained model and the text are the same.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Shaped

from lrope_interp.data.cache import cached, cached_entries, is_edited
from lrope_interp.errors import LRopeError
from lrope_interp.models import HookPoint, LRopeTransformer
from lrope_interp.models.frozen import FrozenIncrements, LexicalIncrements, attached_increments
from lrope_interp.models.hooks import has_live_hook

KIND = "increments"
_KEPT = 48
_FILE, _ALONE = "values.npz", "values"
_ROOMS = ("data", "models", "probes", "tokenizers")
Arrays = TypeVar("Arrays", Shaped[np.ndarray, "..."], Mapping[str, np.ndarray])
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "tokenizers", "torch", "transformer-lens")


def remembered(
    identity: Mapping[str, Any],
    compute: Callable[[], Arrays],
    kind: str = KIND,
    most: int = _KEPT,
) -> Arrays:
    """Return what `compute` gives, one array or several by name, from the cache where it was computed before.

    A cache that cannot be written costs time, and nothing else.

    Args:
        identity: Everything that decides the numbers but the code that computes them, as JSON; see
            `model_identity`. With a hook on a model the numbers are anybody's, and nothing is remembered.
        compute: Computes them.
        kind: The folder of the cache.
        most: How many of that kind are kept, the newest.
    """
    if _is_hooked(identity) or is_edited():
        return compute()
    made: list[Arrays] = []

    def build(folder: Path) -> dict[str, Any]:
        made.append(compute())
        named: dict[str, Any] = {**made[0]} if isinstance(made[0], Mapping) else {_ALONE: made[0]}
        np.savez(folder / _FILE, **named)
        return {}

    try:
        folder, _ = cached(kind, {"libraries": _libraries(), **identity}, build, _ROOMS)
        if not made:
            with np.load(folder / _FILE, allow_pickle=False) as kept:
                return cast(Arrays, kept[_ALONE] if _ALONE in kept else dict(kept))
        _forget_old(kind, most)
    except (LRopeError, OSError):  # another process may have made room meanwhile
        if not made:
            return compute()  # raises again, if that is where it came from
    return made[0]


def model_identity(model: LRopeTransformer) -> dict[str, Any]:
    """Return what tells a model from any other: its weights, configuration and where it computes."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return {
        "weights": digest.hexdigest(),
        "config": {name: value for name, value in model.cfg.to_dict().items() if name != "device"},
        "tokenizer": model.own_tokenizer().fingerprint,
        "device": torch.device(str(model.cfg.device)).type,
        "attached": _attached_identity(attached_increments(model)),
        "settings": {  # a norm's eps, for one, can be set where no configuration tells of it
            f"{name}.{key}": value
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if isinstance(value, float) and key != "backward_scale"
        },
        "is_hooked": _computes_otherwise(model),
    }


def _computes_otherwise(model: LRopeTransformer) -> bool:
    """Whether something besides weights, configuration and our own code decides what a model computes.

    Hooks, also torch's for all modules; autocast; a tokenizer, a part or a `forward` that is not ours.
    """
    everywhere = (
        getattr(torch.nn.modules.module, f"_global_forward_{name}") for name in ("hooks", "pre_hooks")
    )
    if any(everywhere) or any(map(torch.is_autocast_enabled, ("cpu", "cuda"))):
        return True
    if type(model) is not LRopeTransformer or not _is_ours(type(model.own_tokenizer())):
        return True
    for module in model.modules():
        kind = type(module)
        is_own = kind is torch.nn.ModuleList or (_is_ours(kind) and _is_ours(kind.forward))
        if not is_own or "forward" in vars(module) or _has_unknown_hook(module):
            return True
    return False


def _is_ours(code: Any) -> bool:
    """Whether a class or a function was defined in this package, or in the library that it builds on."""
    return code.__module__.partition(".")[0] in ("lrope_interp", "transformer_lens")


def _is_hooked(said: Any) -> bool:
    """Whether any model that an identity tells of is hooked, also one that is read beside another."""
    return isinstance(said, Mapping) and (bool(said.get("is_hooked")) or any(map(_is_hooked, said.values())))


@cache
def _libraries() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}


def _attached_identity(frozen: FrozenIncrements | None) -> Any:
    """Return what tells attached increments from any others; None where there are none."""
    if isinstance(frozen, LexicalIncrements):
        return hashlib.sha256(frozen.table.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
    return None if frozen is None else model_identity(cast(LRopeTransformer, frozen.source))


def _has_unknown_hook(point: torch.nn.Module) -> bool:
    """Whether a hook other than attached increments sits on a module."""
    is_known = (
        isinstance(point, HookPoint)
        and len(point.fwd_hooks) == len(point._forward_hooks)
        and all(isinstance(handle.user_hook, FrozenIncrements) for handle in point.fwd_hooks)
    )
    return has_live_hook(point) and not is_known


def forget(kind: str, run: str) -> None:
    """Remove what was remembered under ``identity["run"] == run``."""
    for folder, entry in list(cached_entries(kind)):
        if entry["identity"].get("run") == run:
            shutil.rmtree(folder, ignore_errors=True)


def _forget_old(kind: str, most: int) -> None:
    for folder, _ in list(cached_entries(kind))[most:]:
        shutil.rmtree(folder, ignore_errors=True)
