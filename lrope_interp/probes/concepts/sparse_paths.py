"""How few features are enough: k-sparse probes of a concept, by TransformerLens' own tool.

One concept against all other spans; features are ranked and probes fitted on part of the *train*
documents and scored on the rest of them, with random features and shuffled labels beside each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from lrope_interp.interop.transformer_lens import (
    SparseProbeConvergenceError,
    SparseProbeSweep,
    sweep_sparse_probe,
)
from lrope_interp.probes.concepts.span_sample import SpanSample

SPARSITIES = (1, 2, 4, 8, 16)
COLUMNS = ("family", "concept", "features", "layer", "n_features", "metric", "value")
COLUMNS += ("random_value", "shuffled_value", "n", "seed", "selected")
_MOST = 4_000
_REPEATS = 3


def sparse_path(
    sample: SpanSample,
    concept: str,
    x: Float32[np.ndarray, "n features"],
    names: Sequence[str],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the held-out ROC-AUC of probes of the 1, 2, 4, 8 and 16 best single features.

    Args:
        sample: The spans; those of test documents are not looked at. At most 4,000, drawn at random.
        concept: One against the rest.
        x: The features of all spans.
        names: Of the features.
        seed: Of the draws, the split and the controls.

    Returns:
        One row a number of features; none where the tool found the spans too few or did not converge.
    """
    rows = np.flatnonzero(~sample.is_test)
    rows = np.sort(np.random.default_rng([seed, len(rows)]).permutation(rows)[:_MOST])
    is_varying = x[rows].std(axis=0) > 0
    kept = np.flatnonzero(is_varying)
    ks = [k for k in SPARSITIES if k <= len(kept)]
    is_concept = sample.spans.concept[rows] == sample.spans.concepts.index(concept)
    if not ks:
        return []
    try:
        sweep = sweep_sparse_probe(
            torch.from_numpy(x[rows][:, kept]),
            torch.from_numpy(is_concept),
            ks=ks,
            groups=torch.from_numpy(sample.spans.document[rows]),
            preprocess="standardize",
            n_random_subsets=_REPEATS,
            n_label_shuffles=_REPEATS,
            seed=seed,
        )
    except (SparseProbeConvergenceError, ValueError):
        return []
    known = {"family": sample.family, "concept": concept, "metric": "roc_auc", "n": len(rows), "seed": seed}
    return [known | row for row in _rows(sweep, [names[column] for column in kept.tolist()])]


def _rows(sweep: SparseProbeSweep, names: list[str]) -> list[dict[str, Any]]:
    """Return what the tool found, by number of features."""
    columns = (sweep.ks, sweep.results, sweep.random_coordinate_controls, sweep.label_shuffle_controls)
    return [
        {
            "n_features": k,
            "value": result.metrics.roc_auc,
            "random_value": _mean(random.roc_auc),
            "shuffled_value": _mean(shuffled.roc_auc),
            "selected": "; ".join(names[column] for column in result.selected_features.tolist()),
        }
        for k, result, random, shuffled in zip(*columns, strict=True)
    ]


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")
