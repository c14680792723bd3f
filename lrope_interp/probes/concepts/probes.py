"""Fit every probe of a family, each kept as soon as it is there, so that a killed analysis goes on.

How few features are enough is asked by TransformerLens' own tool: k-sparse probes of one concept against all
other spans. Features are ranked and probes fitted on part of the *train* documents and scored on the rest of
them, with random features and shuffled labels beside each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from lrope_interp.interop.transformer_lens import SparseProbeConvergenceError, sweep_sparse_probe
from lrope_interp.probes.capture.cache import remembered
from lrope_interp.probes.capture.capture import Progress, counted
from lrope_interp.probes.concepts.features import JOINT, JOINT_PLUS, JOINT_UNTRAINED, NONE, FeatureSet
from lrope_interp.probes.concepts.spans import SpanSample
from lrope_interp.probes.statistics.logistic import Prober, control_labels, online_code

KIND = "probes"
CONTROL_SEEDS = (0, 1, 2, 3, 4)
SPARSITIES = (1, 2, 4, 8, 16)
SPARSE_COLUMNS = ("family", "concept", "features", "layer", "n_features", "metric", "value")
SPARSE_COLUMNS += ("random_value", "shuffled_value", "n", "seed", "selected")
_MOST_SPARSE = 4_000
_REPEATS = 3
_KEPT = 3_000
_JOINTS = (JOINT, JOINT_PLUS, JOINT_UNTRAINED)


@dataclass(frozen=True)
class Outcome:
    """What the probes of one feature set say of the test spans.

    Attributes:
        of: The feature set.
        c: The inverse strength of the ridge that all its probes have.
        n_features: Columns of its matrix.
        n_fits: Probes that were fitted.
        n_unconverged: Those of them whose solver gave up.
        by_document: Log-probabilities from a probe of all train documents; one a seed.
        by_type: Log-probabilities from probes that did not see the lexical type either.
        is_control_right: For each control task, whether a probe of it is right; none if not asked for.
        bits: The online code of the train labels, all together; NaN if not asked for.
    """

    of: FeatureSet
    c: float
    n_features: int
    n_fits: int
    n_unconverged: int
    by_document: Float32[np.ndarray, "seeds n_test classes"]
    by_type: Float32[np.ndarray, "n_test classes"]
    is_control_right: Bool[np.ndarray, "tasks n_test"]
    bits: float


def run_probes(
    sample: SpanSample,
    sets: Sequence[FeatureSet],
    identity: Mapping[str, Any],
    *,
    with_codes: bool,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> list[Outcome]:
    """Fit and score every set.

    Args:
        sample: The spans.
        sets: What they are decoded from.
        identity: What else decides the numbers: the models and what was read of them.
        with_codes: Whether to measure code lengths (of all but the joint sets).
        seed: Of the tuning folds and the order of the code.
        on_progress: Told after every set.
    """
    said = dict(identity) | {"spans": _digest(sample), "seed": seed}
    found = []
    for one in counted(sets, f"probing: {sample.family}", on_progress):
        has_code = with_codes and one.control not in _JOINTS
        what = said | {"set": list(one.key), "has_code": has_code}
        kept = remembered(what, lambda one=one, code=has_code: _fitted(sample, one, seed, code), KIND, _KEPT)
        c, n_features, n_fits, n_unconverged, bits = kept["numbers"].tolist()
        arrays = {name: values for name, values in kept.items() if name != "numbers"}
        found.append(Outcome(one, c, int(n_features), int(n_fits), int(n_unconverged), bits=bits, **arrays))
    return found


def _fitted(sample: SpanSample, one: FeatureSet, seed: int, has_code: bool) -> Mapping[str, np.ndarray]:
    """Fit the probes of one set."""
    task, prober = sample.task, Prober(sample.task, seed)
    matrices = [make() for make in one.matrices]
    shape = matrices[0].shape
    assert shape is not None
    c = prober.regularisation(matrices[0])
    by_document = [prober.by_document(x, c) for x in matrices]
    by_type = prober.by_type(matrices, c)
    train, test = np.flatnonzero(~task.is_test), np.flatnonzero(task.is_test)
    is_right = []  # for each control task, where a probe of it is right on the document split
    for control_seed in CONTROL_SEEDS if one.control == NONE else ():
        labels = control_labels(sample.types, task, control_seed)
        predicted = prober.predict(matrices[0], labels, train, test, c).argmax(axis=1)
        is_right.append(predicted == labels[test])
    bits = online_code(prober, matrices[0], c) if has_code else np.nan
    return {
        "numbers": np.array([c, shape[1], prober.fits.n, prober.fits.n_unconverged, bits]),
        "by_document": np.stack(by_document),
        "by_type": by_type,
        "is_control_right": np.array(is_right, dtype=bool).reshape(-1, task.n_test),
    }


def _digest(sample: SpanSample) -> str:
    """Name the spans and their classes."""
    digest = hashlib.sha256("\n".join(one.sha256 for one in sample.documents).encode())
    for column in (sample.spans.document, sample.spans.start, sample.spans.end, sample.spans.concept):
        digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    digest.update(np.packbits(sample.is_test).tobytes())
    digest.update(json.dumps(sample.spans.concepts).encode())
    return digest.hexdigest()


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
    rows = np.sort(np.random.default_rng([seed, len(rows)]).permutation(rows)[:_MOST_SPARSE])
    kept = np.flatnonzero(x[rows].std(axis=0) > 0)  # what never varies cannot be ranked
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
    varying = [names[column] for column in kept.tolist()]
    columns = (sweep.ks, sweep.results, sweep.random_coordinate_controls, sweep.label_shuffle_controls)
    return [
        known
        | {
            "n_features": k,
            "value": result.metrics.roc_auc,
            "random_value": _mean(random.roc_auc),
            "shuffled_value": _mean(shuffled.roc_auc),
            "selected": "; ".join(varying[column] for column in result.selected_features.tolist()),
        }
        for k, result, random, shuffled in zip(*columns, strict=True)
    ]


def _mean(values: torch.Tensor) -> float:
    return float(values.mean()) if len(values) else float("nan")
