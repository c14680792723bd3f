"""Documents in the cache: a file of text and one of its index, both mapped into memory and read as needed.

The text of all documents lies in `text.bin`, in reading order; a row of `index.bin` says where one begins and
ends, its sha256, which file and row it came from, and its language: some 70 bytes a document, whatever its
length. De-spaced documents lie there with their white space, which says where their words are, and lose it
when they are read; sha256 and size are of what is read.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lrope_interp.data.cache import cached, cached_entries
from lrope_interp.data.documents import SPLITS, Document, IndexedDocuments, hashes_of, require_documents
from lrope_interp.data.labels.words import despaced, without_space
from lrope_interp.errors import LRopeError

TEXTS = "texts"
_TEXT_FILE = "text.bin"
_INDEX_FILE = "index.bin"
_ROW = np.dtype(
    [
        ("sha256", "V32"),
        ("start", "<i8"),
        ("stop", "<i8"),
        ("n_bytes", "<i8"),  # of what is read: less than stop - start where white space is removed
        ("number", "<i8"),
        ("file", "<i4"),
        ("language", "S4"),
    ]
)


class Piece(NamedTuple):
    """One document as a source gives it.

    `file` is what it came from, `number` counts within it from 1; 0 where the file is the document.
    """

    file: str
    number: int
    raw: bytes
    language: str


def store_documents(
    corpus: str,
    identity: Mapping[str, Any],
    read: Callable[[], Iterable[Piece]],
    *,
    name: str,
    max_bytes: int = 0,
    least: int = len(SPLITS),
    is_despaced: bool = False,
) -> IndexedDocuments:
    """Return documents from the cache, read from their source if they are not there yet.

    Args:
        corpus: Name of the part that they belong to.
        identity: What decides their text: the source and its state, and every option of reading.
        read: Yields the documents; exact duplicates are dropped here.
        name: What to call the source in messages.
        max_bytes: Stop before the text exceeds this, white space included; 0 reads all of it.
        least: Fewer documents are refused.
        is_despaced: Whether the documents lose their white space; those that are nothing else are
            left out.
    """

    def build(folder: Path) -> Mapping[str, Any]:
        files: dict[str, int] = {}
        seen: set[bytes] = set()
        n_duplicates = end = 0
        with (folder / _TEXT_FILE).open("wb") as text, (folder / _INDEX_FILE).open("wb") as index:
            for piece in read():
                raw = piece.raw
                if is_despaced:
                    raw = without_space(raw.decode("utf-8")).encode("utf-8")
                    if not raw:
                        continue
                digest = hashlib.sha256(raw).digest()
                if digest in seen:
                    n_duplicates += 1
                    continue
                start, stop = end, end + len(piece.raw)
                if max_bytes and stop > max_bytes:
                    break
                file = files.setdefault(piece.file, len(files))
                row = (digest, start, stop, len(raw), piece.number, file, piece.language.encode())
                index.write(np.array(row, dtype=_ROW).tobytes())
                text.write(piece.raw)
                seen.add(digest)
                end = stop
        if len(seen) < least:
            require_documents(len(seen), name)
        return {"from": list(files), "n_duplicates": n_duplicates, "n_documents": len(seen)}

    despacing = {"despaced": True} if is_despaced else {}
    return _opened(corpus, *cached(TEXTS, {**identity, **despacing, "max_bytes": max_bytes}, build))


def reopened(corpus: str, identity: Mapping[str, Any]) -> IndexedDocuments:
    """Return documents that are in the cache already, given the whole identity of their entry."""

    def build(folder: Path) -> Mapping[str, Any]:
        raise LRopeError(f"{folder.parent} held a damaged copy of the text, and its source is out of reach")

    return _opened(corpus, *cached(TEXTS, identity, build))


def kept_documents(corpus: str, hashes: Set[str], *, is_despaced: bool) -> IndexedDocuments | None:
    """Return the documents of the cache that are exactly these, wherever they were read; None if none are.

    Args:
        corpus: Name of the part that they belong to.
        hashes: The sha256 of every document.
        is_despaced: Whether they were hashed without their white space.
    """
    for folder, entry in cached_entries(TEXTS):
        identity = entry.get("identity", {})
        if entry.get("n_documents") != len(hashes) or bool(identity.get("despaced")) != is_despaced:
            continue
        with suppress(LRopeError, OSError, ValueError, KeyError):  # whatever a damaged entry makes of it
            if set(hashes_of(_opened(corpus, folder, entry))) == hashes:
                return reopened(corpus, identity)
    return None


def _opened(corpus: str, folder: Path, entry: Mapping[str, Any]) -> IndexedDocuments:
    """Map an entry of the cache."""
    # A plain array on the map: slicing a memmap itself is ten times slower.
    index = np.memmap(folder / _INDEX_FILE, dtype=_ROW, mode="r").view(np.ndarray)
    with (folder / _TEXT_FILE).open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    files, is_despaced = entry["from"], bool(entry["identity"].get("despaced"))

    def read(row: Any) -> Document:
        name, number = files[row["file"]], int(row["number"])
        document = Document(
            f"{name}#{number}" if number else name,
            text[row["start"] : row["stop"]].decode("utf-8"),
            corpus,
            row["language"].decode(),
        )
        document = despaced(document) if is_despaced else document
        # Both are known; the cached properties would hash the text again.
        document.__dict__.update(n_bytes=int(row["n_bytes"]), sha256=row["sha256"].tobytes().hex())
        return document

    return IndexedDocuments(read, index, entry["n_duplicates"])
