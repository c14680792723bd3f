"""How far apart a model takes two places of a text to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from lrope_interp.errors import LRopeError, whole_numbers
from lrope_interp.models.config import LRopeConfig
from lrope_interp.models.hooked_model import HookedModel
from lrope_interp.models.increments import inverse_frequencies
from lrope_interp.models.text import TextMethods

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


@dataclass(frozen=True)
class DistanceReads:
    """What one forward pass over a text says about the distance of any two of its tokens.

    Places are indices into the sequence that was read, EOS in front included.

    Attributes:
        text: The text.
        ends: The byte after the last one of each token of the text.
        n_lead: Tokens in front of the text: 1 with EOS, else 0.
        increments: Of every token, float64.
        shares: Each rotary plane's share of the query-key energy on this text.
        inv_freq: What each plane turns a position, in radians.
    """

    text: str
    ends: Int64[np.ndarray, " n_tokens"]
    n_lead: int
    increments: Float[Tensor, "layer pos *head"]
    shares: Float[Tensor, "layer *head plane"]
    inv_freq: Float[Tensor, " plane"]

    @property
    def mean(self) -> Float[Tensor, "layer *head"]:
        """The mean increment, the first token left out where there are others."""
        n_first = 1 if self.increments.shape[1] > 1 else 0
        return self.increments[:, n_first:].mean(1)

    def place_of(self, place: Place) -> int:
        """Return the token that holds the last byte of a place.

        Raises:
            LRopeError: A place outside the text, or a substring that occurs not once.
        """
        last_byte = len(self.text[: span_of(self.text, place)[1]].encode()) - 1
        return int(np.searchsorted(self.ends, last_byte, side="right")) + self.n_lead

    def between(self, a: Place, b: Place) -> PerceivedDistance:
        """Return the distance of two places, in either order; see `LRopeTransformer.perceived_distance`."""
        first, last = sorted(self.place_of(place) for place in (a, b))
        summed = self.increments[:, first + 1 : last + 1].sum(1)
        effective = effective_distance(summed, self.shares, self.inv_freq)
        return PerceivedDistance(last - first, summed, summed / self.mean, effective)


def span_of(text: str, place: Place) -> tuple[int, int]:
    """Return the characters of a place, the first and the one after the last.

    Raises:
        LRopeError: A place outside the text, or a substring that occurs not once.
    """
    if isinstance(place, str):
        n_found = text.count(place) if place else 0
        if n_found != 1 or text.find(place) != text.rfind(place):
            raise LRopeError(
                f"{place!r} must occur exactly once in the text, and occurs {n_found} times; give a "
                "character offset or a span (start, end)"
            )
        return text.index(place), text.index(place) + len(place)
    ends = whole_numbers(place, "the ends of a place")
    if not 1 <= len(ends) <= 2:
        raise LRopeError(f"a place is a character, a span (start, end) or a text; got {place!r:.60}")
    start, end = (ends[0], ends[0] + 1) if len(ends) == 1 else ends
    if start >= end:
        raise LRopeError(
            f"a span A:B goes from character A up to but not including B, so A must be below B; got "
            f"{start}:{end}"
        )
    if not 0 <= start < end <= len(text):
        raise LRopeError(f"place {place!r} lies outside a text of {len(text)} characters")
    return start, end


def read_distances(model: TextMethods, text: str, prepend_bos: bool | None = None) -> DistanceReads:
    """Read a text once; see `LRopeTransformer.distance_reads`."""
    tokens = model.to_tokens(text, prepend_bos)
    ends = model.own_tokenizer().encode_spans(text)[2]
    cache = _read(model, tokens, ("hook_increments", "hook_q", "hook_k"))
    layers = [f"blocks.{layer}.hook_increments" for layer in range(model.cfg.n_layers)]
    increments = torch.stack([cache[name][0].double() for name in layers])
    inv_freq = inverse_frequencies(model.cfg.d_head, model.cfg.rope_base, increments.device)
    n_lead = tokens.shape[1] - len(ends)
    return DistanceReads(text, ends, n_lead, increments, _shares(model.cfg, cache), inv_freq)


def plane_shares(model: HookedModel, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "layer *head plane"]:
    """Return each rotary plane's share of the query-key energy; see `LRopeTransformer.plane_shares`."""
    return _shares(model.cfg, _read(model, tokens, ("hook_q", "hook_k")))


def _read(model: HookedModel, tokens: Tensor, kinds: tuple[str, ...]) -> dict[str, Tensor]:
    names = [name for name in model.hook_dict if name.endswith(kinds)]
    _, cache = model.run_with_cache(tokens, names_filter=names, return_type=None, return_cache_object=False)
    return cache


def _shares(cfg: LRopeConfig, cache: dict[str, Tensor]) -> Float[Tensor, "layer *head plane"]:
    attentions = [f"blocks.{layer}.attn" for layer in range(cfg.n_layers)]
    energies = torch.stack(
        [plane_energies(cache[f"{name}.hook_q"], cache[f"{name}.hook_k"]) for name in attentions]
    )
    energies = energies if cfg.per_head else energies.sum(1)
    return energies / energies.sum(-1, keepdim=True)


def effective_distance(
    summed: Float[Tensor, "*shape"], shares: Float[Tensor, "*shape_of_rows plane"], inv_freq: Tensor
) -> Float[Tensor, "*shape"]:
    """Return ``1 - sum_k share_k cos(summed * theta_k)``; `shares` broadcasts over the sums."""
    return 1 - (shares * torch.cos(summed.unsqueeze(-1) * inv_freq)).sum(-1)


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
