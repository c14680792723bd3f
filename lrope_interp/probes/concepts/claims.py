"""From what probes say to tables: every score, and for each claim all that speaks against it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

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
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.statistics.estimates import Estimate, SpanScorer
from lrope_interp.results import table

BEYOND, WINS, UNMEASURED = "beyond controls", "control wins", "not measured"
DOCUMENT, TYPE = "document", "type"
ALL = "all"
_PROBES = ("family", "concept", "features", "layer", "split", "control", "metric")
_PROBES += ("value", "ci_low", "ci_high", "n", "n_documents", "seed")
_SINGLE = (UNTRAINED, RANDOM_HEAD, NGRAM, BYTE_WINDOW, STATIC_POSITION, ENTROPY, JOINT, FIXED)
_CLAIMS = ("family", "concept", "features", "layer", "auc", "auc_low", "auc_high")
_CLAIMS += ("best_control", "best_control_auc", "above", "above_low", "above_high")
_CLAIMS += ("type_auc", "type_auc_low", "type_auc_high", "type_best_control", "type_best_control_auc")
_CLAIMS += ("type_above", "type_above_low", "type_above_high")
_CLAIMS += tuple(f"{name}_auc" for name in _SINGLE)
_CLAIMS += ("selectivity", "selectivity_low", "selectivity_high", "mdl_bits")
_CLAIMS += ("gain", "gain_low", "gain_high", "type_gain", "type_gain_low", "type_gain_high")
_CLAIMS += ("gain_untrained", "type_gain_untrained")
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
    def scorer(self) -> SpanScorer:
        """Scores the test spans."""
        sample = self.sample
        first, _ = sample.spans.bytes_of(sample.documents)
        sizes = np.cumsum([0] + [one.n_bytes for one in sample.documents])
        t = first - sizes[sample.spans.document]
        own = sample.is_test
        return SpanScorer(sample.spans.concept[own], sample.spans.document[own], t[own], self.bootstrap)

    @cached_property
    def areas(self) -> dict[tuple[Key, str, str], list[Estimate]]:
        """ROC-AUC of every set, split and concept; by seed on the one, within folds on the other."""
        found, fold = {}, self.sample.task.fold[self.sample.is_test]
        for one in self.outcomes:
            for concept in self.sample.shown:
                number = self.sample.spans.concepts.index(concept)
                by_seed = [self.scorer.roc_auc(log_p, number) for log_p in one.by_document]
                found[one.of.key, DOCUMENT, concept] = by_seed
                found[one.of.key, TYPE, concept] = [self.scorer.roc_auc_within(one.by_type, number, fold)]
        return found

    @property
    def _chance(self) -> Estimate:
        """The ROC-AUC of the majority class."""
        return Estimate(0.5, np.full(self.bootstrap.n_resamples, 0.5))

    def probes(self) -> pd.DataFrame:
        """Return `probes.csv`: every score of every set."""
        rows = [row for one in self.outcomes for row in self._scores(one)]
        shares = np.bincount(self.sample.task.y[~self.sample.is_test], minlength=self.sample.task.n_classes)
        majority = self.scorer.mean(self.scorer.y == int(shares.argmax()))
        rows.append(self._row(MAJORITY, "", None, DOCUMENT) | _metric(ALL, "accuracy", majority))
        rows += [
            self._row(MAJORITY, "", None, split) | _metric(concept, "roc_auc", self._chance)
            for split in (DOCUMENT, TYPE)
            for concept in self.sample.shown
        ]
        return table(rows, _PROBES)

    def claims(self) -> pd.DataFrame:
        """Return `claims.csv`: one row a concept, kind of features and layer, with all its controls."""
        rows = [
            self._claim(one, concept)
            for one in self.outcomes
            if one.of.control == NONE
            for concept in self.sample.shown
        ]
        return table(rows, _CLAIMS)

    def fits(self) -> pd.DataFrame:
        """Return `fits.csv`: what was fitted, and how strongly it was held back."""
        n_train = int((~self.sample.is_test).sum())
        rows = [
            {
                "family": self.sample.family,
                "control": one.of.control,
                "features": one.of.features,
                "layer": one.of.layer,
                "c": one.c,
                "n_features": one.n_features,
                "n_train": n_train,
                "n_fits": one.n_fits,
                "n_unconverged": one.n_unconverged,
            }
            for one in self.outcomes
        ]
        return table(rows, _FITS)

    def _row(
        self, control: str, features: str, layer: int | None, split: str, seed: int | None = None
    ) -> dict[str, Any]:
        return {
            "family": self.sample.family,
            "features": features,
            "layer": layer,
            "split": split,
            "control": control,
            "n": len(self.scorer.y),
            "n_documents": self.scorer.units.n_documents,
            "seed": seed,
        }

    def _scores(self, one: Outcome) -> Iterable[dict[str, Any]]:
        """Return the rows of one set: by seed, and their mean and range where there are several.

        Beside them are control tasks, selectivity, and the length of the code.
        """
        key = one.of.key
        for split in (DOCUMENT, TYPE):
            log_ps = list(one.by_document) if split == DOCUMENT else [one.by_type]
            for seed, log_p in enumerate(log_ps):
                row = self._row(*key, split, seed if len(log_ps) > 1 else None)
                yield row | _metric(ALL, "accuracy", self.scorer.accuracy(log_p))
                yield row | _metric(ALL, "log_loss", self.scorer.log_loss(log_p))
                for concept in self.sample.shown:
                    yield row | _metric(concept, "roc_auc", self.areas[key, split, concept][seed])
            for concept in self.sample.shown if len(log_ps) > 1 else ():
                values = [area.value for area in self.areas[key, split, concept]]
                found = {"concept": concept, "metric": "roc_auc", "value": float(np.mean(values))}
                yield self._row(*key, split) | found | {"ci_low": min(values), "ci_high": max(values)}
        row = self._row(*key, DOCUMENT)
        for seed, right in zip(CONTROL_SEEDS, one.is_control_right, strict=False):
            known = row | {"control": CONTROL_TASK, "seed": seed}
            yield known | _metric(ALL, "accuracy", self.scorer.mean(right))
        if len(one.is_control_right):
            yield row | _metric(ALL, "selectivity", self._selectivity(one))
        if one.code is not None:
            nothing = np.full(self.bootstrap.n_resamples, np.nan)
            yield row | _metric(ALL, "mdl_bits", Estimate(one.code.bits_a_span, nothing))
            yield row | _metric(ALL, "compression", Estimate(one.code.compression, nothing))

    def _selectivity(self, one: Outcome) -> Estimate:
        """Return accuracy less that on random labels by lexical type, the mean over five of them."""
        random = Estimate.mean_redrawn([self.scorer.mean(right) for right in one.is_control_right])
        return self.scorer.accuracy(one.by_document[0]).minus(random)

    def _claim(self, one: Outcome, concept: str) -> dict[str, Any]:
        _, features, layer = one.of.key
        number = self.sample.spans.concepts.index(concept)
        selectivity = self._selectivity(one)
        row: dict[str, Any] = {
            "family": self.sample.family,
            "concept": concept,
            "features": features,
            "layer": layer,
            **_named("selectivity", selectivity),
            "mdl_bits": math.nan if one.code is None else one.code.bits_a_span,
            "n": len(self.scorer.y),
            "n_concept": int((self.scorer.y == number).sum()),
            "n_types": len(np.unique(self.sample.types[self.sample.spans.concept == number])),
            "n_documents": self.scorer.units.n_documents,
        }
        lows = [row["selectivity_low"]]
        for split, prefix in ((DOCUMENT, ""), (TYPE, "type_")):
            found, own_lows = self._against_controls(one, concept, split, prefix)
            row, lows = row | found, lows + own_lows
        row |= self._gains(features, layer, number)
        row["verdict"] = _verdict(row, lows)
        return row

    def _against_controls(
        self, one: Outcome, concept: str, split: str, prefix: str
    ) -> tuple[dict[str, Any], list[float]]:
        """Return the score beside that of its best control, and the lower bound against every control."""
        _, features, layer = one.of.key
        own = self.areas[one.of.key, split, concept][0]
        controls = self._controls(features, layer, split, concept)
        best = max(controls, key=lambda name: controls[name].value)
        row = _named(f"{prefix}auc", own) | _named(f"{prefix}above", own.minus(controls[best]))
        row |= {f"{prefix}best_control": best, f"{prefix}best_control_auc": controls[best].value}
        if split == DOCUMENT:
            row |= {f"{name}_auc": controls[name].value if name in controls else math.nan for name in _SINGLE}
        return row, [own.minus(control).interval[0] for control in controls.values()]

    def _controls(self, features: str, layer: int | None, split: str, concept: str) -> Mapping[str, Estimate]:
        """Return the score of every control, the mean over its seeds, where it has one."""
        keys: dict[str, Key] = {name: (name, "", None) for name in (*OF_TEXT, JOINT)}
        keys |= {name: (name, features, layer) for name in OF_MODELS}
        found = {
            name: Estimate.mean(self.areas[key, split, concept])
            for name, key in keys.items()
            if key in self.by_key
        }
        found[MAJORITY] = self._chance
        return {name: one for name, one in found.items() if not math.isnan(one.value)}

    def _gains(self, features: str, layer: int | None, number: int) -> dict[str, Any]:
        """Return by how much a probe of all controls of the text improves when the features are added."""
        joint, plus = self.by_key[JOINT, "", None], self.by_key[JOINT_PLUS, features, layer]
        other = self.by_key.get((JOINT_UNTRAINED, features, layer))
        row: dict[str, Any] = {}
        lows = []
        for name in ("gain", "type_gain"):

            def loss(one: Outcome, is_by_type: bool = name == "type_gain") -> Estimate:
                log_p = one.by_type if is_by_type else one.by_document[0]
                return self.scorer.binary_loss(log_p, number)

            before = loss(joint)
            gain = before.minus(loss(plus))
            row |= _named(name, gain) | {f"{name}_untrained": math.nan}
            lows.append(gain.interval[0])
            if other is not None:
                untrained = before.minus(loss(other))
                row[f"{name}_untrained"] = untrained.value
                lows.append(gain.minus(untrained).interval[0])
        row["is_adding"] = other is not None and _are_above(lows)
        return row


def _metric(concept: str, metric: str, estimate: Estimate) -> dict[str, Any]:
    low, high = estimate.interval
    return {"concept": concept, "metric": metric, "value": estimate.value, "ci_low": low, "ci_high": high}


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    low, high = estimate.interval
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def _are_above(bounds: Sequence[float]) -> bool:
    """Whether all lower bounds are known and above 0."""
    return all(bound > 0 for bound in bounds)


def _verdict(row: Mapping[str, Any], lows: Sequence[float]) -> str:
    """Return the mark of a claim; without intervals, or an untrained model beside it, nothing is claimed."""
    if any(math.isnan(row[name]) for name in ("above_low", "type_above_low", "selectivity_low")):
        return UNMEASURED
    if not _are_above(lows):
        return WINS
    return UNMEASURED if math.isnan(row["untrained_auc"]) else BEYOND
