"""The control that knows the last n tokens: each layer's mean increment by n-gram.

What a layer's increments say beyond the last five bytes is what these rows do not reach. They are
lookup tables filled with the model's own increments, so they are no model of language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.capture import Captured
from lrope_interp.probes.capture.controls import byte_mean
from lrope_interp.probes.capture.signals import Signal
from lrope_interp.probes.statistics.suffixes import Level, grow, look_up

LENGTHS = (2, 3, 4, 5)
LEAST_COUNT = 2


@dataclass(frozen=True)
class NgramMeans:
    """Mean increments by the last 1, 2, ... tokens of the same document.

    Attributes:
        overall: Mean of each layer and head, over all tokens.
        keys: Of the n-grams of each length (see `suffixes`).
        means: Of each n-gram, by length.
    """

    overall: Float64[np.ndarray, "layers heads"]
    keys: tuple[Int64[np.ndarray, " _"], ...]
    means: tuple[Float32[np.ndarray, "layers heads _"], ...]

    @classmethod
    def of(cls, captured: Sequence[Captured]) -> NgramMeans:
        """Count the n-grams that occur at least twice, and every single token.

        Args:
            captured: From one model, with the same layers.
        """
        tokens = np.concatenate([one.tokens for one in captured]).astype(np.int64)
        room = np.concatenate([_room(one) for one in captured])
        increments = [one.at_tokens(one.increments) for one in captured]
        values = increments[0] if len(captured) == 1 else np.concatenate(increments, axis=-1)
        if not len(tokens):
            raise LRopeError("n-gram means need captured text, and there is none; give documents with text")
        least = [1] + [LEAST_COUNT] * (max(LENGTHS) - 1)
        levels = grow(tokens, np.arange(len(tokens)), room, least)
        keys, means = zip(*[(level.keys, _means(values, level)) for level in levels], strict=True)
        return cls(values.mean(axis=-1, dtype=np.float64), keys, means)

    def at(self, captured: Captured, length: int) -> Float32[np.ndarray, "layers heads n_bytes"]:
        """Return, at every byte, the mean of the longest known n-gram of at most `length` tokens up to it."""
        n_tokens = len(captured.tokens)
        values = np.empty((*self.overall.shape, n_tokens), dtype=np.float32)
        values[:] = self.overall[..., None]
        tokens, room = captured.tokens.astype(np.int64), _room(captured)
        levels = look_up(tokens, np.arange(n_tokens), room, self.keys[:length])
        for (places, numbers), means in zip(levels, self.means, strict=False):
            values[..., places] = means[..., numbers]
        if captured.has_byte_tokens:
            return values
        return np.take(values, captured.at_every_byte(np.arange(n_tokens)), axis=-1)


def ngram_means(captured: Sequence[Captured], is_shared: bool) -> list[Signal]:
    """Make the controls `ngram_2` to `ngram_5`: mean increments by the last bytes up to the gap's.

    An n-gram that was seen fewer than two times gives way to the next shorter one, down to the byte
    alone. In layer 0, and everywhere under a shared head, an increment is a function of the byte:
    there they are what `byte_mean` is. Where tokens are longer than a byte, n counts tokens.

    Args:
        captured: From documents that are neither dev nor test; the first decides `byte_mean`.
        is_shared: Whether one head serves all layers.
    """
    if not captured:
        return []
    table, single = NgramMeans.of(captured), byte_mean(captured[0], is_shared)

    def look(length: int, at: Captured) -> Float32[np.ndarray, "layers heads n_bytes"]:
        alone = np.asarray(single.function(at))
        if is_shared:
            return alone
        values = table.at(at, length)
        is_lexical = np.array([layer == 0 for layer in at.layers], dtype=bool)
        values[is_lexical] = alone[is_lexical]
        return values

    return [Signal(f"ngram_{length}", partial(look, length), is_rule=True) for length in LENGTHS]


def _means(
    values: Float32[np.ndarray, "layers heads n_tokens"], level: Level
) -> Float32[np.ndarray, "layers heads strings"]:
    """Average what stands at each string's places."""
    n_strings = len(level.keys)
    counts = np.bincount(level.numbers, minlength=n_strings)
    out = np.empty((*values.shape[:2], n_strings), dtype=np.float32)
    for layer, head in np.ndindex(*values.shape[:2]):
        sums = np.bincount(level.numbers, weights=values[layer, head][level.places], minlength=n_strings)
        out[layer, head] = sums / counts
    return out


def _room(captured: Captured) -> Int64[np.ndarray, " n_tokens"]:
    """How many tokens of its document there are up to and including each."""
    offsets = captured.token_offsets
    return np.arange(1, len(captured.tokens) + 1) - np.repeat(offsets[:-1], np.diff(offsets))
