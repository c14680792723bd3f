"""Are two arms of a paired experiment the same? An equivalence test, its verdict and its power.

"No significant difference" is no finding: with few seeds nothing is significant. The claim that
learned increments cost nothing is one of equivalence, and it is tested as such: two one-sided t tests
(TOST; Schuirmann 1987) on the differences of runs that share seed, data order and initial weights.
The unit is the pair of runs. What another corpus, length or preset would give is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import special, stats

from lrope_interp.errors import LRopeError

MARGINS = (0.002, 0.003, 0.005)
"""The margins that are always shown, in nats per byte."""
MARGIN = 0.003
ALPHA = 0.05
POWER = 0.8
MOST_PAIRS = 1000
EQUIVALENT, DIFFERENT, INCONCLUSIVE, NO_VERDICT = "equivalent", "different", "inconclusive", "none"
_NODES, _TAIL = 200, 9.0  # of the quadrature; a chi has an s.d. of at most 0.71


def paired(differences: Sequence[float] | Float[np.ndarray, " pair"]) -> dict[str, Any]:
    """Sum up the differences arm - reference, one a seed, in nats per byte; needs no margin.

    Returns:
        `n_seeds`; `mean`, below 0 where the arm is better than its reference; `sd` (n - 1 below the line;
        NaN for a single pair); the 90 % t interval of the mean, `ci90_low` and `ci90_high`, which TOST at
        5 % a side compares with the margin; the 95 % one; and `is_nonzero`, whether that leaves out 0.

    Raises:
        LRopeError: There is no difference, or one is not finite.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise LRopeError(f"paired differences must be finite numbers, at least one; got {values.tolist()}")
    n, mean = len(values), float(values.mean())
    sd = math.nan if n == 1 else 0.0 if np.ptp(values) == 0 else float(values.std(ddof=1))
    found: dict[str, Any] = {"n_seeds": n, "mean": mean, "sd": sd}
    for name, share in (("ci90", 0.90), ("ci95", 0.95)):
        half = float(stats.t.ppf((1 + share) / 2, n - 1)) * sd / math.sqrt(n)
        found |= {f"{name}_low": mean - half, f"{name}_high": mean + half}
    return found | {"is_nonzero": found["ci95_low"] > 0 or found["ci95_high"] < 0}


def verdict(observed: Mapping[str, Any], margin: float, looks: int = 1) -> dict[str, Any]:
    """Test what `paired` gave for equivalence within +-margin (nats per byte), at 5 % a side.

    A standard deviation of 0 is taken as the limit of a small one: the mean alone decides. Who looks, adds
    seeds and looks again finds "equivalent" too often: at 5, 8, 12 and 20 seeds in 12 % of cases at
    the margin. So each of `looks` declared looks is tested at its share of the 5 %.

    Returns:
        `p_lower` and `p_upper`, one-sided: that the true mean is not above -margin, nor below +margin.
        `verdict`: "equivalent" where both are below 0.05, so that the 90 % interval lies within the margin
        (it may leave out 0 all the same); "different" where not, and the 95 % interval leaves out 0;
        "inconclusive" where neither; "none" of a single pair. `power`, the probability of "equivalent" if
        the true mean is 0 and the true s.d. the one observed. `n_seeds_for_power`, the least number of pairs
        with a power of 0.8 under the same supposition; None where that is above 1,000 or unknown.
    """
    check_margin(margin)
    n, mean, sd = (observed[name] for name in ("n_seeds", "mean", "sd"))
    names = ("margin", "p_lower", "p_upper", "verdict", "power", "n_seeds_for_power")
    if n == 1:
        return dict(zip(names, (margin, math.nan, math.nan, NO_VERDICT, math.nan, None), strict=True))
    if sd == 0:
        p_lower, p_upper = (0.5 - 0.5 * float(np.sign(far)) for far in (mean + margin, margin - mean))
    else:
        error = sd / math.sqrt(n)
        p_lower, p_upper = (float(stats.t.sf(far / error, n - 1)) for far in (mean + margin, margin - mean))
    alpha = ALPHA / looks
    is_equivalent = max(p_lower, p_upper) < alpha
    is_nonzero = abs(mean) > float(stats.t.ppf(1 - alpha / 2, n - 1)) * sd / math.sqrt(n)
    word = EQUIVALENT if is_equivalent else DIFFERENT if is_nonzero else INCONCLUSIVE
    power, needed = tost_power(n, sd, margin, alpha=alpha), pairs_for_power(sd, margin, alpha=alpha)
    return dict(zip(names, (margin, p_lower, p_upper, word, power, needed), strict=True))


def tost_power(n: int, sd: float, margin: float, true_mean: float = 0.0, alpha: float = ALPHA) -> float:
    """Return the probability that TOST at 5 % a side finds `n` pairs equivalent.

    Exact, by Gauss-Legendre quadrature over the observed s.d. s, which is independent of the mean:
    the 90 % interval lies within the margin where |mean| < margin - t s / sqrt(n). s / sd has a chi
    distribution with n - 1 degrees of freedom, divided by sqrt(n - 1).

    Args:
        n: Pairs, at least 2.
        sd: True s.d. of a difference.
        margin: Half width of what counts as the same.
        true_mean: True mean difference.
        alpha: Of each side.
    """
    check_margin(margin)
    if n < 2:
        raise LRopeError(f"an equivalence test needs at least 2 pairs; got {n}")
    if sd == 0:
        return float(abs(true_mean) < margin)
    error, df = sd / math.sqrt(n), n - 1
    t, typical = float(stats.t.ppf(1 - alpha, df)), math.sqrt(df)
    widest = margin / (t * error) * typical  # the largest chi whose interval fits at all
    low, high = max(typical - _TAIL, 0.0), min(typical + _TAIL, widest)
    if low >= high:
        return 0.0
    nodes, weights = _quadrature()
    chi = low + (high - low) * (nodes + 1) / 2
    half = margin / error - t * chi / typical  # in standard errors
    fits = special.ndtr(half - true_mean / error) - special.ndtr(-half - true_mean / error)
    return float((high - low) / 2 * np.dot(weights, fits * stats.chi.pdf(chi, df)))


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(_NODES)


def pairs_for_power(sd: float, margin: float, power: float = POWER, alpha: float = ALPHA) -> int | None:
    """Return the least number of pairs whose power is at least `power` if the arms are the same.

    Returns:
        The number, or None where 1,000 are too few.
    """
    if tost_power(MOST_PAIRS, sd, margin, alpha=alpha) < power:
        return None
    low, high = 1, MOST_PAIRS  # too few (a single pair never does), enough
    while high - low > 1:
        middle = (low + high) // 2
        is_enough = tost_power(middle, sd, margin, alpha=alpha) >= power
        low, high = (low, middle) if is_enough else (middle, high)
    return high


def check_margin(margin: float) -> None:
    """Refuse a margin that is no positive number."""
    if not (math.isfinite(margin) and margin > 0):
        raise LRopeError(f"the margin must be above 0 nats per byte; got {margin:g}. 0.003 is usual")
