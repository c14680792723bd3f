"""The user's own spans as a selection: split by document, checked against what the model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lrope_interp.data import Document, Reading, assert_held_out
from lrope_interp.data.spans.files import edge_warnings, read_spans_file
from lrope_interp.data.spans.typed import Spans
from lrope_interp.data.splits import hash_splits
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.selection import HELD_OUT, Selection, training_text

LEAST_TEXTS = 20
_NAMED = 3
SpansOf = Callable[[Sequence[Document]], Spans]


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
        raise LRopeError("--spans counts characters of text with its white space, and this model reads none")
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
            f"left out by --max-bytes {max_bytes}, the most of each split: {len(left_out)} of "
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
