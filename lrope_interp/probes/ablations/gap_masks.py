"""At which tokens a label holds: the masks of `interventions.at`, and the words that bytes stand in.

A label says what begins at a byte, and the increment there is the step taken on arriving at it: the
gap before it. Names are those of `data.LABELS`, the byte classes, and `inside_words`: every byte of a
word but its first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lrope_interp.data import BYTE_CLASSES, Document, byte_class
from lrope_interp.data.alignment import Kind, character_kinds, character_widths
from lrope_interp.data.labels.kinds import LABELS, label_gaps
from lrope_interp.data.sources.plain_text import language_of
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeTransformer

INSIDE_WORDS = "inside_words"
PLACES = (*LABELS, INSIDE_WORDS, *BYTE_CLASSES)
NO_WORD = -1


def gap_mask(model: LRopeTransformer, text: str | Document, where: str) -> Bool[Tensor, "1 pos"]:
    """Return at which tokens of one text a label holds, as `model.to_tokens(text)` gives them.

    Args:
        model: Whose tokens; EOS, which leads, is never marked. See `token_mask`.
        text: A document brings its gold words and its language along.
        where: One of `PLACES`.

    Raises:
        LRopeError: No such label, or one that cannot be known of this text or never occurs in it.
    """
    document = text if isinstance(text, Document) else Document("text", text, "given", language_of(text))
    starts = model.own_tokenizer().encode_spans(document.text)[1]
    marked = token_mask(byte_mask([document], where), starts, where)
    has_bos = model.to_tokens(document.text).shape[1] - len(starts)
    mask = np.concatenate([np.zeros(has_bos, dtype=bool), marked])
    if not mask.any():
        raise _never(where, "this text")
    return torch.from_numpy(mask)[None]


def byte_mask(documents: Sequence[Document], where: str) -> Bool[np.ndarray, " n_bytes"]:
    """Return at which bytes of the joined documents a label holds.

    Documents of which it cannot be known hold it nowhere.

    Raises:
        LRopeError: No such label; it can be known of no document, or occurs in none.
    """
    return joined_mask(documents, document_masks(documents, where), where)


def joined_mask(
    documents: Sequence[Document], masks: Sequence[Bool[np.ndarray, " _"] | None], where: str
) -> Bool[np.ndarray, " n_bytes"]:
    """Join what `document_masks` gave, nothing standing for what is not known.

    Raises:
        LRopeError: The label occurs in no document.
    """
    blank = (np.zeros(document.n_bytes, dtype=bool) for document in documents)
    found = [empty if mask is None else mask for mask, empty in zip(masks, blank, strict=True)]
    joined = np.concatenate([np.zeros(0, dtype=bool), *found])
    if not joined.any():
        raise _never(where, "this text" if len(documents) == 1 else f"the {len(documents)} documents")
    return joined


def document_masks(documents: Sequence[Document], where: str) -> list[Bool[np.ndarray, " n_bytes"] | None]:
    """Return at which bytes of each document a label holds, None where it cannot be known.

    Raises:
        LRopeError: No such label, or it can be known of no document.
    """
    if where not in PLACES:
        raise unknown("place", where, PLACES)
    found, problems = [], []
    for document in documents:
        try:
            found.append(_mask(document, where))
        except LRopeError as error:
            problems.append(str(error))
            found.append(None)
    if problems and len(problems) == len(documents):
        raise LRopeError(problems[0])
    return found


def token_mask(
    is_marked: Bool[np.ndarray, " n_bytes"], starts: Int64[np.ndarray, " n_tokens"], where: str
) -> Bool[np.ndarray, " n_tokens"]:
    """Return which tokens a label marks, where tokens may be longer than a byte.

    A label marks the token that holds its gap, even inside (" the" begins a word). A byte class goes by
    the first byte, and `inside_words` marks tokens all of whose bytes are marked.

    Args:
        is_marked: At which bytes it holds.
        starts: Where each token begins.
        where: The label's name.
    """
    if where in BYTE_CLASSES:
        return is_marked[starts]
    combine = np.logical_and if where == INSIDE_WORDS else np.logical_or
    return combine.reduceat(is_marked, starts) if len(starts) else np.zeros(0, dtype=bool)


def words_of(documents: Sequence[Document]) -> Int64[np.ndarray, " n_bytes"]:
    """Return the number of the word that each joined byte stands in; -1 between words and where unknown."""
    n_words, found = 0, []
    for document in documents:
        try:
            words = _words(document)
        except LRopeError:
            words = np.full(document.n_bytes, NO_WORD)
        found.append(np.where(words == NO_WORD, NO_WORD, words + n_words))
        n_words += int(words.max(initial=NO_WORD)) + 1
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])


def bytes_since(
    is_boundary: Bool[np.ndarray, " n"], document: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Return how many bytes ago the last boundary was, 0 at one; -1 before the first of a document."""
    at = np.arange(len(is_boundary))
    last = np.maximum.accumulate(np.where(is_boundary, at, -1))
    is_same = (last >= 0) & (document[np.maximum(last, 0)] == document)
    return np.where(is_same, at - last, -1)


def _mask(document: Document, where: str) -> Bool[np.ndarray, " n_bytes"]:
    if where in BYTE_CLASSES:
        return byte_class(document.text) == BYTE_CLASSES.index(where)
    if where == INSIDE_WORDS:
        return (_words(document) != NO_WORD) & ~label_gaps(document, "words").is_boundary
    return label_gaps(document, where).is_boundary


def _words(document: Document) -> Int64[np.ndarray, " n_bytes"]:
    """Number the words of one document: from a word start to what is no letter, mark or number."""
    is_start = label_gaps(document, "words").is_boundary
    kinds = character_kinds(document.text)
    in_word = np.repeat((kinds & Kind.WORD) != 0, character_widths(document.text))
    number = np.cumsum(is_start) - 1
    return np.where(in_word & (number >= 0), number, NO_WORD)


def _never(where: str, what: str) -> LRopeError:
    return LRopeError(
        f"{where} never occurs in {what}, so there is nothing to intervene at; choose another label"
    )
