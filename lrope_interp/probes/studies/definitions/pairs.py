"""Which pairs of names are compared: definitions with their uses, and pairs that are like them in distance.

A pair goes from the last byte of one name to the last byte of a later one, so that both ends are
alike whatever is compared. A control is drawn from the same document, at the same token distance, with
about as many line ends between, and ends in bytes of the same class at both ends.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document, byte_class, character_starts, label_gaps
from lrope_interp.data.spans.definitions import KINDS, Definitions, definitions_of
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.captured import Captured

NAMES, REPEATED, ROLES = CONTROLS = ("names", "same_name", "roles")
"""Controls: any two different names; two uses of one definition; a definition and the use of another name."""

N_CONTROLS = 5
_TOLERANCE = {NAMES: 0.0, REPEATED: 0.1, ROLES: 0.1}
_IDENTIFIER = re.compile(r"[^\W\d]\w*(?![\w\"'])")

Index = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of tokens of some documents.

    Attributes:
        document: Number of the document of each.
        first: The token of the document that holds the last byte of the earlier name.
        last: That of the later one.
        n_lines: Line ends between.
        byte: The byte of the document at which the later name ends.
        group: Both ends' classes of bytes, as one number.
    """

    document: Index
    first: Index
    last: Index
    n_lines: Index
    byte: Index
    group: Index

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.first)

    @property
    def n_tokens(self) -> Index:
        """Tokens from the one to the other."""
        return self.last - self.first

    def take(self, rows: Index | Bool[np.ndarray, " _"]) -> Pairs:
        """Return some of them."""
        return Pairs(*(getattr(self, name)[rows] for name in _COLUMNS))

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Put pairs one after the other."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(*(np.concatenate([empty, *(getattr(one, name) for one in parts)]) for name in _COLUMNS))


_COLUMNS = ("document", "first", "last", "n_lines", "byte", "group")


@dataclass(frozen=True)
class Matched:
    """Controls of one kind.

    Attributes:
        pairs: The control pairs.
        owner: Which of the definition-use pairs each belongs to.
    """

    pairs: Pairs
    owner: Index


class DocumentNames:
    """All names of one document, keywords left out: where each ends, in tokens."""

    def __init__(self, captured: Captured, number: int, is_shared: Bool[np.ndarray, " n_bytes"]) -> None:
        document = captured.documents[number]
        self.number, self.found = number, definitions_of(document)
        spans = _identifiers(document)
        first_byte = np.append(character_starts(document.text), document.n_bytes)
        ends = np.array([first_byte[end] for _, end in spans], dtype=np.int64) - 1
        at = slice(*captured.token_offsets[number : number + 2].tolist())
        starts = captured.token_starts[at] - captured.offsets[number]
        self.at = {start: index for index, (start, _) in enumerate(spans)}
        texts = [document.text[start:end] for start, end in spans]
        self.name = np.unique(np.array(texts, dtype=str), return_inverse=True)[1]
        self.byte = ends
        self.token = np.searchsorted(starts, ends, side="right") - 1
        raw = np.frombuffer(document.encoded, dtype=np.uint8)
        self.line = np.cumsum(raw == ord("\n"))[ends]
        self.kind = byte_class(document.text)[ends].astype(np.int64)
        self.n_shared = np.concatenate([[0], np.cumsum(is_shared)])

    def pairs(self, i: Index, j: Index) -> Pairs:
        """Return pairs of the names i and j."""
        return Pairs(
            np.full(len(i), self.number),
            self.token[i],
            self.token[j],
            self.line[j] - self.line[i],
            self.byte[j],
            self.kind[i] * 64 + self.kind[j],
        )

    def is_clean(self, i: Index, j: Index) -> Bool[np.ndarray, " _"]:
        """Return where no byte after name i, up to the end of name j, is shared with training text."""
        return self.n_shared[self.byte[j] + 1] == self.n_shared[self.byte[i] + 1]

    def combined(self, first: Index, last: Index, most: int) -> tuple[Index, Index]:
        """Return all pairs of one of `first` and a later one of `last`, at most so many tokens apart."""
        low = np.searchsorted(self.token[last], self.token[first], side="right")
        high = np.searchsorted(self.token[last], self.token[first] + most, side="right")
        counts = high - low
        i = np.repeat(first, counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        j = last[np.repeat(low, counts) + within]
        kept = self.is_clean(i, j)
        return i[kept], j[kept]

    def uses(self) -> tuple[Index, Index, Index]:
        """Return the definition-use pairs of this document, and the kind of each as its number."""
        rows = [
            (self.at[one.definition.start], self.at[one.use.start], KINDS.index(one.kind))
            for one in self.found.uses
            if one.definition.start in self.at and one.use.start in self.at
        ]
        i, j, kind = np.array(rows, dtype=np.int64).reshape(-1, 3).T
        return i, j, kind

    def candidates(self, control: str, kind: int, most: int) -> tuple[Index, Index]:
        """Return all pairs that may stand beside a definition-use pair of one kind."""
        everything = np.arange(len(self.token))
        if control == REPEATED:
            i, j = self._repeated(most)
            return i, j
        if control == ROLES:
            own = [one for one in self.found.names if one.kind == KINDS[kind] and one.start in self.at]
            first = np.array([self.at[one.start] for one in own if one.is_definition], dtype=np.int64)
            last = np.array([self.at[one.start] for one in own if not one.is_definition], dtype=np.int64)
        else:
            first = last = everything
        i, j = self.combined(first, last, most)
        is_other = self.name[i] != self.name[j]
        return i[is_other], j[is_other]

    def _repeated(self, most: int) -> tuple[Index, Index]:
        """Return pairs of an earlier and a later use of the same definition."""
        i, j, _ = self.uses()
        groups = [np.unique(j[i == one]) for one in np.unique(i)]
        parts = [self.combined(own, own, most) for own in groups]
        empty = np.zeros(0, dtype=np.int64)
        first, last = zip(*parts, strict=True) if parts else ((), ())
        return np.concatenate([empty, *first]), np.concatenate([empty, *last])


def closest(
    wanted: Pairs, row: int, among: Pairs, tolerance: float, rng: np.random.Generator, n: int = N_CONTROLS
) -> Index:
    """Return up to `n` of the candidates: within the tolerance of the token distance, nearest in lines.

    One line end more or less counts as equal; among equals the nearer token distance goes first, and
    then chance decides.
    """
    n_tokens, group = int(wanted.n_tokens[row]), int(wanted.group[row])
    apart = np.abs(among.n_tokens - n_tokens)
    usable = np.flatnonzero((apart <= tolerance * n_tokens) & (among.group == group))
    lines = np.maximum(np.abs(among.n_lines[usable] - wanted.n_lines[row]) - 1, 0)
    order = np.lexsort((rng.random(len(usable)), apart[usable], lines))
    return usable[order[:n]]


def match_document(
    names: DocumentNames, wanted: Pairs, kind: Index, most: int, rng: np.random.Generator
) -> Mapping[str, Matched]:
    """Return the controls of the definition-use pairs of one document."""
    found: dict[str, Matched] = {}
    for control in CONTROLS:
        among = {one: names.pairs(*names.candidates(control, one, most)) for one in np.unique(kind).tolist()}
        chosen = [
            closest(wanted, row, among[int(kind[row])], _TOLERANCE[control], rng)
            for row in range(len(wanted))
        ]
        parts = [among[int(kind[row])].take(rows) for row, rows in enumerate(chosen)]
        owner = np.repeat(np.arange(len(wanted)), [len(rows) for rows in chosen])
        found[control] = Matched(Pairs.joined(parts), owner)
    return found


def _identifiers(document: Document) -> list[tuple[int, int]]:
    """Return the span of every token that is a name, in characters."""
    is_token = label_gaps(document, "tokens").is_boundary[character_starts(document.text)]
    matches = (_IDENTIFIER.match(document.text, at) for at in np.flatnonzero(is_token).tolist())
    return [one.span() for one in matches if one is not None and not keyword.iskeyword(one[0])]


def is_readable(document: Document) -> bool:
    """Return whether a document is Python whose names are known."""
    try:
        found: Definitions = definitions_of(document)
        label_gaps(document, "tokens")
    except LRopeError:
        return False
    return len(found.names) > 0
