"""Nats per byte of any documents, by the windows in which everything else is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.capture.capture import BATCH_SIZE, Progress, capture
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.selection import describe
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, interval
from lrope_interp.results import ALL_LANGUAGES, Result, provenance, table


def evaluate(
    model: LRopeTransformer,
    documents: Sequence[Document],
    *,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Score documents: the sum of -ln p over their bytes, divided by the bytes.

    EOS leads every document and is not counted. Whether the model has seen the documents in
    training is the caller's to say.

    Args:
        model: Any model.
        documents: What to score.
        data: Provenance of the documents; made from them if None.
        seed: Of the resamples.
        batch_size: Windows at a time.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "eval" with the tables `documents` and `languages`; the interval draws
        documents again, or blocks of 4,096 bytes where there are fewer than 50.
    """
    ordered = tuple(sorted(documents, key=lambda document: (document.sha256, document.name)))
    if not any(document.n_bytes for document in ordered):
        raise LRopeError("there is no text to score: every document is empty")
    captured = capture(model, ordered, layers=(), batch_size=batch_size, on_progress=on_progress)
    languages, warnings = _languages(captured, Bootstrap(seed))
    overall = languages[languages["language"] == ALL_LANGUAGES].iloc[0]
    nats = float(overall["nats_per_byte"])
    return Result(
        kind="eval",
        provenance=provenance(
            config=model.cfg.to_dict(), data=data or describe("documents", ordered, "all"), seed=seed
        ),
        headline={
            "nats_per_byte": nats,
            "bits_per_byte": nats / math.log(2),
            "ci_low": float(overall["ci_low"]),
            "ci_high": float(overall["ci_high"]),
        },
        tables={"documents": _documents(captured), "languages": languages},
        warnings=tuple(warnings),
    )


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
    spoken = np.array([document.language for document in captured.documents])[captured.document]
    names = sorted(set(spoken.tolist()))
    rows, warnings = [], []
    for name in [ALL_LANGUAGES, *(names if len(names) > 1 else [])]:
        inside = np.flatnonzero(np.ones(len(spoken), dtype=bool) if name == ALL_LANGUAGES else spoken == name)
        units = Units.of(captured.document[inside], captured.t[inside])
        nats = captured.surprisal[inside].astype(np.float64)
        low, high = _interval(bootstrap, units, nats)
        if not units.has_interval:
            warnings.append(f"no interval for {name}: {units.count} units of {units.n_documents} documents")
        elif not units.is_document:
            warnings.append(
                f"fewer than 50 documents for {name}: the interval resamples blocks of 4,096 bytes"
            )
        sizes = {"n_bytes": len(inside), "n_documents": units.n_documents, "n_units": units.count}
        rows.append({"language": name, "nats_per_byte": nats.mean(), "ci_low": low, "ci_high": high} | sizes)
    columns = ("language", "nats_per_byte", "ci_low", "ci_high", "n_bytes", "n_documents", "n_units")
    return table(rows, columns), warnings


def _interval(bootstrap: Bootstrap, units: Units, nats: np.ndarray) -> tuple[float, float]:
    if not units.has_interval:
        return math.nan, math.nan
    return interval(bootstrap.total(units, nats) / bootstrap.total(units, np.ones(len(nats))))
