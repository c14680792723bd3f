"""From what probes say to tables: every score, and for each claim all that speaks against it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Float64, Int64

from lrope_interp.probes.capture.controls import RANDOM_HEAD
from lrope_interp.probes.concepts.features import (
    BYTE_WINDOW,
    CONTROL_TASK,
    ENTROPY,
    FIXED,
    JOINT,
    JOINT_PLUS,
    JOINT_UNTRAINED,
    MAJORITY,
    NGRAM,
    NONE,
    OF_MODELS,
    OF_TEXT,
    STATIC_POSITION,
    UNTRAINED,
)
from lrope_interp.probes.concepts.probes import CONTROL_SEEDS, Outcome
from lrope_interp.probes.concepts.spans import SpanSample
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring, over_seeds
from lrope_interp.results import table

BEYOND, WINS, UNMEASURED = "beyond controls", "control wins", "not measured"
UNDECIDED = "not shown"  # neither stands above every control, nor is any of them above it
DOCUMENT, TYPE = "document", "type"
ALL = "all"
N_BINS = 256
"""Quantiles of a probe's score that the resamples of its ROC-AUC tell apart; the value itself is exact."""
_PROBES = ("family", "concept", "features", "layer", "split", "control", "metric")
_PROBES += ("value", "ci_low", "ci_high", "n", "n_documents", "seed")
_SINGLE = (UNTRAINED, RANDOM_HEAD, NGRAM, BYTE_WINDOW, STATIC_POSITION, ENTROPY, JOINT, FIXED)
_CLAIMS = ("family", "concept", "features", "layer", "auc", "auc_low", "auc_high")
_CLAIMS += ("best_control", "best_control_auc", "above", "above_low", "above_high")
_CLAIMS += ("type_auc", "type_auc_low", "type_auc_high", "type_best_control", "type_best_control_auc")
_CLAIMS += ("type_above", "type_above_low", "type_above_high")
_CLAIMS += tuple(f"{name}_auc" for name in _SINGLE)
_CLAIMS += ("selectivity", "selectivity_low", "selectivity_high", "mdl_bits")
_GAINS = ("gain", "gain_low", "gain_high", "type_gain", "type_gain_low", "type_gain_high")
_GAINS += ("gain_untrained", "type_gain_untrained")
_CLAIMS += _GAINS
_CLAIMS += ("is_adding", "n", "n_concept", "n_types", "n_documents", "verdict")
_FITS = ("family", "control", "features", "layer", "c", "n_features", "n_train", "n_fits", "n_unconverged")

Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Claims:
    """Scores of one family.

    Attributes:
        sample: The spans.
        outcomes: What the probes of every set said.
        bootstrap: The resamples.
    """

    sample: SpanSample
    outcomes: Sequence[Outcome]
    bootstrap: Bootstrap

    @cached_property
    def by_key(self) -> dict[Key, Outcome]:
        """The outcomes by control, features and layer."""
        return {one.of.key: one for one in self.outcomes}

    @cached_property
    def scoring(self) -> Scoring:
        """How the test spans are scored."""
        document = self.sample.spans.document[self.sample.is_test]
        return Scoring(Units.of(document), self.bootstrap, N_BINS)

    @property
    def y(self) -> Int64[np.ndarray, " n_test"]:
        """The concept of each test span."""
        return self.sample.spans.concept[self.sample.is_test]

    @cached_property
    def areas(self) -> dict[tuple[Key, str, str], list[Estimate]]:
        """ROC-AUC of every set, split and concept; by seed on the one, within folds on the other.

        A probe of the type split has seen the fewer of a class, the more of it stand in its own fold.
        Across folds that alone would turn a probe that knows nothing upside down, so that only pairs of
        spans within a fold are compared.
        """
        found, fold, scoring = {}, self.sample.task.fold[self.sample.is_test], self.scoring
        for one in self.outcomes:
            for concept in self.sample.shown:
                number = self.sample.spans.concepts.index(concept)
                is_own, odds = self.y == number, log_odds(one.by_type[:, number])
                found[one.of.key, TYPE, concept] = [scoring.roc_auc_within(odds, is_own, fold)]
                found[one.of.key, DOCUMENT, concept] = [
                    scoring.roc_auc(scoring.rank(log_odds(log_p[:, number])), is_own)
                    for log_p in one.by_document
                ]
        return found

    @property
    def _chance(self) -> Estimate:
        """The ROC-AUC of the majority class."""
        resampled, n_units = np.full(self.bootstrap.n_resamples, 0.5), self.scoring.units.count
        return Estimate(0.5, resampled, n_units, within=(0.5, 0.5))

    def probes(self) -> pd.DataFrame:
        """Return `probes.csv`: every score of every set."""
        rows = [row for one in self.outcomes for row in self._scores(one)]
        key: Key = (MAJORITY, "", None)
        shares = np.bincount(self.sample.task.y[~self.sample.is_test], minlength=self.sample.task.n_classes)
        majority = self.scoring.mean(self.y == int(shares.argmax()))
        rows.append(self._row(key) | _metric(ALL, "accuracy", majority))
        rows += [
            self._row(key) | {"split": split} | _metric(concept, "roc_auc", self._chance)
            for split in (DOCUMENT, TYPE)
            for concept in self.sample.shown
        ]
        return table(rows, _PROBES)

    def claims(self) -> pd.DataFrame:
        """Return `claims.csv`: one row a concept, kind of features and layer, with all its controls."""
        claimed = [one for one in self.outcomes if one.of.control == NONE]
        return table([self._claim(one, concept) for one in claimed for concept in self.sample.shown], _CLAIMS)

    def fits(self) -> pd.DataFrame:
        """Return `fits.csv`: what was fitted, and how strongly it was held back."""
        n_train = {"n_train": self._n_train}
        return table([self._row(one.of.key) | vars(one) | n_train for one in self.outcomes], _FITS)

    @property
    def _n_train(self) -> int:
        return int((~self.sample.is_test).sum())

    def _row(self, key: Key) -> dict[str, Any]:
        """Return what every row says of a set."""
        said = dict(zip(("control", "features", "layer"), key, strict=True))
        counts = {"n": len(self.y), "n_documents": self.scoring.units.n_documents}
        return said | counts | {"family": self.sample.family, "split": DOCUMENT, "seed": None}

    def _scores(self, one: Outcome) -> Iterable[dict[str, Any]]:
        """Return the rows of one set: by seed, and their mean and range where there are several.

        Beside them are control tasks, selectivity, and the length of the code.
        """
        key = one.of.key
        for split, log_ps in ((DOCUMENT, [*one.by_document]), (TYPE, [one.by_type])):
            own = self._row(key) | {"split": split}
            for seed, log_p in enumerate(log_ps):
                row = own | {"seed": seed if len(log_ps) > 1 else None}
                yield row | _metric(ALL, "accuracy", self.scoring.mean(log_p.argmax(axis=1) == self.y))
                losses = -log_p[np.arange(len(self.y)), self.y].astype(np.float64)
                yield row | _metric(ALL, "log_loss", self.scoring.mean(losses))
                for concept in self.sample.shown:
                    yield row | _metric(concept, "roc_auc", self.areas[key, split, concept][seed])
            for concept in self.sample.shown if len(log_ps) > 1 else ():
                mean = over_seeds(self.areas[key, split, concept])
                yield own | {"concept": concept, "metric": "roc_auc"} | mean
        row = self._row(key)
        for seed, right in zip(CONTROL_SEEDS, one.is_control_right, strict=False):
            known = row | {"control": CONTROL_TASK, "seed": seed}
            yield known | _metric(ALL, "accuracy", self.scoring.mean(right))
        if len(one.is_control_right):
            yield row | _metric(ALL, "selectivity", self._selectivity(one))
        if not math.isnan(one.bits):  # beside a code that knows nothing but the number of classes
            uniform = self._n_train * math.log2(self.sample.task.n_classes)
            yield row | _metric(ALL, "mdl_bits", Estimate(one.bits / self._n_train))
            compression = uniform / one.bits if one.bits > 0 else math.nan
            yield row | _metric(ALL, "compression", Estimate(compression))

    def _selectivity(self, one: Outcome) -> Estimate:
        """Return accuracy less that on random labels by lexical type, the mean over five of them."""
        random = [self.scoring.mean(right) for right in one.is_control_right]
        accuracy = self.scoring.mean(one.by_document[0].argmax(axis=1) == self.y)
        return accuracy - Estimate.mean(random)

    def _claim(self, one: Outcome, concept: str) -> dict[str, Any]:
        """Return a claim with all that speaks against it."""
        _, features, layer = one.of.key
        number = self.sample.spans.concepts.index(concept)
        row = self._row(one.of.key) | self._selectivity(one).row("selectivity")
        row |= {
            "concept": concept,
            "mdl_bits": one.bits / self._n_train,
            "n_concept": int((self.y == number).sum()),
            "n_types": len(np.unique(self.sample.types[self.sample.spans.concept == number])),
        }
        intervals = [(row["selectivity_low"], row["selectivity_high"])]
        for split, prefix in ((DOCUMENT, ""), (TYPE, "type_")):
            own = self.areas[one.of.key, split, concept][0]
            controls = self._controls(features, layer, split, concept)
            best = max(controls, key=lambda name: controls[name].value)
            row |= own.row(f"{prefix}auc") | (own - controls[best]).row(f"{prefix}above")
            row |= {f"{prefix}best_control": best, f"{prefix}best_control_auc": controls[best].value}
            if split == DOCUMENT:
                nothing = Estimate(math.nan)
                row |= {f"{name}_auc": controls.get(name, nothing).value for name in _SINGLE}
            intervals += [(own - control).interval for control in controls.values()]
        row["verdict"] = _verdict(row, intervals)
        return row | self._gains(features, layer, number)

    def _controls(self, features: str, layer: int | None, split: str, concept: str) -> Mapping[str, Estimate]:
        """Return the score of every control, the mean over its seeds, where it has one."""
        keys: dict[str, Key] = {name: (name, "", None) for name in (*OF_TEXT, JOINT)}
        keys |= {name: (name, features, layer) for name in OF_MODELS}
        found = {
            name: self._over_seeds(key, split, concept) for name, key in keys.items() if key in self.by_key
        }
        found[MAJORITY] = self._chance
        return {name: one for name, one in found.items() if not math.isnan(one.value)}

    def _over_seeds(self, key: Key, split: str, concept: str) -> Estimate:
        """Return the mean over seeds; on new words (a seed a fold) they spread as on new documents."""
        own = Estimate.mean(self.areas[key, split, concept])
        known = own if split == DOCUMENT else Estimate.mean(self.areas[key, DOCUMENT, concept])
        return replace(own, seeds=known.seeds)

    def _gains(self, features: str, layer: int | None, number: int) -> dict[str, Any]:
        """Return by how much a probe of all controls of the text improves when the features are added."""
        if (JOINT, "", None) not in self.by_key:
            return dict.fromkeys(_GAINS, math.nan) | {"is_adding": None}
        joint, plus = self.by_key[JOINT, "", None], self.by_key[JOINT_PLUS, features, layer]
        other = self.by_key.get((JOINT_UNTRAINED, features, layer))
        row: dict[str, Any] = {}
        lows = []
        for name in ("gain", "type_gain"):

            def loss(one: Outcome, is_by_type: bool = name == "type_gain") -> Estimate:
                log_p = one.by_type if is_by_type else one.by_document[0]
                return self.scoring.mean(binary_loss(log_p[:, number], self.y == number))

            before = loss(joint)
            gain = before - loss(plus)
            row |= gain.row(name) | {f"{name}_untrained": math.nan}
            lows.append(gain.interval[0])
            if other is not None:
                untrained = before - loss(other)
                row[f"{name}_untrained"] = untrained.value
                lows.append((gain - untrained).interval[0])
        return row | {"is_adding": other is not None and _are_above(lows)}


def log_odds(log_p: Float32[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return the log-odds of a class by its log-probability."""
    own = log_p.astype(np.float64)
    return own - np.log1p(-np.minimum(np.exp(own), 1 - 1e-12))


def binary_loss(
    log_p: Float32[np.ndarray, " n"], is_own: Bool[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Return -ln p of being of a class or not, in nats a span."""
    own = log_p.astype(np.float64)
    return -np.where(is_own, own, np.log1p(-np.minimum(np.exp(own), 1 - 1e-7)))


def _metric(concept: str, metric: str, estimate: Estimate) -> dict[str, Any]:
    return {"concept": concept, "metric": metric, **estimate.row()}


def _are_above(bounds: Sequence[float]) -> bool:
    """Whether all lower bounds are known and above 0."""
    return all(bound > 0 for bound in bounds)


def _verdict(row: Mapping[str, Any], intervals: Sequence[tuple[float, float]]) -> str:
    """Return the mark of a claim; without intervals, or an untrained model beside it, nothing is claimed."""
    if any(math.isnan(row[name]) for name in ("above_low", "type_above_low", "selectivity_low")):
        return UNMEASURED
    if any(high < 0 for _, high in intervals):
        return WINS
    if not _are_above([low for low, _ in intervals]):
        return UNDECIDED
    return UNMEASURED if math.isnan(row["untrained_auc"]) else BEYOND
