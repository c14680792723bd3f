"""What spans look like without any model: their bytes, their characters, their length and place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, Int64
from scipy import sparse

from lrope_interp.data import Document
from lrope_interp.data.spans.typed import Spans
from lrope_interp.probes.concepts.span_features import SpanTokens, token_window

LONGEST_NGRAM = 3
MOST_NGRAMS = 20_000
_LENGTHS = 24


def byte_window(tokens: Int[np.ndarray, " n_tokens"], at: SpanTokens, d_vocab: int) -> sparse.csr_matrix:
    """Return the ids in and around every span, one-hot by place: what any look-up of bytes can know.

    Args:
        tokens: The joined ids (bytes, in a byte model).
        at: Where the spans are.
        d_vocab: Number of ids; one more stands for "nothing there".
    """
    window = token_window(tokens, at, nothing=d_vocab)
    columns = window + np.arange(window.shape[1]) * (d_vocab + 1)
    return _one_hot(columns, window.shape[1] * (d_vocab + 1))


def ngrams(texts: Sequence[str], is_train: Bool[np.ndarray, " n"]) -> sparse.csr_matrix:
    """Return which character n-grams (1 to 3, case as it is) each span has, and which whole text it is.

    The vocabulary is that of the train spans: the 20,000 commonest n-grams, and every text.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(
        analyzer="char",
        lowercase=False,
        ngram_range=(1, LONGEST_NGRAM),
        binary=True,
        max_features=MOST_NGRAMS,
    )
    counter.fit(_where(texts, is_train))
    found = sparse.csr_matrix(counter.transform(texts), dtype=np.float32)
    known = {text: number for number, text in enumerate(sorted({*_where(texts, is_train)}))}
    number = np.array([known.get(text, len(known)) for text in texts], dtype=np.int64)
    whole = _one_hot(number[:, None], len(known) + 1)[:, : len(known)]
    return sparse.csr_matrix(sparse.hstack([found, whole]))


def static_position(documents: Sequence[Document], spans: Spans) -> Float32[np.ndarray, "n features"]:
    """Return length and place of every span: in bytes, in characters, and since the line began."""
    first, past = spans.bytes_of(documents)
    sizes = np.array([one.n_bytes for one in documents], dtype=np.int64)
    t = first - (np.cumsum(sizes) - sizes)[spans.document]
    n_bytes, n_characters = past - first, spans.end - spans.start
    in_line = _since_line(documents, spans)
    columns = [t, np.log1p(t), t / sizes[spans.document], in_line, np.log1p(in_line)]
    columns += [n_bytes, np.log(n_bytes), n_characters, np.log(n_characters)]
    lengths = np.minimum(n_characters, _LENGTHS)[:, None] == np.arange(1, _LENGTHS + 1)
    return np.concatenate([np.stack(columns, axis=1), lengths], axis=1).astype(np.float32)


def _since_line(documents: Sequence[Document], spans: Spans) -> Int64[np.ndarray, " n"]:
    """Return how many characters of its line stand before each span."""
    rows = zip(spans.document.tolist(), spans.start.tolist(), strict=True)
    return np.array(
        [start - 1 - documents[number].text.rfind("\n", 0, start) for number, start in rows], dtype=np.int64
    )


def _where(texts: Sequence[str], mask: Bool[np.ndarray, " n"]) -> list[str]:
    return [text for text, is_own in zip(texts, mask, strict=True) if is_own]


def _one_hot(columns: Int64[np.ndarray, "n places"], width: int) -> sparse.csr_matrix:
    """Return a row of ones and zeros for each row of column numbers."""
    n, places = columns.shape
    ones = np.ones(n * places, dtype=np.float32)
    return sparse.csr_matrix((ones, columns.ravel(), np.arange(0, n * places + 1, places)), shape=(n, width))
