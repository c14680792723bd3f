"""A regression that asks what being a name adds, with everything else that the increment may follow.

Errors are clustered by document and by pair of words (Cameron, Gelbach and Miller 2011): a name that occurs
forty times is not forty pieces of evidence, nor is a document that is full of names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy.stats import t as student

from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.curves import Spline

LEAST_NAMES = 20
"""Occurrences of names below which nothing is estimated."""

LEAST_CLUSTERS = 5
N_KNOTS = 6
_NOTHING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """What being a name adds to the response, everything else held equal.

    Attributes:
        value: In means of the layer; NaN where it cannot be had.
        error: Two-way clustered.
        low: Of the 95 % interval (Student's t, smaller number of clusters less one).
        high: Its other end.
        p: Two-sided.
        n: Pairs of words that were used.
        n_names: Of which names.
        n_kinds: Different pairs of words.
        n_documents: Documents.
        r2: Share of the variance that all columns explain; within first words where those have own means.
    """

    value: float
    error: float
    low: float
    high: float
    p: float
    n: int
    n_names: int
    n_kinds: int
    n_documents: int
    r2: float


@dataclass(frozen=True)
class Design:
    """Everything about a regression but the response.

    Attributes:
        is_name: Of each row.
        rest: What of `is_name` the other columns do not explain.
        basis: Orthonormal columns that span the others.
        groups: Document and pair of words of each row, numbered from 0.
        word: First word of each row, or None where they have no means of their own.
    """

    is_name: Bool[np.ndarray, " n"]
    rest: Float[np.ndarray, " n"]
    basis: Float[np.ndarray, "n columns"]
    groups: Int[np.ndarray, "n 2"]
    word: Int64[np.ndarray, " n"] | None

    @classmethod
    def of(
        cls,
        is_name: Bool[np.ndarray, " n"],
        columns: Float[np.ndarray, "n columns"],
        groups: Int[np.ndarray, "n 2"],
        word: Int64[np.ndarray, " n"] | None = None,
    ) -> Design:
        """Prepare a regression.

        Args:
            is_name: The question.
            columns: What is held equal; columns that others explain are no harm.
            groups: Document and pair of words.
            word: First word of each row, which then gets a mean of its own (a fixed effect): everything is
                taken as a difference from it.
        """
        constant = np.ones((len(columns), 1)) if word is None else np.zeros((len(columns), 0))
        others = np.concatenate([constant, _centred(columns, word)], axis=1)
        basis = _orthonormal(others)
        name = _centred(is_name.astype(np.float64)[:, None], word)[:, 0]
        codes = [np.unique(column, return_inverse=True)[1] for column in groups.T]
        return cls(is_name, name - basis @ (basis.T @ name), basis, np.stack(codes, axis=1), word)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough names, clusters, and anything left of the question."""
        n_clusters = (self.groups.max(axis=0, initial=-1) + 1).min()
        is_left = float(self.rest @ self.rest) > _NOTHING * max(len(self.rest), 1)
        return int(self.is_name.sum()) >= LEAST_NAMES and n_clusters >= LEAST_CLUSTERS and is_left

    def estimate(self, response: Float[np.ndarray, " n"]) -> Estimate:
        """Fit one response by ordinary least squares.

        The other columns are taken out of response and question first (Frisch, Waugh and Lovell), which
        gives the same coefficient and residuals as fitting all columns at once.

        Raises:
            LRopeError: statsmodels is not installed.
        """
        sizes: Any = dict(
            zip(("n_documents", "n_kinds"), self.groups.max(axis=0, initial=-1) + 1, strict=True)
        )
        sizes = {name: int(size) for name, size in sizes.items()} | {
            "n": len(response),
            "n_names": int(self.is_name.sum()),
        }
        if not self.can_tell:
            return Estimate(np.nan, np.nan, np.nan, np.nan, np.nan, **sizes, r2=np.nan)
        own = _centred(response[:, None], self.word)[:, 0]
        spread = own - (own.mean() if self.word is None else 0.0)
        if np.abs(spread).max() < 1e-6:  # layer 0 at a space: nothing to explain
            return Estimate(0.0, 0.0, 0.0, 0.0, np.nan, **sizes, r2=np.nan)
        own = own - self.basis @ (self.basis.T @ own)
        value, error = _clustered(own, self.rest, self.groups, self._n_columns)
        clusters = min(sizes["n_documents"], sizes["n_kinds"])
        reach = float(student.ppf(0.975, clusters - 1)) * error
        p = 2 * float(student.sf(abs(value) / error, clusters - 1)) if error > 0 else np.nan
        left = own - value * self.rest
        r2 = 1 - float(left @ left) / float(spread @ spread)
        return Estimate(value, error, value - reach, value + reach, p, **sizes, r2=r2)

    @property
    def _n_columns(self) -> int:
        """Numbers that were fitted: columns, the question, and a mean of each first word."""
        return self.basis.shape[1] + 1 + (0 if self.word is None else len(np.unique(self.word)))


def curves(*numbers: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n columns"]:
    """Return columns for smooth curves of numbers: entered straight, a curve would pass for an effect."""
    parts = [Spline.of(one, N_KNOTS).columns(one) for one in numbers]
    return np.concatenate(parts, axis=1) if parts else np.zeros((0, 0))


def has_both(word: Int64[np.ndarray, " n"], is_name: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether the first word of each row stands in a name and in something else: others tell nothing."""
    n_names = np.bincount(word, weights=is_name)
    n = np.bincount(word)
    return ((n_names > 0) & (n_names < n))[word]


def _clustered(
    response: Float[np.ndarray, " n"],
    column: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, "n 2"],
    n_columns: int,
) -> tuple[float, float]:
    """Return coefficient and two-way clustered error of one column.

    Where the two-way variance comes out below that of a single clustering, as it may in small samples, the
    larger of the single ones stands in.
    """
    models = statsmodels_regression()
    fitted = models.OLS(response, column[:, None])
    both, *alone = (
        fitted.fit(cov_type="cluster", cov_kwds={"groups": one})
        for one in (groups, groups[:, 0], groups[:, 1])
    )
    n = len(response)
    variance = max(float(np.asarray(one.cov_params())[0, 0]) for one in (both, *alone))
    return float(both.params[0]), float(np.sqrt(variance * (n - 1) / max(n - n_columns, 1)))


def statsmodels_regression() -> Any:
    """Return statsmodels' regressions, which are an extra."""
    try:
        import statsmodels.regression.linear_model as found
    except ImportError:
        raise LRopeError(
            'the entity regression needs statsmodels: pip install "lrope-interp[stats]"'
        ) from None
    return found


def _centred(
    columns: Float[np.ndarray, "n columns"], word: Int64[np.ndarray, " n"] | None
) -> Float[np.ndarray, "n columns"]:
    """Take the mean of each first word away."""
    if word is None or not columns.size:
        return columns
    _, number = np.unique(word, return_inverse=True)
    sums = np.zeros((int(number.max()) + 1, columns.shape[1]))
    np.add.at(sums, number, columns)
    return columns - (sums / np.bincount(number)[:, None])[number]


def _orthonormal(columns: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, "n rank"]:
    """Return orthonormal columns with the same span."""
    scale = np.sqrt((columns**2).mean(axis=0)) if len(columns) else np.zeros(columns.shape[1])
    kept = columns[:, scale > _NOTHING] / scale[scale > _NOTHING]
    if not kept.size:
        return kept
    left, size, _ = np.linalg.svd(kept, full_matrices=False)
    return left[:, size > 1e-8 * size[0]]
