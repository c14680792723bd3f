"""What every tokenizer offers, and the simplest, whose tokens are bytes.

All are lossless, and all spans are UTF-8 bytes.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Int, Int64

from lrope_interp.errors import LRopeError
from lrope_interp.folders import write_text_atomically

TOKENIZER_FORMAT = 1
TOKENIZER_FILE = "tokenizer.json"
MOST_TOKENS = 1_000_000
"""Of a file: several times the largest vocabularies in use, and few enough to lay out."""

Ids: TypeAlias = Iterable[int | np.integer] | np.ndarray
"""Ids in a row, one after the other."""


class Tokenizer(ABC):
    """Text to ids and back, without loss: ``decode(encode(text)) == text`` for any Unicode text.

    It also has the names that tools ask of a Hugging Face tokenizer with one special token, which is BOS, EOS
    and pad at once.

    Attributes:
        name: The kind: "bytes" or "bpe".
        vocab_size: One more than the largest id.
        eos_id: The document separator, which is also the pad; no text encodes to it.
        fingerprint: The sha256 of what decides the ids: equal fingerprints give equal ids.
        name_or_path: Where the tokenizer came from.
        padding_side: Where the model and `__call__` pad texts unless told otherwise; "left" or "right".
        definition: The content of the Hugging Face file that it was made from; empty of bytes.
    """

    name: str
    vocab_size: int
    eos_id: int
    fingerprint: str
    name_or_path: str
    padding_side: str = "right"
    definition: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def encode(self, text: str, add_special_tokens: bool = False) -> Int64[np.ndarray, " n_tokens"]:
        """Return the ids of a text; no special token is added, whatever is asked for."""

    @abstractmethod
    def to_bytes(self, ids: Ids) -> bytes:
        """Return the bytes that ids stand for; EOS and ids beyond the vocabulary stand for none."""

    @abstractmethod
    def token_bytes(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return how many bytes each id stands for; 0 for EOS."""

    @abstractmethod
    def piece(self, token: int) -> bytes | str:
        """Return the bytes that an id stands for; as a string, what to show of one that stands for none."""

    def encode_batch(self, texts: Sequence[str]) -> list[Int64[np.ndarray, " _"]]:
        """Return the ids of several texts, as `encode` does."""
        return [self.encode(text) for text in texts]

    def encode_spans(
        self, text: str
    ) -> tuple[
        Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"], Int64[np.ndarray, " n_tokens"]
    ]:
        """Return ids, and where each begins and ends: half-open spans of the text's UTF-8 bytes.

        The spans follow each other without gap and cover the text. A span may end within a character.
        """
        ids = self.encode(text)
        lengths = self.token_bytes(ids)
        ends = np.cumsum(lengths)
        return ids, ends - lengths, ends

    def str_tokens(self, ids: Ids) -> list[str]:
        r"""Return one readable string an id.

        ASCII stands for itself, control bytes are escaped, EOS is its name, and byte k of a
        character of n bytes reads ``character·k/n``. A byte of broken UTF-8 reads ``\\xNN``.
        """
        return readable([self.piece(int(i)) for i in ids])

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``: its format, type, size, EOS, and the definition where there is one."""
        payload = {
            "format": TOKENIZER_FORMAT,
            "type": self.name,
            "vocab_size": self.vocab_size,
            "eos_id": self.eos_id,
        }
        if self.definition:
            payload |= {"fingerprint": self.fingerprint, "tokenizer": self.definition}
        text = json.dumps(payload, indent=None if self.definition else 2)
        write_text_atomically(Path(folder) / TOKENIZER_FILE, text + "\n")

    @property
    def eos_token_id(self) -> int:
        """The id that ends a document."""
        return self.eos_id

    @property
    def eos_token(self) -> str:
        """What is written for it; in a text these characters are text, and encode to other ids."""
        return self.str_tokens([self.eos_id])[0]

    bos_token_id = pad_token_id = eos_token_id
    bos_token = pad_token = eos_token

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        """Return the text of ids, or of one; broken UTF-8 is replaced.

        Args:
            ids: In a row (list, array, tensor), or a single one; ids beyond the vocabulary are dropped.
            skip_special_tokens: Whether EOS and its like are left out; else EOS is written as `eos_token`.
        """
        row: Any = ids
        if not isinstance(row, np.ndarray):
            row = row.tolist() if hasattr(row, "tolist") else row  # a tensor, on whatever device
            row = np.array(list(row) if isinstance(row, Iterable) else row, dtype=np.int64)
        row = row.reshape(-1)
        parts = [row] if skip_special_tokens else np.split(row, np.flatnonzero(row == self.eos_id))
        texts = [self.to_bytes(part).decode("utf-8", errors="replace") for part in parts]
        return self.eos_token.join(texts)

    def batch_decode(self, rows: Iterable[Any], skip_special_tokens: bool = True) -> list[str]:
        """Return the text of each row of ids."""
        return [self.decode(row, skip_special_tokens) for row in rows]

    def __len__(self) -> int:
        """Return how many ids there are."""
        return self.vocab_size

    def __call__(
        self,
        text: str | list[str],
        *,
        add_special_tokens: bool = False,
        padding: bool | str = False,
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
            padding: Whether to pad to the longest text; "max_length" pads to `max_length`.
            truncation: Whether to cut at `max_length`.
            max_length: Most ids a text, or the least of a padded one.
            padding_side: Of the pads; the tokenizer's own if None.
            return_tensors: "pt" or "np"; lists if None.

        Raises:
            LRopeError: No text, no such side or padding, or a length without a use or a use without one.
        """
        from transformers import BatchEncoding  # costs seconds, and only tools call this

        del add_special_tokens
        texts = list(text) if isinstance(text, list | tuple) else [text]
        side = padding_side or self.padding_side
        if not all(isinstance(one, str) for one in texts):
            raise LRopeError(f"wanted a text or a list of texts; got {text!r:.60}")
        if side not in ("left", "right"):
            raise LRopeError(f"padding_side must be 'left' or 'right'; got {side!r}")
        if padding not in (True, False, "longest", "max_length"):
            raise LRopeError(f"padding must be True, False, 'longest' or 'max_length'; got {padding!r}")
        if (bool(truncation) or padding == "max_length") != (max_length is not None):
            raise LRopeError("max_length goes with truncation=True or padding='max_length', and they with it")
        rows = [self.encode(one).tolist() for one in texts]
        rows = [row[:max_length] for row in rows] if truncation else rows
        longest = max([len(row) for row in rows] + [max_length or 0] * (padding == "max_length"), default=0)
        n_pads = [longest - len(row) if padding else 0 for row in rows]
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


_ESCAPED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def readable(pieces: Sequence[bytes | str]) -> list[str]:
    r"""Return one readable string a token.

    ASCII stands for itself and control bytes are escaped. A token that holds part of a character
    of n bytes names it with the bytes that it holds: ``中·1/3``, ``中·2-3/3``. A byte of broken
    UTF-8 reads ``\\xNN``.

    Args:
        pieces: The bytes of each token of a text, in order; a string is a token that stands for no
            bytes, is shown as it is, and ends the character before it.
    """
    out: list[str] = []
    for is_bytes, group in groupby(pieces, key=lambda piece: isinstance(piece, bytes)):
        run: list[Any] = list(group)
        if not is_bytes:
            out += run
            continue
        parts: list[tuple[int, str, int, int]] = []  # of each byte: its character, and which byte of how many
        for at, character in enumerate(b"".join(run).decode("utf-8", errors="surrogateescape")):
            written, width = character, len(character.encode("utf-8", errors="surrogateescape"))
            if width == 1 and not " " <= character <= "~":  # a control character, or a byte of broken UTF-8
                written = _ESCAPED.get(character, f"\\x{ord(character) & 0xFF:02x}")
            parts += [(at, written, number, width) for number in range(1, width + 1)]
        start = 0
        for piece in run:
            out.append(_written(parts[start : start + len(piece)]))
            start += len(piece)
    return out


def _written(parts: Sequence[tuple[int, str, int, int]]) -> str:
    """Write the bytes of one token."""
    out = ""
    for (_, character, width), group in groupby(parts, key=lambda part: (part[0], part[1], part[3])):
        numbers = [part[2] for part in group]
        first, last = numbers[0], numbers[-1]
        is_whole = len(numbers) == width
        out += character if is_whole else f"{character}·{first}{f'-{last}' if last > first else ''}/{width}"
    return out


EOS_ID = 256


class ByteTokenizer(Tokenizer):
    """The 256 byte values and, as id 256, the document separator EOS (also the pad id)."""

    name = name_or_path = "bytes"
    vocab_size = 257
    eos_id = EOS_ID
    fingerprint = hashlib.sha256(b"lrope-interp bytes 1: 256 values, eos 256").hexdigest()

    def encode(self, text: str, add_special_tokens: bool = False) -> Int64[np.ndarray, " n_bytes"]:  # noqa: ARG002
        """Return the UTF-8 bytes of `text` as ids; a lone surrogate is refused."""
        return np.frombuffer(utf8(text), dtype=np.uint8).astype(np.int64)

    def to_bytes(self, ids: Ids) -> bytes:
        """Return the bytes of `ids`; EOS and ids beyond the vocabulary are dropped."""
        if isinstance(ids, np.ndarray):
            return ids[(ids >= 0) & (ids < EOS_ID)].astype(np.uint8).tobytes()
        return bytes(int(i) for i in ids if 0 <= int(i) < EOS_ID)

    def token_bytes(self, ids: Int[np.ndarray, "*shape"]) -> Int64[np.ndarray, "*shape"]:
        """Return 1 for a byte and 0 for EOS."""
        return (np.asarray(ids) != EOS_ID).astype(np.int64)

    def piece(self, token: int) -> bytes | str:
        """Return a byte; EOS is ``<eos>``."""
        if token < EOS_ID:
            return bytes([token])
        return "<eos>" if token == EOS_ID else f"<{token}>"
