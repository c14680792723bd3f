"""Do the intervals cover, are the nulls uniform, and is a planted effect found?

Made-up gaps whose truth is known, one seed a run, seeds 0 to n - 1. Documents differ in their
base rate, in the level of the signal and in how strongly it marks boundaries; gaps of a document
depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import signal, stats

from lrope_interp.probes.statistics.bootstrap import N_RESAMPLES, Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Scoring
from lrope_interp.probes.statistics.nulls import SameByte, Shifts, p_value
from lrope_interp.probes.statistics.ranking import Curve, Ranking

N_CLUSTERS = 100
N_GAPS = 1_000
# Two kinds of documents: base rate, and level of the signal, so that the two are related.
RATES, LEVELS = (0.15, 0.3), (0.0, 0.4)
LEVEL_SD, EFFECT_SD, EFFECT = 0.3, 0.3, 0.5


@dataclass(frozen=True)
class NullTrust:
    """What many runs of a null showed.

    Attributes:
        ks_p: Kolmogorov-Smirnov p of the null p values against the uniform distribution.
        rejected: The share of null p values of at most 0.05.
        found: The share of runs with a planted effect whose p is at most 0.05.
    """

    ks_p: float
    rejected: float
    found: float

    @classmethod
    def of(cls, null: Float[np.ndarray, " runs"], planted: Float[np.ndarray, " runs"]) -> NullTrust:
        """Summarise p values of runs without and with an effect."""
        ks_p = float(stats.kstest(null, "uniform").pvalue)
        return cls(ks_p, float(np.mean(null <= 0.05)), float(np.mean(planted <= 0.05)))


def coverage(n_runs: int, n_resamples: int = N_RESAMPLES) -> float:
    """The share of 95 % intervals of ROC-AUC that hold the true one: 100 clusters of 1,000 gaps."""
    truth, boot = true_auc(), Bootstrap(n_resamples=n_resamples)
    intervals = (auc_interval(seed, boot) for seed in range(n_runs))
    return sum(low <= truth <= high for low, high in intervals) / n_runs


def shift_null(n_runs: int) -> NullTrust:
    """The circular shift on a signal that has nothing to do with the label, and on one that has."""
    null, planted = ([shift_p(seed, effect) for seed in range(n_runs)] for effect in (0.0, 0.2))
    return NullTrust.of(np.array(null), np.array(planted))


def same_byte_null(n_runs: int) -> NullTrust:
    """The same-byte test on a signal that follows the label through the byte alone, and on one with more."""
    null, planted = ([same_byte_p(seed, effect) for seed in range(n_runs)] for effect in (0.0, 0.3))
    return NullTrust.of(np.array(null), np.array(planted))


def true_auc() -> float:
    """The ROC-AUC of infinitely many documents of `clustered`, in closed form."""
    rates, levels = np.array(RATES), np.array(LEVELS)
    positive, negative = rates / rates.sum(), (1 - rates) / (1 - rates).sum()
    spread = np.sqrt(2 * (1 + LEVEL_SD**2) + EFFECT_SD**2)
    return sum(
        float(positive[a] * negative[b] * stats.norm.cdf((EFFECT + levels[a] - levels[b]) / spread))
        for a, b in product(range(2), repeat=2)
    )


def auc_interval(seed: int, boot: Bootstrap) -> tuple[float, float]:
    """One run: the interval of a drawn sample."""
    values, is_boundary, document = clustered(seed)
    scoring = Scoring(Units.of(document), boot)
    return scoring.roc_auc(scoring.rank(values), is_boundary).interval


def clustered(
    seed: int,
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Draw a signal, a label and their documents."""
    rng = np.random.default_rng([1, seed])
    kind = rng.integers(0, 2, N_CLUSTERS)
    document = np.repeat(np.arange(N_CLUSTERS), N_GAPS)
    level = np.array(LEVELS)[kind] + LEVEL_SD * rng.normal(size=N_CLUSTERS)
    effect = EFFECT + EFFECT_SD * rng.normal(size=N_CLUSTERS)
    is_boundary = rng.random(len(document)) < np.array(RATES)[kind][document]
    values = level[document] + effect[document] * is_boundary + rng.normal(size=len(document))
    return values.astype(np.float32), is_boundary, document


def shift_p(seed: int, effect: float, n_documents: int = 30, n_gaps: int = 300) -> float:
    """One run: both signal and label wander within a document, at a level of its own."""
    rng = np.random.default_rng([2, seed])
    document = np.repeat(np.arange(n_documents), n_gaps)
    level = rng.normal(size=n_documents)
    drift = _wander(rng, n_documents, n_gaps)
    is_boundary = drift + 0.5 * level[document] > 0.8
    values = _wander(rng, n_documents, n_gaps) + 0.5 * level[document] + effect * is_boundary
    ranking = Ranking.of(values)
    observed = Curve.of(ranking, is_boundary).roc_auc()
    return p_value(observed, Shifts.of(document, seed).turn(is_boundary).null_auc(ranking))


def same_byte_p(seed: int, effect: float, n_documents: int = 60, n_gaps: int = 300) -> float:
    """One run: signal and label depend on the byte and, each for itself, on the document."""
    rng = np.random.default_rng([3, seed])
    document = np.repeat(np.arange(n_documents), n_gaps)
    byte = np.minimum(rng.geometric(0.1, size=len(document)), 60)
    lexical = rng.normal(size=61)
    logit = lexical[byte] - 1 + 0.5 * rng.normal(size=n_documents)[document]
    is_boundary = logit + _wander(rng, n_documents, n_gaps) > 0
    levels = 0.5 * rng.normal(size=n_documents)[document]
    values = 2 * lexical[byte] + levels + _wander(rng, n_documents, n_gaps) + effect * is_boundary
    same = SameByte.of(byte, Units.of(document), seed)
    return p_value(*same.draw(Ranking.of(values), is_boundary))


def _wander(rng: np.random.Generator, n_documents: int, n_gaps: int) -> Float[np.ndarray, " n"]:
    """Draw a stationary autoregression of unit variance and lag-one correlation 0.6 a document."""
    noise = rng.normal(size=(n_documents, n_gaps))
    noise[:, 1:] *= 0.8
    return np.asarray(signal.lfilter([1.0], [1.0, -0.6], noise, axis=1)).ravel()
