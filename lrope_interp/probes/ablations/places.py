"""The places of a text at which interventions are made: where labels hold, token by token.

A label says what begins at a byte, and the increment there is the step taken on arriving at it: the
gap before it. Names are those of `data.LABELS`, the byte classes, and `inside_words`: every byte of a
word but its first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lrope_interp.data import BYTE_CLASSES, Document, byte_class
from lrope_interp.data.alignment import Kind, character_kinds, character_widths
from lrope_interp.data.labels.kinds import LABELS, label_gaps
from lrope_interp.data.sources.plain_text import language_of
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablations.interventions import generator
from lrope_interp.probes.ablations.plan import RANDOM
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.results import table

INSIDE_WORDS = "inside_words"
PLACES = (*LABELS, INSIDE_WORDS, *BYTE_CLASSES)
LOCAL_PLACES = ("words", "despaced", "tokens", "lines", "punctuation", "whitespace")
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
    marked = token_mask(byte_mask([document], where)[0], starts, where)
    has_bos = model.to_tokens(document.text).shape[1] - len(starts)
    mask = np.concatenate([np.zeros(has_bos, dtype=bool), marked])
    if not mask.any():
        raise _never(where, "this text")
    return torch.from_numpy(mask)[None]


class Places:
    """Where labels hold in some documents; each is looked up once.

    Args:
        captured: The documents and their tokens.
        seed: Of random places.
    """

    def __init__(self, captured: Captured, seed: int) -> None:
        self._captured, self._seed = captured, seed
        self._masks: dict[str, Bool[np.ndarray, " n_tokens"]] = {}
        self._n_known: dict[str, int] = {}

    def mask(self, where: str) -> Bool[np.ndarray, " n_tokens"]:
        """Return at which tokens a place is.

        Raises:
            LRopeError: No such place, or it is nowhere in the text.
        """
        if where not in self._masks:
            is_random = where.startswith(RANDOM)
            self._masks[where] = self._random(where) if is_random else self._labelled(where)
        return self._masks[where]

    def occurring(self, names: Sequence[str]) -> list[str]:
        """Return those of some places that occur."""
        found = []
        for name in names:
            try:
                self.mask(name)
            except LRopeError:
                continue
            found.append(name)
        return found

    def since(self, where: str | None) -> Int64[np.ndarray, " n_bytes"]:
        """Return how many bytes ago the last marked token began, -1 before the first of a document."""
        is_boundary = np.zeros(self._captured.n_bytes, dtype=bool)
        if where is not None:
            is_boundary[self._captured.token_starts[self.mask(where)]] = True
        return bytes_since(is_boundary, self._captured.document)

    def words(self) -> Int64[np.ndarray, " n_tokens"]:
        """Return the number of the word that each token stands in, the last one of several; -1 for none."""
        words, starts = words_of(self._captured.documents), self._captured.token_starts
        return np.maximum.reduceat(words, starts) if len(starts) else words

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Return how many gaps each place has, and in how many documents it can be known."""
        rows = [
            {
                "where": name,
                "n_gaps": int(self.mask(name).sum()),
                "n_tokens": len(self._captured.tokens),
                "n_known": self._n_known[name.removeprefix(RANDOM)],
                "n_documents": len(self._captured.documents),
            }
            for name in names
        ]
        return table(rows, ("where", "n_gaps", "n_tokens", "n_known", "n_documents"))

    def _labelled(self, where: str) -> Bool[np.ndarray, " n_tokens"]:
        marked, self._n_known[where] = byte_mask(self._captured.documents, where)
        mask = token_mask(marked, self._captured.token_starts, where)
        if not mask.any():
            raise LRopeError(
                f"{where} holds at {int(marked.sum())} bytes, but of no whole token of this model, so there "
                "is nothing to intervene at; choose another label"
            )
        return mask

    def _random(self, where: str) -> Bool[np.ndarray, " n_tokens"]:
        """Draw as many tokens as the place has, the first of each document left out."""
        n_wanted = int(self.mask(where.removeprefix(RANDOM)).sum())
        is_free = np.ones(len(self._captured.tokens), dtype=bool)
        is_free[self._captured.token_offsets[:-1][np.diff(self._captured.token_offsets) > 0]] = False
        free = np.flatnonzero(is_free)
        draw = generator(self._seed, where.encode())
        mask = np.zeros(len(is_free), dtype=bool)
        mask[draw.choice(free, size=min(n_wanted, len(free)), replace=False)] = True
        return mask


def byte_mask(documents: Sequence[Document], where: str) -> tuple[Bool[np.ndarray, " n_bytes"], int]:
    """Return at which bytes of the joined documents a label holds, and of how many it can be known.

    Documents of which it cannot be known hold it nowhere.

    Raises:
        LRopeError: No such label; it can be known of no document, or occurs in none.
    """
    if where not in PLACES:
        raise unknown("place", where, PLACES)
    found, problems = [np.zeros(0, dtype=bool)], []
    for document in documents:
        try:
            if where in BYTE_CLASSES:
                mask = byte_class(document.text) == BYTE_CLASSES.index(where)
            elif where == INSIDE_WORDS:
                mask = (_words(document) != NO_WORD) & ~label_gaps(document, "words").is_boundary
            else:
                mask = label_gaps(document, where).is_boundary
        except LRopeError as error:
            problems.append(str(error))
            mask = np.zeros(document.n_bytes, dtype=bool)
        found.append(mask)
    if problems and len(problems) == len(documents):
        raise LRopeError(problems[0])
    joined = np.concatenate(found)
    if not joined.any():
        what = "this text" if len(documents) == 1 else f"the {len(documents)} documents"
        raise _never(where, what)
    return joined, len(documents) - len(problems)


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
    n_words, found = 0, [np.zeros(0, dtype=np.int64)]
    for document in documents:
        try:
            words = _words(document)
        except LRopeError:
            words = np.full(document.n_bytes, NO_WORD)
        found.append(np.where(words == NO_WORD, NO_WORD, words + n_words))
        n_words += int(words.max(initial=NO_WORD)) + 1
    return np.concatenate(found)


def bytes_since(
    is_boundary: Bool[np.ndarray, " n"], document: Int64[np.ndarray, " n"]
) -> Int64[np.ndarray, " n"]:
    """Return how many bytes ago the last boundary was, 0 at one; -1 before the first of a document."""
    at = np.arange(len(is_boundary))
    last = np.maximum.accumulate(np.where(is_boundary, at, -1))
    is_same = (last >= 0) & (document[np.maximum(last, 0)] == document)
    return np.where(is_same, at - last, -1)


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
