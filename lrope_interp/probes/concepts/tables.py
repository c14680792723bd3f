"""How many spans there are of each concept, and passages that show it with the increments around it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float32

from lrope_interp.data import character_starts
from lrope_interp.data.spans.families import FAMILIES
from lrope_interp.probes.concepts.reads import Sources
from lrope_interp.probes.concepts.spans import SpanSample
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
