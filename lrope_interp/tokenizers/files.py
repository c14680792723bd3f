"""Which tokenizer: what ``--tokenizer`` asks for, ``tokenizer.json`` of a run, and files from elsewhere.

Files are JSON, never a pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrope_interp.errors import LRopeError, unknown
from lrope_interp.files import LARGE, Form, TokenizerFile, check, check_format, read_json
from lrope_interp.tokenizers.byte_level import TOKENIZER_FILE, TOKENIZER_FORMAT, ByteTokenizer, Tokenizer

BYTES = "bytes"
MIN_VOCAB = 258
"""256 bytes, EOS, and one merge."""
MAX_VOCAB = 65_536
"""Of what `bpe:N` trains: training text is then kept in 16 bits a token."""


def chosen_tokenizer(words: str) -> int | Path | None:
    """Read which tokenizer is asked for: ``bytes``, ``bpe:N``, or the path of a ``tokenizer.json``.

    Returns:
        None for bytes, the size of a BPE to train, or the file; whether that is fit is found when it is read.

    Raises:
        LRopeError: Anything else, or an N out of range.
    """
    if words == BYTES:
        return None
    if words.startswith("bpe:"):
        digits = words.removeprefix("bpe:")
        n_vocab = int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else -1
        if MIN_VOCAB <= n_vocab <= MAX_VOCAB:
            return n_vocab
        raise LRopeError(
            f"{words!r}: bpe:N wants an N from {MIN_VOCAB} (256 bytes, <eos> and one merge) to "
            f"{MAX_VOCAB:,}; bpe:8000 is usual here"
        )
    if words.endswith(".json"):
        return Path(words).expanduser()
    raise LRopeError(
        f"unknown tokenizer {words!r}; wanted bytes, bpe:N (as in bpe:8000), or the path of a Hugging "
        "Face tokenizer file that ends in .json"
    )


_TYPES = ("bytes", "bpe")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer that `save` wrote into `folder`.

    Raises:
        LRopeError: No file, a newer format, a type that this version does not know, or a file that
            was changed since.
    """
    path = Path(folder) / TOKENIZER_FILE
    missing = f"{folder} has no {TOKENIZER_FILE}; is it a run folder?"
    said = read_json(path, TokenizerFile, newest=TOKENIZER_FORMAT, missing=missing, most_bytes=LARGE)
    return _ours(said, path)


def read_tokenizer_file(path: Path) -> Tokenizer:
    """Read a Hugging Face ``tokenizer.json``, or that of a run.

    Raises:
        LRopeError: No such file, no tokenizer, or one that is not lossless.
    """
    payload = read_json(path, Form, most_bytes=LARGE)
    if "format" in payload:
        check_format(payload, TOKENIZER_FORMAT, str(path))
        check(TokenizerFile, payload, f"{path} is damaged")
        return _ours(payload, path)
    from lrope_interp.tokenizers.bpe import BPETokenizer

    return BPETokenizer(payload, str(path))


def as_tokenizer(given: Any) -> Tokenizer:
    """Return a tokenizer of ours: itself, or what a Hugging Face one or a ``tokenizer.json`` defines.

    Raises:
        LRopeError: Anything else, or a tokenizer that is not lossless.
    """
    if isinstance(given, Tokenizer):
        return given
    if isinstance(given, str | Path):
        return read_tokenizer_file(Path(given).expanduser())
    fast = getattr(given, "backend_tokenizer", given)  # of transformers, or of the library itself
    if not hasattr(fast, "to_str"):
        raise LRopeError(
            f"a tokenizer is one of lrope_interp.tokenizers, a fast one of Hugging Face, or the path of a "
            f"tokenizer.json; got {type(given).__name__}"
        )
    from lrope_interp.tokenizers.bpe import BPETokenizer

    return BPETokenizer(json.loads(fast.to_str()), getattr(given, "name_or_path", "") or type(given).__name__)


def _ours(payload: Mapping[str, Any], path: Path) -> Tokenizer:
    """Return the tokenizer that a file of ours describes."""
    if payload["type"] not in _TYPES:
        raise unknown(f"tokenizer type in {path}:", payload["type"], _TYPES)
    tokenizer: Tokenizer = ByteTokenizer()
    if payload["type"] != ByteTokenizer.name:
        from lrope_interp.tokenizers.bpe import BPETokenizer

        tokenizer = BPETokenizer(payload.get("tokenizer") or {}, str(path))
    own = {name: getattr(tokenizer, name) for name in ("vocab_size", "eos_id", "fingerprint")}
    is_bytes = tokenizer.name == ByteTokenizer.name  # which keep no fingerprint
    if any(payload.get(name, value if is_bytes else None) != value for name, value in own.items()):
        raise LRopeError(
            f"{path} was changed since it was written, so its ids may mean other text; restore it"
        )
    return tokenizer
