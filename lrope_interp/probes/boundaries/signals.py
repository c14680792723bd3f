"""Every signal that is scored: what the model learned, and all that it is held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lrope_interp.data.held_out import sample_documents
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.boundaries.ceiling import (
    HiddenSample,
    ceiling_columns,
    ceiling_readouts,
    fit_ceilings,
)
from lrope_interp.probes.boundaries.text_controls import TextTables, jieba_signal, text_signals
from lrope_interp.probes.capture.capture import COSINE, Progress, Readout, begin, capture, staged
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import (
    RULES,
    UNTRAINED_SEEDS,
    byte_mean,
    ngram_means,
    random_head_readout,
    random_head_signals,
    unseen_bytes_note,
    untrained,
)
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.increment_statistics import capture_increments
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.signals import SIGNALS, Signal, SignalColumn, columns
from lrope_interp.probes.capture.suites import DEFAULT, FULL, N_SEEDS, OVERLAPS
from lrope_interp.probes.statistics.logistic import Fits

SCORED_SPLITS = ("dev", "test")
SAMPLE_BYTES = 300_000  # of each language of the training text
TWIN = "cosine_fixed"


def gather(
    model: LRopeTransformer,
    selection: Selection,
    gaps: Mapping[str, Gaps],
    layers: Sequence[int],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Captured], list[SignalColumn], TextTables | None, list[str]]:
    """Capture every split and evaluate every signal of the full suite.

    Args:
        model: The trained model.
        selection: Its documents.
        gaps: Of every split, with labels.
        layers: Which layers are scored.
        batch_size: Windows at a time.
        on_progress: Told about every forward pass, and about the ceilings.

    Returns:
        What was captured of "fit", "dev" and "test"; all signals, of which those registered and those of text
        alone have values for "fit" too; counts of the training text, None where it could not be loaded; and
        what a reader must know.
    """
    read = partial(_capture, model, selection, layers, batch_size, on_progress)
    sample = HiddenSample.of(gaps["fit"])
    fit = read("fit", (COSINE,), sample.at)
    fits = Fits()
    ceilings = fit_ceilings(fit, gaps["fit"], sample, fits, on_progress)
    fit = replace(fit, hidden=fit.hidden[:0, :0], hidden_at=fit.hidden_at[:0])  # up to 2 GB, no longer needed
    heads = random_head_readout(model, selection.fit, n_layers=max(layers) + 1)
    readouts = (COSINE, heads, *ceiling_readouts(ceilings))
    scored = {split: read(split, readouts) for split in SCORED_SPLITS}
    captured = {"fit": fit, **scored}

    is_shared = model.cfg.increments == "shared"
    jieba, notes = jieba_signal((*selection.dev, *selection.test))
    if selection.training:
        stage = staged(on_progress, "reading training text")
        # Means by n-gram of the fit documents alone would be handicapped: the model has seen fifty times as
        # much. Counting increments takes a forward pass, though, so that a sample has to do; tables that
        # count text alone use all of it.
        drawn = sample_documents(selection.training, SAMPLE_BYTES)
        more = capture_increments(model, drawn, fit.layers, batch_size=batch_size, on_progress=stage)
        begin(on_progress, "counting training text")
        tables = TextTables.of(selection.training)
        counted, of_text = ngram_means([fit, more], is_shared), text_signals(tables)
    else:
        tables, counted, of_text = None, ngram_means([fit], is_shared), []
        notes.append(
            "the training text could not be loaded: no branching entropy, PMI, nor log-odds, and means by "
            "n-gram come from the fit documents alone"
        )
    controls = [
        byte_mean(fit, is_shared),
        *counted,
        *([] if jieba is None else [jieba]),
        *RULES,
        Signal(COSINE.name, lambda captured: captured.readouts[COSINE.name]),
        *random_head_signals(UNTRAINED_SEEDS),
        *untrained(model, selection.fit, batch_size=batch_size, on_progress=on_progress),
    ]
    known = [*SIGNALS.values(), *of_text]
    found = [column for signal in known for column in columns(signal, captured)]
    found += [column for signal in controls for column in columns(signal, scored)]
    found += ceiling_columns(ceilings, scored)
    return (
        captured,
        found,
        tables,
        [
            *notes,
            *fits.notes("fits of the ceiling"),
            *unseen_bytes_note(fit, captured["test"]),
        ],
    )


def gather_default(
    model: LRopeTransformer,
    selection: Selection,
    layers: Sequence[int],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> tuple[dict[str, Captured], list[SignalColumn], list[str]]:
    """Read dev and test once, and evaluate the signals of the default suite: no table but that of bytes.

    Args:
        model: The trained model.
        selection: Its documents.
        layers: Which layers are scored.
        batch_size: Windows at a time.
        on_progress: Told about every forward pass.

    Returns:
        What was captured of "dev" and "test"; all signals; and what a reader must know.
    """
    seeds, how = UNTRAINED_SEEDS[: N_SEEDS[DEFAULT]], {"batch_size": batch_size}
    told, overlap = staged(on_progress, "capturing fit"), OVERLAPS[DEFAULT]
    fit = capture_increments(model, selection.fit, layers, **how, overlap=overlap, on_progress=told)
    heads = random_head_readout(model, selection.fit, seeds, max(layers) + 1)
    read = partial(_capture, model, selection, layers, batch_size, on_progress)
    scored = {split: read(split, (heads,), overlap=overlap) for split in SCORED_SPLITS}
    controls = [byte_mean(fit, model.cfg.increments == "shared"), *random_head_signals(seeds)]
    controls += untrained(model, selection.fit, seeds=seeds, **how, on_progress=on_progress)
    found = [column for signal in [*SIGNALS.values(), *controls] for column in columns(signal, scored)]
    return scored, found, unseen_bytes_note(fit, scored["test"])


def _capture(
    model: LRopeTransformer,
    selection: Selection,
    layers: Sequence[int],
    batch_size: int,
    on_progress: Progress | None,
    split: str,
    readouts: Sequence[Readout],
    hidden_at: np.ndarray | None = None,
    overlap: float = OVERLAPS[FULL],
) -> Captured:
    return capture(
        model,
        getattr(selection, split),
        layers=layers,
        readouts=readouts,
        hidden_at=hidden_at,
        overlap=overlap,
        batch_size=batch_size,
        on_progress=staged(on_progress, f"capturing {split}"),
    )


def twin_columns(
    twin: LRopeTransformer,
    selection: Selection,
    layers: Sequence[int],
    overlap: float,
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> list[SignalColumn]:
    """Return the cosine of neighbouring states in a model with fixed positions, layer by layer."""
    kept = [layer for layer in layers if layer < twin.cfg.n_layers]
    if not kept:
        raise LRopeError(f"the fixed model has layers 0 to {twin.cfg.n_layers - 1}, none of those scored")
    captured = {
        split: capture(
            twin,
            getattr(selection, split),
            layers=kept,
            readouts=(COSINE,),
            overlap=overlap,
            batch_size=batch_size,
            on_progress=staged(on_progress, f"capturing fixed {split}"),
        )
        for split in SCORED_SPLITS
    }
    return columns(Signal(TWIN, lambda one: one.readouts[COSINE.name]), captured)
