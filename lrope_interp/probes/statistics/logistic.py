"""Linear probes: what a multinomial logistic regression reads off some features of spans.

A probe that decodes a concept shows that the features carry it, not that the model uses it.
Everything is scored on documents that no probe saw; in the type-disjoint split no lexical type (the
text of a span) stands in both train and test either. How fast a probe learns is told by the length of
a code.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from scipy import sparse
from scipy.linalg import LinAlgWarning

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

REGULARISATIONS = (1e-3, 1e-2, 1e-1, 1.0)
TUNING_FOLDS = 3
TYPE_FOLDS = 5
_MOST_TO_TUNE = 5_000
_TOLERANCE = 1e-3
_MAX_ITERATIONS = 2_000
_LEAST_PROBABILITY = 1e-7
_CONSTANT = 1e-6
BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)

Matrix: TypeAlias = np.ndarray | sparse.csr_matrix


@dataclass(frozen=True)
class Task:
    """What is to be told apart, span by span.

    Attributes:
        y: The class of each span, below `n_classes`.
        n_classes: How many there are.
        document: The document of each.
        is_test: Whether it is scored; the rest is fitted on.
        fold: The type fold of each: spans of one lexical type share it.
    """

    y: Int64[np.ndarray, " n"]
    n_classes: int
    document: Int64[np.ndarray, " n"]
    is_test: Bool[np.ndarray, " n"]
    fold: Int64[np.ndarray, " n"]

    @property
    def n_test(self) -> int:
        """How many spans are scored."""
        return int(self.is_test.sum())


@dataclass
class Fits:
    """Logistic regressions that were fitted, and how many of them did not converge.

    One that did not is used all the same, as far as its solver came; whoever reports its score says so.
    """

    n: int = 0
    n_unconverged: int = 0

    def fit(self, model: LogisticRegression, x: Matrix, y: Shaped[np.ndarray, " n"]) -> None:
        """Fit a model from where it is, and count it."""
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            warnings.simplefilter("ignore", LinAlgWarning)  # Newton's method goes over to another solver
            model.fit(x, y)
        self.n += 1
        self.n_unconverged += any(issubclass(one.category, ConvergenceWarning) for one in caught)

    def notes(self, what: str) -> list[str]:
        """Say how many did not converge, if any."""
        if not self.n_unconverged:
            return []
        return [
            f"{self.n_unconverged} of {self.n} {what} did not converge; their scores are a little too low"
        ]


@dataclass(frozen=True)
class Prober:
    """Fits probes of one task on any features.

    Attributes:
        task: What is told apart.
        seed: Of the spans that the regularisation is chosen on.
        fits: Counts.
    """

    task: Task
    seed: int = 0
    fits: Fits = field(default_factory=Fits)

    def regularisation(self, x: Matrix) -> float:
        """Return the inverse strength with the lowest loss in three folds of train documents.

        At most 5,000 spans are looked at. Where documents or classes are too few to leave any out, the
        strongest.
        """
        rows = np.flatnonzero(~self.task.is_test)
        rng = np.random.default_rng([self.seed, len(rows)])
        rows = np.sort(rng.permutation(rows)[:_MOST_TO_TUNE])
        fold = grouped_folds(self.task.document[rows], TUNING_FOLDS, self.seed)
        losses = [
            sum(self._loss(x, rows, fold == k, c) for k in range(TUNING_FOLDS)) for c in REGULARISATIONS
        ]
        return REGULARISATIONS[int(np.argmin(losses))] if np.isfinite(losses).any() else REGULARISATIONS[0]

    def by_document(self, x: Matrix, c: float) -> Float32[np.ndarray, "n_test classes"]:
        """Fit on all train spans; return log-probabilities of the test spans."""
        train, test = np.flatnonzero(~self.task.is_test), np.flatnonzero(self.task.is_test)
        return self.predict(x, self.task.y, train, test, c)

    def by_type(self, x: Matrix | list[Matrix], c: float) -> Float32[np.ndarray, "n_test classes"]:
        """Return log-probabilities from probes that saw neither the document nor the lexical type.

        Args:
            x: The features; or one matrix a fold, for controls that have a seed each.
            c: The inverse strength of the ridge.
        """
        out = np.zeros((self.task.n_test, self.task.n_classes), dtype=np.float32)
        fold_of_test = self.task.fold[self.task.is_test]
        for fold in range(TYPE_FOLDS):
            train, test = type_split(self.task, fold)
            matrix = x[fold % len(x)] if isinstance(x, list) else x
            out[fold_of_test == fold] = self.predict(matrix, self.task.y, train, test, c)
        return out

    def predict(
        self,
        x: Matrix,
        y: Int64[np.ndarray, " n"],
        train: Int64[np.ndarray, " n_train"],
        rows: Int64[np.ndarray, " n_rows"],
        c: float,
    ) -> Float32[np.ndarray, "n_rows classes"]:
        """Fit on some rows and return log-probabilities of others; dense features are standardised.

        A class that the train rows lack gets the probability 1e-7, and so does any that would be lower.
        """
        from sklearn.linear_model import LogisticRegression

        probabilities = np.full((len(rows), self.task.n_classes), _LEAST_PROBABILITY)
        known = np.unique(y[train])
        if len(known) < 2 or not len(rows):
            probabilities[:, known] = 1.0
            return np.log(probabilities).astype(np.float32)
        fitted, scored = standardised(x, train, rows)
        model = LogisticRegression(C=c, tol=_TOLERANCE, max_iter=_MAX_ITERATIONS)
        self.fits.fit(model, fitted, y[train])
        probabilities[:, known] = np.maximum(model.predict_proba(scored), _LEAST_PROBABILITY)
        return np.log(probabilities).astype(np.float32)

    def _loss(
        self, x: Matrix, rows: Int64[np.ndarray, " n"], is_held: Bool[np.ndarray, " n"], c: float
    ) -> float:
        """Sum -ln p over what is held out; infinite where that or the rest is of one class."""
        y = self.task.y
        rest, held = rows[~is_held], rows[is_held]
        if len(np.unique(y[rest])) < 2 or not len(held):
            return np.inf
        log_p = self.predict(x, y, rest, held, c)
        return -float(log_p[np.arange(len(held)), y[held]].sum(dtype=np.float64))


def standardised(
    x: Matrix, train: Int64[np.ndarray, " n_train"], rows: Int64[np.ndarray, " n_rows"]
) -> tuple[Matrix, Matrix]:
    """Return train rows and others with mean 0 and s.d. 1 on the train rows; one-hot columns as they are."""
    if sparse.issparse(x):
        return x[train], x[rows]
    own: np.ndarray = np.asarray(x)
    mean, spread = own[train].mean(axis=0, dtype=np.float64), own[train].std(axis=0, dtype=np.float64)
    is_varying = spread > _CONSTANT * (np.abs(mean) + _CONSTANT)
    factor = np.divide(1.0, spread, out=np.zeros_like(spread), where=is_varying)
    fitted, scored = ((own[at] - mean) * factor for at in (train, rows))
    return fitted.astype(np.float32), scored.astype(np.float32)


def beside(dense: Float32[np.ndarray, "n m"], one_hot: Matrix, is_test: Bool[np.ndarray, " n"]) -> Matrix:
    """Put dense features, standardised on the train spans, beside one-hot ones."""
    every = np.arange(len(dense))
    _, scaled = standardised(dense, np.flatnonzero(~is_test), every)
    return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(scaled), one_hot]))


def type_split(task: Task, fold: int) -> tuple[Int64[np.ndarray, " n_train"], Int64[np.ndarray, " n_test"]]:
    """Return train rows of all other type folds, and test rows of this one."""
    is_fold = task.fold == fold
    return np.flatnonzero(~task.is_test & ~is_fold), np.flatnonzero(task.is_test & is_fold)


def type_folds(types: Sequence[str], seed: int = 0) -> Int64[np.ndarray, " types"]:
    """Return the fold of each lexical type: a function of its text and the seed."""
    digests = (hashlib.sha256(f"{seed}:{one}".encode("utf-8", "surrogatepass")) for one in types)
    return np.array([int(one.hexdigest()[:8], 16) % TYPE_FOLDS for one in digests], dtype=np.int64)


def grouped_folds(group: Int64[np.ndarray, " n"], n_folds: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Deal groups out to folds, in an order that the seed decides."""
    found, index = np.unique(group, return_inverse=True)
    order = np.random.default_rng([seed, len(found)]).permutation(len(found))
    return (order % n_folds)[index]


def control_labels(types: Int64[np.ndarray, " n"], task: Task, seed: int) -> Int64[np.ndarray, " n"]:
    """Return the labels of a control task (Hewitt and Liang 2019): random, but one a lexical type.

    Classes are drawn as often as they occur among the train spans.
    """
    shares = np.bincount(task.y[~task.is_test], minlength=task.n_classes).astype(np.float64)
    drawn = np.random.default_rng([seed, 7]).random(int(types.max(initial=-1)) + 1)
    edges: Float64[np.ndarray, " classes"] = np.cumsum(shares) / max(shares.sum(), 1.0)
    label = np.searchsorted(edges, drawn, side="right")
    return np.minimum(label, task.n_classes - 1).astype(np.int64)[types]


def online_code(prober: Prober, x: Matrix, c: float) -> float:
    """Return what all labels cost given features, in bits: the online code of Voita and Titov (2020).

    The labels of the train spans are sent block by block, document by document in an order drawn by the
    prober's seed. The first block costs log2 of the number of classes a label; each later one what a probe
    says of it that was fitted on all blocks before. A probe that learns fast sends little, however good it
    gets in the end; labels that follow no rule cost about as much as without any features, and somewhat more
    where a class comes late.

    Args:
        prober: The task; its test spans are not looked at.
        x: The features of all its spans.
        c: The inverse strength of the ridge.
    """
    task = prober.task
    rows = np.flatnonzero(~task.is_test)
    found, index = np.unique(task.document[rows], return_inverse=True)
    rank = np.random.default_rng([prober.seed, 11]).permutation(len(found))
    rows = rows[np.argsort(rank[index], kind="stable")]  # spans of one document stay together
    edges = np.unique(np.ceil(np.array(BLOCKS) * len(rows)).astype(np.int64))
    bits = float(edges[0]) * math.log2(task.n_classes) if len(rows) else 0.0
    for start, stop in pairwise(edges.tolist()):
        block = rows[start:stop]
        log_p = prober.predict(x, task.y, rows[:start], block, c)
        p = np.exp(log_p[np.arange(len(block)), task.y[block]].astype(np.float64))
        # As many labels as there are classes count as seen before the first, one of each (Laplace), or the
        # first of a new class would cost whatever a probe's floor is.
        unseen = task.n_classes / (start + task.n_classes)
        bits -= float(np.log2((1 - unseen) * p + unseen / task.n_classes).sum())
    return bits
