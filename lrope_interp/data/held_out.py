"""Which held-out text an analysis reads, and whether training saw any of it.

Set phrases occur in training and in held-out text alike, and no hash split removes them: they are found as
shingles, 64 consecutive bytes within one document. Each is hashed to 64 bits by doubling (a shingle of 2w
bytes from its two halves of w), so the whole text is hashed in a few array passes. With half a million test
shingles and fifteen million training ones, the chance of even one false hit is about 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8, UInt64

from lrope_interp.data.documents import Corpus, Document, in_hash_order, in_lists, languages_of, where
from lrope_interp.errors import LRopeError, whole_number

MAX_BYTES = 200_000
PIECE_BYTES = 8_000
_LEAST_PIECE_BYTES = 500


def assert_held_out(manifest: Mapping[str, Any], documents: Iterable[Document]) -> None:
    """Raise if the model of this ``data.json`` was trained on any of the documents.

    Whole documents are compared, by the sha256 of their bytes; a piece counts as the document
    that it was cut from. This does not show that no *sentence* is shared: see `shared_shingles`.
    """
    seen = frozenset(manifest["splits"]["train"]["sha256"])
    for document in documents:
        if seen.intersection((document.sha256, document.source_sha256)):
            raise LRopeError(
                f"the document {document.name!r} of {document.corpus} was in the training text of this "
                "model, so a score on it would be no test; use documents that were held out "
                "(Corpus.held_out_from)"
            )


def evaluation_documents(
    corpus: Corpus, split: str, max_bytes: int = MAX_BYTES, spread: bool = False
) -> tuple[Document, ...]:
    """Return at most `max_bytes` a language of one split, the same whatever order documents are in.

    Documents come in the order of their hashes. One above 8,000 bytes gives a single piece of that
    length at a place that its hash chooses, so that the text stays many documents; the last one is
    cut to what is left, and left out where that would be under 500 bytes.

    Args:
        corpus: Any corpus; for a model that never saw it, take `Corpus.held_out_from` first.
        split: "train", "fit", "dev" or "test".
        max_bytes: The most UTF-8 bytes to take of each language.
        spread: Whether to take a shorter piece (of 500 bytes at least) of as many documents as there
            are: for what costs so much a byte that few can be read.

    Returns:
        Documents, those of one language together. Empty where the split is.
    """
    return sample_documents(corpus.documents(split), max_bytes, spread)


def sample_documents(
    documents: Sequence[Document], max_bytes: int, spread: bool = False
) -> tuple[Document, ...]:
    """Return at most `max_bytes` a language of these documents, by the rule of `evaluation_documents`."""
    max_bytes = whole_number("max_bytes", max_bytes, 1)
    languages = languages_of(documents)
    return tuple(
        piece
        for language in sorted(set(languages))
        for piece in _take(where(documents, [one == language for one in languages]), max_bytes, spread)
    )


def piece_of(document: Document, n_bytes: int) -> Document:
    """Return one piece of at most `n_bytes`, at a place chosen by hash, or the document if it fits.

    The piece is cut between characters (the gold words that it cuts are shortened) and remembers
    in `cut_from` which document it belongs to.
    """
    if document.n_bytes <= n_bytes:
        return document
    # The first 16 digits decided the split; the next 16 are independent of it.
    offset = int(document.sha256[16:32], 16) % (document.n_bytes - n_bytes + 1)
    raw = document.encoded
    begin, end = offset, offset + n_bytes
    while begin < len(raw) and raw[begin] & 0xC0 == 0x80:  # a piece begins and ends between characters
        begin += 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end -= 1
    first = len(raw[:begin].decode("utf-8"))
    return _cut(document, first, first + len(raw[begin : max(begin, end)].decode("utf-8")))


def _take(documents: Sequence[Document], max_bytes: int, spread: bool) -> list[Document]:
    """Take pieces in the order of hashes until `max_bytes` are full."""
    taken: list[Document] = []
    left = max_bytes
    longest = max(_LEAST_PIECE_BYTES, max_bytes // max(1, len(documents))) if spread else PIECE_BYTES
    for document in in_hash_order(documents):
        is_too_short = left < min(_LEAST_PIECE_BYTES, document.n_bytes)
        if is_too_short and taken:
            break
        piece = piece_of(document, min(PIECE_BYTES, longest, left))
        if piece.text:
            taken.append(piece)
            left -= piece.n_bytes
    return taken


def _cut(document: Document, first: int, last: int) -> Document:
    """Return the characters [first, last) of a document, gold words clipped to them."""
    words, tags = document.words, document.tags
    if words is not None:
        inside = [k for k, (start, stop) in enumerate(words) if min(stop, last) > max(start, first)]
        tags = tuple(tags[k] for k in inside) if tags is not None else None
        words = tuple((max(words[k][0], first) - first, min(words[k][1], last) - first) for k in inside)
    text, offset = document.whole or (document.text, 0)
    return replace(
        document,
        name=f"{document.name}[{first}:{last}]",
        text=document.text[first:last],
        words=words,
        tags=tags,
        cut_from=document.source_sha256,
        whole=(text, offset + first) if document.language == "code" else None,
    )


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
    for some in in_lists(documents, _CHUNK_BYTES):
        pieces = [one.encoded for one in some]
        lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
        ends = np.repeat(np.cumsum(lengths), lengths)  # for each byte, where its document ends
        hashes = _hashes(np.frombuffer(b"".join(pieces), dtype=np.uint8), width)
        is_inside = np.arange(len(hashes)) + width <= ends[: len(hashes)]
        hashes = hashes[is_inside]
        hashes = hashes[may_match[hashes >> shift]]
        at = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
        is_found[at[wanted[at] == hashes]] = True
    return wanted[is_found]


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
