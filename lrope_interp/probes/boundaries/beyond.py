"""Beyond surprisal, for every layer, label and signal of the user's (EVALUATION 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, Num

from lrope_interp.data import byte_class
from lrope_interp.probes.boundaries.choice import AlignedColumn
from lrope_interp.probes.boundaries.harness import FALLBACK_STRATUM, Scorer
from lrope_interp.probes.boundaries.label_odds import LabelOdds, cross_fitted
from lrope_interp.probes.boundaries.leaderboard import Material
from lrope_interp.probes.capture.capture import Captured, Progress
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.capture.signals import Column, user_signals
from lrope_interp.probes.statistics.beyond import BEYOND_COLUMNS, BeyondTest, Covariates, Sample
from lrope_interp.probes.statistics.bootstrap import Bootstrap

BEYOND_TABLE = ("signal", "layer", "head", "label", "stratum", "align", *BEYOND_COLUMNS)
STRATA = (FALLBACK_STRATUM, "han")
_ALIGNMENTS = ("lead", "last")


@dataclass(frozen=True)
class BeyondRows:
    """Makes the rows of `beyond.csv`.

    Attributes:
        material: What was captured.
        gaps: Of "fit" and "test".
        selection: For the training text.
        scorer: For what dev chose.
        bootstrap: The resamples.
    """

    material: Material
    gaps: Mapping[str, Gaps]
    selection: Selection
    scorer: Scorer
    bootstrap: Bootstrap
    _odds: dict[str, tuple[dict[str, np.ndarray], bool]] = field(default_factory=dict, repr=False)

    def rows(self, on_progress: Progress | None = None) -> list[dict[str, Any]]:
        """Test every layer (and every signal of the user's) for every label that both splits know."""
        rows: list[dict[str, Any]] = []
        tested = [one for one in self.material.columns if _is_tested(one)]
        cells = self._cells()
        for done, (label, fit, test) in enumerate(cells, start=1):
            tests: dict[str, BeyondTest] = {}
            for column in tested:
                align, sign = self._choice(column, test, label)
                if align not in tests:
                    tests[align] = self._test(label, fit, test, align)
                on_fit, on_test = (
                    self.gaps[split].characters.align(column.values[split], one.gaps, align)
                    for split, one in (("fit", fit), ("test", test))
                )
                where = {"signal": column.signal.name, "layer": column.layer, "head": column.head}
                where |= {"label": label, "stratum": test.stratum, "align": align}
                rows += [where | row for row in tests[align].of_signal(on_fit, on_test, sign)]
            if on_progress is not None:
                on_progress("beyond surprisal", done, len(cells))
        return rows

    def _cells(self) -> list[tuple[str, Field, Field]]:
        """Return each label with its fields of fit and test, where both have both kinds of gap."""
        fields = [
            {(one.stratum, label): one for one in self.gaps[split].fields() for label in one.labels}
            for split in ("fit", "test")
        ]
        fields[1] = {(one.stratum, label): one for one in self.scorer.test_fields for label in one.labels}
        return [
            (label, fields[0][stratum, label], fields[1][stratum, label])
            for label in self.gaps["test"].labels
            for stratum in STRATA
            if (stratum, label) in fields[0]
            and (stratum, label) in fields[1]
            and all(
                0 < one[stratum, label].labels[label].sum() < len(one[stratum, label].gaps) for one in fields
            )
        ]

    def _choice(self, column: Column, one: Field, label: str) -> tuple[str, int]:
        """Return the alignment and sign that dev chooses, of the two that are one state of the model.

        A sum over bytes is left out: no covariate of one byte holds a function of a sum fixed.
        """
        on_dev = AlignedColumn(self.scorer.dev, column.values["dev"])
        choice = self.scorer.choose(column, on_dev, one, label, _ALIGNMENTS)
        return choice.align, choice.sign

    def _test(self, label: str, fit: Field, test: Field, align: str) -> BeyondTest:
        odds = self._log_odds(label, fit, test)
        has_wide = any(len(one.alignments) > 1 for one in (fit, test))
        samples = {}
        for split, one in (("fit", fit), ("test", test)):
            held = replace(self._covariates(split, one, align, has_wide), log_odds=odds.get(split))
            samples[split] = Sample(held, one.labels[label], self._document(split, one))
        return BeyondTest(**samples, units=test.units, bootstrap=self.bootstrap, seed=self.bootstrap.seed)

    def _document(self, split: str, one: Field) -> Int64[np.ndarray, " n"]:
        return self.gaps[split].document[one.gaps]

    def _covariates(self, split: str, one: Field, align: str, has_wide: bool) -> Covariates:
        """Hold fixed what the model's predictions and the bytes say at the byte that is read.

        Read at a last byte, the entropy before the character and the surprisal of all of it are
        held fixed besides, since the state there has seen them. `has_wide`: whether any character
        of fit or test has several bytes.
        """
        gaps = self.gaps[split]

        def at(values: Num[np.ndarray, " n_bytes"], how: str = align) -> Float[np.ndarray, " n"]:
            return gaps.characters.align(values, one.gaps, how).astype(np.float64)

        numbers = self._numbers(split)
        more = {}
        if has_wide:
            more["surprisal_sum"] = at(numbers["surprisal"], "sum")
        if has_wide and align == "last":
            more |= {f"{name}_lead": at(numbers[name], "lead") for name in ("entropy", "rise")}
        return Covariates(
            byte_class=gaps.characters.align(numbers["byte_class"], one.gaps, "lead"),
            **{name: at(numbers[name]) for name in ("entropy", "rise", "surprisal", "log_bigram")},
            more=more,
        )

    def _numbers(self, split: str) -> dict[str, Num[np.ndarray, " n_bytes"]]:
        return self._all_numbers[split]

    @cached_property
    def _all_numbers(self) -> dict[str, dict[str, Num[np.ndarray, " n_bytes"]]]:
        return {split: self._of_split(self.material.captured[split]) for split in ("fit", "test")}

    def _of_split(self, captured: Captured) -> dict[str, Num[np.ndarray, " n_bytes"]]:
        kinds = [byte_class(document.text) for document in captured.documents]
        tables = self.material.tables
        flat = np.zeros(captured.n_bytes)
        before = np.concatenate([captured.entropy[:1], captured.entropy[:-1]])
        return {
            "byte_class": np.concatenate(kinds).astype(np.int64),
            "entropy": captured.entropy,
            "rise": np.where(captured.t == 0, 0.0, captured.entropy - before),
            "surprisal": captured.surprisal,
            "log_bigram": flat if tables is None else tables.log_bigram(captured.documents),
        }

    def _log_odds(self, label: str, fit: Field, test: Field) -> dict[str, Float[np.ndarray, "n 2"]]:
        """Return log-odds by character, from training text where it knows the label, else from fit.

        Those of the fit documents are then made for each from the others.
        """
        if label not in self._odds:
            known = LabelOdds.of(self.selection.training, label) if self.selection.training else None
            own = LabelOdds.of(self.gaps["fit"].documents, label) if known is None else known
            documents = {split: self.gaps[split].documents for split in ("fit", "test")}
            found = {} if own is None else {s: own.of_documents(one) for s, one in documents.items()}
            self._odds[label] = found, known is not None
        by_split, is_from_training = self._odds[label]
        odds = {split: by_split[split][one.gaps] for split, one in (("fit", fit), ("test", test)) if by_split}
        if odds and not is_from_training:
            gaps = self.gaps["fit"]
            odds["fit"] = cross_fitted(gaps.documents, gaps.labels[label].is_boundary[fit.gaps], fit.gaps)
        return odds


def _is_tested(column: Column) -> bool:
    return column.signal.kind == "layer" or column.signal.name in user_signals()
