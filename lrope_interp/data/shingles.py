"""Which stretches of held-out text also occur in training: set phrases that no hash split removes.

A shingle is 64 consecutive bytes within one document. Each is hashed to 64 bits by doubling (a
shingle of 2w bytes from its two halves of w), so the whole text is hashed in a few array passes.
With half a million test shingles and fifteen million training ones, the chance of even one false
hit is about 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

from lrope_interp.data.documents import Document
from lrope_interp.errors import LRopeError

SHINGLE_BYTES = 64
_CHUNK_BYTES = 1 << 20
_FILTER_BITS = 24
# Odd 64-bit constants from the digits of the golden ratio and of pi.
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXER = np.uint64(0x243F6A8885A308D3)
_SHIFT = np.uint64(29)


@dataclass(frozen=True)
class SharedShingles:
    """Where documents repeat training text word for word.

    Attributes:
        masks: One mask a document, True for every byte inside a shared shingle.
        n_shared: Number of shared shingles, counted by the place where they start.
        n_documents: Number of documents with at least one.
    """

    masks: tuple[Bool[np.ndarray, " _"], ...]
    n_shared: int
    n_documents: int

    @property
    def n_bytes(self) -> int:
        """Number of bytes inside a shared shingle."""
        return int(sum(mask.sum() for mask in self.masks))


def shared_shingles(
    documents: Sequence[Document], training_documents: Iterable[Document], width: int = SHINGLE_BYTES
) -> SharedShingles:
    """Mark every byte of `documents` that lies in a shingle which training text has too.

    Args:
        documents: Held-out documents or pieces of them.
        training_documents: What the model was trained on; read in chunks of about 1 MB.
        width: Bytes a shingle, a power of two. Documents shorter than it have none.
    """
    if width < 1 or width & (width - 1):
        raise LRopeError(f"the width of a shingle must be a power of two, got {width}")
    own = [_hashes(np.frombuffer(one.encoded, dtype=np.uint8), width) for one in documents]
    wanted = np.unique(np.concatenate([*own, np.zeros(0, dtype=np.uint64)]))
    shared = _found_in(wanted, training_documents, width)
    starts = [np.isin(hashes, shared) for hashes in own]
    masks = tuple(
        _cover(start, document.n_bytes, width) for start, document in zip(starts, documents, strict=True)
    )
    counts = [int(start.sum()) for start in starts]
    return SharedShingles(masks, sum(counts), sum(count > 0 for count in counts))


def _found_in(
    wanted: UInt64[np.ndarray, " n_wanted"], documents: Iterable[Document], width: int
) -> UInt64[np.ndarray, " n_found"]:
    """Return those of the sorted hashes `wanted` that occur in the documents."""
    is_found = np.zeros(len(wanted), dtype=bool)
    if not len(wanted):
        return wanted
    # A bit table of hash prefixes spares the binary search for all but a few percent.
    may_match = np.zeros(1 << _FILTER_BITS, dtype=bool)
    shift = np.uint64(64 - _FILTER_BITS)
    may_match[wanted >> shift] = True
    for raw, ends in _chunks(documents):
        hashes = _hashes(raw, width)
        is_inside = np.arange(len(hashes)) + width <= ends[: len(hashes)]
        hashes = hashes[is_inside]
        hashes = hashes[may_match[hashes >> shift]]
        at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        is_found[at[wanted[at] == hashes]] = True
    return wanted[is_found]


def _chunks(documents: Iterable[Document]) -> Iterator[tuple[UInt8[np.ndarray, " n"], np.ndarray]]:
    """Yield joined bytes of whole documents, and for each byte where its document ends."""
    pieces: list[bytes] = []
    size = 0
    for document in documents:
        pieces.append(document.encoded)
        size += len(pieces[-1])
        if size >= _CHUNK_BYTES:
            yield _join(pieces)
            pieces, size = [], 0
    if pieces:
        yield _join(pieces)


def _join(pieces: list[bytes]) -> tuple[UInt8[np.ndarray, " n"], np.ndarray]:
    """Join documents and note their ends."""
    lengths = np.array([len(piece) for piece in pieces])
    return np.frombuffer(b"".join(pieces), dtype=np.uint8), np.repeat(np.cumsum(lengths), lengths)


def _hashes(raw: UInt8[np.ndarray, " n"], width: int) -> UInt64[np.ndarray, " n_shingles"]:
    """Hash the `width` bytes that start at every place."""
    hashes = (raw.astype(np.uint64) + np.uint64(1)) * _MULTIPLIER
    covered = 1
    while covered < width:
        first, second = hashes[:-covered], hashes[covered:]
        # Multiplying only one half makes the order count; the shift brings high bits down.
        hashes = (first ^ (first >> _SHIFT)) * _MIXER + second
        hashes = (hashes ^ (hashes >> _SHIFT)) * _MULTIPLIER
        covered *= 2
    return hashes


def _cover(starts: Bool[np.ndarray, " n_shingles"], n_bytes: int, width: int) -> Bool[np.ndarray, " n_bytes"]:
    """Mark the `width` bytes after every start."""
    edges = np.zeros(n_bytes + 1, dtype=np.int64)
    at = np.flatnonzero(starts)
    np.add.at(edges, at, 1)
    np.add.at(edges, at + width, -1)
    return np.cumsum(edges[:n_bytes]) > 0
