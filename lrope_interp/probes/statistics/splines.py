"""A curve of one number as columns of a linear model: a cubic B-spline with knots at quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int, Num

N_KNOTS = 12
DEGREE = 3


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
