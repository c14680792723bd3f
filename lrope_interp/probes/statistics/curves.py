"""Logistic regression on curves of numbers, shared by all classes of gaps and bent by each class.

A curve is a cubic B-spline with knots at quantiles. The coefficients of a class meet only its own gaps,
so that the Hessian is block diagonal but for the shared coefficients. Newton's method with the blocks
eliminated first takes seconds where a general solver, which sees the interactions as hundreds of mostly
empty columns, takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Float, Int, Num

N_KNOTS = 12
DEGREE = 3
SHARED_RIDGE = 1e-2
CLASS_RIDGE = 1.0
MAX_STEPS = 100
_CLOSE = 1e-2  # nats over all gaps; the step that gains less is the last, and squares what is left


@dataclass(frozen=True)
class Spline:
    """A cubic B-spline, flat beyond its outermost knots.

    Attributes:
        knots: Rising and distinct. Fewer than two leave no curve: the values were constant.
    """

    knots: Float[np.ndarray, " knots"]

    @classmethod
    def of(cls, values: Num[np.ndarray, " n"], n_knots: int = N_KNOTS) -> Spline:
        """Put `n_knots` knots at quantiles of finite `values`, the ends among them.

        Where equal values make quantiles coincide, those of the distinct values stand in, so that a
        value that half of the gaps have costs no resolution elsewhere. Few distinct values get fewer
        knots, one each at most.
        """
        levels = np.linspace(0, 1, n_knots)
        knots = np.unique(np.quantile(values, levels)) if len(values) else np.zeros(0)
        if 1 < len(knots) < n_knots:
            distinct = np.unique(values)
            knots = distinct if len(distinct) <= n_knots else np.quantile(distinct, levels)
        return cls(np.unique(knots.astype(np.float64)))

    @property
    def n_columns(self) -> int:
        """Columns of the basis: one fewer than B-splines, because a model has an intercept."""
        return len(self.knots) + DEGREE - 2 if len(self.knots) > 1 else 0

    def columns(self, values: Num[np.ndarray, " n"]) -> Float[np.ndarray, "n columns"]:
        """Evaluate the basis; every column lies between 0 and 1."""
        if not self.n_columns or not len(values):
            return np.zeros((len(values), self.n_columns))
        from sklearn.preprocessing import SplineTransformer

        transformer = SplineTransformer(
            degree=DEGREE,
            knots=cast(Any, self.knots[:, None]),  # its annotation forgets arrays
            extrapolation="constant",
            include_bias=False,
        )
        transformer.fit(self.knots[:, None])
        return np.asarray(transformer.transform(values.astype(np.float64)[:, None]))


@dataclass(frozen=True)
class Axis:
    """One number of many gaps, along which other things may jump.

    Attributes:
        order: Sorts the gaps by the number.
        rising: The numbers in that order.
        curve: A spline's columns and a constant.
        inverse: Of the columns' products.
    """

    order: Int[np.ndarray, " n"]
    rising: Float[np.ndarray, " n"]
    curve: Float[np.ndarray, "n columns"]
    inverse: Float[np.ndarray, "columns columns"]

    @classmethod
    def of(cls, x: Float[np.ndarray, " n"]) -> Axis:
        """Prepare the axis of `x`."""
        order = np.argsort(x, kind="stable")
        curve = np.column_stack([np.ones(len(x)), Spline.of(x).columns(x)])
        return cls(order, x[order], curve, np.linalg.pinv(curve.T @ curve, hermitian=True))

    def step(self, y: Num[np.ndarray, " n"]) -> float:
        """Return the number above which `y` jumps most, as seen against a smooth curve.

        A curve through a jump errs one way just below it and the other way just above, so that what
        it missed, added up from one end, is farthest from 0 at the jump.
        """
        missed = y - self.curve @ (self.inverse @ (self.curve.T @ y))
        is_cut = np.append(self.rising[1:] > self.rising[:-1], False)
        return float(self.rising[np.argmax(np.abs(np.cumsum(missed[self.order])) * is_cut)])


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
    def of(cls, code: Int[np.ndarray, " n"], n_classes: int, own: Float[np.ndarray, "n own"]) -> Grouped:
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


def _start(grouped: Grouped, is_boundary: Bool[np.ndarray, " n"]) -> ClassLogit:
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
    model = first or _start(grouped, is_boundary)
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
    chance = np.exp(-np.logaddexp(0, -model.log_odds(grouped)))
    root, missed = np.sqrt(chance * (1 - chance)), chance - is_boundary
    scaled = (x * root[at, None] for at, x in zip(grouped.rows, grouped.columns, strict=True))
    grams = np.stack([x.T @ x for x in scaled])  # each class's weighted Gram matrix
    slopes = np.stack([x.T @ missed[at] for at, x in zip(grouped.rows, grouped.columns, strict=True)])
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
