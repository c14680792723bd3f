"""Tokens of joined documents, and windows of them: random ones to train on, overlapping ones to score."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from lrope_interp.data.cache import cached
from lrope_interp.data.documents import (
    Corpus,
    Document,
    IndexedDocuments,
    documents_sha256,
    in_hash_order,
    in_lists,
)
from lrope_interp.errors import LRopeError
from lrope_interp.tokenizers import BYTES, Tokenizer

TOKENS = "tokens"
_TOKEN_FILE = "tokens.bin"
_CHUNK_BYTES = 1 << 20
_CHUNK_TOKENS = 1 << 20


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest of uint16 and uint32 that holds every id, little-endian on any machine."""
    return np.dtype("<u2" if vocab_size <= np.iinfo(np.uint16).max + 1 else "<u4")


def training_streams(corpus: Corpus, tokenizer: Tokenizer) -> list[tuple[str, np.ndarray]]:
    """Return the training stream of every part of a corpus, with its name, for a `WindowSampler`.

    Streams of documents that lie on disk, and all that a slow tokenizer makes, come from the cache
    and stay on the disk.
    """
    streams = []
    for part in corpus.parts:
        documents = corpus.documents("train", part=part.name)
        is_kept = isinstance(documents, IndexedDocuments) or tokenizer.name != BYTES
        streams.append((part.name, (cached_stream if is_kept else training_stream)(documents, tokenizer)))
    return streams


def training_stream(documents: Iterable[Document], tokenizer: Tokenizer) -> Shaped[np.ndarray, " n_tokens"]:
    """Join documents as ``EOS document EOS document ... EOS``, in the order of their hashes.

    The order is that of the hashes, so that the stream does not depend on how files were listed.
    """
    return np.concatenate(list(_encoded(documents, tokenizer)))


def cached_stream(documents: Sequence[Document], tokenizer: Tokenizer) -> Shaped[np.ndarray, " n_tokens"]:
    """Return the same stream as `training_stream`, from the cache, as a read-only view of a file."""
    dtype = token_dtype(tokenizer.vocab_size)

    def build(folder: Path) -> Mapping[str, Any]:
        with (folder / _TOKEN_FILE).open("wb") as file:
            for ids in _encoded(documents, tokenizer):
                file.write(ids.tobytes())
        return {"tokenizer": tokenizer.name, "n_documents": len(documents)}

    identity = {
        "documents_sha256": documents_sha256(documents),
        "tokenizer": tokenizer.fingerprint,
        "dtype": dtype.str,
    }
    folder, _ = cached(TOKENS, identity, build)
    # A plain array on the map: slicing a memmap itself is ten times slower.
    return np.memmap(folder / _TOKEN_FILE, dtype=dtype, mode="r").view(np.ndarray)


def document_hashes(stream: Shaped[np.ndarray, " n_tokens"], tokenizer: Tokenizer) -> list[str]:
    """Return the sha256 of every document that stands between two EOS of a stream, in order."""
    ends = _eos_places(stream, tokenizer.eos_id)
    hashes: list[str] = []
    first = 0
    while first + 1 < len(ends):
        last = int(np.searchsorted(ends, ends[first] + _CHUNK_TOKENS, side="right")) - 1
        last = max(last, first + 1)
        ids = stream[ends[first] : ends[last]].astype(np.int64)
        raw = memoryview(tokenizer.to_bytes(ids))
        stops = np.append(np.cumsum(tokenizer.token_bytes(ids)), len(raw))[
            ends[first : last + 1] - ends[first]
        ]
        hashes += [
            hashlib.sha256(raw[start:stop]).hexdigest()
            for start, stop in zip(stops[:-1].tolist(), stops[1:].tolist(), strict=True)
        ]
        first = last
    return hashes


def _encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Yield the stream in pieces of about 1 MB of text."""
    dtype = token_dtype(tokenizer.vocab_size)
    eos = np.array([tokenizer.eos_id], dtype=dtype)
    yield eos
    for some in in_lists(in_hash_order(documents), _CHUNK_BYTES):
        for ids in tokenizer.encode_batch([one.text for one in some]):
            yield ids.astype(dtype)
            yield eos


def _eos_places(stream: Shaped[np.ndarray, " n_tokens"], eos_id: int) -> Int64[np.ndarray, " n_eos"]:
    """Find every EOS, some of the stream at a time."""
    starts = range(0, len(stream), _CHUNK_TOKENS)
    found = [np.flatnonzero(stream[at : at + _CHUNK_TOKENS] == eos_id) + at for at in starts]
    return np.concatenate([*found, np.zeros(0, dtype=np.int64)])


class ScoringWindow(NamedTuple):
    """Indices into the sequence ``[EOS, x0, .., x(n-1)]``: read [start, stop), score from first_scored."""

    start: int
    stop: int
    first_scored: int


class WindowSampler:
    """Random windows of training text; every batch is a pure function of (seed, step).

    Each window draws its part with equal probability, so that a bilingual corpus gives each
    language one half, and then an offset with equal probability. Nothing is remembered between
    batches, so a resumed training sees what an uninterrupted one would have seen.

    Args:
        streams: Name and tokens of every part.
        n_ctx: Tokens that the model reads; a window has one more, the last target.
        batch_size: Windows a batch.
        seed: Any number from 0 to 2**64 - 1.
    """

    def __init__(
        self, streams: Sequence[tuple[str, np.ndarray]], n_ctx: int, batch_size: int, seed: int
    ) -> None:
        if not streams:
            raise LRopeError("a window sampler needs at least one stream of tokens, got none")
        if n_ctx < 1 or batch_size < 1:
            raise LRopeError(f"n_ctx and batch_size must be at least 1, got {n_ctx} and {batch_size}")
        if not 0 <= seed < 2**64:
            raise LRopeError(f"the seed must be between 0 and 2**64 - 1, got {seed}")
        for name, stream in streams:
            if len(stream) < n_ctx + 1:
                raise LRopeError(
                    f"the training text of {name} has {len(stream):,} tokens, and one window needs "
                    f"n_ctx + 1 = {n_ctx + 1:,}; give more text or a smaller n_ctx"
                )
        self.names = tuple(name for name, _ in streams)
        self.streams = tuple(stream for _, stream in streams)
        self.n_ctx, self.batch_size, self.seed = n_ctx, batch_size, seed

    def batch(self, step: int) -> Int64[np.ndarray, "batch pos"]:
        """Return the windows of one step, each of n_ctx + 1 tokens."""
        # Raw words of a counter-based generator keep their values across NumPy versions.
        key = np.array([self.seed, step], dtype=np.uint64)
        words = np.random.Philox(key=key).random_raw(2 * self.batch_size)
        parts, draws = words[: self.batch_size], words[self.batch_size :]
        width = self.n_ctx + 1
        windows = np.empty((self.batch_size, width), dtype=np.int64)
        for row in range(self.batch_size):
            stream = self.streams[int(parts[row]) % len(self.streams)]
            offset = int(draws[row]) % (len(stream) - width + 1)
            windows[row] = stream[offset : offset + width]
        return windows

    def epochs(self, n_steps: int) -> dict[str, float]:
        """Return how often each part is read in `n_steps`, on average over seeds."""
        drawn = n_steps * self.batch_size * self.n_ctx / len(self.streams)
        return {name: drawn / len(stream) for name, stream in zip(self.names, self.streams, strict=True)}


def scoring_windows(n_tokens: int, n_ctx: int, overlap: float = 0.5) -> list[ScoringWindow]:
    """Cover one document so that every byte is scored once, with the most left context there is.

    Args:
        n_tokens: Length of ``[EOS, x0, .., x(n-1)]``: the document's bytes and one.
        n_ctx: Tokens that the model reads at once.
        overlap: The share of a window that the one before has read too: the least context of any
            byte beyond the first window, and what it costs.

    Returns:
        Windows at a stride of n_ctx // 2, or what the overlap leaves. Byte t sits at index t + 1;
        index 0 (EOS) is never scored. What a window predicts for an index is read one index earlier
        in the same window.
    """
    if n_ctx < 2:
        raise LRopeError(f"scoring needs n_ctx of at least 2, got {n_ctx}")
    stride = max(1, int(n_ctx * (1 - overlap)))
    windows: list[ScoringWindow] = []
    scored = 1
    while scored < n_tokens:
        start = len(windows) * stride
        stop = min(start + n_ctx, n_tokens)
        windows.append(ScoringWindow(start, stop, scored))
        scored = stop
    return windows
