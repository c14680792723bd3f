"""``tokenizer.json`` of a run, and tokenizer files from elsewhere: JSON, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.tokenizers.byte_tokenizer import ByteTokenizer
from lrope_interp.tokenizers.protocol import Tokenizer

TOKENIZER_FORMAT = 1
TOKENIZER_FILE = "tokenizer.json"
_TYPES = ("bytes", "bpe")


def write_tokenizer(folder: Path, tokenizer: Tokenizer, more: Mapping[str, Any]) -> None:
    """Write ``tokenizer.json``: its format, type, size, EOS, and what else the type needs."""
    payload = {
        "format": TOKENIZER_FORMAT,
        "type": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "eos_id": tokenizer.eos_id,
        **({"fingerprint": tokenizer.fingerprint} if more else {}),
        **more,
    }
    text = json.dumps(payload, indent=None if more else 2)
    (Path(folder) / TOKENIZER_FILE).write_text(text + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer that `save` wrote into `folder`.

    Raises:
        LRopeError: No file, a newer format, a type that this version does not know, or a file that
            was changed since.
    """
    path = Path(folder) / TOKENIZER_FILE
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LRopeError(f"{folder} has no {TOKENIZER_FILE}; is it a run folder?") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise LRopeError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(payload, dict) or not isinstance(payload.get("format"), int):
        raise LRopeError(f"{path} is not a tokenizer of lrope-interp (no format)")
    return _ours(payload, path)


def read_tokenizer_file(path: Path) -> Tokenizer:
    """Read a Hugging Face ``tokenizer.json``, or that of a run.

    Raises:
        LRopeError: No such file, no tokenizer, or one that is not lossless.
    """
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LRopeError(f"tokenizer file {path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise LRopeError(f"tokenizer file {path} is not valid JSON: {error}") from None
    if not isinstance(payload, dict):
        raise LRopeError(f"tokenizer file {path} holds no tokenizer: it is not a JSON object")
    if isinstance(payload.get("format"), int):
        return _ours(payload, path)
    from lrope_interp.tokenizers.bpe import BPETokenizer

    return BPETokenizer(payload, str(path))


def _ours(payload: Mapping[str, Any], path: Path) -> Tokenizer:
    """Return the tokenizer that a file of ours describes."""
    if payload["format"] > TOKENIZER_FORMAT:
        raise LRopeError(
            f"{path} has format {payload['format']}; this version reads up to {TOKENIZER_FORMAT}. "
            "Upgrade lrope-interp."
        )
    if payload.get("type") not in _TYPES:
        raise unknown("tokenizer type", payload.get("type"), _TYPES)
    if payload["type"] == ByteTokenizer.name:
        return ByteTokenizer()
    from lrope_interp.tokenizers.bpe import BPETokenizer

    definition = payload.get("tokenizer")
    tokenizer = BPETokenizer(definition if isinstance(definition, dict) else {}, str(path))
    if tokenizer.fingerprint != payload.get("fingerprint"):
        raise LRopeError(
            f"{path} was changed since it was written, so its ids may mean other text; restore it"
        )
    return tokenizer
