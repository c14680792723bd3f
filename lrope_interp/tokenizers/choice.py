"""What ``--tokenizer`` asks for, read and checked before anything is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lrope_interp.errors import LRopeError

BYTES = "bytes"
MIN_VOCAB = 258
"""256 bytes, EOS, and one merge."""
MAX_VOCAB = 65_536
"""Of what `bpe:N` trains: training text is then kept in 16 bits a token."""
MOST_TOKENS = 1_000_000
"""Of a file: several times the largest vocabularies in use, and few enough to lay out."""


@dataclass(frozen=True)
class TokenizerChoice:
    """Bytes, a BPE to train, or a file to read: `n_vocab` and `file` are None where not asked for."""

    n_vocab: int | None = None
    file: Path | None = None

    @classmethod
    def of(cls, words: str) -> TokenizerChoice:
        """Read ``bytes``, ``bpe:N`` or the path of a Hugging Face ``tokenizer.json``.

        Raises:
            LRopeError: Anything else, or an N out of range. Whether the file is there and fit is
                found when it is read.
        """
        if words == BYTES:
            return cls()
        if words.startswith("bpe:"):
            return cls(n_vocab=_size(words))
        if words.endswith(".json"):
            return cls(file=Path(words).expanduser())
        raise LRopeError(
            f"unknown tokenizer {words!r}; wanted bytes, bpe:N (as in bpe:8000), or the path of a Hugging "
            "Face tokenizer file that ends in .json"
        )


def _size(words: str) -> int:
    digits = words.removeprefix("bpe:")
    n_vocab = int(digits) if re.fullmatch(r"[0-9]{1,9}", digits) else -1
    if not MIN_VOCAB <= n_vocab <= MAX_VOCAB:
        raise LRopeError(
            f"{words!r}: bpe:N wants an N from {MIN_VOCAB} (256 bytes, <eos> and one merge) to "
            f"{MAX_VOCAB:,}; bpe:8000 is usual here"
        )
    return n_vocab
