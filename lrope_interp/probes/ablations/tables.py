"""The tables of an ablation result: sums over predictions, each with its paired interval.

The untouched and the ablated model are compared on the same bytes, and whole documents are drawn
again, so that what makes one document harder than another cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from lrope_interp.data import BYTE_CLASSES, byte_class
from lrope_interp.probes.ablations.passes import Outcomes
from lrope_interp.probes.ablations.plan import (
    BEYOND_RANDOM,
    LEXICAL,
    MEAN,
    ONE,
    RANDOM,
    SPLIT,
    UNTOUCHED,
    Arm,
)
from lrope_interp.probes.capture.attention import METRICS
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, interval
from lrope_interp.results import ALL_LANGUAGES, table

ALL_CLASSES = "all"
SPLIT_TERMS = {
    "split_scale": (ONE, MEAN),
    "split_lexical": (MEAN, LEXICAL),
    "split_contextual": (LEXICAL, None),
    "split_total": (ONE, None),
}
DISTANCE_BINS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 16), (17, None))
ARM_COLUMNS = ("intervention", "parameter", "design", "layers", "layer", "head", "where")
_ESTIMATE = ("value", "ci_low", "ci_high", "n", "n_units")
_ABLATIONS = (*ARM_COLUMNS, "language", "metric", "byte_class", *_ESTIMATE, "n_documents")
_DISTANCES = (*ARM_COLUMNS[:-1], "language", "label", "distance", "distance_high", *_ESTIMATE)
_ATTENTION = ("intervention", "layer", "head", "language", "metric", "value", "ci_low", "ci_high")
_ATTENTION += ("change", "change_low", "change_high", "n")
_PASSES = (*ARM_COLUMNS, "first_layer", "blocks_run", "blocks_saved")


@dataclass(frozen=True)
class Group:
    """Some of the scored bytes, and how they are drawn again.

    Attributes:
        language: Of the documents, or "all".
        byte_class: Of the predicted bytes, or "all".
        at: Which of the joined bytes.
        units: What is resampled.
    """

    language: str
    byte_class: str
    at: Int64[np.ndarray, " n"]
    units: Units

    def words(self) -> dict[str, Any]:
        """Return the columns that name it."""
        return {"language": self.language, "byte_class": self.byte_class}


@dataclass(frozen=True)
class Tables:
    """Makes the tables of one run.

    Attributes:
        captured: The documents and their tokens.
        outcomes: What the passes gave.
        is_scored: Which bytes count.
        bootstrap: The resamples, one set for everything.
    """

    captured: Captured
    outcomes: Outcomes
    is_scored: Bool[np.ndarray, " n_bytes"]
    bootstrap: Bootstrap

    @cached_property
    def groups(self) -> list[Group]:
        """All bytes, those of each language where there are several, and those of each class."""
        kinds = np.concatenate([byte_class(one.text) for one in self.captured.documents])
        spoken = np.array([one.language for one in self.captured.documents])[self.captured.document]
        names = sorted(set(spoken.tolist()))
        found = [self._group(ALL_LANGUAGES, ALL_CLASSES, self.is_scored)]
        for name in names if len(names) > 1 else []:
            found.append(self._group(name, ALL_CLASSES, self.is_scored & (spoken == name)))
        for number, name in enumerate(BYTE_CLASSES):
            found.append(self._group(ALL_LANGUAGES, name, self.is_scored & (kinds == number)))
        return [one for one in found if len(one.at)]

    @property
    def whole(self) -> Group:
        """All scored bytes."""
        return self.groups[0]

    @cached_property
    def by_language(self) -> list[Group]:
        """The groups of all classes."""
        return [one for one in self.groups if one.byte_class == ALL_CLASSES]

    def base(self) -> pd.DataFrame:
        """Return what the untouched model loses, in nats per byte."""
        rows = []
        for group in self.by_language:
            found = self.estimate(group, self.outcomes.loss)
            found |= {"language": group.language, "nats_per_byte": found["value"], "unit": group.units.word}
            rows.append(found | {"n_documents": group.units.n_documents})
        names = ("language", "nats_per_byte", "ci_low", "ci_high", "n", "n_units", "n_documents", "unit")
        return table(rows, names)

    def ablations(self, arms: Iterable[Arm]) -> pd.DataFrame:
        """Return every outcome of every arm, and the split of the loss for one layer and for all."""
        arms = list(arms)
        rows = [row for arm in arms for row in self._arm_rows(arm)]
        rows += [row for terms in _splits(arms) for row in self._split_rows(terms)]
        for arm, random in _beside_random(arms):
            rows += self._difference_rows(BEYOND_RANDOM, arm, random)
        return table(rows, _ABLATIONS)

    def distances(
        self, arms: Iterable[Arm], label: str, since: Int64[np.ndarray, " n_bytes"]
    ) -> pd.DataFrame:
        """Return the change by how many bytes ago the last boundary was."""
        rows = []
        bins = [(low, high, self._within(since, low, high)) for low, high in DISTANCE_BINS]
        for arm in arms:
            if arm.intervention not in SPLIT or arm.where:
                continue
            change = self.outcomes.change[self.number(arm)]
            for low, high, inside in bins:
                if len(inside.at):
                    where = {
                        "language": ALL_LANGUAGES,
                        "label": label,
                        "distance": low,
                        "distance_high": high,
                    }
                    rows.append(arm.row() | where | self.estimate(inside, change))
        return table(rows, _DISTANCES)

    def attention(self) -> pd.DataFrame:
        """Return how far each head looks back and how much stays in the word, before and after."""
        rows = []
        before = self.outcomes.attention.get(-1)
        for number, after in self.outcomes.attention.items():
            name = UNTOUCHED if number < 0 else self.outcomes.arms[number].intervention
            for group in self.by_language:
                at = group.at[self.captured.is_token_start[group.at]]
                for metric, layer, head in np.ndindex(after.shape[:3]):
                    assert before is not None
                    values = (after[metric, layer, head, at], before[metric, layer, head, at])
                    found = self._looks(at, *values, is_before=number < 0)
                    where = {"intervention": name, "layer": layer, "head": head, "metric": METRICS[metric]}
                    rows.append(where | {"language": group.language} | found)
        return table(rows, _ATTENTION)

    def passes(self) -> pd.DataFrame:
        """Return one row a forward pass, the untouched one first."""
        n_layers = self.outcomes.n_layers
        blank = dict.fromkeys(ARM_COLUMNS, None) | {"parameter": math.nan, "layers": "", "where": ""}
        found = [(0, blank | {"intervention": UNTOUCHED, "design": ""})]
        found += [(min(arm.layers), arm.row()) for arm in self.outcomes.arms]
        rows = [
            row | {"first_layer": first, "blocks_run": n_layers - first, "blocks_saved": first}
            for first, row in found
        ]
        return table(rows, _PASSES)

    def estimate(self, group: Group, amount: Float[np.ndarray, " n_bytes"]) -> dict[str, Any]:
        """Return the mean of an amount over the bytes of a group, with its interval."""
        return self._mean(group.at, group.units, amount[group.at].astype(np.float64))

    def number(self, arm: Arm) -> int:
        """Return the number of the pass that an arm shares with its equals."""
        return self._number[arm.what()]

    @cached_property
    def _number(self) -> Mapping[tuple[Any, ...], int]:
        return {arm.what(): number for number, arm in enumerate(self.outcomes.arms)}

    def _mean(
        self, at: Int64[np.ndarray, " n"], units: Units, amount: Float[np.ndarray, " n"]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"value": math.nan, "ci_low": math.nan, "ci_high": math.nan}
        if len(at):
            found["value"] = float(amount.mean())
        if units.has_interval:
            low, high = interval(self.bootstrap.ratio(units, amount, np.ones(len(at))))
            found |= {"ci_low": low, "ci_high": high}
        return found | {"n": len(at), "n_units": units.count}

    def _group(self, language: str, name: str, inside: Bool[np.ndarray, " n_bytes"]) -> Group:
        at = np.flatnonzero(inside)
        return Group(language, name, at, Units.of(self.captured.document[at], self.captured.t[at]))

    def _within(self, since: Int64[np.ndarray, " n_bytes"], low: int, high: int | None) -> Group:
        inside = self.is_scored & (since >= low) & (since <= (np.inf if high is None else high))
        return self._group(ALL_LANGUAGES, ALL_CLASSES, inside)

    def _arm_rows(self, arm: Arm) -> list[dict[str, Any]]:
        number, rows = self.number(arm), []
        for group in self.groups:
            predicted = self._predicted(group)
            for metric, amounts, over in (
                ("nats_per_byte", self.outcomes.change, group),
                ("kl", self.outcomes.kl, predicted),
                ("flips", self.outcomes.flips, predicted),
            ):
                found = self.estimate(over, amounts[number])
                found["n_documents"] = group.units.n_documents
                rows.append(arm.row() | group.words() | {"metric": metric} | found)
        return rows

    def _split_rows(self, terms: Mapping[str, Arm]) -> list[dict[str, Any]]:
        """Return the terms of scale + lexical + contextual, each a paired difference of two arms."""
        return [
            row
            for name, (upper, lower) in SPLIT_TERMS.items()
            for row in self._difference_rows(name, terms[upper], None if lower is None else terms[lower])
        ]

    def _difference_rows(self, name: str, upper: Arm, lower: Arm | None) -> list[dict[str, Any]]:
        """Return the paired difference of two arms, or of one and the untouched model."""
        amount = self.outcomes.change[self.number(upper)].astype(np.float64)
        if lower is not None:
            amount = amount - self.outcomes.change[self.number(lower)]
        rows = []
        for group in self.groups:
            found = self.estimate(group, amount) | {"n_documents": group.units.n_documents}
            found |= {"metric": "nats_per_byte", "intervention": name}
            rows.append(upper.row() | group.words() | found)
        return rows

    def _predicted(self, group: Group) -> Group:
        """Return the bytes of a group at which a token begins: there a prediction was made."""
        if self.captured.has_byte_tokens:
            return group
        inside = np.zeros(self.captured.n_bytes, dtype=bool)
        inside[group.at] = True
        return self._group(group.language, group.byte_class, inside & self.captured.is_token_start)

    def _looks(
        self,
        at: Int64[np.ndarray, " n"],
        after: Float[np.ndarray, " n"],
        before: Float[np.ndarray, " n"],
        is_before: bool,
    ) -> dict[str, Any]:
        known = ~np.isnan(after)
        at, after, before = at[known], after[known].astype(np.float64), before[known].astype(np.float64)
        if not len(at):
            return dict.fromkeys(_ATTENTION[5:-1], math.nan) | {"n": 0}
        units = Units.of(self.captured.document[at], self.captured.t[at])
        found = self._mean(at, units, after)
        moved = self._mean(at, units, after - before) if not is_before else dict.fromkeys(found, math.nan)
        found |= {"change": moved["value"], "change_low": moved["ci_low"], "change_high": moved["ci_high"]}
        return {name: found[name] for name in _ATTENTION[5:]}


def increments_frame(fitted: IncrementStatistics) -> pd.DataFrame:
    """Return each layer's mean and s.d. on the fit text, and how much of it the token explains."""
    shares = fitted.lexical_share()
    rows = [
        {
            "layer": layer,
            "head": head if shares.shape[1] > 1 else None,
            "mean": float(fitted.mean[layer, head]),
            "sd": float(fitted.sd[layer, head]),
            "lexical_share": float(shares[layer, head]),
            "n": fitted.values.shape[-1],
        }
        for layer, head in np.ndindex(shares.shape)
    ]
    return table(rows, ("layer", "head", "mean", "sd", "lexical_share", "n"))


def _beside_random(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Return each arm at a place with the one at as many random gaps."""
    keys = {(arm.intervention, arm.design, arm.where): arm for arm in arms if arm.design == "all"}
    return [
        (keys[name, design, where.removeprefix(RANDOM)], arm)
        for (name, design, where), arm in keys.items()
        if where.startswith(RANDOM)
    ]


def _splits(arms: Sequence[Arm]) -> list[dict[str, Arm]]:
    """Find where all three terms were run: everywhere, on one layer or on all of them."""
    found: dict[tuple[Any, ...], dict[str, Arm]] = {}
    for arm in arms:
        if arm.intervention in SPLIT and not arm.where and arm.design in ("single", "all"):
            found.setdefault((arm.design, arm.layers, arm.head), {})[arm.intervention] = arm
    return [terms for terms in found.values() if len(terms) == len(SPLIT)]
