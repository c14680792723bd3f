"""Everything that a concept is decoded from: what is claimed, and every control beside it.

Of a span are read the increments at its edges, inside and around it, and the distances across it. Features
are counted in tokens. A token that a span cuts belongs to it, so that with tokens longer than a byte a span
may read a little more than its own characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from scipy import sparse

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.models.increments import inverse_frequencies
from lrope_interp.probes.capture.capture import HIDDEN
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import RANDOM_HEAD
from lrope_interp.probes.concepts.options import INCREMENTS, POSITIONS, RESID
from lrope_interp.probes.concepts.reads import PREDICTIONS, Sources
from lrope_interp.probes.concepts.spans import SpanSample
from lrope_interp.probes.statistics.logistic import Matrix, beside

NONE, MAJORITY, CONTROL_TASK = "none", "majority", "control_task"
BYTE_WINDOW, NGRAM, STATIC_POSITION, ENTROPY = "byte_window", "ngram", "static_position", "entropy"
UNTRAINED, FIXED = "untrained", "fixed"
JOINT, JOINT_PLUS, JOINT_UNTRAINED = "joint", "joint_plus", "joint_untrained"
OF_TEXT = (BYTE_WINDOW, NGRAM, STATIC_POSITION, ENTROPY)
OF_MODELS = (UNTRAINED, RANDOM_HEAD, FIXED)
WINDOW = 3
PLACES = tuple(f"before_{k}" for k in range(WINDOW, 0, -1))
PLACES += ("first", "mean", "last")
PLACES += tuple(f"after_{k}" for k in range(1, WINDOW + 1))
DISTANCES = ("across", "per_token", "before", "after")
LONGEST_NGRAM = 3
MOST_NGRAMS = 20_000
_LENGTHS = 24


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
        text_controls: Some of `OF_TEXT`; and `JOINT`, to which features are then added too.
    """

    sample: SpanSample
    sources: Sources
    kinds: tuple[str, ...]
    text_controls: tuple[str, ...] = (*OF_TEXT, JOINT)
    _kept: dict[tuple[str, str, int], np.ndarray] = field(default_factory=dict, compare=False)

    def of_text(self) -> Iterator[FeatureSet]:
        """Yield what needs no increments: bytes, n-grams, place and length, entropies, and all of them."""
        makers: Mapping[str, Callable[[], Matrix]] = {
            BYTE_WINDOW: lambda: self._byte_window,
            NGRAM: lambda: self._ngrams,
            STATIC_POSITION: lambda: static_position(self.sample.documents, self.sample.spans),
            ENTROPY: self._entropies,
            JOINT: lambda: self._joint,
        }
        for name in self.text_controls:
            yield FeatureSet(name, "", None, (makers[name],))

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
            n_heads = self.sources.model[INCREMENTS].shape[1]
            seeds[RANDOM_HEAD] = self.sources.model[RANDOM_HEAD].shape[1] // n_heads
        if self.sources.twin is not None:
            seeds[FIXED] = 1
        for control, n_seeds in seeds.items():
            matrices = tuple(
                lambda control=control, seed=seed: self._layer(control, kind, layer, seed)
                for seed in range(n_seeds)
            )
            if matrices:
                yield FeatureSet(control, kind, layer, matrices)
        if JOINT not in self.text_controls:
            return
        yield FeatureSet(JOINT_PLUS, kind, layer, (lambda: self._beside_joint(NONE, kind, layer),))
        if self.sources.untrained:
            more = (lambda: self._beside_joint(UNTRAINED, kind, layer),)
            yield FeatureSet(JOINT_UNTRAINED, kind, layer, more)

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
        sources, layers = self.sources, list(self.sources.layers)
        reads = sources.model
        if control == UNTRAINED:
            reads = sources.untrained[seed]
        elif control == FIXED:
            assert sources.twin is not None
            reads = sources.twin
        if kind == RESID:
            at = np.searchsorted(sources.hidden_at, sources.captured.token_starts[self.at.last])
            return reads[HIDDEN][layers][:, at].transpose(1, 0, 2)
        if control in (RANDOM_HEAD, FIXED):
            n_heads = sources.model[INCREMENTS].shape[1]
            values = reads[RANDOM_HEAD][:, seed * n_heads : (seed + 1) * n_heads][layers]
        else:
            values = reads[INCREMENTS][layers]
        if kind == INCREMENTS:
            return window_features(values, self.at)
        inv_freq = inverse_frequencies(sources.cfg.d_head, sources.cfg.rope_base, torch.device("cpu"))
        return position_features(values, self.at, inv_freq.double().numpy())

    def _entropies(self) -> Float32[np.ndarray, "n features"]:
        return window_features(self.sources.model[PREDICTIONS], self.at)[:, 0]

    @cached_property
    def _byte_window(self) -> sparse.csr_matrix:
        tokens = self.sources.captured.tokens.astype(np.int64)
        return byte_window(tokens, self.at, self.sources.cfg.d_vocab)

    @cached_property
    def _ngrams(self) -> sparse.csr_matrix:
        return ngrams(self.sample.texts, ~self.sample.is_test)

    @cached_property
    def _joint(self) -> sparse.csr_matrix:
        """Everything that needs no increments, side by side."""
        text = sparse.csr_matrix(sparse.hstack([self._byte_window, self._ngrams]))
        dense = [static_position(self.sample.documents, self.sample.spans), self._entropies()]
        return sparse.csr_matrix(beside(np.concatenate(dense, axis=1), text, self.sample.is_test))

    def _beside_joint(self, control: str, kind: str, layer: int | None) -> Matrix:
        return beside(self._layer(control, kind, layer, 0), self._joint, self.sample.is_test)


@dataclass(frozen=True)
class SpanTokens:
    """Where spans lie among the joined tokens of captured documents.

    Attributes:
        first: The token that holds the first byte of each.
        last: The token that holds its last byte.
        start: The first token of its document.
        stop: The token past the last one of its document.
    """

    first: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]
    start: Int64[np.ndarray, " n"]
    stop: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, captured: Captured, spans: Spans) -> SpanTokens:
        """Find them; the spans' document numbers are those of `captured.documents`."""
        first, past = spans.bytes_of(captured.documents)
        edges = captured.token_starts
        return cls(
            np.searchsorted(edges, first, side="right") - 1,
            np.searchsorted(edges, past - 1, side="right") - 1,
            captured.token_offsets[spans.document],
            captured.token_offsets[spans.document + 1],
        )

    @property
    def length(self) -> Int64[np.ndarray, " n"]:
        """Tokens of each."""
        return self.last - self.first + 1

    def around(self) -> tuple[Int64[np.ndarray, "n around"], Bool[np.ndarray, "n around"]]:
        """Return the tokens before and after each in their order, and which of them the document has."""
        steps = np.arange(1, WINDOW + 1)
        at = np.concatenate([self.first[:, None] - steps[::-1], self.last[:, None] + steps], axis=1)
        is_there = (at >= self.start[:, None]) & (at < self.stop[:, None])
        return np.where(is_there, at, self.first[:, None]), is_there


def window_features(
    values: Float[np.ndarray, "layers heads n_tokens"], at: SpanTokens
) -> Float32[np.ndarray, "n layers features"]:
    """Return the values at `PLACES` of every span, head after head.

    Args:
        values: One number a token, such as increments or entropies.
        at: Where the spans are.

    Returns:
        For each layer heads x 9 features. What lies outside of the document is the layer's mean.
    """
    around, is_there = at.around()
    centre = values.mean(axis=-1, dtype=np.float64).astype(np.float32)[..., None, None]
    beside = np.where(is_there, values[..., around], centre)
    sums = _sums(values)
    mean = (sums[..., at.last + 1] - sums[..., at.first]) / at.length
    inside = np.stack([values[..., at.first], mean, values[..., at.last]], axis=-1)
    parts = [beside[..., :WINDOW], inside, beside[..., WINDOW:]]
    return _by_span(np.concatenate(parts, axis=-1))


def position_features(
    increments: Float[np.ndarray, "layers heads n_tokens"],
    at: SpanTokens,
    inv_freq: Float[np.ndarray, " planes"],
) -> Float32[np.ndarray, "n layers features"]:
    """Return the distances across and beside every span, and what rotary planes make of the first.

    Args:
        increments: One a token.
        at: Where the spans are.
        inv_freq: The angle of each plane for a distance of 1; attention sees the cosines alone.

    Returns:
        For each layer and head: the summed increments from the first to the last token, the same a
        token, from up to three tokens before to the first, from the last to up to three after; and
        the cosine of each plane's angle across.
    """
    sums = _sums(increments)
    left, right = np.maximum(at.first - WINDOW, at.start), np.minimum(at.last + WINDOW, at.stop - 1)
    across = sums[..., at.last + 1] - sums[..., at.first + 1]
    before = sums[..., at.first + 1] - sums[..., left + 1]
    after = sums[..., right + 1] - sums[..., at.last + 1]
    distances = np.stack([across, across / np.maximum(at.length - 1, 1), before, after], axis=-1)
    planes = np.cos(across[..., None] * inv_freq)
    return _by_span(np.concatenate([distances, planes], axis=-1))


def token_window(
    tokens: Int[np.ndarray, " n_tokens"], at: SpanTokens, nothing: int
) -> Int64[np.ndarray, "n places"]:
    """Return the ids around and in every span: 3 before, its first 4 and last 4, 3 after.

    Args:
        tokens: The ids.
        at: Where the spans are.
        nothing: Stands where the document or the span ends.
    """
    around, is_there = at.around()
    inside = np.arange(WINDOW + 1)
    head, tail = at.first[:, None] + inside, at.last[:, None] - inside[::-1]
    places = [
        (around[:, :WINDOW], is_there[:, :WINDOW]),
        (np.minimum(head, at.last[:, None]), head <= at.last[:, None]),
        (np.maximum(tail, at.first[:, None]), tail >= at.first[:, None]),
        (around[:, WINDOW:], is_there[:, WINDOW:]),
    ]
    return np.concatenate([np.where(known, tokens[place], nothing) for place, known in places], axis=1)


def _sums(values: Float[np.ndarray, "layers heads n"]) -> Float[np.ndarray, "layers heads n_and_one"]:
    """Return sums up to each token, float64, from 0."""
    sums = np.cumsum(values, axis=-1, dtype=np.float64)
    return np.concatenate([np.zeros((*sums.shape[:-1], 1)), sums], axis=-1)


def _by_span(
    features: Float[np.ndarray, "layers heads n width"],
) -> Float32[np.ndarray, "n layers features"]:
    moved = features.transpose(2, 0, 1, 3)
    return moved.reshape(*moved.shape[:2], -1).astype(np.float32)


def byte_window(tokens: Int[np.ndarray, " n_tokens"], at: SpanTokens, d_vocab: int) -> sparse.csr_matrix:
    """Return the ids in and around every span, one-hot by place: what any look-up of bytes can know.

    Args:
        tokens: The joined ids (bytes, in a byte model).
        at: Where the spans are.
        d_vocab: Number of ids; one more stands for "nothing there".
    """
    window = token_window(tokens, at, nothing=d_vocab)
    columns = window + np.arange(window.shape[1]) * (d_vocab + 1)
    return _one_hot(columns, window.shape[1] * (d_vocab + 1))


def ngrams(texts: Sequence[str], is_train: Bool[np.ndarray, " n"]) -> sparse.csr_matrix:
    """Return which character n-grams (1 to 3, case as it is) each span has, and which whole text it is.

    The vocabulary is that of the train spans: the 20,000 commonest n-grams, and every text.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        analyzer="char",
        lowercase=False,
        ngram_range=(1, LONGEST_NGRAM),
        binary=True,
        max_features=MOST_NGRAMS,
    )
    train = [text for text, is_own in zip(texts, is_train, strict=True) if is_own]
    counter.fit(train)
    found = sparse.csr_matrix(counter.transform(texts), dtype=np.float32)
    known = {text: number for number, text in enumerate(sorted({*train}))}
    number = np.array([known.get(text, len(known)) for text in texts], dtype=np.int64)
    whole = _one_hot(number[:, None], len(known) + 1)[:, : len(known)]
    return sparse.csr_matrix(sparse.hstack([found, whole]))


def static_position(documents: Sequence[Document], spans: Spans) -> Float32[np.ndarray, "n features"]:
    """Return length and place of every span: in bytes, in characters, and since the line began."""
    first, past = spans.bytes_of(documents)
    sizes = np.array([one.n_bytes for one in documents], dtype=np.int64)
    t = first - (np.cumsum(sizes) - sizes)[spans.document]
    n_bytes, n_characters = past - first, spans.end - spans.start
    rows = zip(spans.document.tolist(), spans.start.tolist(), strict=True)
    line_starts = [documents[number].text.rfind("\n", 0, start) + 1 for number, start in rows]
    in_line = spans.start - np.array(line_starts, dtype=np.int64)
    columns = [t, np.log1p(t), t / sizes[spans.document], in_line, np.log1p(in_line)]
    columns += [n_bytes, np.log(n_bytes), n_characters, np.log(n_characters)]
    lengths = np.minimum(n_characters, _LENGTHS)[:, None] == np.arange(1, _LENGTHS + 1)
    return np.concatenate([np.stack(columns, axis=1), lengths], axis=1).astype(np.float32)


def _one_hot(columns: Int64[np.ndarray, "n places"], width: int) -> sparse.csr_matrix:
    """Return a row of ones and zeros for each row of column numbers."""
    n, places = columns.shape
    ones = np.ones(n * places, dtype=np.float32)
    return sparse.csr_matrix((ones, columns.ravel(), np.arange(0, n * places + 1, places)), shape=(n, width))
