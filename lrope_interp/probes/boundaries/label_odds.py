"""How often a boundary stands before a character, and between two, in labelled text.

It is what a lookup table of characters says about a label; a signal that adds nothing to it has
found characters, not structure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Int64

from lrope_interp.data import Document, in_hash_order, label_gaps, piece_of
from lrope_interp.errors import LRopeError
from lrope_interp.probes.boundaries.branching import PAD, JoinedText
from lrope_interp.probes.statistics.suffixes import find, paired, runs_of

MAX_BYTES = 4_000_000
SILVER_COST = 3
"""A byte that another program labels counts as so many: jieba reads about half a megabyte a second."""
PSEUDO_COUNT = 1.0


@dataclass(frozen=True)
class Rates:
    """The share of boundaries at each of some keys, shrunk towards a wider share.

    Attributes:
        keys: Sorted.
        n_boundaries: At each key.
        n: Gaps at each key.
    """

    keys: Int64[np.ndarray, " keys"]
    n_boundaries: Int64[np.ndarray, " keys"]
    n: Int64[np.ndarray, " keys"]

    @classmethod
    def of(cls, keys: Int64[np.ndarray, " gaps"], is_boundary: Bool[np.ndarray, " gaps"]) -> Rates:
        """Count gaps and boundaries by key."""
        order = np.argsort(keys)
        first, counts = runs_of(keys[order])
        hits = np.concatenate([[0], np.cumsum(is_boundary[order])])
        return cls(keys[order[first]], hits[first + counts] - hits[first], counts)

    def at(
        self, keys: Int64[np.ndarray, " gaps"], wider: Float64[np.ndarray, " gaps"]
    ) -> Float64[np.ndarray, " gaps"]:
        """Return (boundaries + k * wider) / (gaps + k) with k = `PSEUDO_COUNT`; `wider` at an unknown key."""
        at = find(self.keys, keys)
        hits, n = np.append(self.n_boundaries, 0)[at], np.append(self.n, 0)[at]
        return (hits + PSEUDO_COUNT * wider) / (n + PSEUDO_COUNT)


@dataclass(frozen=True)
class LabelOdds:
    """Log-odds of a boundary given the character after the gap, and given those on both sides.

    The share at a pair of characters is shrunk towards that of the second one, and that towards the
    base rate, each as if one more gap had been seen with the wider share (a Dirichlet hierarchy as
    in MacKay and Peto 1995, with a fixed strength). The base rate counts half a boundary and half
    another gap more than there are, so that nothing is infinite.

    Attributes:
        base_rate: The share of boundaries among gaps between characters.
        unigrams: By the character after the gap.
        bigrams: By both.
        n_bytes: Bytes that were labelled for it.
    """

    base_rate: float
    unigrams: Rates
    bigrams: Rates
    n_bytes: int

    @classmethod
    def of(cls, documents: Iterable[Document], label: str, max_bytes: int = MAX_BYTES) -> LabelOdds | None:
        """Count a label in training text; None where not one document can be labelled.

        Args:
            documents: A sequence; one on disk is read one document at a time.
            label: See `data.label_gaps`.
            max_bytes: The most to read, in the order of hashes. Bytes of a document whose label is
                silver count three times. What cannot be labelled counts too.
        """
        texts, boundaries = [], []
        left = max_bytes
        for document in in_hash_order(documents):
            piece = piece_of(document, left)
            cost = piece.n_bytes
            with suppress(LRopeError):  # it cannot be labelled
                found = label_gaps(piece, label)
                cost *= SILVER_COST if found.grade == "silver" else 1
                if piece.text:
                    texts.append(JoinedText.of([piece]))
                    boundaries.append(found.is_boundary[texts[-1].first_byte])
            left -= cost
            if piece is not document or left <= 0:
                break
        if not texts:
            return None
        points, places = (
            np.concatenate([getattr(one, name) for one in texts]) for name in ("point", "place")
        )
        text = JoinedText(points, places)
        return cls._counted(text, np.concatenate(boundaries), text.follows)

    @classmethod
    def _counted(
        cls,
        text: JoinedText,
        is_boundary: Bool[np.ndarray, " characters"],
        is_counted: Bool[np.ndarray, " characters"],
    ) -> LabelOdds:
        unigram, bigram = (keys[is_counted] for keys in _keys(text))
        hits = is_boundary[is_counted]
        return cls(
            base_rate=float((hits.sum() + 0.5) / (len(hits) + 1)),
            unigrams=Rates.of(unigram, hits),
            bigrams=Rates.of(bigram, hits),
            n_bytes=text.n_bytes,
        )

    def of_documents(self, documents: Sequence[Document]) -> Float64[np.ndarray, "n_bytes 2"]:
        """Return the log-odds by character and by both characters at every byte.

        They stand at first bytes. Within a character stand the lowest values of these documents: no
        boundary lies there. At the start of a document both are those of its first character.
        """
        text = JoinedText.of(documents)
        odds = self._at_characters(text)
        return text.at_first_bytes(odds, odds.min(axis=0, initial=self._log_odds_of_base()))

    def _at_characters(self, text: JoinedText) -> Float64[np.ndarray, "characters 2"]:
        unigram, bigram = _keys(text)
        alone = self.unigrams.at(unigram, np.full(len(unigram), self.base_rate))
        shares = np.stack([alone, self.bigrams.at(bigram, alone)], axis=1)
        return np.log(shares) - np.log1p(-shares)

    def _log_odds_of_base(self) -> float:
        return float(np.log(self.base_rate) - np.log1p(-self.base_rate))


def cross_fitted(
    documents: Sequence[Document],
    is_boundary: Bool[np.ndarray, " n"],
    gaps: Int[np.ndarray, " n"],
    n_folds: int = 5,
) -> Float64[np.ndarray, "n 2"]:
    """Return log-odds at gaps, each counted on the documents of the other folds.

    It is for labels that training text does not have. Documents go to folds by the rank of their
    hash, pieces of one document to the same fold; a fold's own boundaries never enter its values.
    With a single document there is nothing to count on, and everything is 0.

    Args:
        documents: Joined end to end.
        is_boundary: Whether each gap is a boundary.
        gaps: The byte after each gap; each byte at most once. One within a character is not counted and
            gets the lowest value of its fold.
        n_folds: At most; never more than there are different documents.
    """
    if n_folds < 2:
        raise LRopeError(f"cross-fitting needs at least 2 folds, got {n_folds}")
    text, names = JoinedText.of(documents), [document.source_sha256 for document in documents]
    # Whole documents go to folds in the order of their hashes; equal ones go together.
    rank = {name: number for number, name in enumerate(sorted(set(names)))}
    fold = np.array([rank[name] % n_folds for name in names], dtype=np.int64)
    of_byte = np.repeat(np.arange(len(text.point)), text.width)
    character, is_first = of_byte[gaps], text.first_byte[of_byte[gaps]] == gaps
    fold_of = np.repeat(fold, [len(document.text) for document in documents])
    hits, is_counted = np.zeros((2, len(text.point)), dtype=bool)
    hits[character[is_first]], is_counted[character[is_first]] = is_boundary[is_first], True
    out = np.zeros((len(gaps), 2))
    for one in np.unique(fold):
        others = LabelOdds._counted(text, hits, is_counted & text.follows & (fold_of != one))
        own = fold_of[character] == one
        odds = others._at_characters(text)
        lowest = odds[fold_of == one].min(axis=0, initial=others._log_odds_of_base())
        out[own] = np.where(is_first[own, None], odds[character[own]], lowest)
    return out


def _keys(text: JoinedText) -> tuple[Int64[np.ndarray, " characters"], Int64[np.ndarray, " characters"]]:
    """Return keys of each character, and of it with the one before; documents begin after `PAD`."""
    before = np.full(len(text.point), PAD)
    at = np.flatnonzero(text.follows)
    before[at] = text.point[at - 1]
    return text.point.astype(np.int64), paired(before, text.point)
