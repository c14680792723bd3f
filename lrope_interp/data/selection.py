"""Which held-out documents an analysis reads: few bytes, but still many documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lrope_interp.data.columns import in_hash_order, languages_of, where
from lrope_interp.data.documents import Corpus, Document
from lrope_interp.errors import LRopeError

MAX_BYTES = 200_000
PIECE_BYTES = 8_000
_LEAST_PIECE_BYTES = 500


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
    if max_bytes < 1:
        raise LRopeError(f"max_bytes must be at least 1, got {max_bytes}")
    return sample_documents(corpus.documents(split), max_bytes, spread)


def sample_documents(
    documents: Sequence[Document], max_bytes: int, spread: bool = False
) -> tuple[Document, ...]:
    """Return at most `max_bytes` a language of these documents, by the rule of `evaluation_documents`."""
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
