"""Nats per byte of any documents, by the windows in which everything else is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import (
    Document,
    Reading,
    assert_held_out,
    evaluation_documents,
    load_corpus_for,
)
from lrope_interp.data.documents import sizes_of
from lrope_interp.data.held_out import MAX_BYTES, sample_documents
from lrope_interp.data.sources.files import LARGEST_WHOLE_FILE
from lrope_interp.data.texts import AnyText, text_documents
from lrope_interp.errors import LRopeError, check_seed, whole_number
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import BATCH_SIZE, Progress, capture
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.selection import GIVEN, Selection, describe, manifest_of, select
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Scoring
from lrope_interp.progress import shows_progress
from lrope_interp.results import ALL_LANGUAGES, Result, provenance, table


@shows_progress("eval")
def evaluate(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    *,
    max_bytes: int | None = None,
    encoding_errors: str = "strict",
    text_column: str = "text",
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Score text: the sum of -ln p over its bytes, divided by the bytes.

    EOS leads every document and is not counted. A corpus is read where it was held out; a text is read
    whatever the model was trained on, and a warning says so where that is known.

    Args:
        model: Any model.
        text: A text, a list of texts or documents, or a `Path`, all of which is scored: up to 8 MB as a
            whole, of more a sample.
        data: Or the held-out text of a corpus, or what `select_corpus` gave. Default: the run's own corpus.
        max_bytes: The most bytes of each language; None takes 200,000 of a corpus.
        encoding_errors: "strict" or "replace".
        text_column: Of a table, the column that holds the text.
        seed: Of the resamples.
        batch_size: Windows at a time.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "eval" with the tables `documents` and `languages`; the interval draws
        documents again.
    """
    check_seed(seed)
    if max_bytes is not None:
        whole_number("max_bytes", max_bytes, 1)
    documents, known, notes = _evaluated(model, text, data, max_bytes, encoding_errors, text_column)
    ordered = tuple(sorted(documents, key=lambda document: (document.sha256, document.name)))
    if not any(document.n_bytes for document in ordered):
        raise LRopeError("there is no text to score: every document is empty")
    captured = capture(model, ordered, layers=(), batch_size=batch_size, on_progress=on_progress)
    languages, warnings = _languages(captured, Bootstrap(seed))
    overall = languages[languages["language"] == ALL_LANGUAGES].iloc[0]
    nats = float(overall["nats_per_byte"])
    return Result(
        kind="eval",
        provenance=provenance(config=model.cfg.to_dict(), data=known, seed=seed),
        headline={
            "nats_per_byte": nats,
            "bits_per_byte": nats / math.log(2),
            "ci_low": float(overall["ci_low"]),
            "ci_high": float(overall["ci_high"]),
        },
        tables={"documents": _documents(captured), "languages": languages},
        warnings=tuple([*notes, *warnings]),
    )


def _evaluated(
    model: LRopeTransformer,
    text: AnyText | None,
    data: str | Selection | None,
    max_bytes: int | None,
    encoding_errors: str,
    text_column: str,
) -> tuple[Sequence[Document], Mapping[str, Any], list[str]]:
    """Return what is scored, its provenance, and what a reader must know of it."""
    if isinstance(data, Selection):
        selection = select(model, text, data)
        return selection.test, selection.data, [*selection.warnings]
    if text is None:
        manifest = manifest_of(model)
        how = {"encoding_errors": encoding_errors, "text_column": text_column}
        corpus = load_corpus_for(manifest, data, **how).held_out_from(manifest)
        documents = evaluation_documents(corpus, "test", max_bytes or MAX_BYTES)
        assert_held_out(manifest, documents)
        return documents, describe(corpus.name, documents), [corpus.note] if corpus.note else []
    if data is not None:
        raise LRopeError("text and data both say what to read: give one of them")
    # Of a model that no run holds nothing is known.
    manifest = {"splits": {"train": {"sha256": []}}} if model.folder is None else manifest_of(model)
    is_despaced = Reading.of(manifest).despaced
    documents = text_documents(text, encoding_errors=encoding_errors, is_despaced=is_despaced)
    warnings = []
    try:
        assert_held_out(manifest, documents)
    except LRopeError as error:
        warnings.append(str(error))
    n_bytes = sum(sizes_of(documents))
    if n_bytes > (LARGEST_WHOLE_FILE if max_bytes is None else max_bytes):
        documents = sample_documents(documents, max_bytes or MAX_BYTES)
        n_taken = sum(sizes_of(documents))
        warnings.append(
            f"{n_taken:,} of {n_bytes:,} bytes are scored, chosen by hash; max_bytes chooses how many"
        )
    name = f"text:{text.name}" if isinstance(text, Path) else GIVEN
    return documents, describe(name, tuple(documents), "all"), warnings


def _documents(captured: Captured) -> pd.DataFrame:
    totals = np.bincount(captured.document, weights=captured.surprisal, minlength=len(captured.documents))
    sizes = np.diff(captured.offsets)
    per_byte = np.divide(totals, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
    return pd.DataFrame(
        {
            "document": pd.Series([one.name for one in captured.documents], dtype="str"),
            "language": pd.Series([one.language for one in captured.documents], dtype="str"),
            "n_bytes": sizes,
            "nats": totals,
            "nats_per_byte": per_byte,
            "bits_per_byte": per_byte / math.log(2),
        }
    )


def _languages(captured: Captured, bootstrap: Bootstrap) -> tuple[pd.DataFrame, list[str]]:
    """Score all documents together, and each language where there are several."""
    rows, warnings = [], []
    for name, is_own in {ALL_LANGUAGES: np.ones(captured.n_bytes, dtype=bool), **captured.spoken}.items():
        inside = np.flatnonzero(is_own)
        units = Units.of(captured.document[inside])
        nats = captured.surprisal[inside].astype(np.float64)
        if not units.has_interval:
            warnings.append(f"no interval for {name}: fewer than {MIN_UNITS} documents")
        sizes = {"n_bytes": len(inside), "n_documents": units.n_documents, "n_units": units.count}
        found = Scoring(units, bootstrap).mean(nats)
        rows.append({"language": name, "nats_per_byte": found.value} | found.row() | sizes)
    columns = ("language", "nats_per_byte", "ci_low", "ci_high", "n_bytes", "n_documents", "n_units")
    return table(rows, columns), warnings
