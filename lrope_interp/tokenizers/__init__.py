"""Text to token ids and back: bytes, a byte-level BPE trained on the text, or a Hugging Face file."""

from lrope_interp.tokenizers.byte_level import EOS_ID, ByteTokenizer, Tokenizer
from lrope_interp.tokenizers.files import (
    BYTES,
    MAX_VOCAB,
    MIN_VOCAB,
    TOKENIZER_FILE,
    TOKENIZER_FORMAT,
    as_tokenizer,
    chosen_tokenizer,
    load_tokenizer,
)

__all__ = [
    "BYTES",
    "EOS_ID",
    "MAX_VOCAB",
    "MIN_VOCAB",
    "TOKENIZER_FILE",
    "TOKENIZER_FORMAT",
    "ByteTokenizer",
    "Tokenizer",
    "as_tokenizer",
    "chosen_tokenizer",
    "load_tokenizer",
]
