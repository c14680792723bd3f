"""The ceiling: how well a supervised linear probe reads boundaries off the same hidden state.

The head that makes an increment sees a hidden state. What a line through that state, fitted to the
label itself, can tell is about what the increment could have told.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int

from lrope_interp.probes.statistics.drawn_gaps import hold_out
from lrope_interp.probes.statistics.ranking import roc_auc

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

REGULARISATIONS = (1e-4, 1e-3, 1e-2, 1.0)
MAX_ITERATIONS = 100


@dataclass(frozen=True)
class LinearProbe:
    """A logistic regression on raw hidden states; the standardisation is folded in.

    It is a ceiling for *lines*: a head with a hidden layer may find more. That it can be read off does
    not show that the model uses it.

    Attributes:
        weight: One a dimension of the hidden state.
        bias: Added to the weighted sum.
        regularisation: The inverse strength of the ridge that did best on held-out documents.
        held_out_auc: ROC-AUC on documents that this regularisation was chosen on, from a fit without
            them: good for choosing between readings of a character, a little too high as a score.
    """

    weight: Float32[np.ndarray, " m"]
    bias: float
    regularisation: float
    held_out_auc: float

    def log_odds(self, hidden: Float32[np.ndarray, "n m"]) -> Float32[np.ndarray, " n"]:
        """Return the log-odds of a boundary at each gap: the probe's signal."""
        return hidden @ self.weight + np.float32(self.bias)


def fit_probe(
    hidden: Float32[np.ndarray, "n m"],
    is_boundary: Bool[np.ndarray, " n"],
    document: Int[np.ndarray, " n"],
    seed: int = 0,
) -> LinearProbe | None:
    """Fit on all gaps, with the regularisation of the highest AUC on a fifth of the documents.

    Args:
        hidden: The hidden state at each gap; at most 50,000 gaps of 256 dimensions take 2 s.
        is_boundary: The label.
        document: The document of each gap; gaps of one document in their order.
        seed: Of the documents held out.

    Returns:
        The probe, or None where there is nothing to fit or to choose by: gaps of one kind only in what
        is held out or in the rest, or a hidden state that is the same everywhere.
    """
    is_held = hold_out(document, is_boundary, seed)
    if not (_has_both(is_boundary[is_held]) and _has_both(is_boundary[~is_held])):
        return None
    centre, spread = hidden.mean(axis=0, dtype=np.float64), hidden.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6 * np.abs(centre), spread, np.inf)
    if np.isinf(scale).all():
        return None
    standard = (hidden - centre.astype(np.float32)) / scale.astype(np.float32)
    best, held_out_auc = _choose(standard, is_boundary, is_held)
    if best is None or not _has_converged(best, standard, is_boundary):
        return None
    weight = best.coef_[0] / scale
    bias = float(np.asarray(best.intercept_)[0] - weight @ centre)
    return LinearProbe(weight.astype(np.float32), bias, best.C, held_out_auc)


def _has_both(is_boundary: Bool[np.ndarray, " n"]) -> bool:
    return bool(is_boundary.any() and not is_boundary.all())


def _choose(
    x: Float32[np.ndarray, "n m"], is_boundary: Bool[np.ndarray, " n"], is_held: Bool[np.ndarray, " n"]
) -> tuple[LogisticRegression | None, float]:
    """Return the model of the regularisation that does best on what is held out, and its AUC there.

    From strong to weak, each fit starts at the one before; those that do not converge are passed over.
    """
    from sklearn.linear_model import LogisticRegression

    best, highest = None, -math.inf
    model = LogisticRegression(solver="newton-cholesky", tol=1e-3, max_iter=MAX_ITERATIONS, warm_start=True)
    rest, held = x[~is_held], x[is_held]
    for c in REGULARISATIONS:
        model.set_params(C=c)
        if _has_converged(model, rest, is_boundary[~is_held]):
            auc = roc_auc(held @ model.coef_[0], is_boundary[is_held])
            if auc > highest:
                best, highest = copy.deepcopy(model), auc
    return best, highest


def _has_converged(
    model: LogisticRegression, x: Float32[np.ndarray, "n m"], is_boundary: Bool[np.ndarray, " n"]
) -> bool:
    """Fit `model` from where it is, and say whether the solver vouches for the result."""
    from scipy.linalg import LinAlgWarning
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        warnings.simplefilter("error", LinAlgWarning)
        try:
            model.fit(x, is_boundary)
        except (ConvergenceWarning, LinAlgWarning):
            return False
    return True
