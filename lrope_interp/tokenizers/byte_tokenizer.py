"""Bytes as a vocabulary: 256 values and EOS."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64

from lrope_interp.tokenizers.protocol import HuggingFaceNames, Ids, readable, utf8, write_tokenizer

EOS_ID = 256


class ByteTokenizer(HuggingFaceNames):
    """The 256 byte values and, as id 256, the document separator EOS (also the pad id)."""

    name = name_or_path = "bytes"
    vocab_size = 257
    eos_id = EOS_ID
    fingerprint = hashlib.sha256(b"lrope-interp bytes 1: 256 values, eos 256").hexdigest()

    def encode(self, text: str, add_special_tokens: bool = False) -> Int64[np.ndarray, " n_bytes"]:  # noqa: ARG002
        """Return the UTF-8 bytes of `text` as ids; a lone surrogate is refused."""
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int64)

    def encode_spans(
        self, text: str
    ) -> tuple[Int64[np.ndarray, " n_bytes"], Int64[np.ndarray, " n_bytes"], Int64[np.ndarray, " n_bytes"]]:
        """Return the bytes of `text` as ids, and their spans of one byte each."""
        ids = self.encode(text)
        starts = np.arange(len(ids))
        return ids, starts, starts + 1

    def to_bytes(self, ids: Ids) -> bytes:
        """Return the bytes of `ids`; EOS and ids beyond the vocabulary are dropped."""
        if isinstance(ids, np.ndarray):
            return ids[(ids >= 0) & (ids < EOS_ID)].astype(np.uint8).tobytes()
        return bytes(int(i) for i in ids if 0 <= int(i) < EOS_ID)

    def token_bytes(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return 1 for a byte and 0 for EOS."""
        return (np.asarray(ids) != EOS_ID).astype(np.int64)

    def str_tokens(self, ids: Ids) -> list[str]:
        r"""Return one readable string an id.

        ASCII stands for itself, control bytes are escaped, EOS is ``<eos>``, and byte k of a
        character of n bytes reads ``character·k/n``. A byte of broken UTF-8 reads ``\\xNN``.
        """
        return readable([_piece(int(i)) for i in ids])

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into `folder`."""
        write_tokenizer(folder, self, {})


def _piece(value: int) -> bytes | str:
    if value < EOS_ID:
        return bytes([value])
    return "<eos>" if value == EOS_ID else f"<{value}>"
