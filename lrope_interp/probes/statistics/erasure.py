"""Least-squares concept erasure: the smallest change after which no linear probe finds a concept.

LEACE (Belrose et al. 2023, arXiv 2306.03819). With x the states, z the concept's indicators, W the
whitening of x (the pseudo-inverse square root of its covariance) and P the orthogonal projection onto
the columns of W Cov(x, z), an erased state is ``x - pinv(W) P W (x - E x)``. After it Cov(x, z) = 0, and
no linear classifier with any convex loss beats the constant one. Of all affine maps with that
property it moves the states least. A classifier that is not linear may still find the concept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float64, Real
from torch import Tensor

from lrope_interp.errors import LRopeError

_LEAST_VARIANCE = 1e-10
"""Directions with a smaller share of the largest variance are held to be constant: float32 noise."""

_LEAST_CORRELATION = 1e-6
"""Whitened directions whose correlation with the concept is smaller are held to have none."""


@dataclass(frozen=True, eq=False)
class LeaceEraser:
    """An affine map of states: ``x - left @ right.T @ (x - mean)``, in float64.

    Attributes:
        mean: Of the states that it was fitted on; it stays where it is.
        left: Directions along which states are moved.
        right: What is read off them; of unit variance and uncorrelated on the fitted states.
    """

    mean: Float64[Tensor, " d_model"]
    left: Float64[Tensor, "d_model rank"]
    right: Float64[Tensor, "d_model rank"]

    @property
    def rank(self) -> int:
        """How many dimensions it takes away."""
        return self.left.shape[1]

    @property
    def distance(self) -> float:
        """The root mean square distance by which it moves the states it was fitted on."""
        return float(self.left.norm())

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Return the erased states, in the dtype and on the device of `x`.

        It is computed in float64 (float32 on MPS, which has no other); what bfloat16 rounds away
        afterwards may leave traces of the concept.

        Raises:
            LRopeError: States of another width.
        """
        if x.shape[-1:] != self.mean.shape:
            raise LRopeError(
                f"this eraser is of states of width {len(self.mean)}; got shape {list(x.shape)}; fit it on "
                "the model and layer that it is used in"
            )
        dtype = torch.float32 if x.device.type == "mps" else torch.float64
        mean, left, right = (one.to(x.device, dtype) for one in (self.mean, self.left, self.right))
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(dtype)
            return (wide - (wide - mean) @ right @ left.T).to(x.dtype)


@dataclass
class LeaceFitter:
    """Accumulates means and covariances of states and indicators, batch by batch.

    Batches are put together by the update of Chan et al. (1983) in float64 on the CPU, so that neither
    their sizes nor a large common offset makes a difference.

    Attributes:
        d_model: Width of a state.
        n_classes: How many indicators a state has.
        n: States so far.
        mean: Of states and indicators side by side.
        scatter: Sum of the outer products of their deviations from the mean.
    """

    d_model: int
    n_classes: int
    n: int = 0
    mean: Float64[Tensor, " both"] = field(init=False, repr=False)
    scatter: Float64[Tensor, "both both"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        both = self.d_model + self.n_classes
        self.mean = torch.zeros(both, dtype=torch.float64)
        self.scatter = torch.zeros(both, both, dtype=torch.float64)

    def update(self, x: Float[Tensor, "n d_model"], z: Real[Tensor, "n classes"]) -> None:
        """Take more states in.

        Args:
            x: States, of any float dtype and on any device.
            z: What is to be erased of each: one-hot for classes, numbers for anything else.

        Raises:
            LRopeError: Another width than announced, or numbers that are not finite.
        """
        if x.shape[1] != self.d_model or z.shape != (len(x), self.n_classes):
            raise LRopeError(
                f"wanted states [n, {self.d_model}] and indicators [n, {self.n_classes}] of the same n; got "
                f"{list(x.shape)} and {list(z.shape)}"
            )
        both = torch.cat([x.detach().cpu().double(), z.detach().cpu().double()], dim=1)
        if not bool(torch.isfinite(both).all()):
            raise LRopeError("states and indicators must be finite; look for a model that diverged")
        n_new, n_all = len(both), self.n + len(both)
        if not n_new:
            return
        centre = both.mean(dim=0)
        apart, shift = both - centre, centre - self.mean
        self.scatter += apart.T @ apart + torch.outer(shift, shift) * (self.n * n_new / n_all)
        self.mean += shift * (n_new / n_all)
        self.n = n_all

    def of_classes(self, classes: slice) -> LeaceFitter:
        """Return what a fitter of the same states and only some of the indicators would be."""
        kept = torch.arange(len(self.mean))
        kept = torch.cat([kept[: self.d_model], kept[self.d_model :][classes]])
        fitter = LeaceFitter(self.d_model, len(kept) - self.d_model, self.n)
        fitter.mean, fitter.scatter = self.mean[kept], self.scatter[kept][:, kept]
        return fitter

    @property
    def spread(self) -> float:
        """The root mean square distance of the states from their mean."""
        return float(self._covariance[: self.d_model, : self.d_model].trace().sqrt())

    def eraser(self) -> LeaceEraser:
        """Return what erases the concept; its rank is below the number of classes.

        Raises:
            LRopeError: Fewer than two states, states that are all the same, or indicators that are.
        """
        whiten, unwhiten = self._whitening()
        covariance = self._covariance
        spread = covariance.diagonal()[self.d_model :].sum().sqrt()
        if not float(spread) > 0:
            raise LRopeError("the concept is the same at all states: there is nothing to erase")
        cross = whiten @ covariance[: self.d_model, self.d_model :] / spread
        directions, correlations, _ = torch.linalg.svd(cross, full_matrices=False)
        return self._eraser(directions[:, correlations > _LEAST_CORRELATION], whiten, unwhiten)

    def random_eraser(self, seed: int, rank: int | None = None) -> LeaceEraser:
        """Return what takes away random directions of the same whitened states.

        As many dimensions go, each of unit variance where states are whitened, by a map of the same
        form. What it does not match is how far the states move: compare `LeaceEraser.distance`.

        Args:
            seed: Of the directions.
            rank: How many; None for as many as `eraser` takes away.

        Raises:
            LRopeError: The states do not vary in so many directions; or what `eraser` raises.
        """
        rank = self.eraser().rank if rank is None else rank
        whiten, unwhiten = self._whitening()
        drawn = torch.randn(
            self.d_model, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
        )
        inside = whiten @ (unwhiten @ drawn)
        directions, sizes, _ = torch.linalg.svd(inside, full_matrices=False)
        if rank > self.d_model or bool((sizes < 1e-9).any()):
            raise LRopeError(f"the states vary in fewer than the {rank} directions that were to be erased")
        return self._eraser(directions, whiten, unwhiten)

    @property
    def _covariance(self) -> Float64[Tensor, "both both"]:
        if self.n < 2:
            raise LRopeError(f"an eraser needs at least two states to be fitted on; got {self.n}")
        return self.scatter / self.n

    def _whitening(self) -> tuple[Float64[Tensor, "d_model d_model"], Float64[Tensor, "d_model d_model"]]:
        """Return W and its pseudo-inverse, both symmetric: no choice of eigenvectors enters them."""
        values, vectors = torch.linalg.eigh(self._covariance[: self.d_model, : self.d_model])
        if not float(values[-1]) > 0:
            raise LRopeError(
                "the states are all the same: there is nothing that a concept could be read from"
            )
        is_kept = values > _LEAST_VARIANCE * values[-1]
        basis, root = vectors[:, is_kept], values[is_kept].sqrt()
        return (basis / root) @ basis.T, (basis * root) @ basis.T

    def _eraser(
        self,
        directions: Float64[Tensor, "d_model rank"],
        whiten: Float64[Tensor, "d_model d_model"],
        unwhiten: Float64[Tensor, "d_model d_model"],
    ) -> LeaceEraser:
        mean = self.mean[: self.d_model].clone()
        return LeaceEraser(mean, unwhiten @ directions, whiten @ directions)
