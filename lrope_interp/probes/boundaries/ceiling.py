"""The ceiling: what a supervised linear probe reads off the same hidden state.

A layer's increment is one number that nobody trained to mark boundaries. How much a linear probe
that *was* trained to finds in the same stream says how much there was to be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from lrope_interp.data.labels.kinds import STRATA
from lrope_interp.probes.boundaries.hidden_sample import HiddenSample
from lrope_interp.probes.capture.capture import Captured, Progress
from lrope_interp.probes.capture.gaps import Gaps
from lrope_interp.probes.capture.readouts import Readout, linear_readout
from lrope_interp.probes.capture.signals import Column, Signal, Target
from lrope_interp.probes.statistics.ceiling import LinearProbe, fit_probe
from lrope_interp.probes.statistics.ranking import roc_auc

CEILING = "ceiling"
_ALIGNMENTS = ("lead", "last")
_RIDGE = 1e-3
_LEAST_OF_A_KIND = 20


@dataclass(frozen=True)
class Ceilings:
    """Probes of every layer, for one label and scope each.

    Attributes:
        layers: The layers.
        targets: For each layer, what its probes were made for.
        probes: For each layer, its probes in the same order.
    """

    layers: tuple[int, ...]
    targets: Mapping[int, Sequence[Target]]
    probes: Mapping[int, Sequence[LinearProbe]]

    def readouts(self) -> tuple[Readout, ...]:
        """Return what reads all probes during capture; nothing where there is no probe."""
        if not self.layers or not self.probes[self.layers[0]]:
            return ()
        weights = {
            layer: (
                np.stack([one.weight for one in found], axis=1).astype(np.float32),
                np.array([one.bias for one in found], dtype=np.float32),
            )
            for layer, found in self.probes.items()
        }
        return (linear_readout(CEILING, weights),)

    def columns(self, captured: Mapping[str, Captured]) -> list[Column]:
        """Return one column a layer, label and scope, from what `readouts` read."""
        signal = Signal(CEILING, lambda _: np.zeros(0), kind="ceiling")
        return [
            Column(
                signal,
                layer,
                None,
                {split: one.readouts[CEILING][at, number] for split, one in captured.items()},
                target,
            )
            for at, layer in enumerate(self.layers)
            for number, target in enumerate(self.targets[layer])
        ]


def fit_ceilings(
    fit: Captured, gaps: Gaps, sample: HiddenSample, on_progress: Progress | None = None
) -> Ceilings:
    """Fit a probe for each layer, label and scope on the sampled hidden states.

    Args:
        fit: The captured fit documents, with their hidden states at `sample.at`.
        gaps: Their gaps and labels.
        sample: Which gaps were sampled.
        on_progress: Told about every probe.
    """
    pairs = [(label, scope) for label in gaps.labels for scope in _SCOPES]
    found = [pair for pair in pairs if _is_fittable(gaps, sample, *pair)]
    targets: dict[int, list[Target]] = {layer: [] for layer in fit.layers}
    probes: dict[int, list[LinearProbe]] = {layer: [] for layer in fit.layers}
    for done, (label, scope) in enumerate(found, start=1):
        fitted = [_fit(hidden, gaps, sample, label, scope) for hidden in fit.hidden]
        if not any(probe is None for probe, _ in fitted):  # a document that holds a label alone leaves none
            for layer, (probe, align) in zip(fit.layers, fitted, strict=True):
                assert probe is not None
                targets[layer].append(Target(label, scope, _SCOPES[scope](gaps), align))
                probes[layer].append(probe)
        if on_progress is not None:
            on_progress("fitting ceilings", done, len(found))
    return Ceilings(fit.layers, targets, probes)


def _fit(
    hidden: Float32[np.ndarray, "states d_model"], gaps: Gaps, sample: HiddenSample, label: str, scope: str
) -> tuple[LinearProbe | None, str]:
    """Fit one probe; None where no document can be left out without losing one kind of gap."""
    rows = _rows(gaps, sample, label, scope)
    truth = gaps.labels[label].is_boundary[sample.gaps[rows]]
    document = gaps.document[sample.gaps[rows]]
    align = _better_alignment(hidden, sample, rows, truth, document)
    return fit_probe(hidden[sample.rows(align)[rows]], truth, document, 0), align


_SCOPES = {
    "characters": lambda gaps: tuple(name for name in gaps.strata if name not in ("bytes", "han")),
    "han": lambda _: ("han",),
}
assert set(_SCOPES) <= set(STRATA)


def _is_fittable(gaps: Gaps, sample: HiddenSample, label: str, scope: str) -> bool:
    """Whether enough gaps of both kinds were sampled, in two documents or more."""
    rows = _rows(gaps, sample, label, scope)
    truth = gaps.labels[label].is_boundary[sample.gaps[rows]]
    n_documents = len(np.unique(gaps.document[sample.gaps[rows]]))
    n_true = int(truth.sum())
    return n_documents > 1 and min(n_true, len(truth) - n_true) >= _LEAST_OF_A_KIND


def _rows(gaps: Gaps, sample: HiddenSample, label: str, scope: str) -> Int64[np.ndarray, " n"]:
    inside = gaps.strata[scope] & gaps.labels[label].is_known
    return np.flatnonzero(inside[sample.gaps])


def _better_alignment(
    hidden: Float32[np.ndarray, "states d_model"],
    sample: HiddenSample,
    rows: Int64[np.ndarray, " n"],
    truth: Bool[np.ndarray, " n"],
    document: Int64[np.ndarray, " n"],
) -> str:
    """Choose the byte whose state predicts better, by ridge regression on documents left out."""
    places = {align: sample.rows(align)[rows] for align in _ALIGNMENTS}
    if np.array_equal(places["lead"], places["last"]):
        return _ALIGNMENTS[0]
    is_held_out = document % 4 == 3
    if truth[is_held_out].all() or not truth[is_held_out].any() or is_held_out.all():
        return _ALIGNMENTS[0]
    scores = {align: _ridge_auc(hidden[at], truth, is_held_out) for align, at in places.items()}
    return max(scores, key=lambda align: scores[align])


def _ridge_auc(
    hidden: Float32[np.ndarray, "n d_model"],
    truth: Bool[np.ndarray, " n"],
    is_held_out: Bool[np.ndarray, " n"],
) -> float:
    x = hidden - hidden[~is_held_out].mean(axis=0)
    y = truth - truth[~is_held_out].mean()
    own, target = x[~is_held_out], y[~is_held_out].astype(np.float32)
    gram = (own.T @ own).astype(np.float64)
    gram[np.diag_indices_from(gram)] += _RIDGE * np.trace(gram) / len(gram) + 1e-12
    return roc_auc(x[is_held_out] @ np.linalg.solve(gram, own.T @ target), truth[is_held_out])
