"""What a result says beside the claims: its spans, passages, sparse paths, headline and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float32

from lrope_interp.data import character_starts
from lrope_interp.data.spans.families import FAMILIES
from lrope_interp.probes.concepts.claims import BEYOND
from lrope_interp.probes.concepts.features import Features
from lrope_interp.probes.concepts.options import INCREMENTS, RESID
from lrope_interp.probes.concepts.probes import SPARSE_COLUMNS, sparse_path
from lrope_interp.probes.concepts.reads import Sources
from lrope_interp.probes.concepts.spans import SpanSample
from lrope_interp.probes.statistics.logistic import Fits
from lrope_interp.results import table

PASSAGES = 3
AROUND = 24
_LONGEST = 96
_SPANS = ("family", "concept", "split", "n", "n_types", "n_documents", "source", "grade")
_EXAMPLES = ("family", "concept", "passage", "document", "character", "text", "layer", "value", "in_span")


def spans_frame(sample: SpanSample) -> pd.DataFrame:
    """Return `spans.csv`: how many spans, lexical types and documents of each concept, in train and test."""
    family = FAMILIES.get(sample.family)
    rows = []
    for number, concept in enumerate(sample.spans.concepts):
        for split, is_own in (("train", ~sample.is_test), ("test", sample.is_test)):
            own = is_own & (sample.spans.concept == number)
            rows.append(
                {
                    "family": sample.family,
                    "concept": concept,
                    "split": split,
                    "n": int(own.sum()),
                    "n_types": len(np.unique(sample.types[own])),
                    "n_documents": len(np.unique(sample.spans.document[own])),
                    "source": "the user's own" if family is None else family.summary,
                    "grade": "" if family is None else family.grade,
                }
            )
    return table(rows, _SPANS)


def examples_frame(
    sample: SpanSample, sources: Sources, increments: Float32[np.ndarray, "layers heads n_tokens"]
) -> pd.DataFrame:
    """Return `examples.csv`: three test spans of each concept, drawn evenly, not chosen by their looks.

    One row a character and layer. The value is the normalised increment of the token that holds the
    character's first byte, the mean over heads.

    Args:
        sample: The spans.
        sources: All documents, and which layers are looked at.
        increments: At every token, in units of the layer's mean.
    """
    captured, rows = sources.captured, []
    for concept in sample.shown:
        number = sample.spans.concepts.index(concept)
        own = np.flatnonzero(sample.is_test & (sample.spans.concept == number))
        chosen = own[np.linspace(0, len(own) - 1, PASSAGES + 2).astype(int)[1:-1]]
        for passage, span in enumerate(dict.fromkeys(chosen.tolist())):
            document = sample.documents[int(sample.spans.document[span])]
            start, end = int(sample.spans.start[span]), int(sample.spans.end[span])
            first = max(0, start - AROUND)
            past = min(len(document.text), min(end, start + _LONGEST) + AROUND)
            at = captured.offsets[sample.spans.document[span]] + character_starts(document.text)[first:past]
            token = np.searchsorted(captured.token_starts, at, side="right") - 1
            values = increments[..., token].mean(axis=1)
            for place, character in enumerate(range(first, past)):
                known = {"family": sample.family, "concept": concept, "passage": passage}
                known |= {"document": document.name, "character": character, "text": document.text[character]}
                known |= {"in_span": start <= character < end}
                for row, layer in enumerate(sources.layers):
                    rows.append(known | {"layer": layer, "value": float(values[row, place])})
    return table(rows, _EXAMPLES)


def sparse_frame(sample: SpanSample, features: Features, seed: int) -> pd.DataFrame:
    """Return `sparse.csv`: of all increments together, or of what else is probed first."""
    kind = INCREMENTS if INCREMENTS in features.kinds else features.kinds[0]
    layer = features.sources.layers[-1] if kind == RESID else None
    x, names = features.claimed(kind, layer), features.names(kind, layer)
    rows = [
        {"features": kind, "layer": layer} | row
        for concept in sample.shown
        for row in sparse_path(sample, concept, x, names, seed)
    ]
    return table(rows, SPARSE_COLUMNS)


def headline(claims: pd.DataFrame) -> dict[str, float | None]:
    """Return how many claims stand, and how many add to all controls of the text, where that was asked."""
    adding = claims["is_adding"].dropna().tolist()
    return {
        "n_claims": float(len(claims)),
        "n_beyond_controls": float(claims["verdict"].tolist().count(BEYOND)),
        "n_adding": float(sum(adding)) if adding else None,
        "best_above": None if claims.empty else float(np.nanmax(claims["above"].to_numpy(float))),
    }


def warnings_of(samples: Sequence[SpanSample], tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Say what a reader must know of the spans, the probes and the intervals before believing the claims."""
    found = []
    if "sparse" in tables and "erasures" not in tables:
        found.append("nothing was erased: that needs layers from 1 on, with increment heads of their own")
    for sample in samples:
        if sample.rare:
            found.append(f"{sample.family}: too few spans of {', '.join(sample.rare)}")
        if sample.n_left_out:
            found.append(
                f"{sample.family}: {len(sample.spans):,} spans are probed, drawn from "
                f"{len(sample.spans) + sample.n_left_out:,}"
            )
    counted = (int(tables["fits"][name].to_numpy(int).sum()) for name in ("n_fits", "n_unconverged"))
    found += Fits(*counted).notes("probes")
    if np.isnan(tables["claims"]["above_low"].to_numpy(float)).all():
        found.append("no interval: too few test documents, so nothing is claimed")
    if np.isnan(tables["claims"]["untrained_auc"].to_numpy(float)).all():
        found.append("no untrained model can be made of one without increment heads, so nothing is claimed")
    n_claims = len(tables["claims"])
    found.append(f"claims tested, each at 95 % and uncorrected, so that some stand by chance: {n_claims}")
    return found
