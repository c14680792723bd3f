"""What every tokenizer offers; all of them are lossless, and all spans are UTF-8 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Int, Int64

from lrope_interp.errors import LRopeError

Ids: TypeAlias = Iterable[int | np.integer] | np.ndarray
"""Ids in a row, one after the other."""


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back, without loss: ``decode(encode(text)) == text`` for any Unicode text."""

    @property
    def name(self) -> str:
        """The kind: "bytes" or "bpe"."""
        ...

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        ...

    @property
    def eos_id(self) -> int:
        """The document separator, which is also the pad; no text encodes to it."""
        ...

    @property
    def fingerprint(self) -> str:
        """The sha256 of what decides the ids: equal fingerprints give equal ids."""
        ...

    def encode(self, text: str) -> Int64[np.ndarray, " n_tokens"]:
        """Return the ids of a text."""
        ...

    def encode_spans(
        self, text: str
    ) -> tuple[
        Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"]
    ]:
        """Return ids, and where each begins and ends: half-open spans of the text's UTF-8 bytes.

        The spans follow each other without gap and cover the text. A span may end within a character.
        """
        ...

    def decode(self, ids: Ids) -> str:
        """Return the text of ids; broken UTF-8 is replaced, EOS and its like are left out."""
        ...

    def to_bytes(self, ids: Ids) -> bytes:
        """Return the bytes that ids stand for; EOS stands for none."""
        ...

    def token_bytes(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return how many bytes each id stands for."""
        ...

    def str_tokens(self, ids: Ids) -> list[str]:
        """Return one readable string an id."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into `folder`."""
        ...


def utf8(text: str) -> bytes:
    """Return the UTF-8 bytes of a text; a lone surrogate has none and is refused."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LRopeError(
            f"text has no UTF-8 form at character {error.start} ({error.reason}); replace it first"
        ) from None
