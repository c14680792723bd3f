"""What models do at the tokens of some documents, kept piece by piece, so that a killed analysis goes on.

A piece is some documents in a row. What was read of it is remembered by the model, the documents and
what was asked for; a later analysis of the same text finds it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Int64

from lrope_interp.data import Document
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import random_heads, randomised_control
from lrope_interp.probes.capture.cache import model_identity, remembered
from lrope_interp.probes.capture.capture import OVERLAP, Progress, capture
from lrope_interp.probes.capture.controls import (
    RANDOM_HEAD,
    UNTRAINED_OVERLAP,
    UNTRAINED_SEEDS,
    calibration_tokens,
)
from lrope_interp.probes.capture.readouts import HIDDEN, Readout, ResidualReads, head_readout

KIND = "span-reads"
INCREMENTS, PREDICTIONS = "increments", "predictions"
_KEPT = 128
_PIECE_BYTES = 150_000

Reads = Mapping[str, Float32[np.ndarray, "..."]]
"""By name [layers, width, n_tokens]; "hidden" is [layers, n_hidden, d_model]."""


@dataclass(frozen=True)
class Reader:
    """Reads models over the same documents.

    Attributes:
        documents: All that is read, in the order of the joined tokens.
        hidden_at: Joined bytes, rising, at which residual streams are kept; they begin tokens.
        batch_size: Windows at a time; it changes no number.
        on_progress: Told the stage, bytes done and bytes in all.
    """

    documents: tuple[Document, ...]
    hidden_at: Int64[np.ndarray, " m"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    batch_size: int = 16
    on_progress: Progress | None = None

    def trained(self, model: LRopeTransformer, calibration: Sequence[Document]) -> Reads:
        """Read increments, predictions, and the stream through random heads, five a layer.

        Args:
            model: The model that is explained.
            calibration: Documents on which the spread of the random heads is matched.
        """
        readouts: tuple[Readout, ...] = ()
        if model.cfg.increments != "fixed":
            readouts = (head_readout(RANDOM_HEAD, self._random_heads(model, calibration)),)
        return self._read(model, "model", readouts, {"calibration": _hashes(calibration)})

    def untrained(self, model: LRopeTransformer, calibration: Sequence[Document], seed: int) -> Reads:
        """Read increments and the stream of a control model that never learned."""
        tokens = calibration_tokens(calibration, model.cfg.n_ctx, model.own_tokenizer())
        control = randomised_control(model, tokens.to(model.cfg.device), seed)
        stage = f"untrained {seed + 1}/{len(UNTRAINED_SEEDS)}"
        return self._read(control, stage, (), {}, is_control=True)

    def twin(self, twin: LRopeTransformer, model: LRopeTransformer, calibration: Sequence[Document]) -> Reads:
        """Read the stream of a fixed model, through the random heads that are put on the model's too.

        A fixed model has no increments to read; what a head could make of its stream is the question.
        """
        heads = self._random_heads(model, calibration)[:1]
        said = {"heads": model_identity(model), "calibration": _hashes(calibration)}
        return self._read(twin, "fixed", (head_readout(RANDOM_HEAD, heads),), said)

    def _random_heads(self, model: LRopeTransformer, calibration: Sequence[Document]) -> list:
        tokens = calibration_tokens(calibration, model.cfg.n_ctx, model.own_tokenizer())
        return [random_heads(model, tokens.to(model.cfg.device), seed) for seed in UNTRAINED_SEEDS]

    def _read(
        self,
        model: LRopeTransformer,
        stage: str,
        readouts: tuple[Readout, ...],
        said: Mapping[str, object],
        is_control: bool = False,
    ) -> Reads:
        """Read piece after piece, and put what was read together."""
        known = model_identity(model) | {"heads": [one.name for one in readouts]} | dict(said)
        found: list[dict[str, np.ndarray]] = []
        n_done, n_bytes = 0, sum(one.n_bytes for one in self.documents)
        for piece, hidden_at in self._pieces():
            identity = known | {"documents": _hashes(piece), "hidden": hidden_at.tolist()}
            work = _Work(model, piece, ResidualReads(readouts, hidden_at if len(hidden_at) else None))
            flat = remembered(
                identity | {"is_control": is_control},
                lambda work=work: work.flat(self.batch_size, is_control),
                KIND,
                _KEPT,
            )
            found.append(work.unpacked(flat, is_control))
            n_done += sum(one.n_bytes for one in piece)
            if self.on_progress is not None:
                self.on_progress(f"reading: {stage}", n_done, n_bytes)
        return {name: np.concatenate([one[name] for one in found], axis=_axis(name)) for name in found[0]}

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


@dataclass(frozen=True)
class _Work:
    """One piece for one model."""

    model: LRopeTransformer
    documents: tuple[Document, ...]
    residual: ResidualReads

    def flat(self, batch_size: int, is_control: bool) -> Float32[np.ndarray, " n"]:
        """Run the model, and lay everything that was read end to end."""
        captured = capture(
            self.model,
            self.documents,
            predictions=not is_control,
            residual=self.residual,
            overlap=UNTRAINED_OVERLAP if is_control else OVERLAP,
            batch_size=batch_size,
        )
        at_tokens = [captured.at_tokens(captured.increments)]
        if not is_control:
            predictions = (captured.entropy, captured.surprisal, captured.entropy_next)
            at_tokens.append(captured.at_tokens(np.stack(predictions)[None]))
        at_tokens += [captured.at_tokens(one) for one in captured.readouts.values()]
        return np.concatenate([one.astype(np.float32).ravel() for one in (*at_tokens, captured.hidden)])

    def unpacked(self, flat: Float32[np.ndarray, " n"], is_control: bool) -> dict[str, np.ndarray]:
        """Undo `flat`."""
        cfg, hidden_at = self.model.cfg, self.residual.hidden_at
        n_hidden = 0 if hidden_at is None else len(hidden_at)
        widths = {INCREMENTS: (cfg.n_layers, cfg.n_heads if cfg.per_head else 1)}
        widths |= {} if is_control else {PREDICTIONS: (1, 3)}
        widths |= {one.name: (cfg.n_layers, one.width) for one in self.residual.readouts}
        n_kept = cfg.n_layers * n_hidden * cfg.d_model
        n_tokens = (len(flat) - n_kept) // sum(layers * width for layers, width in widths.values())
        found, at = {}, 0
        for name, (layers, width) in widths.items():
            size = layers * width * n_tokens
            found[name] = flat[at : at + size].reshape(layers, width, n_tokens)
            at += size
        return found | {HIDDEN: flat[at:].reshape(cfg.n_layers, n_hidden, cfg.d_model)}


def _axis(name: str) -> int:
    return 1 if name == HIDDEN else -1


def _hashes(documents: Sequence[Document]) -> list[str]:
    return [one.sha256 for one in documents]
