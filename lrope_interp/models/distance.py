"""How far apart a model takes two places of a text to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.models.rotary import inverse_frequencies

Place = int | tuple[int, int] | str


@dataclass(frozen=True)
class PerceivedDistance:
    """Distances between two places of one text, one number a layer (and head, if per head).

    Attributes:
        n_tokens: Tokens from the one to the other: ordinary RoPE's distance.
        summed: Sum of the increments between them, in the layer's own unit; not comparable across
            layers.
        normalised: `summed` divided by the layer's mean increment over the text, its first token
            left out: 3 means "as far as three average tokens of this text".
        effective: ``1 - sum_k w_k cos(d * theta_k)``: what the rotary planes make of the sum d, w_k
            being plane k's share of the query-key energy on this text. From 0 (same place) to 2;
            planes that turn more than once make it go up and down again. It says how far the
            rotation changes the scores, not how much the model attends.
    """

    n_tokens: int
    summed: Float[Tensor, "layer *head"]
    normalised: Float[Tensor, "layer *head"]
    effective: Float[Tensor, "layer *head"]


class Distances:
    """Mixed into the model: `perceived_distance`."""

    cfg: Any

    @torch.no_grad()
    def perceived_distance(
        self, text: str, a: Place, b: Place, prepend_bos: bool | None = None
    ) -> PerceivedDistance:
        """Return the distance between two places, measured from last token to last token.

        The increment of a token is the gap before it. Measured between last tokens, distances add
        up: a to c is a to b and b to c. The last token of a place is the one that holds its last byte.

        Args:
            text: No longer than n_ctx.
            a: A character offset, a span of character offsets (start, end), or a substring that
                occurs exactly once.
            b: Likewise; the order does not matter.
            prepend_bos: Whether EOS leads the text, as in `to_tokens`.

        Raises:
            LRopeError: A place outside the text, or a substring that occurs not once.
        """
        tokens = self.to_tokens(text, prepend_bos)  # type: ignore[attr-defined]
        _, _, ends = self.own_tokenizer().encode_spans(text)  # type: ignore[attr-defined]
        n_lead = tokens.shape[1] - len(ends)
        at = (int(np.searchsorted(ends, _last_byte(text, place), side="right")) for place in (a, b))
        first, last = sorted(index + n_lead for index in at)
        kinds = ("hook_increments", "hook_q", "hook_k")
        names = [name for name in self.hook_dict if name.endswith(kinds)]  # type: ignore[attr-defined]
        _, cache = self.run_with_cache(  # type: ignore[attr-defined]
            tokens, names_filter=names, return_type=None, return_cache_object=False
        )
        layers = [_measured(cache, layer, first, last, self.cfg) for layer in range(self.cfg.n_layers)]
        summed, normalised, effective = (torch.stack(parts) for parts in zip(*layers, strict=True))
        return PerceivedDistance(last - first, summed, normalised, effective)


def _measured(
    cache: dict[str, Tensor], layer: int, first: int, last: int, cfg: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Return one layer's summed, normalised and effective distance, float64."""
    increments = cache[f"blocks.{layer}.hook_increments"][0].double()
    summed = increments[first + 1 : last + 1].sum(0)
    mean = increments[1:].mean(0) if len(increments) > 1 else increments.mean(0)
    weights = plane_energies(cache[f"blocks.{layer}.attn.hook_q"], cache[f"blocks.{layer}.attn.hook_k"])
    weights = weights if summed.ndim else weights.sum(0)
    weights = weights / weights.sum(-1, keepdim=True)
    inv_freq = inverse_frequencies(cfg.d_head, cfg.rope_base, summed.device)
    effective = 1 - (weights * torch.cos(summed.unsqueeze(-1) * inv_freq)).sum(-1)
    return summed, summed / mean, effective


def plane_energies(
    q: Float[Tensor, "batch pos head d_head"], k: Float[Tensor, "batch pos head d_head"]
) -> Float[Tensor, "head plane"]:
    """Return the mean of ``|q_k| |k_k|`` over all pairs of tokens, for every rotary plane.

    The first token is left out where there are others. Rotation changes no length, so that queries
    and keys may be given before or after it.
    """
    lengths = []
    for x in (q, k):
        halves = x.double()[:, 1:] if x.shape[1] > 1 else x.double()
        first, second = halves.chunk(2, dim=-1)
        lengths.append(torch.hypot(first, second).mean(dim=(0, 1)))
    return lengths[0] * lengths[1]


def _last_byte(text: str, place: Place) -> int:
    """Return the byte offset of the last byte of a place."""
    if isinstance(place, str):
        n_found = text.count(place) if place else 0
        if n_found != 1 or text.find(place) != text.rfind(place):
            raise LRopeError(
                f"{place!r} must occur exactly once in the text, and occurs {n_found} times; give a "
                "character offset or a span (start, end)"
            )
        start, end = text.index(place), text.index(place) + len(place)
    else:
        start, end = place if isinstance(place, tuple) else (place, place + 1)
    if not 0 <= start < end <= len(text):
        raise LRopeError(f"place {place!r} lies outside a text of {len(text)} characters")
    return len(text[:end].encode()) - 1
