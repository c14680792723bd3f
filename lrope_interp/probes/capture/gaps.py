"""Where the gaps of some documents are, what is true of them, and how a signal meets a character.

A gap is the place before byte t > 0 of a document and carries t's number. Everything here is
indexed by the bytes of all documents joined end to end, as in `capture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Int64, Num

from lrope_interp.data import Document, byte_to_character, character_widths
from lrope_interp.data.labels.kinds import STRATA, label_gaps, stratum_masks
from lrope_interp.errors import LRopeError
from lrope_interp.probes.statistics.bootstrap import Units

ALIGNMENTS = ("lead", "last", "sum")


@dataclass(frozen=True)
class Label:
    """One reference label at every byte.

    Attributes:
        is_boundary: Whether the label holds; False where it is not known.
        is_known: Whether the document could be labelled at all.
        grades: "rule", "gold" or "silver" by document; "" where it could not be labelled.
        problems: Why documents could not be labelled.
    """

    is_boundary: Bool[np.ndarray, " n_bytes"]
    is_known: Bool[np.ndarray, " n_bytes"]
    grades: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Characters:
    """Characters of joined text: where each begins, and the tokens that begin in it.

    Attributes:
        first: The first byte of each.
        width: How many bytes it has.
        last: The first byte of the token that holds its last byte.
        n_tokens: How many tokens begin in it: its bytes, where tokens are bytes.
        of_byte: The character of each byte.
        is_token_start: Whether a token begins at each byte; None where every byte is a token.
    """

    first: Int64[np.ndarray, " characters"]
    width: Int64[np.ndarray, " characters"]
    last: Int64[np.ndarray, " characters"]
    n_tokens: Int64[np.ndarray, " characters"]
    of_byte: Int64[np.ndarray, " n_bytes"]
    is_token_start: Bool[np.ndarray, " n_bytes"] | None = None

    @classmethod
    def of(
        cls, documents: Sequence[Document], is_token_start: Bool[np.ndarray, " n_bytes"] | None = None
    ) -> Characters:
        """Find the characters of documents joined end to end, and their tokens."""
        empty = np.zeros(0, dtype=np.int64)
        width = np.concatenate([empty, *[character_widths(document.text) for document in documents]])
        first, of_byte = np.cumsum(width) - width, np.repeat(np.arange(len(width)), width)
        if is_token_start is None:
            return cls(first, width, first + width - 1, width, of_byte)
        starts = np.flatnonzero(is_token_start)
        last = starts[np.searchsorted(starts, first + width - 1, side="right") - 1]
        n_tokens = np.bincount(of_byte[starts], minlength=len(width))
        return cls(first, width, last, n_tokens, of_byte, is_token_start)

    def align(
        self, values: Num[np.ndarray, " n_bytes"], gaps: Int[np.ndarray, " n"], how: str
    ) -> Num[np.ndarray, " n"]:
        """Return one number for the character at each gap: of its first token, its last, or the sum."""
        if how == "lead":
            return values[gaps]
        at = self.of_byte[gaps]
        if how == "last":
            return values[self.last[at]]
        if self.is_token_start is not None:
            values = np.where(self.is_token_start, values, values.dtype.type(0))
        return np.add.reduceat(values, self.first)[at]


@dataclass(frozen=True)
class Field:
    """The gaps of one stratum, and the labels that are known at all of them.

    Attributes:
        stratum: Its name.
        gaps: Which bytes.
        units: What a bootstrap draws.
        labels: Whether each gap is a boundary, by label.
        alignments: Which alignments differ here.
    """

    stratum: str
    gaps: Int64[np.ndarray, " n"]
    units: Units
    labels: dict[str, Bool[np.ndarray, " n"]]
    alignments: tuple[str, ...]


@dataclass(frozen=True)
class Gaps:
    """All gaps of one split.

    Attributes:
        documents: The documents, joined end to end in this order.
        document: The number of the document of each byte.
        t: The place of each byte in its document.
        character: The number of its character in its document.
        characters: The characters of the joined text.
        is_shared: Whether the byte lies in a 64-byte shingle that training text has too.
        is_inside_token: Whether the gap before the byte lies inside a token: the model steps over it
            and says nothing of it, so that it is in no stratum.
        labels: By name.
        strata: Which gaps are scored in each stratum: never the one before a document's first
            byte, never a shared one, never one inside a token.
    """

    documents: tuple[Document, ...]
    document: Int64[np.ndarray, " n_bytes"]
    t: Int64[np.ndarray, " n_bytes"]
    character: Int64[np.ndarray, " n_bytes"]
    characters: Characters
    is_shared: Bool[np.ndarray, " n_bytes"]
    is_inside_token: Bool[np.ndarray, " n_bytes"]
    labels: dict[str, Label]
    strata: dict[str, Bool[np.ndarray, " n_bytes"]]

    @classmethod
    def of(
        cls,
        documents: Sequence[Document],
        labels: Sequence[str],
        shared: Sequence[Bool[np.ndarray, " _"]] | None = None,
        is_token_start: Bool[np.ndarray, " n_bytes"] | None = None,
    ) -> Gaps:
        """Find and label the gaps of `documents`.

        Args:
            documents: They are joined end to end.
            labels: Which boundaries.
            shared: Bytes to leave out, by document.
            is_token_start: Whether a token begins at each of the joined bytes; None where every byte
                is a token.
        """
        lengths = [document.n_bytes for document in documents]
        masks = shared if shared is not None else [np.zeros(n, dtype=bool) for n in lengths]
        is_shared = _join(masks, bool)
        is_inside = np.zeros(len(is_shared), dtype=bool) if is_token_start is None else ~is_token_start
        return cls(
            documents=tuple(documents),
            document=np.repeat(np.arange(len(documents)), lengths),
            t=_join([np.arange(n) for n in lengths], np.int64),
            character=_join([byte_to_character(document.text) for document in documents], np.int64),
            characters=Characters.of(documents, is_token_start),
            is_shared=is_shared,
            is_inside_token=is_inside,
            labels={label: _label(documents, label) for label in labels},
            strata={name: mask & ~is_shared & ~is_inside for name, mask in _strata(documents).items()},
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of the documents, sorted."""
        return tuple(sorted({document.language for document in self.documents}))

    @property
    def unscored(self) -> Bool[np.ndarray, " n_bytes"]:
        """Gaps between characters that would be scored, were they not inside a token."""
        is_first = np.zeros(len(self.t), dtype=bool)
        is_first[self.characters.first] = True
        return is_first & (self.t > 0) & ~self.is_shared & self.is_inside_token

    def fields(self) -> list[Field]:
        """Return the gaps to score: one field a stratum, and one more for each label known in part."""
        found = []
        for stratum, mask in self.strata.items():
            everywhere = [name for name, label in self.labels.items() if label.is_known[mask].all()]
            partly = [[name] for name in self.labels if name not in everywhere]
            for names in [everywhere, *partly]:
                inside = mask & self.labels[names[0]].is_known if names else mask
                if names and inside.any():
                    found.append(self._field(stratum, np.flatnonzero(inside), names))
        return found

    def _field(self, stratum: str, gaps: Int64[np.ndarray, " n"], labels: Sequence[str]) -> Field:
        is_plain = stratum == "bytes" or (self.characters.n_tokens[self.characters.of_byte[gaps]] == 1).all()
        return Field(
            stratum=stratum,
            gaps=gaps,
            units=Units.of(self.document[gaps]),
            labels={name: self.labels[name].is_boundary[gaps] for name in labels},
            alignments=ALIGNMENTS[:1] if is_plain else ALIGNMENTS,
        )


def _strata(documents: Sequence[Document]) -> dict[str, Bool[np.ndarray, " n_bytes"]]:
    """Join the strata of all documents, and add one a language where there are several."""
    masks = [stratum_masks(document) for document in documents]
    strata = {name: _join([mask[name] for mask in masks], bool) for name in STRATA}
    languages = sorted({document.language for document in documents})
    for language in languages if len(languages) > 1 else []:
        own = [
            mask["characters"] & (document.language == language)
            for mask, document in zip(masks, documents, strict=True)
        ]
        strata[language] = _join(own, bool)
    return strata


def _label(documents: Sequence[Document], name: str) -> Label:
    """Label what can be labelled; a document that cannot be leaves its reason."""
    boundaries, known, grades, problems = [], [], [], []
    for document in documents:
        try:
            labels = label_gaps(document, name)
        except LRopeError as error:
            problems.append(str(error))
            labels = None
        boundaries.append(np.zeros(document.n_bytes, dtype=bool) if labels is None else labels.is_boundary)
        known.append(np.full(document.n_bytes, labels is not None))
        grades.append("" if labels is None else labels.grade)
    return Label(_join(boundaries, bool), _join(known, bool), tuple(grades), tuple(dict.fromkeys(problems)))


def _join(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays])
