"""Which tokenizer a run gets: bytes, a file's, or a BPE trained on its own training text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lrope_interp.data import Corpus, Document, in_hash_order
from lrope_interp.tokenizers import ByteTokenizer, Tokenizer, TokenizerChoice

SAMPLE_BYTES = 100_000_000
_MEASURED_TOKENS = 1_000_000


def make_tokenizer(words: str, corpus: Corpus) -> Tokenizer:
    """Return the tokenizer that ``--tokenizer`` asks for.

    Args:
        words: "bytes", "bpe:N", or the path of a Hugging Face ``tokenizer.json``.
        corpus: A BPE is trained on its training documents, and sees nothing that is held out.

    Raises:
        LRopeError: A file that is missing or not lossless, or a text too small for N tokens.
    """
    choice = TokenizerChoice.of(words)
    if choice.file is not None:
        from lrope_interp.tokenizers.files import read_tokenizer_file

        return read_tokenizer_file(choice.file)
    if choice.n_vocab is None:
        return ByteTokenizer()
    from lrope_interp.tokenizers.bpe import train_bpe

    return train_bpe(tokenizer_sample(corpus), choice.n_vocab)


def tokenizer_sample(corpus: Corpus, max_bytes: int = SAMPLE_BYTES) -> Iterator[str]:
    """Yield training text, an equal share of every part, in the order of the documents' hashes."""
    share = max(1, max_bytes // len(corpus.parts))
    for part in corpus.parts:
        yield from _first_bytes(corpus.documents("train", part=part.name), share)


def _first_bytes(documents: Sequence[Document], n_bytes: int) -> Iterator[str]:
    """Yield whole texts until `n_bytes`; the last one is cut."""
    left = n_bytes
    for document in in_hash_order(documents):
        if left <= 0:
            return
        text = document.text
        if document.n_bytes > left:
            text = document.encoded[:left].decode("utf-8", errors="ignore")
        left -= document.n_bytes
        yield text


def tokens_per_byte(streams: Sequence[tuple[str, np.ndarray]], tokenizer: Tokenizer) -> float:
    """Return tokens a byte of training windows, EOS left out: 1 for bytes.

    Of other tokenizers it is an estimate from up to a million tokens of every part.
    """
    if tokenizer.name == ByteTokenizer.name:
        return 1.0
    sizes = []
    for _, stream in streams:
        ids = np.asarray(stream[:_MEASURED_TOKENS]).astype(np.int64)
        n_tokens = int((ids != tokenizer.eos_id).sum())
        sizes.append(float(tokenizer.token_bytes(ids).sum()) / max(1, n_tokens))
    return 1.0 / max(float(np.mean(sizes)), 1e-9)
