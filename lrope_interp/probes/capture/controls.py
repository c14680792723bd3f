"""What the model's increments are held against: rules of the bytes, byte means, untrained models.

An AUC of 0.97 at spaces is worth nothing where a table of 256 numbers reaches 0.99; these are the
tables, the rules, and the models that never learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import random_heads, randomised_control
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import (
    Progress,
    Readout,
    capture,
    head_readout,
    increments_by_byte,
    sees_bytes_only,
    staged,
)
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.signals import Signal
from lrope_interp.probes.statistics.suffixes import grow, look_up
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer

UNTRAINED_SEEDS = (0, 1, 2, 3, 4)
RANDOM_HEAD = "random_head"
UNTRAINED_OVERLAP = 0.125  # five of them are most of the cost; it moves their ROC-AUC by 0.002 at most
_CALIBRATION_WINDOWS = 16
_WORTH_SAYING = 1e-3
LENGTHS = (2, 3, 4, 5)
LEAST_COUNT = 2


def spacebyte(captured: Captured) -> Int64[np.ndarray, " n_bytes"]:
    """SpaceByte's rule (arXiv 2404.14408): 1 right after the first of one or more spacelike bytes.

    A byte is spacelike unless it is an ASCII letter or digit or continues a character; the first
    byte of a longer character therefore counts as spacelike.
    """
    byte = captured.byte
    is_word = ((byte | 0x20) - ord("a") < 26) | (byte - ord("0") < 10)  # unsigned: below wraps around
    is_spacelike = ~(is_word | ((byte & 0xC0) == 0x80))
    return (_shifted(is_spacelike, captured, 1) & ~_shifted(is_spacelike, captured, 2)).astype(np.int64)


def character_start(captured: Captured) -> Int64[np.ndarray, " n_bytes"]:
    """1 at the first byte of a character; it is all that some byte-level scores show."""
    return ((captured.byte & 0xC0) != 0x80).astype(np.int64)


RULES = (
    Signal("spacebyte", spacebyte, is_rule=True),
    Signal("character_start", character_start, is_rule=True),
)


def byte_mean(fit: Captured, is_shared: bool = False) -> Signal:
    """Make the control that knows the byte and nothing else: each layer's mean increment by byte.

    Where tokens are longer than a byte it knows the token, and is called token_mean: its table has a
    row an id, so that it is as strong a control there as it is of bytes.

    Args:
        fit: Captured on documents that are neither dev nor test. A byte value (or token) that does
            not occur there gets the layer's mean; in layer 0 of a model with a head a layer, and
            everywhere under a shared head, it gets its own increment, which depends on nothing else.
        is_shared: Whether one head serves all layers.
    """
    increments = fit.at_tokens(fit.increments)
    overall = increments.mean(axis=-1, dtype=np.float64, keepdims=True)
    counts = np.bincount(fit.tokens)
    sums = np.stack([np.bincount(fit.tokens, weights=row) for row in increments.reshape(-1, len(fit.tokens))])
    means = np.where(counts > 0, sums / np.maximum(counts, 1), overall.reshape(-1, 1))
    # A row an id, up to the largest that occurs, and the layer's mean for those beyond.
    table = np.append(means.reshape(*fit.increments.shape[:2], -1), overall, axis=-1)

    def read(captured: Captured) -> Float32[np.ndarray, "layers heads n_bytes"]:
        values = table[..., np.minimum(captured.token, table.shape[-1] - 1)].astype(np.float32)
        is_unseen = ~np.isin(captured.token, fit.tokens)
        for at, layer in enumerate(captured.layers):
            if layer == 0 or is_shared:
                values[at][:, is_unseen] = captured.increments[at][:, is_unseen]
        return values

    return Signal("byte_mean" if fit.has_byte_tokens else "token_mean", read, is_rule=True)


def unseen_bytes_note(fit: Captured, test: Captured) -> list[str]:
    """Say how much of the test text has bytes that the table of byte means never saw."""
    share = float(np.mean(~np.isin(test.tokens, fit.tokens))) if test.n_bytes else 0.0
    if share < _WORTH_SAYING or test.layers in ((), (0,)):
        return []
    what = "bytes have a value" if test.has_byte_tokens else "tokens are ones"
    name = "byte_mean" if test.has_byte_tokens else "token_mean"
    return [
        f"{share:.1%} of the test {what} that the fit text lacks: above layer 0 their "
        f"{name} is the layer's mean, so beating {name} there does not show that a layer uses context"
    ]


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
        keys, means = [], []
        for known, places, numbers in levels:
            n_strings = len(known)
            counts = np.bincount(numbers, minlength=n_strings)
            mean = np.empty((*values.shape[:2], n_strings), dtype=np.float32)
            for at in np.ndindex(*values.shape[:2]):
                sums = np.bincount(numbers, weights=values[at][places], minlength=n_strings)
                mean[at] = sums / counts
            keys.append(known)
            means.append(mean)
        return cls(values.mean(axis=-1, dtype=np.float64), tuple(keys), tuple(means))

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


def _room(captured: Captured) -> Int64[np.ndarray, " n_tokens"]:
    """How many tokens of its document there are up to and including each."""
    offsets = captured.token_offsets
    return np.arange(1, len(captured.tokens) + 1) - np.repeat(offsets[:-1], np.diff(offsets))


def untrained(
    model: LRopeTransformer,
    fit: Sequence[Document],
    *,
    seeds: Sequence[int] = UNTRAINED_SEEDS,
    batch_size: int,
    on_progress: Progress | None = None,
) -> list[Signal]:
    """Make the controls that never learned: one signal a seed.

    Every weight is random, and each head is scaled so that its pre-sigmoid values spread as the
    trained layer's do: a random function of the same text, as wide as the learned one. What they
    read is remembered between runs. Their windows overlap by an eighth, not by half, because five such
    models are most of the cost of an analysis.

    Args:
        model: The trained model.
        fit: Documents on which the spread is measured.
        seeds: Of the random weights.
        batch_size: Windows at a time.
        on_progress: Told about every forward pass, by stages "untrained 1/2", ...
    """
    tokens = calibration_tokens(fit, model.cfg.n_ctx, model.own_tokenizer()).to(model.cfg.device)
    identity = model_identity(model) | {"what": "untrained", "calibration": sorted(one.sha256 for one in fit)}
    identity |= {"overlap": UNTRAINED_OVERLAP}

    @lru_cache(maxsize=1)  # one split is read after the other
    def control(seed: int, n_layers: int) -> LRopeTransformer:
        return randomised_control(model, tokens, seed, n_layers=n_layers)

    def read(seed: int, number: int, captured: Captured) -> Float32[np.ndarray, "layers heads n_bytes"]:
        stage = staged(on_progress, f"untrained {number}/{len(seeds)}")
        place = {"layers": list(captured.layers), "documents": [one.sha256 for one in captured.documents]}

        return remembered(
            identity | place | {"seed": seed},
            lambda: _increments_of(control(seed, max(captured.layers) + 1), batch_size, stage, captured),
        )

    return [
        Signal("untrained", partial(read, seed, number), seed=seed)
        for number, seed in enumerate(seeds, start=1)
    ]


def random_head_readout(
    model: LRopeTransformer,
    fit: Sequence[Document],
    seeds: Sequence[int] = UNTRAINED_SEEDS,
    n_layers: int | None = None,
) -> Readout:
    """Return what reads the trained trunk, its first layers or all, through random heads, one a seed."""
    tokens = calibration_tokens(fit, model.cfg.n_ctx, model.own_tokenizer()).to(model.cfg.device)
    return head_readout(RANDOM_HEAD, [random_heads(model, tokens, seed, n_layers) for seed in seeds])


def random_head(captured: Captured, seed: int) -> Float32[np.ndarray, "layers heads n_bytes"]:
    """The trained trunk as a random head of the same spread reads it: what the trunk offers to anyone."""
    n_heads = captured.increments.shape[1]
    at = UNTRAINED_SEEDS.index(seed) * n_heads
    return captured.readouts[RANDOM_HEAD][:, at : at + n_heads]


def random_head_signals(seeds: Sequence[int]) -> list[Signal]:
    """Return the controls that `random_head_readout` read off the residual stream."""
    return [Signal(RANDOM_HEAD, partial(random_head, seed=seed), seed=seed) for seed in seeds]


def calibration_tokens(
    documents: Sequence[Document], n_ctx: int, tokenizer: Tokenizer | None = None
) -> Int64[torch.Tensor, "windows pos"]:
    """Return up to 16 full windows, spread evenly over the documents joined by EOS; none has pads."""
    tokenizer = tokenizer or ByteTokenizer()
    eos = np.array([tokenizer.eos_id], dtype=np.int64)
    ordered = sorted(documents, key=lambda one: one.sha256)
    pieces = [part for one in ordered for part in (eos, tokenizer.encode(one.text))]
    joined = np.concatenate([eos[:0], *pieces]).astype(np.int64)
    width = min(n_ctx, len(joined))
    n_windows = min(_CALIBRATION_WINDOWS, len(joined) // max(width, 1))
    starts = np.linspace(0, len(joined) - width, n_windows).astype(np.int64)
    return torch.from_numpy(joined[starts[:, None] + np.arange(width)])


def _increments_of(
    control: LRopeTransformer, batch_size: int, on_progress: Progress | None, captured: Captured
) -> Float32[np.ndarray, "layers heads n_bytes"]:
    how = {"batch_size": batch_size, "on_progress": on_progress}
    if sees_bytes_only(control, captured.layers):
        return increments_by_byte(control, captured, **how)
    how |= {"layers": captured.layers, "overlap": UNTRAINED_OVERLAP}
    return capture(control, captured.documents, predictions=False, **how).increments


def _shifted(flags: np.ndarray, captured: Captured, by: int) -> np.ndarray:
    """Return the flag `by` bytes earlier in the same document, False before its start."""
    earlier = np.concatenate([np.zeros(by, dtype=bool), flags])[: len(flags)]
    return earlier & (captured.t >= by)
