"""A logistic regression whose curves are shared by all classes of gaps and bent by each class.

The coefficients of a class meet only its own gaps, so that the Hessian is block diagonal but for the
shared coefficients. Newton's method with the blocks eliminated first takes seconds where a general
solver, which sees the interactions as hundreds of mostly empty columns, takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

SHARED_RIDGE = 1e-2
CLASS_RIDGE = 1.0
MAX_STEPS = 100
_CLOSE = 1e-2  # nats over all gaps; the step that gains less is the last, and squares what is left


@dataclass(frozen=True)
class Grouped:
    """Columns of a model, grouped by class.

    Attributes:
        rows: The gaps of each class.
        columns: Their columns; the first is the intercept, the first `n_own` have coefficients in
            each class, and all but the first have shared ones.
        n_own: See `columns`.
    """

    rows: tuple[Int[np.ndarray, " _"], ...]
    columns: tuple[Float[np.ndarray, "_ columns"], ...]
    n_own: int

    @classmethod
    def of(
        cls,
        code: Int[np.ndarray, " n"],
        n_classes: int,
        own: Float[np.ndarray, "n own"],
    ) -> Grouped:
        """Group gaps of classes 0 to `n_classes` - 1, some of them perhaps without a gap.

        Args:
            code: The class of each gap.
            n_classes: How many classes there are.
            own: Curves that each class bends; `with_shared` adds those that are the same for all.
        """
        everything = np.hstack([np.ones((len(code), 1)), own])
        rows = tuple(np.flatnonzero(code == c) for c in range(n_classes))
        return cls(rows, tuple(everything[at] for at in rows), own.shape[1] + 1)

    def with_shared(self, shared: Float[np.ndarray, "n more"]) -> Grouped:
        """Append columns that all classes share."""
        columns = (np.hstack([old, shared[at]]) for at, old in zip(self.rows, self.columns, strict=True))
        return Grouped(self.rows, tuple(columns), self.n_own)

    @property
    def n_columns(self) -> int:
        """Columns, the intercept among them."""
        return self.columns[0].shape[1]

    @property
    def n(self) -> int:
        """Gaps."""
        return sum(len(at) for at in self.rows)


@dataclass(frozen=True)
class ClassLogit:
    """The fitted coefficients; `offset` is the log-odds of each class, which they correct."""

    offset: Float[np.ndarray, " classes"]
    own: Float[np.ndarray, "classes own"]
    shared: Float[np.ndarray, " shared"]

    def log_odds(self, grouped: Grouped) -> Float[np.ndarray, " n"]:
        """Return the log-odds of a boundary at each gap."""
        out = np.empty(grouped.n)
        for at, x, offset, v in zip(grouped.rows, grouped.columns, self.offset, self._vectors(), strict=True):
            out[at] = offset + x @ v
        return out

    def chances(self, grouped: Grouped) -> Float[np.ndarray, " n"]:
        """Return the probability of a boundary at each gap."""
        return np.exp(-np.logaddexp(0, -self.log_odds(grouped)))

    def widened(self, n_columns: int) -> ClassLogit:
        """Append shared coefficients of 0 up to `n_columns`: the same predictions in a larger model."""
        more = np.zeros(n_columns - 1 - len(self.shared))
        return ClassLogit(self.offset, self.own, np.append(self.shared, more))

    def parted(self, n_last: int) -> tuple[ClassLogit, Float[np.ndarray, " last"]]:
        """Return the model without its last shared coefficients, and those."""
        cut = len(self.shared) - n_last
        return ClassLogit(self.offset, self.own, self.shared[:cut]), self.shared[cut:]

    def _vectors(self) -> Float[np.ndarray, "classes columns"]:
        both = np.zeros((len(self.own), len(self.shared) + 1))
        both[:, : self.own.shape[1]] = self.own
        both[:, 1:] += self.shared
        return both

    def _penalty(self) -> float:
        return (CLASS_RIDGE * (self.own**2).sum() + SHARED_RIDGE * (self.shared**2).sum()) / 2

    def _moved(self, own: Float[np.ndarray, "classes own"], shared: Float[np.ndarray, " s"]) -> ClassLogit:
        return ClassLogit(self.offset, self.own - own, self.shared - shared)


def start(grouped: Grouped, is_boundary: Bool[np.ndarray, " n"]) -> ClassLogit:
    """Return the model that knows each class's rate only; classes without a gap have the common rate.

    Rates are those with half a gap of each kind added, so that a class of one kind has finite odds.
    """
    hits = np.array([np.count_nonzero(is_boundary[at]) for at in grouped.rows])
    n = np.array([len(at) for at in grouped.rows])
    hits, n = np.where(n, hits, hits.sum()), np.where(n, n, n.sum())
    own = np.zeros((len(n), grouped.n_own))
    return ClassLogit(np.log((hits + 0.5) / (n - hits + 0.5)), own, np.zeros(grouped.n_columns - 1))


def fit_logit(
    grouped: Grouped, is_boundary: Bool[np.ndarray, " n"], first: ClassLogit | None = None
) -> ClassLogit:
    """Fit by Newton's method with a ridge: weak on shared curves, stronger on what classes add to them.

    The ridge keeps the coefficients finite where a class has gaps of one kind only, and lets sparse
    classes borrow from the rest.

    Args:
        grouped: The columns.
        is_boundary: The label of each gap.
        first: Where to begin; a nested model's fit saves most of the steps.

    Raises:
        RuntimeError: It did not converge, which a strictly convex loss does not allow.
    """
    model = first or start(grouped, is_boundary)
    loss = _loss(model, grouped, is_boundary)
    for _ in range(MAX_STEPS):
        own, shared, gain = _newton_step(model, grouped, is_boundary)
        if gain < _CLOSE:
            return model._moved(own, shared)
        size = 1.0
        moved = model._moved(own, shared)
        while not (new := _loss(moved, grouped, is_boundary)) <= loss - 1e-4 * size * gain:
            size /= 2
            if size < 1e-6:
                return model  # no step improves the loss by more than rounding
            moved = model._moved(size * own, size * shared)
        model, loss = moved, new
    raise RuntimeError(f"a logistic model did not converge in {MAX_STEPS} Newton steps")


def log_likelihood(
    log_odds: Float[np.ndarray, " n"], is_boundary: Bool[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Log-likelihood of each label in nats."""
    return -np.logaddexp(0, np.where(is_boundary, -log_odds, log_odds))


def _loss(model: ClassLogit, grouped: Grouped, is_boundary: Bool[np.ndarray, " n"]) -> float:
    return float(model._penalty() - log_likelihood(model.log_odds(grouped), is_boundary).sum())


def _newton_step(
    model: ClassLogit, grouped: Grouped, is_boundary: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "classes own"], Float[np.ndarray, " shared"], float]:
    """Return the step to subtract, class by class and shared, and the decrement: twice its gain."""
    grams, slopes = _derivatives(model, grouped, is_boundary)
    n_own = grouped.n_own
    corner = grams[:, :n_own, :n_own] + CLASS_RIDGE * np.eye(n_own)
    side = grams[:, :n_own, 1:]
    slope_own = slopes[:, :n_own] + CLASS_RIDGE * model.own
    slope_shared = slopes[:, 1:].sum(axis=0) + SHARED_RIDGE * model.shared
    solved = np.linalg.solve(corner, np.concatenate([side, slope_own[..., None]], axis=2))
    through = side.swapaxes(1, 2)
    rest = (grams[:, 1:, 1:] - through @ solved[..., :-1]).sum(axis=0)
    rest += SHARED_RIDGE * np.eye(len(rest))
    shared = np.linalg.solve(rest, slope_shared - (through @ solved[..., -1:])[..., 0].sum(axis=0))
    own = solved[..., -1] - solved[..., :-1] @ shared
    return own, shared, float((own * slope_own).sum() + shared @ slope_shared)


def _derivatives(
    model: ClassLogit, grouped: Grouped, is_boundary: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "classes columns columns"], Float[np.ndarray, "classes columns"]]:
    """Return each class's weighted Gram matrix and its slope of the loss, the ridge left out."""
    chance = model.chances(grouped)
    root = np.sqrt(chance * (1 - chance))
    scaled = (x * root[at, None] for at, x in zip(grouped.rows, grouped.columns, strict=True))
    grams = np.stack([x.T @ x for x in scaled])
    missed = chance - is_boundary
    slopes = [x.T @ missed[at] for at, x in zip(grouped.rows, grouped.columns, strict=True)]
    return grams, np.stack(slopes)
