"""Which spans are probed: those of a family, not too many and of no class too rare to score, or one's own.

Spans of one's own come with their text, which is split by document and checked against what the model was
trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document, Reading, assert_held_out
from lrope_interp.data.documents import hash_splits
from lrope_interp.data.spans.files import edge_warnings, read_spans_file
from lrope_interp.data.spans.typed import OTHER, Spans
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.selection import HELD_OUT, Selection, training_text
from lrope_interp.probes.statistics.logistic import Task, type_folds

LEAST_OF_A_CONCEPT = 20
LEAST_TEXTS = 20
_NAMED = 3
SpansOf = Callable[[Sequence[Document]], Spans]


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

    def frequent_of(spans: Spans, advice: str) -> tuple[Spans, tuple[str, ...]]:
        is_test = is_test_document[spans.document]
        kept, rare = _frequent(spans, is_test)
        if len(kept.concepts) < 2:
            raise LRopeError(
                f"{family}: probes need two kinds of span with at least {LEAST_OF_A_CONCEPT} in the train "
                f"and in the test documents, and found {_counts(spans, is_test)}; {advice}"
            )
        return kept, rare

    frequent, rare = frequent_of(spans, "give more text (max_bytes) or other concepts")
    drawn = frequent.take(_drawn(frequent, is_test_document[frequent.document], most, seed))
    kept, rare_now = frequent_of(drawn, f"raise max_spans (now {most:,})")
    n_left_out = len(frequent) - len(kept)
    is_test = is_test_document[kept.document]
    return SpanSample(family, documents, kept, is_test, rare=(*rare, *rare_now), n_left_out=n_left_out)


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
        own = own[~np.isin(own, others[len(own) - len(others) :])]  # as many as of all concepts together
        share = is_own.mean() if len(is_own) else 0.0
        kept.append(own[: max(1, round(most * share))])
    return np.sort(np.concatenate(kept))


def _counts(spans: Spans, is_test: Bool[np.ndarray, " n"]) -> str:
    n_concepts = len(spans.concepts)
    train, test = (np.bincount(spans.concept[rows], minlength=n_concepts) for rows in (~is_test, is_test))
    columns = zip(spans.concepts, train.tolist(), test.tolist(), strict=True)
    return "; ".join(f"{name} {n_train} and {n_test}" for name, n_train, n_test in columns) or "none"


@dataclass(frozen=True)
class GivenSpans:
    """Spans that are looked up by the text of their document, in whatever order documents come."""

    documents: tuple[Document, ...]
    spans: Spans

    def __call__(self, documents: Sequence[Document]) -> Spans:
        """Return the spans of these documents, numbered as they are."""
        place = {document.sha256: number for number, document in enumerate(documents)}
        number = np.array([place.get(one.sha256, -1) for one in self.documents], dtype=np.int64)
        kept = self.spans.take(number[self.spans.document] >= 0)
        moved = replace(kept, document=number[kept.document])
        return moved.take(np.lexsort((moved.concept, moved.end, moved.start, moved.document)))


def select_spans(
    manifest: Mapping[str, Any], path: Path | str, *, max_bytes: int | None = None
) -> tuple[Selection, GivenSpans]:
    """Select the texts of a file of spans; they are split 40/20/40 by hash, each whole.

    Args:
        manifest: The run's `data.json`.
        path: JSON lines; see `data.span_files`.
        max_bytes: The most bytes of each split; None reads all of them.

    Raises:
        LRopeError: The file is wrong, has fewer than 20 texts, was trained on, or the model is despaced.
    """
    if Reading.of(manifest).despaced:
        raise LRopeError(
            "a file of spans counts characters of text with its white space, and this model reads none"
        )
    documents, spans = read_spans_file(path)
    name = f"spans:{Path(path).name}"
    misplaced = edge_warnings(documents, spans)
    if len(documents) < LEAST_TEXTS:
        raise LRopeError(
            f"{path} has {len(documents)} different texts; probes are fitted on some and scored on others, "
            f"which needs {LEAST_TEXTS} at least: give one line a document"
            + "".join(f". Besides, {one}" for one in misplaced)
        )
    assert_held_out(manifest, documents)
    split_of = hash_splits((one.sha256 for one in documents), 1.0)
    parts = {split: [one for one in documents if split_of[one.sha256] == split] for split in HELD_OUT}
    kept = {split: _limited(own, max_bytes) for split, own in parts.items()}
    training, warnings = training_text(manifest)
    is_kept = {one.sha256 for own in kept.values() for one in own}
    left_out = [one for one in documents if one.sha256 not in is_kept]
    if left_out:
        too_long = [one for one in left_out if one.n_bytes > (max_bytes or 0)]
        names = ", ".join(f"{one.name} ({one.n_bytes:,} bytes)" for one in too_long[:_NAMED])
        warnings.append(
            f"left out by max_bytes {max_bytes}, the most of each split: {len(left_out)} of "
            f"{len(documents)} texts"
            + (f"; too long by themselves: {len(too_long)}, {names}" if too_long else "")
            + (" ..." if len(too_long) > _NAMED else "")
        )
    selection = Selection.of(name, kept, training=training, warnings=[*misplaced, *warnings])
    return selection, GivenSpans(documents, spans)


def _limited(documents: Sequence[Document], max_bytes: int | None) -> list[Document]:
    """Take documents in the order of their hashes as far as they fit into `max_bytes`; one at least.

    One that does not fit is left out, and does not end the sample.
    """
    ordered = sorted(documents, key=lambda one: one.sha256)
    taken: list[Document] = []
    n_bytes = 0
    for document in ordered:
        if max_bytes is None or n_bytes + document.n_bytes <= max_bytes:
            n_bytes += document.n_bytes
            taken.append(document)
    return taken or sorted(ordered, key=lambda one: one.n_bytes)[:1]
