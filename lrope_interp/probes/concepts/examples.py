"""Passages that show a concept with the increments around it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32

from lrope_interp.data import character_starts
from lrope_interp.probes.concepts.features import Sources
from lrope_interp.probes.concepts.span_sample import SpanSample
from lrope_interp.results import table

PASSAGES = 3
AROUND = 24
_LONGEST = 96
COLUMNS = ("family", "concept", "passage", "document", "character", "text", "layer", "value", "in_span")


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
    rows = []
    for concept in sample.shown:
        number = sample.spans.concepts.index(concept)
        own = np.flatnonzero(sample.is_test & (sample.spans.concept == number))
        chosen = own[np.linspace(0, len(own) - 1, PASSAGES + 2).astype(int)[1:-1]]
        for passage, span in enumerate(dict.fromkeys(chosen.tolist())):
            known = {"family": sample.family, "concept": concept, "passage": passage}
            rows += [known | row for row in _passage(sample, sources, increments, span)]
    return table(rows, COLUMNS)


def _passage(
    sample: SpanSample,
    sources: Sources,
    increments: Float32[np.ndarray, "layers heads n_tokens"],
    span: int,
) -> list[dict[str, object]]:
    """Return the characters around one span, each with the increment of every layer."""
    captured, number = sources.captured, int(sample.spans.document[span])
    document = sample.documents[number]
    start, end = int(sample.spans.start[span]), int(sample.spans.end[span])
    first, past = max(0, start - AROUND), min(len(document.text), min(end, start + _LONGEST) + AROUND)
    at = character_starts(document.text)[first:past] + captured.offsets[number]
    token = np.searchsorted(captured.token_starts, at, side="right") - 1
    values = increments[..., token].mean(axis=1)
    return [
        {
            "document": document.name,
            "character": first + place,
            "text": document.text[first + place],
            "layer": layer,
            "value": float(values[at_layer, place]),
            "in_span": start <= first + place < end,
        }
        for place in range(len(at))
        for at_layer, layer in enumerate(sources.layers)
    ]
