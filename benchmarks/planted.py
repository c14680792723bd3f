"""Gaps of made-up documents in which it is known what a signal says.

Entropy and surprisal mark boundaries as they do in text, by themselves or jointly, classes differ in their
rates (one is always a boundary), and documents differ from each other in everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from lrope_interp.probes.boundaries.beyond import LabelledGaps

ENTROPY_FORMS = ("tanh", "log", "step")
FORMS = (*ENTROPY_FORMS, "joint")
_CLASS_SHARES = (0.55, 0.2, 0.15, 0.06, 0.04)
_CLASS_LOG_ODDS = (-2.2, -0.5, 12.0, -12.0, -1.0)


def shape(form: str, entropy: np.ndarray, surprisal: np.ndarray) -> np.ndarray:
    """Return a function of entropy that no line follows, or a joint one that no sum of curves follows."""
    if form == "joint":
        return np.tanh(2 * (entropy - 1.2)) * np.tanh(2 * (surprisal / entropy - 0.8))
    if form == "tanh":
        return np.tanh(2 * (entropy - 1.2))
    return np.log(entropy + 0.05) if form == "log" else (entropy > 1.2).astype(float)


@dataclass(frozen=True)
class Planted:
    """One split, and signals on it.

    Attributes:
        sample: What is held fixed, label and documents.
        t: The place of each gap in its document.
        shaped: A function of entropy, or of entropy and surprisal, and nothing else.
        noisy: The same, with noise and a level of each document.
        extra: A signal of stand-alone AUC 0.60 that knows nothing of entropy.
        reversed: A signal that is higher at boundaries, as it rises with entropy, and lower at those of them
            whose entropy is the same.
    """

    sample: LabelledGaps
    t: np.ndarray
    shaped: np.ndarray
    noisy: np.ndarray
    extra: np.ndarray
    reversed: np.ndarray


def plant(seed: int, form: str, n_documents: int = 60, length: int = 150, auc: float = 0.6) -> Planted:
    """Make a split whose boundaries depend on entropy through `form`, among other things."""
    rng = np.random.default_rng(seed)
    document = np.repeat(np.arange(n_documents), length)
    n = len(document)
    level = rng.normal(size=(4, n_documents))[:, document]
    byte_class = rng.choice(len(_CLASS_SHARES), size=n, p=_CLASS_SHARES)
    entropy = rng.gamma(2.0, 0.6, size=n) * np.exp(0.2 * level[0]) * (1 + 0.3 * (byte_class == 1))
    rise = entropy - np.roll(entropy, 1)
    surprisal = entropy * rng.exponential(size=n) + 0.1 * rng.exponential(size=n)
    log_bigram = -surprisal + rng.normal(size=n)
    shaped = shape(form, entropy, surprisal)
    log_odds = np.asarray(_CLASS_LOG_ODDS)[byte_class] + 2.5 * (shaped - shaped.mean()) / shaped.std() * 0.5
    log_odds += 0.3 * surprisal + 0.2 * np.tanh(rise) + 0.3 * level[1]
    is_boundary = rng.random(n) < expit(log_odds)
    odds = np.stack([log_odds + rng.normal(size=n), rng.normal(size=n)], axis=1)
    curves = {"entropy": entropy, "rise": rise, "surprisal": surprisal, "log_bigram": log_bigram}
    noisy = shaped + 0.3 * shaped.std() * (rng.normal(size=n) + level[2])
    extra = rng.normal(size=n) + np.sqrt(2) * ndtri(auc) * is_boundary
    against = 2 * entropy / entropy.std() + rng.normal(size=n) - 0.5 * is_boundary
    return Planted(
        LabelledGaps(byte_class, curves, is_boundary, document, odds),
        np.tile(np.arange(1, length + 1), n_documents),
        shaped,
        noisy,
        extra,
        against,
    )
