"""Annotating those of some documents that can be, and saying what is missing where none can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lrope_interp.data.documents import Document
from lrope_interp.data.spans.typed import Row, Spans
from lrope_interp.errors import LRopeError


def annotated(
    documents: Sequence[Document],
    rows_of: Callable[[Document], Sequence[tuple[int, int, str]]],
    can_tell: Callable[[Document], bool],
    concepts: Sequence[str],
    wanted: str,
) -> Spans:
    """Return the spans of all documents that can tell; code that does not parse is left out.

    Args:
        documents: Any documents; `Spans.document` counts all of them.
        rows_of: Returns (start, end, concept) of one document.
        can_tell: Whether a document is of the kind that `rows_of` reads.
        concepts: Their names, in order.
        wanted: What it is and what it needs, as a message begins ("titles need ...").

    Raises:
        LRopeError: No span was found.
    """
    failed: dict[str, Any] = {}

    def rows() -> Iterator[Row]:
        for number, document in enumerate(documents):
            if can_tell(document):
                try:
                    found = rows_of(document)
                except LRopeError as error:
                    failed.setdefault(str(error), document.name)
                    continue
                for start, end, concept in found:
                    yield number, start, end, concept

    spans = Spans.of(rows(), concepts)
    if len(spans) == 0:
        why = "".join(f"; {name}: {error}" for error, name in failed.items())
        raise LRopeError(f"{wanted}, and none of the {len(documents)} documents has any{why}")
    return spans
