"""What is written in place of a layer's increments: plain functions of a hook, and how to attach them.

    model.run_with_hooks(text, fwd_hooks=ablation_hooks(freeze(1.0), layers=[0]))

    with ablated(model, layer_mean(fitted)):
        loss = model(text, return_type="loss")

Every intervention takes ``(increments, hook)``, [batch, pos] or [batch, pos, head] in float32, and
returns as many. The hook stands before the running sum: positions follow what it returns. What needs
the tokens finds them in the stream of the running pass (``hook.ctx["stream"]``).

The first increment of a sequence shifts everything and therefore does nothing; shuffles leave it where
it is. The words *shuffle* and *shift* mean within one sequence, as the model is given it.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from lrope_interp.errors import LRopeError, check_seed, whole_numbers
from lrope_interp.models import HookPoint
from lrope_interp.models.block import Stream
from lrope_interp.models.hooked_model import Activations
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics

Increments: TypeAlias = Float[Tensor, "batch pos *head"]
Intervention: TypeAlias = Callable[[Tensor, HookPoint], Tensor]
LEAST_SHIFT = 32


def freeze(value: float = 1.0) -> Intervention:
    """Write the same number at every token; 1 is ordinary RoPE.

    A trained layer's mean may be 2, and then 1 also changes the scale: see `layer_mean`.
    """
    value = _number(value, "freeze wants a finite increment")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        del hook
        return torch.full_like(increments, value)

    return write


def layer_mean(fitted: IncrementStatistics) -> Intervention:
    """Write the layer's mean: nothing varies any more, and the scale is kept."""
    return _from_statistics(fitted, lambda hook: fitted.mean[hook.layer()])


def lexical_mean(fitted: IncrementStatistics) -> Intervention:
    """Write the mean of all increments at the same token id: the context is gone.

    Of layer 0, whose increments are a function of the token alone, it changes nothing but tokens that
    the fit text lacks, which get the layer's mean.
    """

    def means(hook: HookPoint) -> Float32[np.ndarray, "batch pos head"]:
        tokens = _tokens(hook, "lexical_mean", fitted.lexical.shape[-1])
        return np.moveaxis(fitted.lexical[hook.layer()][:, tokens], 0, -1)

    return _from_statistics(fitted, means)


def same_byte_resample(fitted: IncrementStatistics, seed: int = 0) -> Intervention:
    """Write the increment of another occurrence of the same token, drawn from the fit text.

    The context is gone and the spread at each token kept. All heads take the same occurrence. A token
    that the fit text lacks gets any of its increments. Draws depend on the seed, the layer and the
    sequence as one pass is given it, so that neither batch nor padding makes a difference.
    """
    check_seed(seed)

    def drawn(hook: HookPoint) -> Float32[np.ndarray, "batch pos head"]:
        tokens = _tokens(hook, "same_byte_resample", fitted.lexical.shape[-1])
        is_known = np.diff(fitted.first)[tokens] > 0
        low = np.where(is_known, fitted.first[tokens], 0)
        high = np.where(is_known, fitted.first[tokens + 1], fitted.values.shape[-1])
        share = np.zeros(tokens.shape)
        for row, (draw, places) in enumerate(_draws(hook, seed, "same_byte_resample")):
            share[row, places] = draw.random(len(places))
        at = low + np.floor(share * (high - low)).astype(np.int64)
        return np.moveaxis(fitted.values[hook.layer()][:, at], 0, -1)

    return _from_statistics(fitted, drawn)


def shuffle(seed: int = 0) -> Intervention:
    """Give the increments of a sequence to its tokens in random order; the first and padding stay."""
    return _rearranged("shuffle", seed, lambda draw, n: draw.permutation(n))


def circular_shift(offset: int | None = None, seed: int = 0) -> Intervention:
    """Shift the increments of a sequence along its tokens, round the end; the first and padding stay.

    Args:
        offset: Tokens by which each increment moves to the right. If None each sequence draws one, in
            [min(32, n/4), n - min(32, n/4)].
        seed: Of the draws.
    """
    if offset is not None and (isinstance(offset, bool) or not isinstance(offset, int | np.integer)):
        raise LRopeError(f"circular_shift wants a whole number of tokens, got {offset!r:.60}")

    def order(draw: np.random.Generator, n: int) -> Int[np.ndarray, " n"]:
        least = min(LEAST_SHIFT, n // 4)
        by = int(draw.integers(least, n - least + 1)) if offset is None else offset
        return np.roll(np.arange(n), by)

    return _rearranged("circular_shift", seed, order)


def scale(factor: float) -> Intervention:
    """Multiply by a constant: every plane of rotation turns `factor` times as fast."""
    factor = _number(factor, "scale wants a finite factor")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        del hook
        return increments * factor

    return write


def restore(clean: Activations | Mapping[str, Tensor] | None = None) -> Intervention:
    """Write back what another pass had at the same hook, or without one what is there anyway.

    Args:
        clean: A cache of that pass, of the same tokens; must hold the hook's name. Cache the increments
            alone (`names_filter`): with the pattern, attention takes another kernel, and increments
            differ in the last digit.
    """
    if clean is not None and not isinstance(clean, Activations | Mapping):
        raise LRopeError(f"restore wants a cache or a dict of activations; got {type(clean).__name__}")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        if clean is None:
            return increments
        name = f"blocks.{hook.layer()}.hook_increments"
        if name not in clean:
            raise LRopeError(f"the cache to restore from lacks {name}; run it with that name first")
        return clean[name].to(increments)

    return write


def at(
    mask: Bool[Tensor, "*batch pos"] | Bool[np.ndarray, "*batch pos"], inner: Intervention
) -> Intervention:
    """Intervene at some tokens only; `gap_mask` makes masks from labels.

    Args:
        mask: True where `inner` counts; [pos] or [batch, pos] of the sequences that will be run.
        inner: What it would write everywhere.

    Raises:
        LRopeError: The mask is True nowhere; when run, it has not the shape of the sequences.
    """
    check_intervention(inner)
    chosen = torch.as_tensor(mask)
    if chosen.dtype != torch.bool:
        raise LRopeError(f"a mask is True and False, one for each token; got {chosen.dtype}")
    if not bool(chosen.any()):
        raise LRopeError("the mask is True nowhere, so the intervention would change nothing")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        fitting = (increments.shape[1:2], increments.shape[:2], (1, increments.shape[1]))
        if tuple(chosen.shape) not in [tuple(shape) for shape in fitting]:
            raise LRopeError(
                f"a mask of shape {list(chosen.shape)} does not fit sequences of shape "
                f"{list(increments.shape[:2])} [batch, pos]; make it of the same tokens, EOS included"
            )
        here = chosen.to(increments.device).expand(increments.shape[:2])
        here = here.unsqueeze(-1) if increments.ndim == 3 else here
        return torch.where(here, inner(increments, hook), increments)

    return write


def local_edit(inner: Intervention, *, compensate: bool = True) -> Intervention:
    """Let an edit move only the tokens that it was made at.

    An increment that changes shifts every later token. With `compensate` the next increment takes the
    change back: position t moves, and all others stay. What the two forms differ by is the effect of
    the shift downstream. Padding neither changes nor takes back. An increment that takes much back may
    fall below 0: its token then stands behind the one before.

    Args:
        inner: The edit, mostly `at(mask, ...)`.
        compensate: False gives `inner` itself.
    """
    check_intervention(inner)
    if not compensate:
        return inner

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        if _n_past(hook):
            raise LRopeError("a compensated edit needs the whole sequence: run it without past_kv_cache")
        change = inner(increments, hook) - increments
        stream = hook.ctx.get("stream")
        return increments + change - _a_token_later(change, None if stream is None else stream.is_token)

    return write


def then(*inner: Intervention) -> Intervention:
    """Apply interventions one after the other; each gets what the one before wrote."""
    for one in inner:
        check_intervention(one)

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        for one in inner:
            increments = one(increments, hook)
        return increments

    return write


def on_heads(heads: Iterable[int] | int, inner: Intervention) -> Intervention:
    """Intervene on some heads only, in a model with increments per head.

    Raises:
        LRopeError: No head is named; when run, there is no such head, or all heads share increments.
    """
    check_intervention(inner)
    wanted = sorted(set(whole_numbers(heads, "heads")))
    if not wanted:
        raise LRopeError("on_heads wants at least one head")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        if increments.ndim == 2:
            raise LRopeError(
                f"the heads of {hook.name} share their increments, so none can be ablated alone; train one "
                "with increments per head for that"
            )
        n_heads = increments.shape[2]
        if not 0 <= wanted[0] <= wanted[-1] < n_heads:
            raise LRopeError(f"{hook.name} has heads 0 to {n_heads - 1}, not {wanted}")
        is_wanted = torch.zeros(n_heads, dtype=torch.bool, device=increments.device)
        is_wanted[wanted] = True
        return torch.where(is_wanted, inner(increments, hook), increments)

    return write


def _rearranged(
    name: str, seed: int, order: Callable[[np.random.Generator, int], Int[np.ndarray, " n"]]
) -> Intervention:
    """Take each sequence's increments, from its second token on, in another order."""
    check_seed(seed)

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        if _n_past(hook):
            raise LRopeError(f"{name} needs the whole sequence: run it without past_kv_cache")
        out = increments.clone()
        for row, (draw, places) in enumerate(_draws(hook, seed, name)):
            where = places[1:]
            if len(where) > 1:
                source = torch.from_numpy(where[order(draw, len(where))]).to(out.device)
                out[row, torch.from_numpy(where).to(out.device)] = increments[row, source]
        return out

    return write


def _stream(hook: HookPoint, name: str) -> Stream:
    stream = hook.ctx.get("stream")
    if stream is None:
        raise LRopeError(
            f"{name} belongs on blocks.N.hook_increments of an LRopeTransformer, not on {hook.name}"
        )
    return stream


def _tokens(hook: HookPoint, name: str, n_ids: int | None = None) -> Int[np.ndarray, "batch pos"]:
    """Return the tokens of the running pass, all of which statistics of `n_ids` ids have a place for."""
    tokens = _stream(hook, name).tokens
    if tokens is None:
        raise LRopeError(f"{name} needs to know the tokens: give tokens= beside start_at_layer")
    if n_ids is not None and int(tokens.max()) >= n_ids:
        raise LRopeError(
            f"the statistics are of {n_ids} token ids and the text has id {int(tokens.max())}; fit them with "
            "the model that is ablated"
        )
    return tokens.cpu().numpy()


def _n_past(hook: HookPoint) -> int:
    """How many tokens stand before this pass, in its cache."""
    stream = hook.ctx.get("stream")
    if stream is None or stream.past_kv_cache is None:
        return 0
    return stream.past_kv_cache[hook.layer()].past_keys.shape[1]


def _draws(
    hook: HookPoint, seed: int, name: str
) -> list[tuple[np.random.Generator, Int64[np.ndarray, " _"]]]:
    """Return for each sequence a generator, and where its tokens stand.

    Whatever else is in the batch, and padding, make no difference to what is drawn.
    """
    tokens = _tokens(hook, name).astype("<i8")
    is_token = _stream(hook, name).is_token
    kept = np.ones(tokens.shape, dtype=bool) if is_token is None else is_token.cpu().numpy()
    return [
        (generator(seed, f"{hook.layer()} {_n_past(hook)} ".encode() + row[is_kept].tobytes()), places)
        for row, is_kept, places in zip(tokens, kept, map(np.flatnonzero, kept), strict=True)
    ]


def generator(seed: int, what: bytes) -> np.random.Generator:
    """Return a stream of draws that the seed and the bytes decide, and nothing else."""
    digest = int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "little")
    return np.random.Generator(np.random.Philox(key=np.array([seed, digest], dtype=np.uint64)))


def check_intervention(given: Any) -> None:
    """Raise unless something can be written in place of increments.

    Raises:
        LRopeError: A number, which `freeze` makes an intervention of; a maker of interventions that was
            not called; or anything else that is no function.
    """
    if isinstance(given, numbers.Real) and not isinstance(given, bool):
        raise LRopeError(f"an intervention is a function of increments, not {given!r}: write freeze({given})")
    if not callable(given):
        raise LRopeError(
            "an intervention is a function of increments and hook, as freeze(1.0) and shuffle() return; got "
            f"{given!r:.60}"
        )
    if getattr(given, "__module__", None) == __name__ and "<locals>" not in given.__qualname__:
        raise LRopeError(f"{given.__name__} makes interventions: call it, {given.__name__}(...)")


def _number(given: Any, wanted: str) -> float:
    try:
        number = math.nan if isinstance(given, bool | str) else float(given)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise LRopeError(f"{wanted}, got {given!r:.60}")
    return number


def _a_token_later(
    change: Float[Tensor, "batch pos *head"], is_token: Bool[Tensor, "batch pos"] | None
) -> Float[Tensor, "batch pos *head"]:
    """Move what stands at each token to the next; padding neither gives nor takes."""
    if is_token is None:
        return torch.cat([torch.zeros_like(change[:, :1]), change[:, :-1]], dim=1)
    moved = torch.zeros_like(change)
    for row, mask in enumerate(is_token.to(change.device)):
        places = mask.nonzero()[:, 0]
        moved[row, places[1:]] = change[row, places[:-1]]
    return moved


def _from_statistics(
    fitted: IncrementStatistics, values_of: Callable[[HookPoint], Float32[np.ndarray, "*_ head"]]
) -> Intervention:
    """Write what fitted statistics say of a layer, once it is clear that they are those of such a model."""
    if not isinstance(fitted, IncrementStatistics):
        raise LRopeError(f"means are of fit_increments(model, documents); got {fitted!r:.60}")

    def write(increments: Tensor, hook: HookPoint) -> Tensor:
        n_layers, n_heads = fitted.mean.shape
        if hook.layer() >= n_layers or n_heads != (increments.shape[2] if increments.ndim == 3 else 1):
            raise LRopeError(
                f"the statistics are of {n_layers} layers with {n_heads} increments a token and do not fit "
                f"{hook.name}; fit them with the model that is ablated"
            )
        values = torch.from_numpy(values_of(hook)).to(increments)
        values = values if increments.ndim == 3 else values[..., 0]  # one head stands for all
        return values.expand_as(increments).clone()

    return write
