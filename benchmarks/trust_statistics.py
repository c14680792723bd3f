"""Made-up gaps, spans and arms whose truth is known, and what one run of each check says of them.

A run is a seed. Each returns what the package's own functions found, by what is counted: true or false
where a share is wanted, a p value where its distribution is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import signal
from scipy.special import ndtr, ndtri

from lrope_interp.probes.boundaries.comparisons import MARGIN, difference_rows, verdict_rows
from lrope_interp.probes.boundaries.harness import Choice, Trial
from lrope_interp.probes.capture.signals import Kind, Signal, SignalColumn
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.equivalence import ALPHA, EQUIVALENT, paired, tost_power, verdict
from lrope_interp.probes.statistics.equivalence import MARGIN as LOSS_MARGIN
from lrope_interp.probes.statistics.estimates import Estimate, Scoring, simultaneous
from lrope_interp.probes.statistics.nulls import SameByte, Shifts, p_value
from lrope_interp.probes.statistics.ranking import Curve, Ranking
from lrope_interp.results import AS_GOOD, LOSES, WINS

Line = dict[str, Any]

# Two kinds of documents: base rate, and level of the signal, so that the two are related.
RATES, LEVELS = (0.15, 0.3), (0.0, 0.4)
LEVEL_SD, EFFECT_SD, EFFECT = 0.3, 0.3, 0.5
SIZES = ((5, 8), (10, 4), (25, 2), (100, 1))
BLOCK_GAPS = 250
FEW = (2, 20)

HEAD_SD = 0.0335  # so that the mean of 5, 3 and 2 heads errs by .015, .019 and .024
N_HEADS = (2, 3, 5)
N_LAYERS = (6, 24)
N_LABELS, N_FAMILIES = 6, 4
N_BINS = 512  # fewer than in earnest, for speed
LOOKS = (5, 8, 12, 20)


@cache
def bootstrap() -> Bootstrap:
    """The resamples, whose weights all runs share."""
    return Bootstrap()


def holds(interval: tuple[float, float], truth: float) -> bool:
    """Whether an interval holds the truth."""
    return bool(interval[0] <= truth <= interval[1])


def coverage(seed: int) -> Line:
    """Does the interval of ROC-AUC hold the true one, however documents are cut? Is one of two refused?"""
    truth, line = true_auc(), {}
    for n_documents, n_blocks in SIZES:
        found = blocked_auc(seed, n_documents, n_blocks)
        size = f"{n_documents} x {n_blocks} blocks of {BLOCK_GAPS} gaps"
        line[f"{size}: the interval holds the truth"] = holds(found.interval, truth)
    is_refused = all(map(math.isnan, blocked_auc(seed, *FEW).interval))
    return line | {f"{FEW[0]} x {FEW[1]} blocks of {BLOCK_GAPS} gaps: no interval": is_refused}


def true_auc() -> float:
    """The ROC-AUC of infinitely many documents of `blocked_auc`, in closed form."""
    rates, levels = np.array(RATES), np.array(LEVELS)
    positive, negative = rates / rates.sum(), (1 - rates) / (1 - rates).sum()
    spread = np.sqrt(2 * (1 + LEVEL_SD**2) + 2 * EFFECT_SD**2)
    return sum(
        float(positive[a] * negative[b] * ndtr((EFFECT + levels[a] - levels[b]) / spread))
        for a, b in product(range(2), repeat=2)
    )


def blocked_auc(seed: int, n_documents: int, n_blocks: int) -> Estimate:
    """Score a signal that marks boundaries as strongly as the document and, again, the block will have it."""
    rng = np.random.default_rng([1, seed])
    kind = rng.integers(0, 2, n_documents)
    block = np.repeat(np.arange(n_documents * n_blocks), BLOCK_GAPS)
    document = block // n_blocks
    level = np.array(LEVELS)[kind] + LEVEL_SD * rng.normal(size=n_documents)
    effect = EFFECT + EFFECT_SD * rng.normal(size=n_documents)[document]
    effect += EFFECT_SD * rng.normal(size=n_documents * n_blocks)[block]
    is_boundary = rng.random(len(document)) < np.array(RATES)[kind][document]
    values = level[document] + effect * is_boundary + rng.normal(size=len(document))
    scoring = Scoring(Units.of(document), bootstrap())
    return scoring.roc_auc(scoring.rank(values.astype(np.float32)), is_boundary)


@dataclass(frozen=True)
class Split:
    """Documents of one kind, in which any number of signals mark the same boundaries.

    Attributes:
        rng: Draws signals.
        scoring: Of the gaps.
        is_boundary: The label.
        document_sd: How much documents differ in how strongly a signal marks boundaries, half of it the same
            for all signals.
        shared: The half that is the same.
    """

    rng: np.random.Generator
    scoring: Scoring
    is_boundary: Bool[np.ndarray, " n"]
    document_sd: float
    shared: Float[np.ndarray, " documents"]

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        n_documents: int,
        n_gaps: int,
        sd: float = EFFECT_SD,
        is_resampled: bool = True,
    ) -> Split:
        """Draw documents and their boundaries; without resamples for values alone."""
        units = Units.of(np.repeat(np.arange(n_documents), n_gaps))
        is_boundary = rng.random(n_documents * n_gaps) < 0.3
        scoring = Scoring(units, bootstrap() if is_resampled else None, N_BINS)
        return cls(rng, scoring, is_boundary, sd, rng.normal(size=n_documents))

    def auc(self, truth: float) -> Estimate:
        """Draw a signal whose ROC-AUC, of infinitely many documents, is `truth`, and score it."""
        own = self.rng.normal(size=len(self.shared))
        deviation = self.document_sd * (self.shared + own) / math.sqrt(2)
        effect = ndtri(truth) * math.sqrt(2 + self.document_sd**2) + deviation
        values = effect[self.scoring.units.index] * self.is_boundary
        values += self.rng.normal(size=len(values))
        return self.scoring.roc_auc(self.scoring.rank(values.astype(np.float32)), self.is_boundary)


def trial(
    name: str,
    auc: Estimate,
    dev: float = math.nan,
    *,
    kind: Kind = "control",
    layer: int | None = None,
    seed: int | None = None,
    label: str = "words",
) -> Trial:
    """Say what a layer or a control did."""
    column = SignalColumn(Signal(name, lambda captured: captured.entropy, kind, seed=seed), layer, None, {})
    return Trial(column, label, "characters", Choice(dev_roc_auc=dev), auc)


def seeds(seed: int) -> Line:
    """Does the interval of a layer minus a seeded control hold the truth, and that of one new head?"""
    rng = np.random.default_rng([4, seed])
    split = Split.draw(rng, 100, 250, sd=0.1)
    layer = trial("increments", split.auc(0.65), kind="layer", layer=0)
    *heads, new = 0.65 + HEAD_SD * rng.normal(size=max(N_HEADS) + 1)
    beside = [trial("random_head", split.auc(one), layer=0, seed=k) for k, one in enumerate(heads)]
    line: Line = {}
    for n in N_HEADS:
        (row,) = difference_rows([layer, *beside[:n]])
        line[f"{n} seeds: the interval holds the truth"] = holds((row["ci_low"], row["ci_high"]), 0)
        own = holds((row["seed_low"], row["seed_high"]), 0.65 - new)
        line[f"{n} seeds: the interval of one new head holds it"] = own
    return line


def layers(seed: int) -> Line:
    """Does the interval of the layer that dev likes best hold its truth, and do bands hold all layers?"""
    rng, truth, most = np.random.default_rng([5, seed]), 0.65, max(N_LAYERS)
    dev, test = Split.draw(rng, 25, 80, is_resampled=False), Split.draw(rng, 25, 80)
    on_dev, on_test = ([split.auc(truth) for _ in range(most)] for split in (dev, test))
    every = [
        trial("increments", auc, other.value, kind="layer", layer=k)
        for k, (auc, other) in enumerate(zip(on_test, on_dev, strict=True))
    ]
    control = trial("entropy", test.auc(truth), 0.5)
    line: Line = {}
    for n in N_LAYERS:
        (row,) = verdict_rows([*every[:n], control])
        interval = row["ci_low"], row["ci_high"]
        line[f"best of {n} on dev: the interval holds the truth"] = holds(interval, truth)
        best = max(on_test[:n], key=lambda one: one.value)
        line[f"best of {n}: picked on test, it would"] = holds(best.interval, truth)
        line[f"{n} layers: all bands hold"] = all(holds(band, truth) for band in simultaneous(on_test[:n]))
    return line


def labels(seed: int) -> Line:
    """Of six labels, one with an effect: is any other declared (in four families), and the one found?"""
    rng = np.random.default_rng([6, seed])
    errors, found = [], []
    for _ in range(N_FAMILIES):
        trials = []
        for k in range(N_LABELS):
            split = Split.draw(rng, 25, 80)
            layer = split.auc(0.8 if k == 0 else 0.65)
            trials.append(trial("increments", layer, 0.5, kind="layer", layer=0, label=f"{k}"))
            trials.append(trial("entropy", split.auc(0.65), 0.5, label=f"{k}"))
        said = [row["verdict"] in (WINS, LOSES) for row in verdict_rows(trials)]
        found.append(said[0])
        errors.append(any(said[1:]))
    return {"a label without an effect is declared": errors, "the label with one is": found}


def margin(seed: int) -> Line:
    """Is a layer that is worse by the margin called as good? Is an equal one, as often as was told?"""
    rng = np.random.default_rng([7, seed])
    rows = []
    for truth in (0.65 - MARGIN, 0.65):
        split = Split.draw(rng, 100, 250, sd=0.1)
        layer = trial("increments", split.auc(truth), 0.5, kind="layer", layer=0)
        rows += verdict_rows([layer, trial("entropy", split.auc(0.65), 0.5)])
    worse, equal = rows
    return {
        "worse by the margin: called as good": worse["verdict"] in (AS_GOOD, WINS),
        "equal: power found less power told": (equal["difference_low"] > -MARGIN) - equal["power"],
    }


def looks(seed: int) -> Line:
    """Are arms that differ by the margin called equivalent in one of four looks, declared or not?"""
    rng = np.random.default_rng([8, seed])
    noise = LOSS_MARGIN * rng.normal(size=max(LOOKS))

    def is_found(difference: float, n_seeds: tuple[int, ...], declared: int) -> bool:
        found = (verdict(paired(difference + noise[:n]), LOSS_MARGIN, declared) for n in n_seeds)
        return any(one["verdict"] == EQUIVALENT for one in found)

    found = is_found(0.0, LOOKS[-1:], len(LOOKS))
    told = tost_power(max(LOOKS), LOSS_MARGIN, LOSS_MARGIN, alpha=ALPHA / len(LOOKS))
    return {
        "called equivalent at the margin: one look": is_found(LOSS_MARGIN, LOOKS[:1], 1),
        "called equivalent at the margin: four declared looks": is_found(LOSS_MARGIN, LOOKS, len(LOOKS)),
        "called equivalent at the margin: four looks, not declared, would": is_found(LOSS_MARGIN, LOOKS, 1),
        "equal arms at the last of four declared looks: power found less power told": found - told,
    }


def shift_null(seed: int) -> Line:
    """The p of a signal that has nothing to do with the label, and of one that has."""
    return {"null": shift_p(seed, 0.0), "planted": shift_p(seed, 0.2)}


def short_null(correlation: float) -> Callable[[int], Line]:
    """Make a run with 200 documents of 50 gaps, each gap correlated with the next."""

    def run(seed: int) -> Line:
        null, planted = (shift_p(seed, effect, 200, 50, correlation) for effect in (0.0, 0.3))
        return {"null": null, "planted": planted}

    return run


def same_byte_null(seed: int) -> Line:
    """The p of a signal that follows the label through the byte alone, and of one with more."""
    return {"null": same_byte_p(seed, 0.0), "planted": same_byte_p(seed, 0.3)}


def shift_p(
    seed: int, effect: float, n_documents: int = 30, n_gaps: int = 300, correlation: float = 0.6
) -> float:
    """Both signal and label wander within a document, at a level of its own."""
    rng = np.random.default_rng([2, seed])
    document = np.repeat(np.arange(n_documents), n_gaps)
    level = rng.normal(size=n_documents)
    drift = _wander(rng, n_documents, n_gaps, correlation)
    is_boundary = drift + 0.5 * level[document] > 0.8
    values = _wander(rng, n_documents, n_gaps, correlation) + 0.5 * level[document] + effect * is_boundary
    ranking = Ranking.of(values)
    observed = Curve.of(ranking, is_boundary).roc_auc()
    return p_value(observed, Shifts.of(document, seed).turn(is_boundary).null_auc(ranking))


def same_byte_p(seed: int, effect: float, n_documents: int = 60, n_gaps: int = 300) -> float:
    """Signal and label depend on the byte and, each for itself, on the document."""
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


def _wander(
    rng: np.random.Generator, n_documents: int, n_gaps: int, correlation: float = 0.6
) -> Float[np.ndarray, " n"]:
    """Draw a stationary autoregression of unit variance a document."""
    noise = rng.normal(size=(n_documents, n_gaps))
    noise[:, 1:] *= math.sqrt(1 - correlation**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -correlation], noise, axis=1)).ravel()
