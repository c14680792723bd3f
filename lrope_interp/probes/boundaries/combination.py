"""Does the model add to counting? All of its signals, all counts of text, and both, in one regression each.

A signal may fall short of a count and still know what no count does. So each side gets the best linear
combination of its evidence, and the two together are held against counting alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Num

from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, WORD_LABELS, Scorer, Trial
from lrope_interp.probes.boundaries.label_odds import LabelOdds, cross_fitted
from lrope_interp.probes.capture.capture import Progress, counted
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.capture.signals import Signal, SignalColumn, Target
from lrope_interp.probes.statistics.bootstrap import draw_gaps
from lrope_interp.probes.statistics.curves import log_likelihood
from lrope_interp.probes.statistics.decoding import LogRatio
from lrope_interp.probes.statistics.logistic import REGULARISATIONS, Fits, standardised

MODEL, COUNTS, BOTH = "model", "counts", "model_and_counts"
OF_MODEL = ("increments", "entropy", "rise", "surprisal", "entropy_next")
OF_TEXT = ("branching_entropy", "nvbe", "pmi")
STRATA = (FALLBACK_STRATUM, "han")
SPLITS = ("fit", "dev", "test")
Evidence = dict[str, Float64[np.ndarray, "_ features"]]


def combination_columns(
    scorer: Scorer,
    fit_gaps: Gaps,
    columns: Sequence[SignalColumn],
    fits: Fits,
    on_progress: Progress | None = None,
) -> list[SignalColumn]:
    """Fit the model's signals, the counts, and both, for each label of words whose test documents have gold.

    The evidence of a signal is its log ratio (`LogRatio`, estimated on fit) at the gap and at one neighbour
    on each side, so that no signal is at a disadvantage for its scale or shape. Counts are branching entropy,
    nVBE and PMI of the training text and, at the gap alone, the log-odds of a boundary by the character and
    by the pair of characters, counted on fit as everything here that needs labels. The ridge is that of the
    lowest loss on dev.

    Args:
        scorer: Knows dev and test.
        fit_gaps: Where the regressions are fitted, on at most 50,000 gaps.
        columns: All signals.
        fits: Counts what is fitted.
        on_progress: Told about every label and stratum.

    Returns:
        For each label and stratum three columns with the fitted log-odds in dev and test; none where a split
        has gaps of one kind only, or the training text was not counted.
    """
    gaps = {"fit": fit_gaps, "dev": scorer.dev, "test": scorer.test}
    groups = {name: [one for one in columns if one.signal.name in own and "fit" in one.values]
              for name, own in ((MODEL, OF_MODEL), (COUNTS, OF_TEXT))}  # fmt: skip
    fields = {
        s: {(f.stratum, label): f for f in one.fields() for label in f.labels} for s, one in gaps.items()
    }
    cells = [
        (label, stratum)
        for label in scorer.test.labels
        for stratum in STRATA
        if label in WORD_LABELS
        and "gold" in scorer.test.labels[label].grades
        and all(_has_both(own.get((stratum, label)), label) for own in fields.values())
    ]
    found: list[SignalColumn] = []
    for label, stratum in counted(cells if all(groups.values()) else [], "combining signals", on_progress):
        own = {split: fields[split][stratum, label] for split in SPLITS}
        parts: dict[str, list[Evidence]] = {name: [] for name in groups}
        for name, members in groups.items():
            for column in members:
                align = scorer.choose(column, own["test"], label).align
                parts[name] += _around(gaps, own, column, label, align)
        parts[COUNTS].append(_odds(gaps, own, label))
        parts[BOTH] = [*parts[MODEL], *parts[COUNTS]]
        for name, evidence in parts.items():
            joined = {split: np.hstack([one[split] for one in evidence]) for split in SPLITS}
            odds = _fitted(joined, own, label, gaps["fit"], scorer.bootstrap.seed, fits)
            values = {}
            for split, of_gaps in odds.items():
                values[split] = np.full(len(gaps[split].t), of_gaps.min())
                values[split][own[split].gaps] = of_gaps
            signal = Signal(name, lambda _: np.zeros(0), kind="combination")
            target = Target(label, stratum, (stratum,), "lead")
            found.append(SignalColumn(signal, None, None, values, target))
    return found


def added_rows(trials: Sequence[Trial]) -> Iterator[tuple[Trial, Trial]]:
    """Yield, for each label and stratum, both together and counting alone."""
    by_cell = {(one.column.signal.name, one.label, one.stratum): one for one in trials}
    for (name, label, stratum), both in by_cell.items():
        if name == BOTH and (COUNTS, label, stratum) in by_cell:
            yield both, by_cell[COUNTS, label, stratum]


def _has_both(one: Field | None, label: str) -> bool:
    return one is not None and bool(0 < one.labels[label].sum() < len(one.gaps))


def _around(
    gaps: dict[str, Gaps], fields: dict[str, Field], column: SignalColumn, label: str, align: str
) -> list[Evidence]:
    """Return the evidence of a signal at the gap before, at the gap, and at the one after."""
    sides: list[dict[str, Num[np.ndarray, " n"]]] = [{}, {}, {}]
    for split, own in gaps.items():
        first, characters = own.characters.first, own.characters
        values = characters.align(column.values[split], first, align)
        at = characters.of_byte[fields[split].gaps]
        for side, step in zip(sides, (-1, 0, 1), strict=True):
            beside = np.clip(at + step, 0, len(first) - 1)
            is_same = own.document[first[beside]] == own.document[first[at]]
            side[split] = values[np.where(is_same, beside, at)]
    truth = fields["fit"].labels[label]
    ratios = [LogRatio.of(side["fit"], truth) for side in sides]
    pairs = zip(sides, ratios, strict=True)
    return [{split: ratio.at(side[split])[:, None] for split in SPLITS} for side, ratio in pairs]


def _odds(gaps: dict[str, Gaps], fields: dict[str, Field], label: str) -> Evidence:
    """Return log-odds by character and by pair, counted on fit; of fit itself on its other documents."""
    fit, at = gaps["fit"], fields["fit"].gaps
    known = LabelOdds.of(fit.documents, label)
    assert known is not None, "fit has this label"
    found = {s: known.of_documents(gaps[s].documents)[fields[s].gaps] for s in ("dev", "test")}
    return found | {"fit": cross_fitted(fit.documents, fields["fit"].labels[label], at)}


def _fitted(
    evidence: Evidence, fields: dict[str, Field], label: str, fit: Gaps, seed: int, fits: Fits
) -> dict[str, Float[np.ndarray, " _"]]:
    """Return the log-odds in dev and test of the regression on fit that has the lowest loss on dev."""
    from sklearn.linear_model import LogisticRegression

    truth: dict[str, Bool[np.ndarray, " _"]] = {split: one.labels[label] for split, one in fields.items()}
    at: Int64[np.ndarray, " n"] = fields["fit"].gaps
    drawn = draw_gaps(fit.document[at], truth["fit"].astype(np.int64), seed)
    own = evidence["fit"][drawn]
    stacked, n = np.vstack([own, evidence["dev"], evidence["test"]]), len(drawn)
    x, others = standardised(stacked, np.arange(n), np.arange(n, len(stacked)))
    dev, test = others[: len(truth["dev"])], others[len(truth["dev"]) :]
    model = LogisticRegression(tol=1e-4, max_iter=1_000, warm_start=True)
    best, lowest = None, np.inf
    for c in REGULARISATIONS:
        fits.fit(model.set_params(C=c), x, truth["fit"][drawn])
        loss = -float(log_likelihood(model.decision_function(dev), truth["dev"]).mean())
        if loss < lowest:
            best, lowest = copy.deepcopy(model), loss
    assert best is not None, "a likelihood is a number"
    return {"dev": best.decision_function(dev), "test": best.decision_function(test)}
