"""Text to token ids and back. Bytes are the only vocabulary so far: 256 values and EOS."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from lrope_interp.errors import LRopeError, unknown

EOS_ID = 256
TOKENIZER_FORMAT = 1
_FILE = "tokenizer.json"
_CONTROL = {0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"}


class ByteTokenizer:
    """The 256 byte values and, as id 256, the document separator EOS (also the pad id)."""

    name = "bytes"
    vocab_size = 257
    eos_id = EOS_ID

    def encode(self, text: str) -> Int64[np.ndarray, " n_bytes"]:
        """Return the UTF-8 bytes of `text` as ids; a lone surrogate is refused."""
        try:
            raw = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise LRopeError(
                f"text has no UTF-8 form at character {error.start} ({error.reason}); replace it first"
            ) from None
        return np.frombuffer(raw, dtype=np.uint8).astype(np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`: ids of 256 and above are dropped, broken UTF-8 is replaced."""
        return bytes(int(i) for i in ids if int(i) < EOS_ID).decode("utf-8", errors="replace")

    def str_tokens(self, ids: Iterable[int]) -> list[str]:
        r"""Return one readable string an id.

        ASCII stands for itself, control bytes are escaped, EOS is ``<eos>``, and byte k of a
        character of n bytes reads ``character·k/n``. A byte of broken UTF-8 reads ``\\xNN``.
        """
        values = [int(i) for i in ids]
        out: list[str] = []
        at = 0
        while at < len(values):
            character, width = _character_at(values, at)
            if width == 1:
                out.append(character)
            else:
                out.extend(f"{character}·{k}/{width}" for k in range(1, width + 1))
            at += width
        return out

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` into `folder`."""
        payload = {
            "format": TOKENIZER_FORMAT,
            "type": self.name,
            "vocab_size": self.vocab_size,
            "eos_id": self.eos_id,
        }
        (Path(folder) / _FILE).write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> ByteTokenizer:
    """Read the tokenizer that `ByteTokenizer.save` wrote into `folder`."""
    path = Path(folder) / _FILE
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LRopeError(f"{folder} has no {_FILE}; is it a run folder?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LRopeError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(payload, dict) or not isinstance(payload.get("format"), int):
        raise LRopeError(f"{path} is not a tokenizer of lrope-interp (no format)")
    if payload["format"] > TOKENIZER_FORMAT:
        raise LRopeError(
            f"{path} has format {payload['format']}; this version reads up to {TOKENIZER_FORMAT}. "
            "Upgrade lrope-interp."
        )
    if payload.get("type") != ByteTokenizer.name:
        raise unknown("tokenizer type", payload.get("type"), [ByteTokenizer.name])
    return ByteTokenizer()


def _character_at(values: list[int], at: int) -> tuple[str, int]:
    """Return the readable form of the character that starts at `at`, and its width in ids."""
    first = values[at]
    if first >= EOS_ID:
        return ("<eos>" if first == EOS_ID else f"<{first}>"), 1
    if first < 0x80:
        printable = 0x20 <= first < 0x7F
        return (chr(first) if printable else _CONTROL.get(first, f"\\x{first:02x}")), 1
    width = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 1
    piece = values[at : at + width]
    if width > 1 and len(piece) == width and max(piece) < EOS_ID:
        try:
            return bytes(piece).decode("utf-8"), width
        except UnicodeDecodeError:
            pass
    return f"\\x{first:02x}", 1
