"""Every signal of the leaderboard: what the model learned, and all that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.ceiling import (
    HiddenSample,
    ceiling_columns,
    ceiling_readouts,
    fit_ceilings,
)
from lrope_interp.probes.boundaries.jieba import jieba_signal
from lrope_interp.probes.boundaries.text_controls import TextTables, text_signals
from lrope_interp.probes.capture.capture import COSINE, Progress, capture, staged
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import (
    RULES,
    byte_mean,
    ngram_means,
    random_head_readout,
    residual_signals,
    unseen_bytes_note,
    untrained,
)
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.increment_statistics import capture_training_sample
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.signals import SIGNALS, Signal, SignalColumn, all_columns, columns

SPLITS = ("fit", "dev", "test")
SCORED_SPLITS = ("dev", "test")
TWIN = "cosine_fixed"


@dataclass(frozen=True)
class Computing:
    """How models are run: what changes memory and time, and no number."""

    batch_size: int
    on_progress: Progress | None = None

    def stage(self, name: str) -> Progress | None:
        """Return a callback that reports under a name."""
        return staged(self.on_progress, name)


@dataclass(frozen=True)
class Material:
    """Everything that was read, and everything that is scored.

    Attributes:
        captured: By split.
        columns: All signals; those registered have values for "fit" too.
        tables: Counts of the training text; None where it could not be loaded.
        notes: What a reader must know.
    """

    captured: Mapping[str, Captured]
    columns: Sequence[SignalColumn]
    tables: TextTables | None
    notes: Sequence[str] = field(default=())


def gather(
    model: LRopeTransformer,
    selection: Selection,
    gaps: Mapping[str, Gaps],
    layers: Sequence[int],
    how: Computing,
) -> Material:
    """Capture every split and evaluate every signal.

    Args:
        model: The trained model.
        selection: Its documents.
        gaps: Of every split, with labels.
        layers: Which layers are scored.
        how: Batch size and progress.
    """
    sample = HiddenSample.of(gaps["fit"])
    captured = {"fit": _captured(model, selection.fit, layers, (COSINE,), how, "fit", sample.at)}
    ceilings = fit_ceilings(captured["fit"], gaps["fit"], sample, how.on_progress)
    captured["fit"] = without_hidden(captured["fit"])
    reads = (COSINE, random_head_readout(model, selection.fit), *ceiling_readouts(ceilings))
    for split in SCORED_SPLITS:
        captured[split] = _captured(model, getattr(selection, split), layers, reads, how, split)
    scored = {split: captured[split] for split in SCORED_SPLITS}
    tables, counted, notes = _counted(model, selection, captured, how)
    signals = [
        byte_mean(captured["fit"], is_shared=model.cfg.increments == "shared"),
        *counted,
        *RULES,
        *residual_signals(),
        *untrained(model, selection.fit, batch_size=how.batch_size, on_progress=how.on_progress),
    ]
    found = [
        *all_columns(list(SIGNALS.values()), captured),
        *all_columns(signals, scored),
        *ceiling_columns(ceilings, scored),
    ]
    notes += unseen_bytes_note(captured["fit"], captured["test"])
    return Material(captured, found, tables, notes)


def twin_columns(
    twin: LRopeTransformer, selection: Selection, layers: Sequence[int], how: Computing
) -> list[SignalColumn]:
    """Return the cosine of neighbouring states in a model with fixed positions, layer by layer."""
    kept = [layer for layer in layers if layer < twin.cfg.n_layers]
    if not kept:
        raise LRopeError(f"the fixed model has layers 0 to {twin.cfg.n_layers - 1}, none of those scored")
    captured = {
        split: _captured(twin, getattr(selection, split), kept, (COSINE,), how, f"fixed {split}")
        for split in SCORED_SPLITS
    }
    return columns(Signal(TWIN, lambda one: one.readouts[COSINE.name]), captured)


def without_hidden(captured: Captured) -> Captured:
    """Let go of hidden states that have done their work."""
    return replace(captured, hidden=captured.hidden[:0, :0], hidden_at=captured.hidden_at[:0])


def _captured(
    model: LRopeTransformer,
    documents: Sequence[Document],
    layers: Sequence[int],
    readouts: Sequence[Readout],
    how: Computing,
    split: str,
    hidden_at: np.ndarray | None = None,
) -> Captured:
    return capture(
        model,
        documents,
        layers=layers,
        readouts=readouts,
        hidden_at=hidden_at,
        batch_size=how.batch_size,
        on_progress=how.stage(f"capturing {split}"),
    )


def _counted(
    model: LRopeTransformer, selection: Selection, captured: Mapping[str, Captured], how: Computing
) -> tuple[TextTables | None, list[Signal], list[str]]:
    """Make the controls that count text: means by n-gram, and tables of the training text."""
    is_shared = model.cfg.increments == "shared"
    jieba, notes = jieba_signal((*selection.dev, *selection.test))
    found = [] if jieba is None else [jieba]
    if not selection.training:
        notes.append(
            "the training text could not be loaded: no branching entropy, PMI, nor log-odds, and means by "
            "n-gram come from the fit documents alone"
        )
        return None, [*ngram_means([captured["fit"]], is_shared), *found], notes
    sample = capture_training_sample(
        model,
        selection.training,
        captured["fit"].layers,
        batch_size=how.batch_size,
        on_progress=how.stage("reading training text"),
    )
    tables = TextTables.of(selection.training)
    return tables, [*ngram_means([captured["fit"], sample], is_shared), *text_signals(tables), *found], notes
