"""Fit every probe of a family, each kept as soon as it is there, so that a killed analysis goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lrope_interp.probes.capture.cache import remembered
from lrope_interp.probes.capture.capture import Progress
from lrope_interp.probes.concepts.features import JOINT, JOINT_PLUS, JOINT_UNTRAINED, NONE, FeatureSet
from lrope_interp.probes.concepts.span_sample import SpanSample
from lrope_interp.probes.statistics.code_length import OnlineCode, online_code
from lrope_interp.probes.statistics.logistic import Matrix, Prober, control_labels

KIND = "probes"
CONTROL_SEEDS = (0, 1, 2, 3, 4)
_KEPT = 3_000
_HEAD = 5
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
        code: The online code of the train labels; None if not asked for.
    """

    of: FeatureSet
    c: float
    n_features: int
    n_fits: int
    n_unconverged: int
    by_document: Float32[np.ndarray, "seeds n_test classes"]
    by_type: Float32[np.ndarray, "n_test classes"]
    is_control_right: Bool[np.ndarray, "tasks n_test"]
    code: OnlineCode | None


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
    for done, one in enumerate(sets, start=1):
        has_code = with_codes and one.control not in _JOINTS
        what = said | {"set": list(one.key), "has_code": has_code}
        flat = remembered(what, _worker(sample, one, seed, has_code), KIND, _KEPT)
        found.append(_unpacked(flat, sample, one))
        if on_progress is not None:
            on_progress(f"probing: {sample.family}", done, len(sets))
    return found


def _worker(
    sample: SpanSample, one: FeatureSet, seed: int, has_code: bool
) -> Callable[[], Float32[np.ndarray, " n"]]:
    """Return what fits the probes of one set, and lays what they say end to end."""

    def work() -> Float32[np.ndarray, " n"]:
        prober = Prober(sample.task, seed)
        matrices = [make() for make in one.matrices]
        shape = matrices[0].shape
        assert shape is not None
        c = prober.regularisation(matrices[0])
        by_document = [prober.by_document(x, c) for x in matrices]
        by_type = prober.by_type(matrices, c)
        right = _control_tasks(prober, sample.types, matrices[0], c) if one.control == NONE else []
        bits = online_code(prober, matrices[0], c).bits if has_code else np.nan
        head = [c, shape[1], prober.fits.n, prober.fits.n_unconverged, bits]
        parts = [np.array(head), *by_document, by_type, *right]
        return np.concatenate([np.asarray(part, dtype=np.float32).ravel() for part in parts])

    return work


def _control_tasks(
    prober: Prober, types: Int64[np.ndarray, " n"], x: Matrix, c: float
) -> list[Bool[np.ndarray, " n_test"]]:
    """Return for each control task where a probe of it is right, on the document split."""
    task = prober.task
    train, test = np.flatnonzero(~task.is_test), np.flatnonzero(task.is_test)
    found = []
    for seed in CONTROL_SEEDS:
        labels = control_labels(types, task, seed)
        found.append(prober.predict(x, labels, train, test, c).argmax(axis=1) == labels[test])
    return found


def _unpacked(flat: Float32[np.ndarray, " n"], sample: SpanSample, one: FeatureSet) -> Outcome:
    """Undo what `_worker` did."""
    task = sample.task
    shape = (task.n_test, task.n_classes)
    c, n_features, n_fits, n_unconverged, bits = flat[:_HEAD].tolist()
    size = shape[0] * shape[1]
    n_seeds = len(one.matrices)
    by_document = flat[_HEAD : _HEAD + n_seeds * size].reshape(n_seeds, *shape)
    at = _HEAD + n_seeds * size
    n_train = int((~task.is_test).sum())
    return Outcome(
        of=one,
        c=float(np.float64(f"{c:.6g}")),
        n_features=int(n_features),
        n_fits=int(n_fits),
        n_unconverged=int(n_unconverged),
        by_document=by_document,
        by_type=flat[at : at + size].reshape(shape),
        is_control_right=flat[at + size :].reshape(-1, task.n_test) > 0,
        code=None if np.isnan(bits) else OnlineCode(bits, n_train, task.n_classes),
    )


def _digest(sample: SpanSample) -> str:
    """Name the spans and their classes."""
    digest = hashlib.sha256("\n".join(one.sha256 for one in sample.documents).encode())
    for column in (sample.spans.document, sample.spans.start, sample.spans.end, sample.spans.concept):
        digest.update(np.ascontiguousarray(column, dtype=np.int64).tobytes())
    digest.update(np.packbits(sample.is_test).tobytes())
    digest.update(json.dumps(sample.spans.concepts).encode())
    return digest.hexdigest()
