"""Documents in the cache: one file of text, an index, and nothing in memory but the index.

The text of all documents lies in `text.bin`, in reading order; `index.safetensors` says where each
begins, its sha256, which file and row it came from, and its language. About 60 bytes of memory a
document, whatever their length. De-spaced documents lie there with their white space, which says
where their words are, and lose it when they are read; sha256 and size are of what is read.
"""

from __future__ import annotations

import hashlib
import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int64, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lrope_interp.data.cache import cached, cached_entries
from lrope_interp.data.documents import Document, IndexedDocuments
from lrope_interp.data.labels.words import despaced, without_space
from lrope_interp.data.splits import SPLITS, require_documents
from lrope_interp.errors import LRopeError

TEXTS = "texts"
_TEXT_FILE = "text.bin"
_INDEX_FILE = "index.safetensors"


class Piece(NamedTuple):
    """One document as a source gives it.

    `file` is what it came from, `number` counts within it from 1; 0 where the file is the document.
    """

    file: str
    number: int
    raw: bytes
    language: str


@dataclass(frozen=True)
class Store:
    """An opened entry: the text as it lies on disk, and the index of all its documents.

    Attributes:
        corpus: Name of the part that the documents belong to.
        text: The UTF-8 bytes of all documents, one after the other.
        starts: Where each begins in `text`, and as the last value where the last one ends.
        digests: The sha256 of each.
        file: Which of `files` it came from.
        number: Which document of that file it is, from 1; 0 where the file is the document.
        language: Which of `languages` it has.
        files: Names.
        languages: Names.
        n_duplicates: Documents that were dropped because their text already occurred.
        despaced_sizes: Where documents are de-spaced when they are read: their UTF-8 bytes then.
    """

    corpus: str
    text: mmap.mmap
    starts: Int64[np.ndarray, " n_plus_1"]
    digests: UInt8[np.ndarray, "n 32"]
    file: np.ndarray
    number: np.ndarray
    language: np.ndarray
    files: tuple[str, ...]
    languages: tuple[str, ...]
    n_duplicates: int
    despaced_sizes: Int64[np.ndarray, " n"] | None = None

    @property
    def sizes(self) -> Int64[np.ndarray, " n"]:
        """UTF-8 bytes of every document as it is read."""
        return np.diff(self.starts) if self.despaced_sizes is None else self.despaced_sizes

    def document(self, row: int) -> Document:
        """Read one document."""
        start, stop = int(self.starts[row]), int(self.starts[row + 1])
        name, number = self.files[self.file[row]], int(self.number[row])
        document = Document(
            f"{name}#{number}" if number else name,
            self.text[start:stop].decode("utf-8"),
            self.corpus,
            self.languages[self.language[row]],
        )
        n_bytes = stop - start
        if self.despaced_sizes is not None:
            document, n_bytes = despaced(document), int(self.despaced_sizes[row])
        # Both are known; the cached properties would hash the text again.
        document.__dict__.update(n_bytes=n_bytes, sha256=self.digests[row].tobytes().hex())
        return document


class StoredDocuments(IndexedDocuments):
    """Some or all documents of a store, each read when it is asked for."""

    def __init__(self, store: Store, rows: Int64[np.ndarray, " n"] | None = None) -> None:
        self.store = store
        self.rows = np.arange(len(store.digests)) if rows is None else rows

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> StoredDocuments: ...
    def __getitem__(self, index: int | slice) -> Document | StoredDocuments:
        """Read one document, or take a stretch of them."""
        if isinstance(index, slice):
            return StoredDocuments(self.store, self.rows[index])
        return self.store.document(int(self.rows[index]))

    def __iter__(self) -> Iterator[Document]:
        """Read one document after the other."""
        return map(self.store.document, self.rows.tolist())

    @property
    def hashes(self) -> list[str]:
        """Hexadecimal sha256 of every document."""
        joined = self.store.digests[self.rows].tobytes().hex()
        return [joined[at : at + 64] for at in range(0, len(joined), 64)]

    @property
    def sizes(self) -> Int64[np.ndarray, " n"]:
        """UTF-8 bytes of every document."""
        return self.store.sizes[self.rows]

    @property
    def languages(self) -> list[str]:
        """Language of every document."""
        return [self.store.languages[code] for code in self.store.language[self.rows]]

    def take(self, rows: Int64[np.ndarray, " n_taken"]) -> StoredDocuments:
        """Return the documents at these places."""
        return StoredDocuments(self.store, self.rows[rows])


def store_documents(
    corpus: str,
    identity: Mapping[str, Any],
    read: Callable[[], Iterable[Piece]],
    *,
    name: str,
    max_bytes: int = 0,
    least: int = len(SPLITS),
    is_despaced: bool = False,
) -> StoredDocuments:
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
        writer = _StoreWriter(max_bytes, is_despaced)
        with (folder / _TEXT_FILE).open("wb", buffering=1 << 20) as file:
            for piece in read():
                if not writer.add(piece, file.write):
                    break
        if len(writer.ends) < least:
            require_documents(len(writer.ends), name)
        save_file(writer.index(), folder / _INDEX_FILE)
        return writer.words()

    despacing = {"despaced": True} if is_despaced else {}
    folder, entry = cached(TEXTS, {**identity, **despacing, "max_bytes": max_bytes}, build)
    return StoredDocuments(open_store(corpus, folder, entry))


def reopened(corpus: str, identity: Mapping[str, Any]) -> StoredDocuments:
    """Return documents that are in the cache already, given the whole identity of their entry."""

    def build(folder: Path) -> Mapping[str, Any]:
        raise LRopeError(f"{folder.parent} held a damaged copy of the text, and its source is out of reach")

    folder, entry = cached(TEXTS, identity, build)
    return StoredDocuments(open_store(corpus, folder, entry))


def kept_documents(corpus: str, hashes: Set[str], *, is_despaced: bool) -> StoredDocuments | None:
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
        with suppress(LRopeError, OSError, SafetensorError):
            index = load_file(folder / _INDEX_FILE)
            if {row.tobytes().hex() for row in index["digests"]} == hashes:
                return reopened(corpus, identity)
    return None


def open_store(corpus: str, folder: Path, entry: Mapping[str, Any]) -> Store:
    """Open an entry of the cache that was found sound."""
    index = load_file(folder / _INDEX_FILE)
    with (folder / _TEXT_FILE).open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Store(
        corpus,
        text,
        starts=np.concatenate([[0], index["ends"]]),
        digests=index["digests"],
        file=index["file"],
        number=index["number"],
        language=index["language"],
        files=tuple(entry["from"]),
        languages=tuple(entry["languages"]),
        n_duplicates=entry["n_duplicates"],
        despaced_sizes=index.get("despaced_sizes"),
    )


class _StoreWriter:
    """Collects the index while the text goes to the disk."""

    def __init__(self, max_bytes: int, is_despaced: bool) -> None:
        self.max_bytes, self.n_duplicates = max_bytes, 0
        self.despaced_sizes = array("q") if is_despaced else None
        self.ends, self.file, self.number, self.language = array("q"), array("i"), array("q"), array("i")
        self.digests: dict[bytes, None] = {}
        self.files: dict[str, int] = {}
        self.languages: dict[str, int] = {}

    def add(self, piece: Piece, write: Callable[[bytes], object]) -> bool:
        """Take one document unless it is a duplicate; False once `max_bytes` would be exceeded."""
        raw = piece.raw
        if self.despaced_sizes is not None:
            raw = without_space(raw.decode("utf-8")).encode("utf-8")
            if not raw:
                return True
        digest = hashlib.sha256(raw).digest()
        if digest in self.digests:
            self.n_duplicates += 1
            return True
        end = (self.ends[-1] if self.ends else 0) + len(piece.raw)
        if self.max_bytes and end > self.max_bytes:
            return False
        write(piece.raw)
        self.digests[digest] = None
        self.ends.append(end)
        if self.despaced_sizes is not None:
            self.despaced_sizes.append(len(raw))
        self.number.append(piece.number)
        self.file.append(self.files.setdefault(piece.file, len(self.files)))
        self.language.append(self.languages.setdefault(piece.language, len(self.languages)))
        return True

    def index(self) -> dict[str, np.ndarray]:
        """Return what `index.safetensors` holds."""
        digests = np.frombuffer(b"".join(self.digests), dtype=np.uint8).reshape(-1, 32)
        names = ("ends", "file", "number", "language")
        columns = {name: np.array(getattr(self, name)) for name in names}
        if self.despaced_sizes is not None:
            columns["despaced_sizes"] = np.array(self.despaced_sizes)
        return {"digests": digests, **columns}

    def words(self) -> dict[str, Any]:
        """Return what `entry.json` holds."""
        return {
            "from": list(self.files),
            "languages": list(self.languages),
            "n_duplicates": self.n_duplicates,
            "n_documents": len(self.ends),
        }
