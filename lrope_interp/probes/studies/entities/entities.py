"""Are increments inside names of another size? The published test, and stricter ones (EVALUATION 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool

from lrope_interp.data import Document
from lrope_interp.data.held_out import sample_documents
from lrope_interp.data.spans.entity_pairs import PAIRS, EntityPair, n_first_words
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.probes.capture.capture import BATCH_SIZE, Progress, staged
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics, fit_increments
from lrope_interp.probes.capture.selection import Selection
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.studies.entities.chinese import chinese_rows, match_words, wanted_strings
from lrope_interp.probes.studies.entities.counts import ENGLISH, TextCounts
from lrope_interp.probes.studies.entities.english import WordPairs, match_pairs, matched_rows, regression_rows
from lrope_interp.probes.studies.entities.regression import statsmodels_regression
from lrope_interp.probes.studies.entities.reversed import Reversed, reversed_rows
from lrope_interp.probes.studies.entities.signals import EntitySignal, read_short, read_signals
from lrope_interp.probes.studies.entities.tables import COMMON, coverage, frames, headline, warnings
from lrope_interp.probes.studies.entities.units import EntityUnits, chinese_words, word_pairs
from lrope_interp.probes.studies.entities.verdicts import Row
from lrope_interp.results import Result, provenance

_FIT_BYTES = 100_000


@dataclass
class _Study:
    """What every test reads, and the rows so far."""

    model: LRopeTransformer
    selection: Selection
    pairs: Sequence[EntityPair]
    bootstrap: Bootstrap
    batch_size: int
    on_progress: Progress | None
    fit: tuple[Document, ...]
    fitted: IncrementStatistics
    captured: Captured
    signals: list[EntitySignal]
    tables: dict[str, list[Row]] = field(default_factory=dict)

    @property
    def is_scored(self) -> Bool[np.ndarray, " n_bytes"]:
        return ~np.concatenate([np.zeros(0, dtype=bool), *self.selection.shared["test"]])

    @property
    def training(self) -> Sequence[Document]:
        """What frequencies are counted in."""
        return self.selection.training or (*self.selection.fit, *self.selection.dev)

    def english(self, units: EntityUnits) -> None:
        """Make the three English tests."""
        counts = TextCounts.of_words(self.training)
        pairs = WordPairs(units, self.captured, counts)
        self.tables["regression"] = regression_rows(pairs, self.signals)
        matches, self.tables["balance"] = match_pairs(pairs)
        self.tables["matched"] = matched_rows(pairs, self.signals, matches, self.bootstrap)
        with_whom = {units.texts[a]: units.texts[b] for a, b in zip(matches.name, matches.other, strict=True)}
        self.tables["pairs"] = coverage(self.pairs, counts.pairs, units, with_whom)
        known = tuple(pair for pair in self.pairs if counts.pairs[pair.text] >= COMMON) or tuple(self.pairs)
        texts = Reversed.of(known)
        captured, signals = read_short(
            self.model, texts.documents, self.fitted, self.fit,
            batch_size=self.batch_size, on_progress=self.on_progress,
        )  # fmt: skip
        self.tables["reversed"] = reversed_rows(texts, captured, signals, known, counts.pairs, self.bootstrap)

    def chinese(self, units: EntityUnits) -> None:
        """Make the Chinese test."""
        counts = TextCounts.of_strings(self.training, wanted_strings(units))
        matches, rows = match_words(units, self.captured, counts)
        self.tables["balance"] = [*self.tables.get("balance", []), *rows]
        self.tables["chinese"] = chinese_rows(units, self.captured, self.signals, matches, self.bootstrap)


def entities(
    model: LRopeTransformer,
    selection: Selection,
    pairs: Sequence[EntityPair] = PAIRS,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Test whether increments inside names differ from those inside other stretches of text.

    An increment at the space of `New York` has not seen `York`: what it can show there is that the model
    expects one. No test here shows that the model knows what a name is.

    Args:
        model: A model that learned its increments.
        selection: Means come from `fit`, frequencies from `training`, everything else from `test`.
        pairs: English names. Those under 5 times in training text are left out of the reversed-order test.
        seed: Of the resamples; the random controls have seeds 0, 1 and 2 always.
        batch_size: Windows at a time; it changes no number beyond rounding.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "entities" with the tables `reversed`, `regression`, `matched`, `balance`, `chinese`
        and `pairs`; those of a language that the text does not have are empty.

    Raises:
        LRopeError: A model whose increments are fixed, a text that is neither English nor tagged Chinese, or
            statsmodels is missing.
    """
    if model.cfg.increments == "fixed":
        raise LRopeError(
            f"this model has no increments that it learned ({increments_name(model)}), so names cannot "
            "differ from anything by its doing; give a run trained with --increments per-layer or shared"
        )
    statsmodels_regression()
    _check_text(selection)
    fit = sample_documents(selection.fit, _FIT_BYTES)
    fitted = fit_increments(model, fit, batch_size=batch_size, on_progress=staged(on_progress, "fit"))
    captured, signals = read_signals(
        model, selection.test, fitted, fit, predictions=True, batch_size=batch_size, on_progress=on_progress
    )
    study = _Study(
        model, selection, pairs, Bootstrap(seed), batch_size, on_progress, fit, fitted, captured, signals
    )
    english = word_pairs(captured, study.is_scored, {pair.text for pair in pairs})
    chinese = chinese_words(captured, study.is_scored)
    if len(english):
        study.english(english)
    if len(chinese):
        study.chinese(chinese)
    tables = frames(study.tables)
    return Result(
        kind="entities",
        provenance=_provenance(study, seed),
        headline=headline(tables, n_first_words(pairs) if len(english) else 0),
        tables=tables,
        warnings=tuple([*selection.warnings, *warnings(tables, selection)]),
    )


def _check_text(selection: Selection) -> None:
    """Refuse a text in which no test can be made, before the model reads it."""
    has_english = any(one.language in ENGLISH and " " in one.text for one in selection.test)
    has_names = any(one.language == "zh" and one.words and one.tags for one in selection.test)
    if not (has_english or has_names):
        found = ", ".join(sorted({one.language for one in selection.test})) or "none"
        raise LRopeError(
            "entities needs English text with spaces, or Chinese text whose words have tags (People's "
            f"Daily); this text has neither (languages: {found}). Give a run trained on such text, or "
            "another --data"
        )


def _provenance(study: _Study, seed: int) -> dict[str, Any]:
    data = dict(study.selection.data)
    known = provenance(config=study.model.cfg.to_dict(), data=data, seed=seed)
    return known | {"fit": {"n_bytes": study.fitted.n_bytes, "n_documents": study.fitted.n_documents}}
