"""What every tokenizer offers; all of them are lossless, and all spans are UTF-8 bytes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

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


class HuggingFaceNames:
    """What tools ask of a Hugging Face tokenizer: one special token, which is BOS, EOS and pad at once.

    Attributes:
        name_or_path: Where the tokenizer came from.
        padding_side: Where the model and `__call__` pad texts unless told otherwise; "left" or "right".
    """

    eos_id: int
    vocab_size: int
    name_or_path: str
    padding_side: str = "right"

    @property
    def eos_token_id(self) -> int:
        """The id that ends a document."""
        return self.eos_id

    @property
    def eos_token(self) -> str:
        """What is written for it; in a text these characters are text, and encode to other ids."""
        return self.str_tokens([self.eos_id])[0]  # type: ignore[attr-defined]

    bos_token_id = pad_token_id = eos_token_id
    bos_token = pad_token = eos_token

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self.vocab_size

    def __call__(
        self,
        text: str | list[str],
        *,
        add_special_tokens: bool = False,
        padding: bool = False,
        truncation: bool = False,
        max_length: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
    ) -> Any:
        """Return a Hugging Face `BatchEncoding` of `input_ids` and `attention_mask`.

        Args:
            text: A text, or texts.
            add_special_tokens: Accepted and without effect: no special token is added here, nor would
                most byte-level tokenizers add one. `model.to_tokens` adds BOS.
            padding: Whether to pad to the longest text.
            truncation: Whether to cut at `max_length`.
            max_length: Most ids a text.
            padding_side: Of the pads; the tokenizer's own if None.
            return_tensors: "pt" or "np"; lists if None.

        Raises:
            LRopeError: No text, no such side, or truncation without a length.
        """
        from transformers import BatchEncoding  # costs seconds, and only tools call this

        del add_special_tokens
        texts = [text] if isinstance(text, str) else list(text)
        side = padding_side or self.padding_side
        if not all(isinstance(one, str) for one in texts):
            raise LRopeError(f"wanted a text or a list of texts; got {text!r:.60}")
        if side not in ("left", "right"):
            raise LRopeError(f"padding_side must be 'left' or 'right'; got {side!r}")
        if truncation and max_length is None:
            raise LRopeError("truncation wants max_length, the most ids a text")
        rows = [self.encode(one).tolist() for one in texts]  # type: ignore[attr-defined]
        rows = [row[:max_length] for row in rows] if truncation else rows
        n_pads = [max(map(len, rows)) - len(row) if padding else 0 for row in rows]
        pads = [[self.eos_id] * n for n in n_pads]
        ids = [p + row if side == "left" else row + p for p, row in zip(pads, rows, strict=True)]
        ones, zeros = [[1] * len(row) for row in rows], [[0] * n for n in n_pads]
        masks = [z + one if side == "left" else one + z for z, one in zip(zeros, ones, strict=True)]
        if isinstance(text, str) and return_tensors is None:
            ids, masks = ids[0], masks[0]
        try:
            return BatchEncoding({"input_ids": ids, "attention_mask": masks}, tensor_type=return_tensors)
        except ValueError as error:
            raise LRopeError(
                f"texts of several lengths make no tensor without padding=True: {error}"
            ) from None


def utf8(text: str) -> bytes:
    """Return the UTF-8 bytes of a text; a lone surrogate has none and is refused."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise LRopeError(
            f"text has no UTF-8 form at character {error.start} ({error.reason}); replace it first"
        ) from None
