"""The ceiling: what a supervised linear probe reads off the same hidden state.

A layer's increment is one number that nobody trained to mark boundaries. How much a linear probe
that *was* trained to finds in the same stream says how much there was to be found.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64

from lrope_interp.probes.capture.capture import Progress, Readout, counted, linear_readout
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.signals import Signal, SignalColumn, Target
from lrope_interp.probes.statistics.bootstrap import hold_out
from lrope_interp.probes.statistics.logistic import Fits
from lrope_interp.probes.statistics.ranking import roc_auc

CEILING = "ceiling"
REGULARISATIONS = (1e-4, 1e-3, 1e-2, 1.0)
MAX_ITERATIONS = 100
MOST_STATES = 50_000
_HAN_SHARE = 1 / 3
_RIDGE = 1e-3
_LEAST_OF_A_KIND = 20


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression on raw hidden states; the standardisation is folded in.

    It is a ceiling for *lines*: a head with a hidden layer may find more. That it can be read off does
    not show that the model uses it.

    Attributes:
        weight: One a dimension of the hidden state.
        bias: Added to the weighted sum, which is the log-odds of a boundary: the probe's signal.
        regularisation: The inverse strength of the ridge that did best on held-out documents.
        held_out_auc: ROC-AUC on documents that this regularisation was chosen on, from a fit without
            them: good for choosing between readings of a character, a little too high as a score.
    """

    weight: Float32[np.ndarray, " m"]
    bias: float
    regularisation: float
    held_out_auc: float


def fit_probe(
    hidden: Float32[np.ndarray, "n m"],
    is_boundary: Bool[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    fits: Fits,
    seed: int = 0,
) -> LinearProbe | None:
    """Fit on all gaps, with the regularisation of the highest AUC on a fifth of the documents.

    Args:
        hidden: The hidden state at each gap; at most 50,000 gaps of 256 dimensions take 2 s.
        is_boundary: The label.
        document: The document of each gap; gaps of one document in their order.
        fits: Counts what is fitted.
        seed: Of the documents held out.

    Returns:
        The probe, or None where there is nothing to fit or to choose by: gaps of one kind only in what
        is held out or in the rest, or a hidden state that is the same everywhere.
    """
    from sklearn.linear_model import LogisticRegression

    is_held = hold_out(document, is_boundary, seed)
    if not all(part.any() and not part.all() for part in (is_boundary[is_held], is_boundary[~is_held])):
        return None
    centre, spread = hidden.mean(axis=0, dtype=np.float64), hidden.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6 * np.abs(centre), spread, np.inf)
    if np.isinf(scale).all():
        return None
    x = (hidden - centre.astype(np.float32)) / scale.astype(np.float32)
    rest, held = x[~is_held], x[is_held]
    best, highest = None, -math.inf
    model = LogisticRegression(solver="newton-cholesky", tol=1e-3, max_iter=MAX_ITERATIONS, warm_start=True)
    for c in REGULARISATIONS:  # from strong to weak, each fit starts at the one before
        fits.fit(model.set_params(C=c), rest, is_boundary[~is_held])
        auc = roc_auc(held @ model.coef_[0], is_boundary[is_held])
        if best is None or auc > highest:
            best, highest = copy.deepcopy(model), auc
    assert best is not None
    fits.fit(best, x, is_boundary)
    weight = best.coef_[0] / scale
    bias = float(np.asarray(best.intercept_)[0] - weight @ centre)
    return LinearProbe(weight.astype(np.float32), bias, best.C, highest)


@dataclass(frozen=True)
class HiddenSample:
    """Gaps between characters that lend their hidden states to probes, and at which bytes those stand.

    The stream of all gaps does not fit into memory. Each document draws by a generator that its own hash
    seeds, so that neither the order of documents nor their company changes what is drawn.

    Attributes:
        gaps: Joined bytes, rising: first bytes of characters.
        last: For each, the byte (of the token that holds the last byte) of its character.
        at: All bytes at which a state is kept, rising and once each.
    """

    gaps: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]
    at: Int64[np.ndarray, " states"]

    @classmethod
    def of(cls, gaps: Gaps, n_states: int = MOST_STATES) -> HiddenSample:
        """Sample so that at most `n_states` states are kept, a third of them for gaps in `han`."""
        n_han = int(n_states * _HAN_SHARE) if gaps.strata["han"].any() else 0
        weight = 1 + (gaps.characters.n_tokens[gaps.characters.of_byte] > 1)  # states: the first, the last
        edges = np.append(np.flatnonzero(gaps.t == 0), len(gaps.t))
        chosen = np.zeros(len(gaps.t), dtype=bool)
        for stream, (stratum, most) in enumerate((("characters", n_states - n_han), ("han", n_han))):
            inside = gaps.strata[stratum]
            wanted = int(weight[inside].sum())
            share = min(1.0, most / wanted) if wanted else 0.0
            for document, start, stop in zip(gaps.documents, edges[:-1], edges[1:], strict=True):
                rng = np.random.default_rng([int(document.sha256[:16], 16), stream])
                own = np.flatnonzero(inside[start:stop])
                chosen[start + rng.permutation(own)[: int(share * len(own))]] = True
        at = np.flatnonzero(chosen)
        last = gaps.characters.last[gaps.characters.of_byte[at]]
        return cls(at, last, np.union1d(at, last))

    def rows(self, align: str) -> Int64[np.ndarray, " n"]:
        """Return which kept state belongs to each gap, read as "lead" or as "last"."""
        return np.searchsorted(self.at, self.gaps if align == "lead" else self.last)


Ceilings: TypeAlias = Mapping[int, Sequence[tuple[Target, LinearProbe]]]
"""For each layer its probes, one for a label and a scope each, and what they were made for."""


def fit_ceilings(
    fit: Captured, gaps: Gaps, sample: HiddenSample, fits: Fits, on_progress: Progress | None = None
) -> Ceilings:
    """Fit a probe for each layer, label and scope on the sampled hidden states.

    A label gets none where it has under 20 sampled gaps of either kind, or where no document can be left
    out without losing one kind of gap.

    Args:
        fit: The captured fit documents, with their hidden states at `sample.at`.
        gaps: Their gaps and labels.
        sample: Which gaps were sampled.
        fits: Counts what is fitted.
        on_progress: Told about every probe.
    """
    scopes = {
        "characters": tuple(name for name in gaps.strata if name not in ("bytes", "han")),
        "han": ("han",),
    }
    todo: list[tuple[str, str, Int64[np.ndarray, " rows"]]] = []
    for label in gaps.labels:
        for scope in scopes:
            rows = np.flatnonzero((gaps.strata[scope] & gaps.labels[label].is_known)[sample.gaps])
            at = sample.gaps[rows]
            n_true = int(gaps.labels[label].is_boundary[at].sum())
            has_both = min(n_true, len(rows) - n_true) >= _LEAST_OF_A_KIND
            if has_both and len(np.unique(gaps.document[at])) > 1:
                todo.append((label, scope, rows))
    ceilings: dict[int, list[tuple[Target, LinearProbe]]] = {layer: [] for layer in fit.layers}
    for label, scope, rows in counted(todo, "fitting ceilings", on_progress):
        at = sample.gaps[rows]
        truth, document = gaps.labels[label].is_boundary[at], gaps.document[at]
        found = []
        for layer, hidden in zip(fit.layers, fit.hidden, strict=True):
            align = _better_alignment(hidden, sample, rows, truth, document)
            probe = fit_probe(hidden[sample.rows(align)[rows]], truth, document, fits)
            found += [] if probe is None else [(layer, Target(label, scope, scopes[scope], align), probe)]
        for layer, target, probe in found if len(found) == len(fit.layers) else []:
            ceilings[layer].append((target, probe))
    return ceilings


def _better_alignment(
    hidden: Float32[np.ndarray, "states d_model"],
    sample: HiddenSample,
    rows: Int64[np.ndarray, " n"],
    truth: Bool[np.ndarray, " n"],
    document: Int64[np.ndarray, " n"],
) -> str:
    """Choose the byte whose state predicts better, by ridge regression on documents left out."""
    places = {align: sample.rows(align)[rows] for align in ("lead", "last")}
    is_held = document % 4 == 3
    if np.array_equal(places["lead"], places["last"]):
        return "lead"
    if truth[is_held].all() or not truth[is_held].any() or is_held.all():
        return "lead"
    areas = {}
    for align, at in places.items():
        x = hidden[at] - hidden[at][~is_held].mean(axis=0)
        own, target = x[~is_held], (truth - truth[~is_held].mean())[~is_held].astype(np.float32)
        gram = (own.T @ own).astype(np.float64)
        gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + 1e-12
        areas[align] = roc_auc(x[is_held] @ np.linalg.solve(gram, own.T @ target), truth[is_held])
    return max(areas, key=lambda align: areas[align])


def ceiling_readouts(ceilings: Ceilings) -> tuple[Readout, ...]:
    """Return what reads all probes during capture; nothing where there is no probe."""
    if not any(ceilings.values()):
        return ()
    weights = {
        layer: (
            np.stack([probe.weight for _, probe in found], axis=1).astype(np.float32),
            np.array([probe.bias for _, probe in found], dtype=np.float32),
        )
        for layer, found in ceilings.items()
    }
    return (linear_readout(CEILING, weights),)


def ceiling_columns(ceilings: Ceilings, captured: Mapping[str, Captured]) -> list[SignalColumn]:
    """Return one column a layer, label and scope, from what `ceiling_readouts` read."""
    signal = Signal(CEILING, lambda _: np.zeros(0), kind="ceiling")
    return [
        SignalColumn(
            signal,
            layer,
            None,
            {split: one.readouts[CEILING][at, number] for split, one in captured.items()},
            target,
        )
        for at, (layer, found) in enumerate(ceilings.items())
        for number, (target, _) in enumerate(found)
    ]
