"""Erasing a concept from states: against another implementation, against the theorem, and at the edges."""

from __future__ import annotations

import concept_erasure
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch import Tensor

from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.erasure import LeaceEraser, LeaceFitter

SHAPES = {
    "two classes": (400, 6, 2),
    "many classes": (900, 24, 7),
    "more classes than dimensions": (900, 4, 9),
    "more dimensions than states": (20, 50, 3),
}


def drawn(n: int, d: int, k: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """States of unequal variances, correlated and off centre, whose means differ by class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % k
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, d)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 3
    centres = torch.randn(k, d, generator=generator, dtype=torch.float64)
    return x + centres[labels] @ mixing, F.one_hot(labels, k)


def fitted(x: Tensor, z: Tensor) -> LeaceFitter:
    fitter = LeaceFitter(x.shape[1], z.shape[1])
    fitter.update(x, z)
    return fitter


def deficient() -> tuple[Tensor, Tensor]:
    """States in 5 of 12 dimensions, one feature constant."""
    x, z = drawn(300, 5, 4)
    wide = x @ torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wide[:, 3] = 7.0
    return wide, z


def cross_covariance(x: Tensor, z: Tensor) -> float:
    z = z.double()
    return float(((x - x.mean(0)).T @ (z - z.mean(0)) / len(x)).abs().max())


def assert_same_as_the_package(x: Tensor, z: Tensor) -> None:
    other = concept_erasure.LeaceEraser.fit(
        x, z, shrinkage=False, constrain_cov_trace=False, svd_tol=1e-6, affine=True
    )
    one = fitted(x, z).eraser()
    fresh = x[:50] * 1.1 + 0.3 * x[:50].roll(1, 0)  # no state that it was fitted on
    for states in (x, fresh):
        np.testing.assert_allclose(one(states), other(states), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_maps_states_as_the_published_package_does_and_takes_all_covariance_away(shape: str) -> None:
    x, z = drawn(*SHAPES[shape])
    assert_same_as_the_package(x, z)
    eraser = fitted(x, z).eraser()
    erased = eraser(x)
    assert cross_covariance(x, z) > 1e-2
    assert cross_covariance(erased, z) < 1e-9
    np.testing.assert_allclose(erased.mean(0), x.mean(0), atol=1e-9)
    np.testing.assert_allclose(eraser(erased), erased, atol=1e-9)
    assert eraser.rank <= z.shape[1] - 1


def test_it_agrees_with_the_package_on_states_that_do_not_fill_their_space() -> None:
    x, z = deficient()
    assert_same_as_the_package(x, z)
    assert float((fitted(x, z).eraser()(x) - x)[:, 3].abs().max()) < 1e-12  # nothing to change in a constant


def test_a_linear_classifier_learns_before_and_has_nothing_but_the_class_shares_after() -> None:
    x, z = drawn(900, 24, 3)
    labels = z.argmax(1).numpy()
    losses = []
    for states in (x, fitted(x, z).eraser()(x)):
        probe = LogisticRegression(max_iter=2_000, tol=1e-6).fit(states.numpy(), labels)
        losses.append(log_loss(labels, probe.predict_proba(states.numpy())))
    assert losses[0] < 0.4
    # On the fitted states the constant is the optimum (theorem 3.1): only the solver's tolerance is left.
    assert losses[1] == pytest.approx(np.log(3), abs=1e-5)


def test_no_smaller_change_is_found_among_erasures_that_work() -> None:
    x, z = drawn(500, 8, 3)
    fitter = fitted(x, z)
    eraser = fitter.eraser()
    orthogonal = torch.linalg.qr(((x - x.mean(0)).T @ (z - z.double().mean(0))) / len(x))[0][:, :2]
    projected = x - (x - x.mean(0)) @ orthogonal @ orthogonal.T
    assert cross_covariance(projected, z) < 1e-9
    moved = float((eraser(x) - x).square().sum(1).mean().sqrt())
    assert moved < float((projected - x).square().sum(1).mean().sqrt())
    assert eraser.rank == 2, "one below the classes"
    assert eraser.distance == pytest.approx(moved, rel=1e-9)
    assert fitter.spread == pytest.approx(float((x - x.mean(0)).square().sum(1).mean().sqrt()), rel=1e-9)


@pytest.mark.parametrize("size", [1, 7])
def test_how_states_are_split_into_batches_does_not_matter_even_far_from_zero(size: int) -> None:
    x, z = drawn(300, 6, 3)
    x = x + 1e5
    parts = LeaceFitter(6, 3)
    for own_x, own_z in zip(x.split(size), z.split(size), strict=True):
        parts.update(own_x, own_z)
    parts.update(x[:0], z[:0])
    assert parts.n == 300
    np.testing.assert_allclose(parts.eraser()(x), fitted(x, z).eraser()(x), atol=1e-7)
    np.testing.assert_allclose(parts.eraser()(x) - 1e5, fitted(x - 1e5, z).eraser()(x - 1e5), atol=1e-6)


def test_a_random_erasure_has_the_rank_and_the_form_and_leaves_the_concept() -> None:
    x, z = drawn(900, 40, 3)
    fitter = fitted(x, z)
    eraser, random = fitter.eraser(), fitter.random_eraser(seed=0)
    assert random.rank == eraser.rank
    np.testing.assert_allclose(random(random(x)), random(x), atol=1e-9)
    for one in (eraser, random):  # what is read is white: as many dimensions of unit variance
        read = (x - x.mean(0)) @ one.right
        np.testing.assert_allclose(read.T @ read / len(x), torch.eye(2), atol=1e-9)
        np.testing.assert_allclose(one.right.T @ one.left, torch.eye(2), atol=1e-9)
    assert cross_covariance(random(x), z) > 0.5 * cross_covariance(x, z)
    parts = LeaceFitter(40, 3)  # the seed decides, and no batch
    for at in range(0, 900, 100):
        parts.update(x[at : at + 100], z[at : at + 100])
    np.testing.assert_allclose(random(x), parts.random_eraser(0)(x), atol=1e-9)
    assert float((random(x) - fitter.random_eraser(6)(x)).abs().max()) > 0.01


def test_random_directions_stay_where_states_vary() -> None:
    x, z = deficient()
    random = fitted(x, z).random_eraser(0)
    assert float((random(x) - x)[:, 3].abs().max()) < 1e-9
    assert fitted(x, z).random_eraser(0, rank=5).rank == 5
    for rank in (6, 13):
        with pytest.raises(LRopeError, match=f"fewer than the {rank} directions"):
            fitted(x, z).random_eraser(0, rank=rank)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_keep_their_dtype_and_any_leading_axes(dtype: torch.dtype) -> None:
    x, z = drawn(400, 6, 2)
    eraser = fitted(x, z).eraser()
    given = x.to(dtype).reshape(20, 20, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        erased = eraser(given)
    assert erased.dtype == dtype
    assert erased.shape == given.shape
    wanted = eraser(given.double())
    np.testing.assert_allclose(erased.double(), wanted, rtol=torch.finfo(dtype).eps)
    assert eraser(x[0]).shape == (6,)


def test_gradients_pass_through() -> None:
    x, z = drawn(50, 6, 2)
    eraser = fitted(x, z).eraser()
    given = x.clone().requires_grad_()
    eraser(given)[:, 0].sum().backward()
    wanted = torch.eye(6, dtype=torch.float64)[0] - eraser.right @ eraser.left[0]
    assert given.grad is not None
    np.testing.assert_allclose(given.grad, wanted.expand(50, 6), atol=1e-10)


def test_a_concept_that_is_not_in_the_states_at_all_leaves_them_alone() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=torch.float64)
    z = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    eraser = fitted(x, z).eraser()
    assert eraser.rank == 0
    assert torch.equal(eraser(x), x)


def eraser_of(x: Tensor, z: Tensor) -> LeaceEraser:
    return fitted(x, z).eraser()


def test_what_cannot_be_fitted_or_erased_is_said() -> None:
    x, z = drawn(30, 6, 3)
    with pytest.raises(LRopeError, match="at least two states"):
        eraser_of(x[:1], z[:1])
    with pytest.raises(LRopeError, match="the same at all states"):
        eraser_of(x[::3], z[::3])
    with pytest.raises(LRopeError, match="states are all the same"):
        eraser_of(torch.ones(30, 6, dtype=torch.float64), z)
    with pytest.raises(LRopeError, match=r"wanted states \[n, 6\]"):
        fitted(x, z).update(x[:, :5], z)
    with pytest.raises(LRopeError, match=r"wanted states \[n, 6\]"):
        fitted(x, z).update(x, z[:, :2])
    with pytest.raises(LRopeError, match="must be finite"):
        fitted(x, z).update(x / 0, z)
    with pytest.raises(LRopeError, match="states of width 6"):
        eraser_of(x, z)(x[:, :4])


def test_a_fitter_of_some_indicators_is_taken_out_of_one_of_all() -> None:
    x, z = drawn(300, 6, 5)
    whole = fitted(x, z)
    for part in (slice(0, 2), slice(2, 5)):
        taken, alone = whole.of_classes(part), fitted(x, z[:, part])
        np.testing.assert_allclose(taken.mean, alone.mean, atol=1e-12)
        np.testing.assert_allclose(taken.scatter, alone.scatter, atol=1e-9)
        np.testing.assert_allclose(taken.eraser()(x), alone.eraser()(x), atol=1e-9)
    taken = whole.of_classes(slice(0, 2))
    taken.update(x, z[:, :2])
    assert (taken.n, whole.n) == (600, 300)
