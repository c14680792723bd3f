"""A text that the user brings to be measured (``--text FILE``): its paragraphs are the units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lrope_interp.data.columns import hashes_of, where
from lrope_interp.data.despacing import despaced
from lrope_interp.data.documents import Document, unique_documents
from lrope_interp.data.reading import Reading
from lrope_interp.data.sources.files import is_large, text_runs
from lrope_interp.data.sources.paragraphs import paragraphs
from lrope_interp.data.sources.plain_text import language_of, read_text
from lrope_interp.data.splits import hash_splits

LEAST_UNITS_TO_SPLIT = 60


def text_documents(
    path: Path | str, *, encoding_errors: str = "strict", is_despaced: bool = False
) -> Sequence[Document]:
    """Return one document a paragraph between blank lines of a UTF-8 text file, in reading order.

    A text above 8 MB is cut into runs of paragraphs of at least 2,000 bytes instead, each different one
    once, as for training: they lie in the cache and are read one at a time.

    Args:
        path: The file.
        encoding_errors: "strict" refuses bytes that are not UTF-8, "replace" puts U+FFFD there.
        is_despaced: Remove the white space of each, as a model that was trained without wants it.

    Raises:
        LRopeError: The file is missing, empty, binary, or not UTF-8.
    """
    path = Path(path).expanduser()
    if is_large(path):
        return text_runs(path, Reading(encoding_errors, despaced=is_despaced))
    text = read_text(path, encoding_errors)
    language = language_of(text, path.suffix)
    raw = text.encode("utf-8")
    units = ((start, raw[start:stop].decode("utf-8")) for start, stop in paragraphs(raw))
    documents = (
        Document(
            f"{path.name}#{number}",
            unit,
            "text",
            language,
            whole=(text, len(raw[:start].decode("utf-8"))) if language == "code" else None,
        )
        for number, (start, unit) in enumerate((unit for unit in units if unit[1].strip()), start=1)
    )
    return tuple(filter(_has_text, map(despaced, documents)) if is_despaced else documents)


def _has_text(document: Document) -> bool:
    """Return whether anything is left of a document."""
    return bool(document.text)


def text_splits(documents: Sequence[Document]) -> dict[str, Sequence[Document]]:
    """Split the units of a text 40/20/40 by hash if it has 60 different ones, else test on all.

    Returns:
        Either "fit", "dev" and "test", or "test" alone, each different unit once: then sign,
        threshold and tables have to come from the model's own corpus. Order within a split is that
        of the text.
    """
    hashes = hashes_of(documents)
    splits = hash_splits(hashes, 1.0)
    if len(splits) < LEAST_UNITS_TO_SPLIT:
        return {"test": unique_documents(documents)[0]}
    return {
        split: where(documents, [splits[sha256] == split for sha256 in hashes])
        for split in ("fit", "dev", "test")
    }
