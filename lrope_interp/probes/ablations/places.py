"""The places of a text at which interventions are made, token by token, and how many gaps each has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int64

from lrope_interp.errors import LRopeError
from lrope_interp.probes.ablations.gap_masks import (
    bytes_since,
    document_masks,
    joined_mask,
    token_mask,
    words_of,
)
from lrope_interp.probes.ablations.plan import RANDOM
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.results import table

LOCAL_PLACES = ("words", "despaced", "tokens", "lines", "punctuation", "whitespace")
_COLUMNS = ("where", "n_gaps", "n_tokens", "n_known", "n_documents")


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
        return [name for name in names if self._occurs(name)]

    def local(self, asked: str) -> str | None:
        """Return at which gaps local edits are made: as asked for, or the first place that occurs, if any."""
        if asked:
            self.mask(asked)
            return asked
        return next(iter(self.occurring(LOCAL_PLACES)), None)

    def since(self, where: str) -> Int64[np.ndarray, " n_bytes"]:
        """Return how many bytes ago the last marked token began, -1 before the first of a document."""
        is_boundary = np.zeros(self._captured.n_bytes, dtype=bool)
        is_boundary[self._captured.token_starts[self.mask(where)]] = True
        return bytes_since(is_boundary, self._captured.document)

    def words(self) -> Int64[np.ndarray, " n_tokens"]:
        """Return the number of the word that each token stands in, the last one of several; -1 for none."""
        words, starts = words_of(self._captured.documents), self._captured.token_starts
        return np.maximum.reduceat(words, starts) if len(starts) else words

    def frame(self, names: Sequence[str]) -> pd.DataFrame:
        """Return how many gaps each place has, and in how many documents it can be known."""
        n_documents = len(self._captured.documents)
        rows = [
            {
                "where": name,
                "n_gaps": int(self.mask(name).sum()),
                "n_tokens": len(self._captured.tokens),
                "n_known": self._n_known[name.removeprefix(RANDOM)],
                "n_documents": n_documents,
            }
            for name in names
        ]
        return table(rows, _COLUMNS)

    def _labelled(self, where: str) -> Bool[np.ndarray, " n_tokens"]:
        by_document = document_masks(self._captured.documents, where)
        self._n_known[where] = sum(mask is not None for mask in by_document)
        marked = joined_mask(self._captured.documents, by_document, where)
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
        digest = int.from_bytes(hashlib.blake2b(where.encode(), digest_size=8).digest(), "little")
        draw = np.random.Generator(np.random.Philox(key=np.array([self._seed, digest], dtype=np.uint64)))
        mask = np.zeros(len(is_free), dtype=bool)
        mask[draw.choice(free, size=min(n_wanted, len(free)), replace=False)] = True
        return mask

    def _occurs(self, name: str) -> bool:
        try:
            self.mask(name)
        except LRopeError:
            return False
        return True
