"""Hashes, sizes and languages of documents, without reading the text of those that lie on disk."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int64

if TYPE_CHECKING:
    from lrope_interp.data.documents import Document

    _Documents = Sequence[Document]
else:
    _Documents = Sequence


class IndexedDocuments(_Documents):
    """Documents that are read one at a time, and of which an index knows what splitting needs."""

    @property
    @abstractmethod
    def hashes(self) -> list[str]:
        """Hexadecimal sha256 of every document, in order."""

    @property
    @abstractmethod
    def sizes(self) -> Int64[np.ndarray, " n_documents"]:
        """UTF-8 bytes of every document, in order."""

    @property
    @abstractmethod
    def languages(self) -> list[str]:
        """Language of every document, in order."""

    @abstractmethod
    def take(self, rows: Int64[np.ndarray, " n_taken"]) -> IndexedDocuments:
        """Return the documents at these places, in the order asked for."""


def hashes_of(documents: Iterable[Document]) -> list[str]:
    """Return the sha256 of every document."""
    if isinstance(documents, IndexedDocuments):
        return documents.hashes
    return [document.sha256 for document in documents]


def sizes_of(documents: Iterable[Document]) -> list[int]:
    """Return the UTF-8 bytes of every document."""
    if isinstance(documents, IndexedDocuments):
        return documents.sizes.tolist()
    return [document.n_bytes for document in documents]


def languages_of(documents: Iterable[Document]) -> list[str]:
    """Return the language of every document."""
    if isinstance(documents, IndexedDocuments):
        return documents.languages
    return [document.language for document in documents]


def where(documents: Sequence[Document], is_taken: Sequence[bool]) -> Sequence[Document]:
    """Return the documents that a mask takes, in their order."""
    if isinstance(documents, IndexedDocuments):
        mask: Bool[np.ndarray, " n_documents"] = np.fromiter(is_taken, dtype=bool, count=len(documents))
        return documents.take(np.flatnonzero(mask))
    return tuple(document for document, is_in in zip(documents, is_taken, strict=True) if is_in)


def in_hash_order(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents in the order of their sha256, those on disk one at a time."""
    if isinstance(documents, IndexedDocuments):
        hashes = documents.hashes
        rows = np.array(sorted(range(len(hashes)), key=hashes.__getitem__), dtype=np.int64)
        yield from documents.take(rows)
    else:
        yield from sorted(documents, key=lambda document: document.sha256)
