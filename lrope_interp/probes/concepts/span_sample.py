"""Which spans of a family are probed: not too many, and of no class that is too rare to score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import OTHER, Spans
from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.logistic import Task, type_folds

LEAST_OF_A_CONCEPT = 20


@dataclass(frozen=True)
class SpanSample:
    """The spans of one family that are probed, of fit, dev and test documents together.

    Attributes:
        family: Its name.
        documents: All documents; the spans' numbers are theirs.
        spans: The spans; `concepts` are those that are frequent enough.
        is_test: Which of them are scored.
        asked: The concepts that are shown; none for all.
        rare: Concepts that are left out, or counted as "other", because too few spans are in train or test.
        n_left_out: Spans that were left out because there are more than asked for.
    """

    family: str
    documents: tuple[Document, ...]
    spans: Spans
    is_test: Bool[np.ndarray, " n"]
    asked: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    n_left_out: int = 0

    @cached_property
    def types(self) -> Int64[np.ndarray, " n"]:
        """The lexical type of each span, as a number."""
        return self._lexical[0]

    @cached_property
    def texts(self) -> list[str]:
        """The text of each span."""
        return self.spans.texts(self.documents)

    @cached_property
    def task(self) -> Task:
        """What probes are to tell apart."""
        number, types = self._lexical
        return Task(
            y=self.spans.concept,
            n_classes=len(self.spans.concepts),
            document=self.spans.document,
            is_test=self.is_test,
            fold=type_folds(types)[number],
        )

    @property
    def shown(self) -> list[str]:
        """The concepts that are scored: those asked for, and never "other"."""
        is_asked = self.asked or self.spans.concepts
        return [name for name in self.spans.concepts if name != OTHER and name in is_asked]

    @cached_property
    def _lexical(self) -> tuple[Int64[np.ndarray, " n"], list[str]]:
        return self.spans.lexical_types(self.documents)


def sample_spans(
    family: str,
    documents: tuple[Document, ...],
    spans: Spans,
    is_test_document: Bool[np.ndarray, " documents"],
    most: int,
    seed: int = 0,
) -> SpanSample:
    """Draw the spans that are probed.

    No more "other" spans are taken than of all concepts together, and at most `most` in all, drawn at
    random in equal shares of train and test. A concept with fewer than 20 spans in train or test counts
    as "other" where the family has that, and is left out elsewhere; so does one of which the draw leaves
    fewer.

    Args:
        family: Its name, for messages.
        documents: What the spans are of.
        spans: All spans that may be probed.
        is_test_document: Which documents are scored.
        most: The most spans.
        seed: Of the draws.

    Raises:
        LRopeError: Fewer than two classes have 20 spans in train and in test.
    """
    frequent, rare = _frequent(spans, is_test_document[spans.document])
    _check_classes(
        family, frequent, spans, is_test_document, "give more text (--max-bytes) or other concepts"
    )
    drawn = frequent.take(_drawn(frequent, is_test_document[frequent.document], most, seed))
    kept, rare_now = _frequent(drawn, is_test_document[drawn.document])
    _check_classes(family, kept, drawn, is_test_document, f"raise --max-spans (now {most:,})")
    n_left_out = len(frequent) - len(kept)
    is_test = is_test_document[kept.document]
    return SpanSample(family, documents, kept, is_test, rare=(*rare, *rare_now), n_left_out=n_left_out)


def _check_classes(
    family: str, kept: Spans, found: Spans, is_test_document: Bool[np.ndarray, " documents"], advice: str
) -> None:
    if len(kept.concepts) < 2:
        raise LRopeError(
            f"{family}: probes need two kinds of span with at least {LEAST_OF_A_CONCEPT} in the train and in "
            f"the test documents, and found {_counts(found, is_test_document[found.document])}; {advice}"
        )


def _frequent(spans: Spans, is_test: Bool[np.ndarray, " n"]) -> tuple[Spans, tuple[str, ...]]:
    """Leave out concepts that are too rare, or count them as "other"."""
    n_concepts = len(spans.concepts)
    counts = np.stack(
        [np.bincount(spans.concept[rows], minlength=n_concepts) for rows in (is_test, ~is_test)]
    )
    is_rare = counts.min(axis=0) < LEAST_OF_A_CONCEPT
    names = [name for name, rare in zip(spans.concepts, is_rare, strict=True) if not rare]
    rare = tuple(name for name in spans.concepts if name not in (*names, OTHER))
    new = {name: at for at, name in enumerate(names)}
    number = np.array([new.get(name, new.get(OTHER, -1)) for name in spans.concepts], dtype=np.int64)
    concept = number[spans.concept]
    return replace(spans.take(concept >= 0), concept=concept[concept >= 0], concepts=tuple(names)), rare


def _drawn(spans: Spans, is_test: Bool[np.ndarray, " n"], most: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Return the rows that are kept, rising."""
    rng = np.random.default_rng([seed, len(spans)])
    order = rng.permutation(len(spans))
    is_other = spans.concept == (spans.concepts.index(OTHER) if OTHER in spans.concepts else -1)
    kept = []
    for is_own in (is_test, ~is_test):
        own = order[is_own[order]]
        others = own[is_other[own]]
        n_concepts = len(own) - len(others)
        left_out = set(others[n_concepts:].tolist())
        own = np.array([row for row in own.tolist() if row not in left_out], dtype=np.int64)
        share = is_own.mean() if len(is_own) else 0.0
        kept.append(own[: max(1, round(most * share))])
    return np.sort(np.concatenate(kept))


def _counts(spans: Spans, is_test: Bool[np.ndarray, " n"]) -> str:
    n_concepts = len(spans.concepts)
    train, test = (np.bincount(spans.concept[rows], minlength=n_concepts) for rows in (~is_test, is_test))
    columns = zip(spans.concepts, train.tolist(), test.tolist(), strict=True)
    return "; ".join(f"{name} {n_train} and {n_test}" for name, n_train, n_test in columns) or "none"
