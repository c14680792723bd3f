"""How many bits a concept costs whoever knows some features: the online code of Voita and Titov (2020).

Labels are sent block by block. The first block costs log2 of the number of classes a label; each later
one what a probe says of it that was fitted on all blocks before. A probe that learns fast sends little,
however good it gets in the end; labels that follow no rule cost about as much as without any features,
and somewhat more where a class comes late. As many labels as there are classes are taken for seen before
the first, one of each (Laplace), or the first of a new class would cost whatever a probe's floor is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int64

from lrope_interp.probes.statistics.logistic import Matrix, Prober

BLOCKS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class OnlineCode:
    """The length of a code.

    Attributes:
        bits: Of all labels.
        n: How many labels.
        n_classes: How many classes.
    """

    bits: float
    n: int
    n_classes: int

    @property
    def bits_a_span(self) -> float:
        """Bits for one label."""
        return self.bits / self.n if self.n else math.nan

    @property
    def compression(self) -> float:
        """How many times shorter than a code that knows nothing but the number of classes."""
        return self.n * math.log2(self.n_classes) / self.bits if self.bits > 0 else math.nan


def online_code(prober: Prober, x: Matrix, c: float) -> OnlineCode:
    """Send the labels of the train spans, document by document in an order drawn by the prober's seed.

    Args:
        prober: The task; its test spans are not looked at.
        x: The features of all its spans.
        c: The inverse strength of the ridge.
    """
    task = prober.task
    rows = _in_random_documents(task.document, np.flatnonzero(~task.is_test), prober.seed)
    edges = np.unique(np.ceil(np.array(BLOCKS) * len(rows)).astype(np.int64))
    bits = float(edges[0]) * math.log2(task.n_classes) if len(rows) else 0.0
    for start, stop in pairwise(edges.tolist()):
        block = rows[start:stop]
        log_p = prober.predict(x, task.y, rows[:start], block, c)
        p = np.exp(log_p[np.arange(len(block)), task.y[block]].astype(np.float64))
        unseen = task.n_classes / (start + task.n_classes)
        bits -= float(np.log2((1 - unseen) * p + unseen / task.n_classes).sum())
    return OnlineCode(bits, len(rows), task.n_classes)


def _in_random_documents(
    document: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " m"], seed: int
) -> Int64[np.ndarray, " m"]:
    """Put rows into a random order of their documents, those of one document together."""
    found, index = np.unique(document[rows], return_inverse=True)
    rank = np.random.default_rng([seed, 11]).permutation(len(found))
    return rows[np.argsort(rank[index], kind="stable")]
