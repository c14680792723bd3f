"""The token stream of training text: encoded once, kept in the cache, and read from the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from lrope_interp.data.cache import cached
from lrope_interp.data.columns import IndexedDocuments, in_hash_order
from lrope_interp.data.documents import Corpus, Document, documents_sha256
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
    return [
        (part.name, _stream(corpus.documents("train", part=part.name), tokenizer)) for part in corpus.parts
    ]


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


def _stream(documents: Sequence[Document], tokenizer: Tokenizer) -> Shaped[np.ndarray, " n_tokens"]:
    is_kept = isinstance(documents, IndexedDocuments) or tokenizer.name != BYTES
    return cached_stream(documents, tokenizer) if is_kept else training_stream(documents, tokenizer)


def _encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """Yield the stream in pieces of about 1 MB of text."""
    dtype = token_dtype(tokenizer.vocab_size)
    eos = np.array([tokenizer.eos_id], dtype=dtype)
    yield eos
    for texts in _chunks(documents):
        for ids in _encoded_texts(texts, tokenizer):
            yield ids.astype(dtype)
            yield eos


def _encoded_texts(texts: list[str], tokenizer: Tokenizer) -> Iterable[Int64[np.ndarray, " _"]]:
    """Encode texts together where the tokenizer can: on all cores, that is."""
    encode_batch = getattr(tokenizer, "encode_batch", None)
    return map(tokenizer.encode, texts) if encode_batch is None else encode_batch(texts)


def _chunks(documents: Iterable[Document]) -> Iterator[list[str]]:
    """Yield texts in the order of their hashes, about 1 MB at a time."""
    texts: list[str] = []
    size = 0
    for document in in_hash_order(documents):
        texts.append(document.text)
        size += document.n_bytes
        if size >= _CHUNK_BYTES:
            yield texts
            texts, size = [], 0
    yield texts


def _eos_places(stream: Shaped[np.ndarray, " n_tokens"], eos_id: int) -> Int64[np.ndarray, " n_eos"]:
    """Find every EOS, some of the stream at a time."""
    starts = range(0, len(stream), _CHUNK_TOKENS)
    found = [np.flatnonzero(stream[at : at + _CHUNK_TOKENS] == eos_id) + at for at in starts]
    return np.concatenate([*found, np.zeros(0, dtype=np.int64)])
