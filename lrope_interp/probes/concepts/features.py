"""Everything that a concept is decoded from: what is claimed, and every control beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32
from scipy import sparse

from lrope_interp.models import LRopeConfig
from lrope_interp.models.rotary import inverse_frequencies
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import RANDOM_HEAD, UNTRAINED_SEEDS
from lrope_interp.probes.capture.readouts import HIDDEN
from lrope_interp.probes.concepts.options import INCREMENTS, POSITIONS, RESID
from lrope_interp.probes.concepts.span_controls import byte_window, ngrams, static_position
from lrope_interp.probes.concepts.span_features import SpanTokens, position_features, window_features
from lrope_interp.probes.concepts.span_reads import INCREMENTS as READ_INCREMENTS
from lrope_interp.probes.concepts.span_reads import PREDICTIONS, Reads
from lrope_interp.probes.concepts.span_sample import SpanSample
from lrope_interp.probes.statistics.logistic import Matrix, beside

NONE, MAJORITY, CONTROL_TASK = "none", "majority", "control_task"
BYTE_WINDOW, NGRAM, STATIC_POSITION, ENTROPY = "byte_window", "ngram", "static_position", "entropy"
UNTRAINED, FIXED = "untrained", "fixed"
JOINT, JOINT_PLUS, JOINT_UNTRAINED = "joint", "joint_plus", "joint_untrained"
OF_TEXT = (BYTE_WINDOW, NGRAM, STATIC_POSITION, ENTROPY)
OF_MODELS = (UNTRAINED, RANDOM_HEAD, FIXED)


@dataclass(frozen=True)
class Sources:
    """What models did at the tokens of all documents.

    Attributes:
        captured: The documents and their tokens.
        layers: The layers that are probed; reads hold all layers of the model.
        model: Of the model that is explained.
        untrained: Of control models, one a seed.
        twin: Of a fixed model, if there is one.
        hidden_at: Joined bytes at which residual streams were kept.
        cfg: The model's configuration.
    """

    captured: Captured
    layers: tuple[int, ...]
    model: Reads
    untrained: tuple[Reads, ...]
    twin: Reads | None
    hidden_at: np.ndarray
    cfg: LRopeConfig


@dataclass(frozen=True)
class FeatureSet:
    """Features that one probe reads, or one probe a seed.

    Attributes:
        control: "none" for the features themselves, else the name of the control.
        features: "increments", "positions" or "resid"; "" where it is none of a model's layers.
        layer: The layer; None for all together, and where `features` is "".
        matrices: Make the features; one a seed.
    """

    control: str
    features: str
    layer: int | None
    matrices: tuple[Callable[[], Matrix], ...]

    @property
    def key(self) -> tuple[str, str, int | None]:
        """What tells it from the others."""
        return self.control, self.features, self.layer


@dataclass(frozen=True)
class Features:
    """Makes the feature sets of one family.

    Attributes:
        sample: The spans.
        sources: What the models did.
        kinds: Some of "increments", "positions", "resid".
    """

    sample: SpanSample
    sources: Sources
    kinds: tuple[str, ...]
    _kept: dict[tuple[str, str, int], np.ndarray] = field(default_factory=dict, compare=False)

    def of_text(self) -> Iterator[FeatureSet]:
        """Yield what needs no increments: bytes, n-grams, place and length, entropies, and all of them."""
        makers: Mapping[str, Callable[[], Matrix]] = {
            BYTE_WINDOW: lambda: byte_window(self._tokens, self.at, self.sources.cfg.d_vocab),
            NGRAM: lambda: ngrams(self.sample.texts, ~self.sample.is_test),
            STATIC_POSITION: lambda: static_position(self.sample.documents, self.sample.spans),
            ENTROPY: self._entropies,
            JOINT: lambda: self._joint,
        }
        for name, make in makers.items():
            yield FeatureSet(name, "", None, (make,))

    def of_layers(self) -> Iterator[FeatureSet]:
        """Yield what is claimed for every layer and for all together, and its controls of the same shape."""
        for kind in self.kinds:
            every: list[int | None] = [*self.sources.layers]
            if kind != RESID and len(every) > 1:
                every.append(None)
            for layer in every:
                yield from self._of_layer(kind, layer)

    @cached_property
    def at(self) -> SpanTokens:
        """Where the spans are among the tokens."""
        return SpanTokens.of(self.sources.captured, self.sample.spans)

    def claimed(self, kind: str, layer: int | None) -> Float32[np.ndarray, "n features"]:
        """Return the features themselves."""
        return self._layer(NONE, kind, layer, 0)

    def names(self, kind: str, layer: int | None) -> list[str]:
        """Return what each feature of a set is called, with its layer where there are several."""
        from lrope_interp.probes.concepts.span_features import DISTANCES, PLACES

        planes = tuple(f"plane_{k}" for k in range(self.sources.cfg.d_head // 2))
        places = {INCREMENTS: PLACES, POSITIONS: DISTANCES + planes}.get(kind)
        if places is None:
            return [f"d{k}" for k in range(self.sources.cfg.d_model)]
        n_heads = self.sources.cfg.n_heads if self.sources.cfg.per_head else 1
        heads = [f"H{head} " if n_heads > 1 else "" for head in range(n_heads)]
        layers = self.sources.layers if layer is None else (layer,)
        return [f"L{one} {head}{place}" for one in layers for head in heads for place in places]

    def _of_layer(self, kind: str, layer: int | None) -> Iterator[FeatureSet]:
        seeds = {NONE: 1, UNTRAINED: len(self.sources.untrained)}
        if kind != RESID and RANDOM_HEAD in self.sources.model:
            seeds[RANDOM_HEAD] = len(UNTRAINED_SEEDS)
        if self.sources.twin is not None:
            seeds[FIXED] = 1
        for control, n_seeds in seeds.items():
            if n_seeds:
                yield FeatureSet(control, kind, layer, self._seeded(control, kind, layer, n_seeds))
        yield FeatureSet(JOINT_PLUS, kind, layer, (lambda: self._beside_joint(NONE, kind, layer),))
        if self.sources.untrained:
            more = (lambda: self._beside_joint(UNTRAINED, kind, layer),)
            yield FeatureSet(JOINT_UNTRAINED, kind, layer, more)

    def _seeded(
        self, control: str, kind: str, layer: int | None, n_seeds: int
    ) -> tuple[Callable[[], Matrix], ...]:
        return tuple(lambda seed=seed: self._layer(control, kind, layer, seed) for seed in range(n_seeds))

    def _layer(
        self, control: str, kind: str, layer: int | None, seed: int
    ) -> Float32[np.ndarray, "n features"]:
        """Return one layer's features of one model, or those of all layers end to end."""
        key = (control, kind, seed)
        if key not in self._kept:
            self._kept[key] = self._all_layers(control, kind, seed)
        found = self._kept[key]
        return found.reshape(len(found), -1) if layer is None else found[:, self.sources.layers.index(layer)]

    def _all_layers(self, control: str, kind: str, seed: int) -> Float32[np.ndarray, "n layers features"]:
        layers = list(self.sources.layers)
        reads = self._reads(control, seed)
        if kind == RESID:
            captured = self.sources.captured
            at = np.searchsorted(self.sources.hidden_at, captured.token_starts[self.at.last])
            return reads[HIDDEN][layers][:, at].transpose(1, 0, 2)
        values = self._values(control, reads, seed)[layers]
        if kind == INCREMENTS:
            return window_features(values, self.at)
        inv_freq = inverse_frequencies(
            self.sources.cfg.d_head, self.sources.cfg.rope_base, torch.device("cpu")
        )
        return position_features(values, self.at, inv_freq.double().numpy())

    def _reads(self, control: str, seed: int) -> Reads:
        if control == UNTRAINED:
            return self.sources.untrained[seed]
        if control == FIXED:
            assert self.sources.twin is not None
            return self.sources.twin
        return self.sources.model

    def _values(self, control: str, reads: Reads, seed: int) -> Float[np.ndarray, "layers heads n_tokens"]:
        if control not in (RANDOM_HEAD, FIXED):
            return reads[READ_INCREMENTS]
        n_heads = self.sources.model[READ_INCREMENTS].shape[1]
        return reads[RANDOM_HEAD][:, seed * n_heads : (seed + 1) * n_heads]

    def _entropies(self) -> Float32[np.ndarray, "n features"]:
        return window_features(self.sources.model[PREDICTIONS], self.at)[:, 0]

    @cached_property
    def _tokens(self) -> np.ndarray:
        return self.sources.captured.tokens.astype(np.int64)

    @cached_property
    def _joint(self) -> sparse.csr_matrix:
        """Everything that needs no increments, side by side."""
        is_test = self.sample.is_test
        text = sparse.csr_matrix(
            sparse.hstack(
                [
                    byte_window(self._tokens, self.at, self.sources.cfg.d_vocab),
                    ngrams(self.sample.texts, ~is_test),
                ]
            )
        )
        dense = [static_position(self.sample.documents, self.sample.spans), self._entropies()]
        return sparse.csr_matrix(beside(np.concatenate(dense, axis=1), text, is_test))

    def _beside_joint(self, control: str, kind: str, layer: int | None) -> Matrix:
        return beside(self._layer(control, kind, layer, 0), self._joint, self.sample.is_test)
