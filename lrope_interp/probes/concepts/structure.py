"""Whether increments follow the units of a text: the tables of gap contrasts, matched pairs and gap trees.

Takes arrays, not models. The increments ("") and every control go through the same gaps, pairs,
sentences and resamples, so that rows of one table can be compared line by line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.capture.capture import Progress
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.concepts.gap_contrast import CONTRAST_COLUMNS, contrast_designs, contrast_rows
from lrope_interp.probes.concepts.matched_pairs import PAIR_COLUMNS, pair_designs, pair_rows
from lrope_interp.probes.concepts.structured_text import Signal, StructuredText
from lrope_interp.probes.concepts.tree_scores import TREE_COLUMNS, Trees, shape_rows, tree_rows
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.results import table


def structure_tables(
    captured: Captured,
    signals: Mapping[str, Signal | Sequence[Signal]],
    units: Mapping[str, Spans],
    is_scored: Bool[np.ndarray, " n_bytes"],
    bootstrap: Bootstrap,
    on_progress: Progress | None = None,
) -> dict[str, pd.DataFrame]:
    """Return the tables "contrasts", "pairs" and "trees".

    Args:
        captured: The documents, joined. Its increments are not read.
        signals: "" is the normalised increments [layers, heads, n_bytes]; other names are controls of
            the same shape, "entropy" and "surprisal" with one layer and one head. A sequence of arrays
            is several draws of one control: rows give their mean, and their range as the interval.
        units: By level: word, entity, phrase, clause, sentence; token, line, ... of code. Pairs and
            trees need "word" or "token"; trees "sentence" or "line" as well.
        is_scored: False at bytes that stand in text shared with training text.
        bootstrap: The resamples.
        on_progress: Told after every signal: "structure", signals done, signals in all.

    Raises:
        LRopeError: A signal is of another text.
    """
    text = StructuredText(captured, signals, units, is_scored, bootstrap)
    contrasts, pairs, trees = contrast_designs(text), pair_designs(text), Trees.of(text)
    rows = {"contrasts": [], "pairs": [], "trees": shape_rows(text, trees)}
    for done, name in enumerate(signals, start=1):
        rows["contrasts"] += contrast_rows(text, contrasts, name)
        rows["pairs"] += pair_rows(text, pairs, name)
        rows["trees"] += tree_rows(text, trees, name)
        if on_progress is not None:
            on_progress("structure", done, len(signals))
    columns = {"contrasts": CONTRAST_COLUMNS, "pairs": PAIR_COLUMNS, "trees": TREE_COLUMNS}
    return {name: table(rows[name], columns[name]) for name in columns}
