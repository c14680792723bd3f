"""The key-value cache: where its tokens stand, and how it is cut and reordered without losing that.

A cached key is rotated already, so nobody can tell from it where the next token has to stand. Every entry
of TransformerLens' cache therefore carries a `position`, where its last token stands, [b] or [b, h] in
float64. It belongs to the very keys that it was stored for: keys cut, reordered or written to by hand
leave it behind, and the next pass says so. `crop` and `reorder` edit both. Copies of the same keys (a deep
copy, another device or dtype) are recognised, and a `position` that the caller sets is taken as it is.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache
from transformer_lens.cache.key_value_cache_entry import TransformerLensKeyValueCacheEntry

from lrope_interp.errors import LRopeError

CACHE_OF_THE_INCREMENTS = "cache_of_the_increments"
"""Attribute of a cache where a model that gives the increments keeps a cache of its own."""
_HOW_TO_EDIT = (
    "lrope_interp.models.crop(cache, n_tokens) and reorder(cache, rows) edit a cache exactly; or start from "
    "an empty one"
)


class _Stored:
    """Where the cached tokens stand, and the keys that this holds for; lies on an entry's `position`.

    Args:
        keys: The keys.
        positions: Of their tokens.
        made_by: A weak reference to the weights that made the keys; None where they are not known.
        is_sound: Whether nobody has written to the keys, which torch counts from the start in a copy.
    """

    def __init__(
        self,
        keys: Tensor,
        positions: Float[Tensor, "batch pos *head"],
        made_by: Any = None,
        is_sound: bool = True,
    ) -> None:
        self.keys, self.version, self.made_by = keys, _version(keys) if is_sound else -1, made_by
        self.positions = positions  # of all tokens; of the last ones, where the caller set a position before

    @property
    def is_sound(self) -> bool:
        return _version(self.keys) == self.version

    def is_of(self, keys: Tensor) -> bool:
        """Whether these are the keys, not written to since, or a copy of them."""
        if not self.is_sound:
            return False
        if keys is self.keys:
            return keys.shape[1] == self.positions.shape[1]  # `keys.data = ...` is not counted as a write
        return torch.equal(self.keys.to(keys.device, keys.dtype), keys)

    def is_by(self, weights: Tensor) -> bool:
        """Whether these weights made the keys, or ones that equal them (a copy of the model)."""
        made_by = None if self.made_by is None else self.made_by()
        if made_by is None or made_by is weights:
            return True
        return torch.equal(made_by.to(weights.device, weights.dtype), weights)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Stored:
        """Return what holds for the copied keys."""
        keys, positions = copy.deepcopy((self.keys, self.positions), memo)
        return _Stored(keys, positions, self.made_by, self.is_sound)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the same; a weak reference is of this process."""
        return _Stored, (self.keys, self.positions, None, self.is_sound)


def crop(cache: TransformerLensKeyValueCache, n_tokens: int) -> TransformerLensKeyValueCache:
    """Keep the first tokens of a cache, exactly, in every mode of increments.

    Also takes a cache back to before a pass that ended early. Frozen or not, it stays what it was.

    Args:
        cache: Changed in place.
        n_tokens: How many to keep, padding included, of each row.

    Returns:
        The same cache.

    Raises:
        LRopeError: More tokens than the cache holds, or a cache that was edited by hand.
    """
    _refuse_others(cache)
    is_unfinished = getattr(cache, "unfinished_since", None) is not None
    held = [_held(entry, is_unfinished) for entry in cache.entries]
    most = min(cache.previous_attention_mask.shape[1], *(keys.shape[1] for keys, _, _ in held))
    if isinstance(n_tokens, bool) or not isinstance(n_tokens, int) or not 0 <= n_tokens <= most:
        raise LRopeError(f"crop keeps 0 to {most} tokens, which is what all layers have; got {n_tokens!r}")
    if n_tokens and any(bool(positions[:, n_tokens - 1].isnan().any()) for _, _, positions in held):
        raise LRopeError(
            f"nobody knows where token {n_tokens} of this cache stands: entry.position was set by hand later"
        )
    _edit(cache, held, lambda x: x[:, :n_tokens])
    cache.unfinished_since = None  # type: ignore[attr-defined]
    own = getattr(cache, CACHE_OF_THE_INCREMENTS, None)
    if own is not None:
        crop(own, n_tokens)
    return cache


def reorder(
    cache: TransformerLensKeyValueCache, rows: Sequence[int] | Int[Tensor, " rows"]
) -> TransformerLensKeyValueCache:
    """Choose the rows of a cache's batch, exactly: beams, or one prefix for several continuations.

    Args:
        cache: Changed in place.
        rows: For each new row, the old one; some may come more than once, and others not at all.

    Returns:
        The same cache.

    Raises:
        LRopeError: A row that is not there, or a cache that was edited by hand.
    """
    _refuse_others(cache)
    n_rows = cache.previous_attention_mask.shape[0]
    try:
        chosen = torch.as_tensor(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        raise LRopeError(f"reorder wants the numbers of rows, [rows]; got {rows!r:.60} ({error})") from None
    if chosen.ndim != 1 or not len(chosen) or chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise LRopeError(f"reorder wants the numbers of rows, [rows]; got {rows!r:.60}")
    if not 0 <= int(chosen.min()) <= int(chosen.max()) < n_rows:
        raise LRopeError(f"the cache has rows 0..{n_rows - 1}; got {int(chosen.min())}..{int(chosen.max())}")
    _refuse_unfinished(cache)
    _edit(cache, [_held(entry) for entry in cache.entries], lambda x: x[chosen.to(x.device)])
    own = getattr(cache, CACHE_OF_THE_INCREMENTS, None)
    if own is not None:
        reorder(own, rows)
    return cache


def check_cache(cache: Any, model: Any, layers: Iterable[int], n_batch: int) -> None:
    """Refuse a cache that cannot be continued by these layers, before anything of it changes.

    Raises:
        LRopeError: No cache, one of another model or batch, one whose layers hold different tokens, or
            one that was edited by hand.
    """
    _refuse_others(cache)
    _refuse_unfinished(cache)
    cfg = model.cfg
    if len(cache.entries) != cfg.n_layers:
        raise LRopeError(
            f"the cache is of a model of {len(cache.entries)} layers; this one has {cfg.n_layers}"
        )
    heads = (cfg.n_heads,) if cfg.per_head else ()
    n_cached, n_past = cache.previous_attention_mask.shape
    if n_cached != n_batch:
        raise LRopeError(
            f"the cache holds {n_cached} rows and the input {n_batch}; make it with "
            f"init_cache(model.cfg, model.cfg.device, {n_batch}), or reorder(cache, rows) it"
        )
    for layer in layers:
        entry = cache[layer]
        for held in (entry.past_keys, entry.past_values):
            if held.shape[2:] != (cfg.n_heads, cfg.d_head):
                raise LRopeError(
                    f"the cache is of a model with {list(held.shape[2:])} [n_heads, d_head]; this one has "
                    f"{[cfg.n_heads, cfg.d_head]}"
                )
            if held.shape[:2] != (n_cached, n_past):
                raise LRopeError(
                    f"layer {layer} of the cache holds {held.shape[1]} tokens in {held.shape[0]} rows, its "
                    f"mask {n_past} in {n_cached}: a pass with it left layers out (start_at_layer, "
                    f"stop_at_layer), or it was edited by hand. {_HOW_TO_EDIT}"
                )
        position: Any = start_of(entry)
        if position is None:
            continue
        if getattr(position, "shape", None) not in ((n_batch, *heads), (1, *heads)):
            raise LRopeError(
                f"the position of layer {layer} in the cache must be {[n_batch, *heads]}; got "
                f"{list(getattr(position, 'shape', [type(position)]))}: it is of a model with increments of "
                "another kind, or was edited"
            )
        if not hasattr(position, "stored"):
            if not entry.frozen:
                _put(entry, _history(position, n_cached, n_past))  # from now on it belongs to these keys
        elif not position.stored.is_by(model.blocks[layer].attn.W_K):
            raise LRopeError(
                f"the keys of layer {layer} in the cache were made by another model or layer, whose positions"
                " mean nothing here; start from an empty cache"
            )


def start_of(entry: TransformerLensKeyValueCacheEntry | None) -> Float[Tensor, "#batch *head"] | None:
    """Return where the last cached token stands; None, which is 0, where nothing is cached.

    Raises:
        LRopeError: Keys that no position is known for.
    """
    if entry is None or entry.past_keys.shape[1] == 0:
        return None
    return _position_of(entry, entry.past_keys)


def append(
    entry: TransformerLensKeyValueCacheEntry, keys: Tensor, values: Tensor
) -> tuple[Float[Tensor, "batch key_pos head d_head"], Float[Tensor, "batch key_pos head d_head"]]:
    """Return past and new keys and values, which become the entry's unless it is frozen."""
    if not torch.is_inference_mode_enabled():
        return entry.append(keys, values)
    with torch.inference_mode(False), torch.no_grad():  # inference tensors do not count the writes to them
        return entry.append(keys, values)


def store(
    entry: TransformerLensKeyValueCacheEntry, positions: Float[Tensor, "batch pos *head"], made_by: Tensor
) -> None:
    """Remember where the tokens stand whose keys were appended by these weights, unless it is frozen."""
    if entry.frozen:
        return
    position, n_past = getattr(entry, "position", None), entry.past_keys.shape[1] - positions.shape[1]
    if n_past and position is not None:
        past = _history(position, len(positions), n_past)
        positions = torch.cat([past.to(positions.device), positions], dim=1)
    _put(entry, positions, None if torch.compiler.is_compiling() else weakref.ref(made_by))


def begin(cache: Any) -> None:
    """Note that a pass extends a cache; `end` takes the note back, if the pass comes to its end."""
    if not cache.frozen:
        cache.unfinished_since = cache.previous_attention_mask.shape[1]


def end(cache: Any) -> None:
    """Note that a pass has done all that it does to a cache."""
    cache.unfinished_since = None


def _refuse_others(cache: Any) -> None:
    if not isinstance(cache, TransformerLensKeyValueCache):
        raise LRopeError(
            "past_kv_cache must be a TransformerLensKeyValueCache, made by init_cache(model.cfg, "
            f"model.cfg.device, n_rows); got {type(cache).__name__}"
        )


def _refuse_unfinished(cache: Any) -> None:
    since = getattr(cache, "unfinished_since", None)
    if since is not None:
        raise LRopeError(
            "the last pass with this cache ended in an exception (in a hook?), so that its layers may hold "
            f"different tokens; lrope_interp.models.crop(cache, {since}) takes it back to before that pass"
        )


def _history(position: Tensor, n_rows: int, n_past: int) -> Float[Tensor, "batch pos *head"]:
    """Return where all cached tokens stand: NaN where only the last one's position was set, by hand."""
    stored = getattr(position, "stored", None)
    if stored is not None:
        return stored.positions
    last = position.expand(n_rows, *position.shape[1:]).unsqueeze(1)
    return torch.cat([torch.full_like(last, torch.nan).repeat_interleave(n_past - 1, 1), last], dim=1)


def _held(entry: Any, is_unfinished: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return the keys, values and positions of an entry, as far as all three are known."""
    position: Any = getattr(entry, "position", None)
    keys = entry.past_keys
    if is_unfinished and position is None:
        keys = keys[:, :0]  # the pass reached its first keys, and not their positions
    elif is_unfinished and keys.shape[1] > position.stored.keys.shape[1]:
        keys = position.stored.keys
    n_held = keys.shape[1]
    if n_held == 0:
        return keys, entry.past_values[:, :0], keys.new_zeros(keys.shape[:2])
    return keys, entry.past_values[:, :n_held], _history(_position_of(entry, keys), len(keys), n_held)


def _edit(cache: Any, held: list[tuple[Tensor, Tensor, Tensor]], edit: Callable[[Tensor], Tensor]) -> None:
    """Apply an edit of the axes [batch, pos] to all that a cache holds."""
    is_grad_enabled = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(is_grad_enabled):  # see `append`
        for entry, parts in zip(cache.entries, held, strict=True):
            entry.past_keys, entry.past_values, positions = (edit(part).clone() for part in parts)
            if positions.shape[1]:
                made_by = getattr(getattr(entry.position, "stored", None), "made_by", None)
                _put(entry, positions, made_by)
            elif hasattr(entry, "position"):
                del entry.position
        cache.previous_attention_mask = edit(cache.previous_attention_mask).clone()


def _put(entry: Any, positions: Tensor, made_by: Any = None) -> None:
    position: Any = positions[:, -1]
    position.stored = _Stored(entry.past_keys, positions, made_by)
    entry.position = position


def _version(tensor: Tensor) -> int | None:
    """Return how often a tensor was written to in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def _position_of(entry: Any, keys: Tensor) -> Float[Tensor, "#batch *head"]:
    """Return where the last of some keys of an entry stands; raise where nobody knows."""
    position = getattr(entry, "position", None)
    if position is None or (hasattr(position, "stored") and not position.stored.is_of(keys)):
        raise LRopeError(
            "the keys of the cache are not those that its positions were stored for: it was cut, reordered, "
            f"rebuilt or written to by hand. {_HOW_TO_EDIT}. Where the last token does stand where it stood, "
            "entry.position = entry.position.clone() says so"
        )
    return position
