"""The tables of an ablation result: sums over predictions, each with its paired interval.

The untouched and the ablated model are compared on the same bytes, and whole documents are drawn
again, so that what makes one document harder than another cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64, Shaped

from lrope_interp.data import BYTE_CLASSES, byte_class
from lrope_interp.data.alignment import byte_to_character
from lrope_interp.probes.ablations.passes import Outcomes
from lrope_interp.probes.ablations.plan import (
    BEYOND_RANDOM,
    LEXICAL,
    MEAN,
    ONE,
    RANDOM,
    SPLIT,
    UNTOUCHED,
    AblationArm,
)
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics
from lrope_interp.probes.capture.losses import LOOKS
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Scoring
from lrope_interp.results import ALL_LANGUAGES, table

ALL_CLASSES = "all"
SPLIT_TERMS = {
    "split_scale": (ONE, MEAN),
    "split_lexical": (MEAN, LEXICAL),
    "split_contextual": (LEXICAL, None),
    "split_total": (ONE, None),
}
DISTANCE_BINS = ((0, 0), (1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 16), (17, None))
N_EXAMPLES = 8
CONTEXT = 24
ARM_COLUMNS = ("intervention", "parameter", "design", "layers", "layer", "head", "where")
_ESTIMATE = ("value", "ci_low", "ci_high", "n", "n_units")
_ABLATIONS = (*ARM_COLUMNS, "language", "metric", "byte_class", *_ESTIMATE, "n_documents")
_DISTANCES = (*ARM_COLUMNS[:-1], "language", "label", "distance", "distance_high", *_ESTIMATE)
_ATTENTION = ("intervention", "layer", "head", "language", "metric", "value", "ci_low", "ci_high")
_ATTENTION += ("change", "change_low", "change_high", "n")
_BASE = ("language", "nats_per_byte", "ci_low", "ci_high", "n", "n_units", "n_documents", "unit")
_PASSES = (*ARM_COLUMNS, "first_layer", "blocks_run", "blocks_saved")
_EXAMPLES = ("intervention", "design", "layers", "layer", "rank", "document", "character", "offset", "text")
_EXAMPLES += ("value", "loss", "ablated")


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
        found = [self._group(self.is_scored)]
        for name, is_spoken in self.captured.spoken.items():
            found.append(self._group(self.is_scored & is_spoken, language=name))
        for number, name in enumerate(BYTE_CLASSES):
            found.append(self._group(self.is_scored & (kinds == number), byte_class=name))
        return [one for one in found if len(one.at)]

    @cached_property
    def by_language(self) -> list[Group]:
        """The groups of all classes."""
        return [one for one in self.groups if one.byte_class == ALL_CLASSES]

    def base(self) -> pd.DataFrame:
        """Return what the untouched model loses, in nats per byte."""
        rows = []
        for group in self.by_language:
            found = self.estimate(group, self.outcomes.loss)
            found |= {"language": group.language, "nats_per_byte": found["value"], "unit": "document"}
            rows.append(found | {"n_documents": group.units.n_documents})
        return table(rows, _BASE)

    def ablations(self, arms: Sequence[AblationArm]) -> pd.DataFrame:
        """Return every outcome of every arm, and the paired differences of arms, in nats per byte.

        These are the split of the loss into scale + lexical + contextual, for one layer and for all, and
        what freezing at a place costs beyond freezing at as many random gaps.
        """
        rows = []
        predicted = [self._group(self._is_predicted(group)) for group in self.groups]
        for arm in arms:
            number = self.outcomes.number(arm)
            for group, at_tokens in zip(self.groups, predicted, strict=True):
                for metric, amounts, over in (
                    ("nats_per_byte", self.outcomes.change, group),
                    ("kl", self.outcomes.kl, at_tokens),
                    ("flips", self.outcomes.flips, at_tokens),
                ):
                    rows.append(self._row(arm, group, metric) | self.estimate(over, amounts[number]))
        for name, upper, lower in [*_split_terms(arms), *_beside_random(arms)]:
            amount = self.outcomes.change[self.outcomes.number(upper)].astype(np.float64)
            if lower is not None:
                amount = amount - self.outcomes.change[self.outcomes.number(lower)]
            for group in self.groups:
                row = self._row(upper, group, "nats_per_byte") | {"intervention": name}
                rows.append(row | self.estimate(group, amount))
        return table(rows, _ABLATIONS)

    def distances(
        self, arms: Iterable[AblationArm], label: str, since: Int64[np.ndarray, " n_bytes"]
    ) -> pd.DataFrame:
        """Return the change by how many bytes ago the last boundary was."""
        bins = []
        for low, high in DISTANCE_BINS:
            is_inside = self.is_scored & (since >= low) & (since <= (np.inf if high is None else high))
            where = {"language": ALL_LANGUAGES, "label": label, "distance": low, "distance_high": high}
            bins.append((where, self._group(is_inside)))
        rows = [
            arm.row() | where | self.estimate(group, self.outcomes.change[self.outcomes.number(arm)])
            for arm in arms
            if arm.intervention in SPLIT and not arm.where
            for where, group in bins
            if len(group.at)
        ]
        return table(rows, _DISTANCES)

    def attention(self) -> pd.DataFrame:
        """Return how far each head looks back and how much stays in the word, before and after."""
        rows = []
        for number, after in self.outcomes.attention.items():
            name = UNTOUCHED if number < 0 else self.outcomes.arms[number].intervention
            for group in self.by_language:
                is_start = self._is_predicted(group)
                for metric, layer, head in np.ndindex(after.shape[:3]):
                    values = after[metric, layer, head].astype(np.float64)
                    looked = self._group(is_start & ~np.isnan(values))
                    found = self.estimate(looked, values)
                    moved = dict.fromkeys(found, math.nan)
                    if number >= 0:
                        before = self.outcomes.attention[-1][metric, layer, head]
                        moved = self.estimate(looked, values - before)
                    found |= {"intervention": name, "layer": layer, "head": head, "metric": LOOKS[metric]}
                    found |= {"language": group.language, "change": moved["value"]}
                    rows.append(found | {"change_low": moved["ci_low"], "change_high": moved["ci_high"]})
        return table(rows, _ATTENTION)

    def examples(self, arms: Iterable[AblationArm]) -> pd.DataFrame:
        """Return the targets that lose most, with 24 characters on either side.

        Taken for the terms of the split on all layers, and for each layer's mean. Losses are summed over
        the bytes of a character, in nats; two targets of one arm are never nearer than their contexts.
        """
        texts = [one.text for one in self.captured.documents]
        text, offsets = "".join(texts), np.cumsum([0] + [len(one) for one in texts])
        # The characters of all documents are numbered from end to end.
        of_byte = np.concatenate(
            [byte_to_character(one) + at for one, at in zip(texts, offsets, strict=False)]
        )

        def by_character(values: Shaped[np.ndarray, " n_bytes"]) -> Float[np.ndarray, " characters"]:
            return np.bincount(of_byte, values, minlength=len(text))

        is_target, loss = by_character(~self.is_scored) == 0, by_character(self.outcomes.loss)
        rows: list[dict[str, Any]] = []
        for arm in arms:
            is_shown = (arm.intervention in SPLIT and arm.design == "all") or arm.intervention == MEAN
            if not is_shown or arm.where or arm.head is not None or arm.design not in ("single", "all"):
                continue
            change = by_character(self.outcomes.change[self.outcomes.number(arm)])
            for rank, target in enumerate(_worst(np.where(is_target, change, -np.inf)), start=1):
                document = int(np.searchsorted(offsets, target, side="right")) - 1
                low, high = offsets[document], offsets[document + 1]
                for at in range(max(low, target - CONTEXT), min(high, target + CONTEXT + 1)):
                    where = arm.row() | {"rank": rank, "document": self.captured.documents[document].name}
                    where |= {"character": target - low, "offset": at - target, "text": text[at]}
                    rows.append(
                        where | {"value": change[at], "loss": loss[at], "ablated": loss[at] + change[at]}
                    )
        return table(rows, _EXAMPLES)

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
        found = Scoring(group.units, self.bootstrap).mean(amount[group.at].astype(np.float64))
        return found.row() | {"n": len(group.at), "n_units": group.units.count}

    def _group(
        self,
        is_inside: Bool[np.ndarray, " n_bytes"],
        language: str = ALL_LANGUAGES,
        byte_class: str = ALL_CLASSES,
    ) -> Group:
        at = np.flatnonzero(is_inside)
        return Group(language, byte_class, at, Units.of(self.captured.document[at]))

    def _is_predicted(self, group: Group) -> Bool[np.ndarray, " n_bytes"]:
        """Return at which bytes of a group a token begins: there a prediction was made."""
        is_own = np.zeros(self.captured.n_bytes, dtype=bool)
        is_own[group.at] = True
        return is_own & self.captured.is_token_start

    def _row(self, arm: AblationArm, group: Group, metric: str) -> dict[str, Any]:
        where = {"language": group.language, "byte_class": group.byte_class, "metric": metric}
        return arm.row() | where | {"n_documents": group.units.n_documents}


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


def _worst(change: Float[np.ndarray, " characters"]) -> list[int]:
    """Return the characters that lose most, the worst first, whose contexts do not overlap."""
    found: list[int] = []
    for at in np.argsort(-change, kind="stable").tolist():
        if not change[at] > 0 or len(found) == N_EXAMPLES:
            break
        if all(abs(at - other) > 2 * CONTEXT for other in found):
            found.append(at)
    return found


def _split_terms(arms: Sequence[AblationArm]) -> list[tuple[str, AblationArm, AblationArm | None]]:
    """Return the differences of arms that make the split, where all three of them were run everywhere."""
    by_layers: dict[tuple[Any, ...], dict[str, AblationArm]] = {}
    for arm in arms:
        if arm.intervention in SPLIT and not arm.where and arm.design in ("single", "all"):
            by_layers.setdefault((arm.design, arm.layers, arm.head), {})[arm.intervention] = arm
    return [
        (name, terms[upper], None if lower is None else terms[lower])
        for terms in by_layers.values()
        if len(terms) == len(SPLIT)
        for name, (upper, lower) in SPLIT_TERMS.items()
    ]


def _beside_random(arms: Sequence[AblationArm]) -> list[tuple[str, AblationArm, AblationArm]]:
    """Return each arm at a place with the one at as many random gaps."""
    keys = {(arm.intervention, arm.design, arm.where): arm for arm in arms if arm.design == "all"}
    return [
        (BEYOND_RANDOM, keys[name, design, where.removeprefix(RANDOM)], arm)
        for (name, design, where), arm in keys.items()
        if where.startswith(RANDOM)
    ]
