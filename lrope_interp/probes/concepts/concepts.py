"""Concept grouping: what increments know of concepts, and how we know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from lrope_interp.data import Document
from lrope_interp.data.spans.families import family_spans, find_families, unit_spans, units_of
from lrope_interp.data.spans.typed import Spans
from lrope_interp.data.texts import AnyText
from lrope_interp.errors import LRopeError, check_seed, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.probes.capture.cache import model_identity
from lrope_interp.probes.capture.capture import BATCH_SIZE, Layers, Progress, check_layers, lay_out
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import UNTRAINED_SEEDS
from lrope_interp.probes.capture.selection import Selection, check_beside, manifest_of, select
from lrope_interp.probes.capture.suites import DEFAULT, N_SEEDS, OVERLAPS, amounts, is_full
from lrope_interp.probes.concepts.claims import Claims
from lrope_interp.probes.concepts.erasing import MarkedText
from lrope_interp.probes.concepts.erasures import erasures
from lrope_interp.probes.concepts.features import BYTE_WINDOW, JOINT, OF_TEXT, Features, SpanTokens
from lrope_interp.probes.concepts.options import (
    FEATURES,
    INCREMENTS,
    MOST_RESID_SPANS,
    MOST_SPANS,
    RESID,
)
from lrope_interp.probes.concepts.probes import run_probes
from lrope_interp.probes.concepts.reads import ModelReader, Sources, normalised, structure_signals
from lrope_interp.probes.concepts.spans import SpanSample, SpansOf, sample_spans, select_spans
from lrope_interp.probes.concepts.structure import structure_tables
from lrope_interp.probes.concepts.tables import (
    examples_frame,
    headline,
    spans_frame,
    sparse_frame,
    warnings_of,
)
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.progress import shows_progress
from lrope_interp.results import Result, provenance

GIVEN = "spans"


@dataclass(frozen=True)
class SplitText:
    """The documents of an analysis, joined: those that probes are fitted on, and those of test last.

    Attributes:
        captured: The documents and their tokens.
        n_train: How many documents are not test.
        is_scored: Of the test bytes; False where training text has the same 64 bytes.
    """

    captured: Captured
    n_train: int
    is_scored: Bool[np.ndarray, " test_bytes"]

    @property
    def documents(self) -> tuple[Document, ...]:
        """All of them."""
        return self.captured.documents

    @property
    def is_test(self) -> Bool[np.ndarray, " documents"]:
        """Which of them are test."""
        return np.arange(len(self.documents)) >= self.n_train

    def unshared(self, spans: Spans) -> Spans:
        """Leave out test spans of which training text has a part."""
        start = int(self.captured.offsets[self.n_train])
        is_shared = np.concatenate([np.zeros(start, dtype=bool), ~self.is_scored])
        counts = np.concatenate([[0], np.cumsum(is_shared)])
        first, past = spans.bytes_of(self.documents)
        return spans.take(counts[past] == counts[first])


@shows_progress("probe")
def probe(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    layers: Layers = None,
    *,
    concepts: str | Sequence[str] | None = None,
    spans: Path | str | SpansOf | None = None,
    features: str | Sequence[str] = INCREMENTS,
    suite: str = DEFAULT,
    fixed_model: LRopeTransformer | None = None,
    max_spans: int = MOST_SPANS,
    max_bytes: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Decode concepts from increments, positions or hidden states, with everything that speaks against it.

    Probes are fitted on the fit and dev documents and scored on the test documents. That a concept can
    be decoded does not show that the model uses it; the erasures of the full suite ask for that.

    Args:
        model: The model that is explained.
        text: What to read: a text, a list of them, or a `Path`; see `select_text`.
        data: Or a corpus by name, or what `select_corpus`, `select_text` or `select_gold` gave. Default: the
            held-out text of the run's own corpus.
        layers: Which layers; None for all.
        concepts: Families or concepts by name; None for all that the text can tell.
        spans: A file of spans of one's own with their texts (see `select_spans`); or, with `data`, a function
            that gives the spans of documents. They are one family, "spans".
        features: Some of "increments", "positions", "resid".
        suite: "default": probes beside bytes, untrained models, random heads and control tasks. "full": also
            n-grams, place, entropy and all of these together, code lengths, sparse paths, erasures, gaps and
            trees; on more text, with more seeds.
        fixed_model: A fixed model of the same shape and training, as one more control.
        max_spans: The most spans of a family; 20,000 where residual streams are probed.
        max_bytes: The most bytes of each language in each split; None for what the suite reads.
        seed: Of samples, control tasks and resamples.
        batch_size: Windows at a time; it changes no number.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "probe" with the tables `claims`, `probes`, `fits`, `spans`, `examples`, and of the
        full suite `contrasts`, `pairs`, `trees`, `sparse` and `erasures`.

    Raises:
        LRopeError: No such concept or layer, too few spans, or increments of a model that has none.
    """
    check_seed(seed)
    layers = check_layers(model, layers)
    concepts = (concepts,) if isinstance(concepts, str) else concepts
    features = (features,) if isinstance(features, str) else tuple(features)
    for name in features:
        if name not in FEATURES:
            raise unknown("features", name, FEATURES)
    if not features or len(set(features)) < len(features):
        raise LRopeError(f"features must be one or more of {', '.join(FEATURES)}, each once")
    has_all, text_amounts = is_full(suite), amounts("probe", suite, max_bytes)
    if max_spans < 1:
        raise LRopeError(f"max_spans must be at least 1, got {max_spans}")
    most = min(max_spans, MOST_RESID_SPANS) if RESID in features else max_spans
    if increments_name(model) == "fixed" and set(features) != {RESID}:
        raise LRopeError(
            "the increments of this model are all 1, so there is nothing in them to decode; probe its "
            "hidden states (features resid), or another model"
        )
    if fixed_model is not None:
        _check_twin(fixed_model, model)
    if not isinstance(spans, Path | str):
        selection, given = select(model, text, data, **text_amounts), spans
    elif text is data is concepts is None:
        if max_bytes is None:
            max_bytes = max(text_amounts["max_bytes"].values())
        selection, given = select_spans(manifest_of(model), spans, max_bytes=max_bytes)
    else:
        raise LRopeError(
            "a file of spans brings its own text and its own concepts: leave text, data and concepts away"
        )
    check_beside(fixed_model, "the fixed model", selection)
    train = (*selection.fit, *selection.dev)
    captured = lay_out(model, (*train, *selection.test), (), predictions=False)
    is_scored = ~np.concatenate([np.zeros(0, dtype=bool), *selection.shared["test"]])
    whole = SplitText(captured, len(train), is_scored)
    samples, warnings = _samples(whole, concepts or (), given, most, seed)
    hidden_at = np.zeros(0, dtype=np.int64)
    if RESID in features:
        last = [SpanTokens.of(captured, sample.spans).last for sample in samples]
        hidden_at = captured.token_starts[np.unique(np.concatenate(last))].astype(np.int64)
    seeds, fit = UNTRAINED_SEEDS[: N_SEEDS[suite]], selection.fit
    how = {"n_layers": max(layers) + 1, "predicts": has_all, "overlap": OVERLAPS[suite]}
    reader = ModelReader(whole.documents, hidden_at, batch_size, on_progress, seeds, **how)
    seeds = seeds if model.cfg.increments != "fixed" else ()
    sources = Sources(
        captured=captured,
        layers=layers,
        model=reader.trained(model, fit),
        untrained=tuple(reader.untrained(model, fit, seed) for seed in seeds),
        twin=None if fixed_model is None else reader.twin(fixed_model, model, fit),
        hidden_at=hidden_at,
        cfg=model.cfg,
    )
    identity = {
        "model": model_identity(model),
        "twin": None if fixed_model is None else model_identity(fixed_model),
    }
    identity |= {"layers": list(layers), "calibration": [one.sha256 for one in fit]}
    bootstrap = Bootstrap(seed)
    frames: dict[str, list[pd.DataFrame]] = {}
    for sample in samples:
        read = Features(sample, sources, features, (*OF_TEXT, JOINT) if has_all else (BYTE_WINDOW,))
        sets = [*read.of_text(), *read.of_layers()]
        outcomes = run_probes(sample, sets, identity, with_codes=has_all, seed=seed, on_progress=on_progress)
        claims = Claims(sample, outcomes, bootstrap)
        own = {"claims": claims.claims(), "probes": claims.probes(), "fits": claims.fits()}
        own["spans"] = spans_frame(sample)
        own["examples"] = examples_frame(sample, sources, normalised(sources, whole.n_train))
        if has_all:
            own["sparse"] = sparse_frame(sample, read, seed)
            own |= _erasures(model, whole, sample, layers, seed, batch_size, on_progress)
        for name, frame in own.items():
            frames.setdefault(name, []).append(frame)
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in frames.items()}
    if has_all:
        tables |= _structure(whole, sources, bootstrap, on_progress)
    known = provenance(config=model.cfg.to_dict(), data=dict(selection.data), seed=seed)
    known |= {"suite": suite, "features": list(features), "has_twin": fixed_model is not None}
    return Result(
        kind="probe",
        provenance=known,
        headline=headline(tables["claims"]),
        tables=tables,
        warnings=tuple([*selection.warnings, *warnings, *warnings_of(samples, tables)]),
    )


def _check_twin(twin: LRopeTransformer, model: LRopeTransformer) -> None:
    """Refuse a twin that the model's random heads cannot read, or that reads other tokens."""
    if increments_name(twin) != "fixed":
        kind = increments_name(twin).replace("_", " ")
        raise LRopeError(
            f"the fixed model must come from a run with fixed increments; those of this one are {kind}"
        )
    shapes = [(one.cfg.n_layers, one.cfg.d_model) for one in (twin, model)]
    if shapes[0] != shapes[1]:
        wanted = " and ".join(f"n_layers={n}, d_model={d}" for n, d in shapes)
        raise LRopeError(
            f"the fixed model must come from a run of the model's own shape; the two have {wanted}"
        )
    if twin.own_tokenizer().fingerprint != model.own_tokenizer().fingerprint:
        raise LRopeError(
            "the fixed model must come from a run with the same tokenizer, or spans cannot be compared"
        )


def _samples(
    text: SplitText, names: Sequence[str], given: SpansOf | None, most: int, seed: int
) -> tuple[list[SpanSample], list[str]]:
    """Return the spans of every family that is asked for; without names those that can be had."""
    if given is not None:
        found = text.unshared(given(text.documents))
        return [sample_spans(GIVEN, text.documents, found, text.is_test, most, seed)], []
    samples, warnings = [], []
    for family, asked in find_families(names, text.documents).items():
        try:
            spans = text.unshared(family_spans(family, text.documents))
            one = sample_spans(family, text.documents, spans, text.is_test, most, seed)
        except LRopeError as error:
            if names:
                raise
            warnings.append(f"{family} is left out: {error}")
            continue
        samples.append(replace(one, asked=asked))
        if not samples[-1].shown:
            raise LRopeError(f"{', '.join(asked)}: too few spans; found {', '.join(one.spans.concepts)}")
    if not samples:
        raise LRopeError(
            f"this text has no concepts to probe for: {'; '.join(warnings) or 'none is known of it'}"
        )
    return samples, warnings


def _structure(
    text: SplitText, sources: Sources, bootstrap: Bootstrap, on_progress: Progress | None
) -> dict[str, pd.DataFrame]:
    """Return the tables of gaps, pairs and trees of the test documents."""
    test = text.documents[text.n_train :]
    units: dict[str, Spans] = {}
    for name in units_of(test):
        try:
            units[name] = unit_spans(name, test)
        except LRopeError:  # none of these documents has one
            continue
    captured, signals = structure_signals(sources, text.n_train)
    return structure_tables(captured, signals, units, text.is_scored, bootstrap, on_progress)


def _erasures(
    model: LRopeTransformer,
    text: SplitText,
    sample: SpanSample,
    layers: Sequence[int],
    seed: int,
    batch_size: int,
    on_progress: Progress | None,
) -> dict[str, pd.DataFrame]:
    """Return `erasures.csv`: what happens when the head of a layer can no longer tell the concepts."""
    layers = tuple(layer for layer in layers if layer > 0)
    if not layers or model.cfg.increments != "per_layer":
        return {}
    fit, _ = _marked(text, sample, is_test=False)
    test, number = _marked(text, sample, is_test=True)
    starts = text.captured.offsets - text.captured.offsets[text.n_train]
    is_scored = np.concatenate([text.is_scored[starts[one] : starts[one + 1]] for one in number.tolist()])
    how = {"family": sample.family, "seed": seed, "batch_size": batch_size, "on_progress": on_progress}
    return {"erasures": erasures(model, fit, test, is_scored, layers, **how)}


def _marked(
    text: SplitText, sample: SpanSample, *, is_test: bool
) -> tuple[MarkedText, Int64[np.ndarray, " documents"]]:
    """Return the train or the test documents that have spans of a family, and their numbers."""
    own = sample.spans.take(sample.is_test == is_test)
    number = np.unique(own.document)
    documents = tuple(text.documents[one] for one in number.tolist())
    return MarkedText(documents, replace(own, document=np.searchsorted(number, own.document))), number
