"""What models do at the tokens of some documents, kept piece by piece, so that a killed analysis goes on.

A piece is some documents in a row. What was read of it is remembered by the model, the documents and
what was asked for; a later analysis of the same text finds it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from lrope_interp.data import Document
from lrope_interp.models import LRopeConfig, LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import (
    HIDDEN,
    OVERLAP,
    Progress,
    Readout,
    capture,
)
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import (
    RANDOM_HEAD,
    UNTRAINED_OVERLAP,
    UNTRAINED_SEEDS,
    NgramMeans,
    calibration_tokens,
    random_head_readout,
)
from lrope_interp.probes.concepts.options import INCREMENTS
from lrope_interp.probes.concepts.units import Signal

KIND = "span-reads"
PREDICTIONS = "predictions"
_KEPT = 128
_PIECE_BYTES = 150_000
_LENGTHS = {"lexical": 1, "ngram_3": 3}

Reads = Mapping[str, Float32[np.ndarray, "..."]]
"""By name [layers, width, n_tokens]; "hidden" is [layers, n_hidden, d_model]."""


@dataclass(frozen=True)
class Sources:
    """What models did at the tokens of all documents.

    Attributes:
        captured: The documents and their tokens.
        layers: The layers that are probed; reads hold all layers up to the last of them.
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
class ModelReader:
    """Reads models over the same documents.

    Attributes:
        documents: All that is read, in the order of the joined tokens.
        hidden_at: Joined bytes, rising, at which residual streams are kept; they begin tokens.
        batch_size: Windows at a time; it changes no number.
        on_progress: Told the stage, bytes done and bytes in all.
        seeds: Of random heads and untrained models.
        n_layers: How many layers are read, from the first on; None for all.
        predicts: Whether the model that is explained is asked for predictions.
        overlap: Of the windows of the model that is explained and of its twin; see `capture`.
    """

    documents: tuple[Document, ...]
    hidden_at: Int64[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    batch_size: int = 16
    on_progress: Progress | None = None
    seeds: tuple[int, ...] = UNTRAINED_SEEDS
    n_layers: int | None = None
    predicts: bool = True
    overlap: float = OVERLAP

    def trained(self, model: LRopeTransformer, calibration: Sequence[Document]) -> Reads:
        """Read increments, predictions, and the stream through random heads, one a seed in each layer.

        Args:
            model: The model that is explained.
            calibration: Documents on which the spread of the random heads is matched.
        """
        readouts: tuple[Readout, ...] = ()
        if model.cfg.increments != "fixed":
            readouts = (random_head_readout(model, calibration, self.seeds, self.n_layers),)
        said = {"calibration": _hashes(calibration), "seeds": list(self.seeds)}
        return self._read(model, "model", readouts, said, predicts=self.predicts, overlap=self.overlap)

    def untrained(self, model: LRopeTransformer, calibration: Sequence[Document], seed: int) -> Reads:
        """Read increments and the stream of a control model that never learned."""
        tokens = calibration_tokens(calibration, model.cfg.n_ctx, model.own_tokenizer())
        control = randomised_control(model, tokens.to(model.cfg.device), seed, n_layers=self.n_layers)
        stage = f"untrained {seed + 1}/{len(self.seeds)}"
        return self._read(control, stage, (), {}, overlap=UNTRAINED_OVERLAP)

    def twin(self, twin: LRopeTransformer, model: LRopeTransformer, calibration: Sequence[Document]) -> Reads:
        """Read the stream of a fixed model, through the random heads that are put on the model's too.

        A fixed model has no increments to read; what a head could make of its stream is the question.
        """
        heads = random_head_readout(model, calibration, self.seeds[:1], self.n_layers)
        said = {"heads": model_identity(model), "calibration": _hashes(calibration)}
        return self._read(twin, "fixed", (heads,), said, predicts=self.predicts, overlap=self.overlap)

    def _read(
        self,
        model: LRopeTransformer,
        stage: str,
        readouts: tuple[Readout, ...],
        said: Mapping[str, object],
        predicts: bool = False,
        overlap: float = OVERLAP,
    ) -> Reads:
        """Read piece after piece, and put what was read together; controls are not asked to predict."""
        how = {"predictions": predicts, "overlap": overlap}
        known = model_identity(model) | {"heads": [one.name for one in readouts], "n_layers": self.n_layers}
        known |= how | dict(said)
        found: list[Reads] = []
        n_done, n_bytes = 0, sum(one.n_bytes for one in self.documents)
        for piece, hidden_at in self._pieces():
            found.append(
                remembered(
                    known | {"documents": _hashes(piece), "hidden": hidden_at.tolist()},
                    lambda piece=piece, at=hidden_at: self._piece(model, piece, readouts, at, **how),
                    KIND,
                    _KEPT,
                )
            )
            n_done += sum(one.n_bytes for one in piece)
            if self.on_progress is not None:
                self.on_progress(f"reading: {stage}", n_done, n_bytes)
        return {
            name: np.concatenate([one[name] for one in found], axis=1 if name == HIDDEN else -1)
            for name in found[0]
        }

    def _pieces(self) -> Iterator[tuple[tuple[Document, ...], Int64[np.ndarray, " m"]]]:
        """Yield documents of about 150 kB together, each with its own places of `hidden_at`."""
        piece: list[Document] = []
        start = at = 0
        for number, document in enumerate(self.documents):
            piece.append(document)
            at += document.n_bytes
            if at - start >= _PIECE_BYTES or number + 1 == len(self.documents):
                inside = self.hidden_at[(self.hidden_at >= start) & (self.hidden_at < at)] - start
                yield tuple(piece), inside
                piece, start = [], at

    def _piece(
        self,
        model: LRopeTransformer,
        documents: tuple[Document, ...],
        readouts: tuple[Readout, ...],
        hidden_at: Int64[np.ndarray, " m"],
        **how: Any,
    ) -> Reads:
        """Run a model over some documents; what is read is that at the first bytes of tokens."""
        captured = capture(
            model,
            documents,
            layers=None if self.n_layers is None else range(self.n_layers),
            readouts=readouts,
            hidden_at=hidden_at,
            **how,
            batch_size=self.batch_size,
        )
        at_bytes = {INCREMENTS: captured.increments, **captured.readouts}
        if how["predictions"]:
            predictions = (captured.entropy, captured.surprisal, captured.entropy_next)
            at_bytes[PREDICTIONS] = np.stack(predictions)[None]
        found = {name: captured.at_tokens(values) for name, values in at_bytes.items()}
        return {name: one.astype(np.float32) for name, one in (found | {HIDDEN: captured.hidden}).items()}


def _hashes(documents: Sequence[Document]) -> list[str]:
    return [one.sha256 for one in documents]


def normalised(sources: Sources, n_train: int) -> Float32[np.ndarray, "layers heads n_tokens"]:
    """Return increments in units of the layer's mean over the first `n_train` documents."""
    return _normalised(sources.model[INCREMENTS][list(sources.layers)], sources.captured, n_train)


def structure_signals(
    sources: Sources, n_train: int
) -> tuple[Captured, Mapping[str, Signal | Sequence[Signal]]]:
    """Return the test documents, and increments ("") and controls at their bytes, 0 inside tokens.

    "lexical" is the mean increment of the token on the train documents, "ngram_3" that of the last three:
    what tables of bytes know, as far as they were seen there.

    Args:
        sources: What models did at all documents.
        n_train: How many documents are not test.
    """
    layers, captured = list(sources.layers), sources.captured
    byte, token = int(captured.offsets[n_train]), int(captured.token_offsets[n_train])

    def of(values: np.ndarray) -> Float32[np.ndarray, "layers heads n_bytes"]:
        out = np.zeros((*values.shape[:2], captured.n_bytes - byte), dtype=np.float32)
        out[..., captured.token_starts[token:] - byte] = values[..., token:]
        return out

    own = normalised(sources, n_train)
    signals: dict[str, Signal | Sequence[Signal]] = {"": of(own)}
    test = _part(captured, n_train, len(captured.documents), sources.layers, of(own))
    at_train = np.zeros((*own.shape[:2], byte), dtype=np.float32)
    at_train[..., captured.token_starts[:token]] = own[..., :token]
    means = NgramMeans.of([_part(captured, 0, n_train, sources.layers, at_train)])
    signals |= {name: means.at(test, length) * test.is_token_start for name, length in _LENGTHS.items()}
    predictions = sources.model[PREDICTIONS]
    signals["entropy"], signals["surprisal"] = (of(predictions[:, k : k + 1]) for k in (0, 1))
    if sources.untrained:
        every = [_normalised(one[INCREMENTS][layers], captured, n_train) for one in sources.untrained]
        signals["untrained"] = [of(one) for one in every]
    if RANDOM_HEAD in sources.model:
        n_heads = own.shape[1]
        drawn = sources.model[RANDOM_HEAD][layers]
        parts = [drawn[:, at : at + n_heads] for at in range(0, drawn.shape[1], n_heads)]
        signals[RANDOM_HEAD] = [of(_normalised(one, captured, n_train)) for one in parts]
    return test, signals


def _normalised(
    values: Float32[np.ndarray, "layers heads n_tokens"], captured: Captured, n_train: int
) -> Float32[np.ndarray, "layers heads n_tokens"]:
    stop = int(captured.token_offsets[n_train])
    mean = values[..., :stop].mean(axis=-1, dtype=np.float64, keepdims=True)
    return (values / mean).astype(np.float32)


def _part(
    captured: Captured,
    first: int,
    last: int,
    layers: tuple[int, ...],
    increments: Float32[np.ndarray, "layers heads n_bytes"],
) -> Captured:
    """Return the layout of the documents from `first` up to `last`, with increments."""
    start, stop = int(captured.offsets[first]), int(captured.offsets[last])
    tokens = slice(int(captured.token_offsets[first]), int(captured.token_offsets[last]))
    return replace(
        captured,
        documents=captured.documents[first:last],
        offsets=captured.offsets[first : last + 1] - start,
        byte=captured.byte[start:stop],
        layers=layers,
        increments=increments,
        tokens=captured.tokens[tokens],
        token_starts=captured.token_starts[tokens] - start,
    )
