"""Which pairs of names are compared: definitions with their uses, sampled, and pairs like them in distance.

A pair goes from the last byte of one name to the last byte of a later one, so that both ends are
alike whatever is compared. A control is drawn from the same document, at the same token distance, with
about as many line ends between, and ends in bytes of the same class at both ends.
"""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document, byte_class, character_starts, label_gaps
from lrope_interp.data.spans.definitions import KINDS, definitions_of
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.capture import Progress
from lrope_interp.probes.capture.captured import Captured

NAMES, REPEATED, ROLES = CONTROLS = ("names", "same_name", "roles")
"""Controls: any two different names; two uses of one definition; a definition and the use of another name."""

N_CONTROLS = 5
MOST_PAIRS = 2_000
_TOLERANCE = {NAMES: 0.0, REPEATED: 0.1, ROLES: 0.1}
_IDENTIFIER = re.compile(r"[^\W\d]\w*(?![\w\"'])")

Index = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class TokenPairs:
    """TokenPairs of tokens of some documents.

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

    def take(self, rows: Index | Bool[np.ndarray, " _"]) -> TokenPairs:
        """Return some of them."""
        return TokenPairs(*(getattr(self, name)[rows] for name in _COLUMNS))

    @classmethod
    def joined(cls, parts: Sequence[TokenPairs]) -> TokenPairs:
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

    pairs: TokenPairs
    owner: Index


@dataclass(frozen=True)
class Found:
    """What was found and what of it is measured.

    Attributes:
        pairs: The sampled definition-use pairs, by document.
        kind: The kind of each, as its number in `KINDS`.
        controls: Pairs to hold them against.
        counts: One row a kind: how many there are, how many too far apart for a window, how many
            shared with training text, and how many are measured.
        n_unreadable: Documents that do not parse as Python.
    """

    pairs: TokenPairs
    kind: Index
    controls: Mapping[str, Matched]
    counts: tuple[Mapping[str, Any], ...]
    n_unreadable: int


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

    def pairs(self, i: Index, j: Index) -> TokenPairs:
        """Return pairs of the names i and j."""
        return TokenPairs(
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
        if control == REPEATED:
            i, j, _ = self.uses()
            groups = [np.unique(j[i == one]) for one in np.unique(i)]
            parts = [self.combined(own, own, most) for own in groups]
            empty = np.zeros((2, 0), dtype=np.int64)
            first, last = np.concatenate([empty, *parts], axis=1)
            return first, last
        if control == ROLES:
            own = [one for one in self.found.names if one.kind == KINDS[kind] and one.start in self.at]
            first = np.array([self.at[one.start] for one in own if one.is_definition], dtype=np.int64)
            last = np.array([self.at[one.start] for one in own if not one.is_definition], dtype=np.int64)
        else:
            first = last = np.arange(len(self.token))
        i, j = self.combined(first, last, most)
        is_other = self.name[i] != self.name[j]
        return i[is_other], j[is_other]


def closest(
    wanted: TokenPairs,
    row: int,
    among: TokenPairs,
    tolerance: float,
    rng: np.random.Generator,
    n: int = N_CONTROLS,
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
    names: DocumentNames, wanted: TokenPairs, kind: Index, most: int, rng: np.random.Generator
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
        found[control] = Matched(TokenPairs.joined(parts), owner)
    return found


def _identifiers(document: Document) -> list[tuple[int, int]]:
    """Return the span of every token that is a name, in characters."""
    is_token = label_gaps(document, "tokens").is_boundary[character_starts(document.text)]
    matches = (_IDENTIFIER.match(document.text, at) for at in np.flatnonzero(is_token).tolist())
    return [one.span() for one in matches if one is not None and not keyword.iskeyword(one[0])]


def is_readable(document: Document) -> bool:
    """Whether a document is Python whose names are known."""
    try:
        found = definitions_of(document)
        label_gaps(document, "tokens")
    except LRopeError:
        return False
    return len(found.names) > 0


def find_pairs(
    captured: Captured,
    shared: Sequence[Bool[np.ndarray, " _"]],
    *,
    most_tokens: int,
    seed: int,
    most_pairs: int = MOST_PAIRS,
    on_progress: Progress | None = None,
) -> Found:
    """Find all pairs of some documents, draw some, and match each with its controls.

    Args:
        captured: The documents and their tokens; no increments are read.
        shared: One mask a document: bytes that training text has too.
        most_tokens: The longest token distance.
        seed: Of the sample, and of chance among equal controls.
        most_pairs: How many are measured. Kinds share them evenly; what one does not need goes to others.
        on_progress: Told about every document.

    Raises:
        LRopeError: No document is Python, or none has a pair that near.
    """
    readable = [at for at, document in enumerate(captured.documents) if is_readable(document)]
    if not readable:
        raise LRopeError("no document is Python that parses, so no definition can be found; give --data code")
    uses, kinds, are_clean = [], [], []
    for number in readable:
        names = DocumentNames(captured, number, shared[number])
        i, j, kind = names.uses()
        uses.append(names.pairs(i, j))
        kinds.append(kind)
        are_clean.append(names.is_clean(i, j))
    every, kind, is_clean = TokenPairs.joined(uses), np.concatenate(kinds), np.concatenate(are_clean)
    is_near = (every.n_tokens >= 1) & (every.n_tokens <= most_tokens)
    if not (is_near & is_clean).any():
        raise LRopeError(
            f"no definition has a use within {most_tokens} tokens that is not shared with training text; "
            "give more code, or a model with longer windows"
        )
    chosen = _sampled([is_near & is_clean & (kind == one) for one in range(len(KINDS))], most_pairs, seed)
    pairs, kind_of = every.take(chosen), kind[chosen]
    rng = np.random.default_rng([seed, 1])
    numbers = np.unique(pairs.document).tolist()
    matched: dict[str, list[Matched]] = {control: [] for control in CONTROLS}
    for done, number in enumerate(numbers, start=1):
        own = np.flatnonzero(pairs.document == number)
        names = DocumentNames(captured, number, shared[number])
        for control, found in match_document(names, pairs.take(own), kind_of[own], most_tokens, rng).items():
            matched[control].append(Matched(found.pairs, own[found.owner]))
        if on_progress is not None:
            on_progress("pairs", done, len(numbers))
    controls = {
        control: Matched(
            TokenPairs.joined([one.pairs for one in parts]), np.concatenate([one.owner for one in parts])
        )
        for control, parts in matched.items()
    }
    counts = [
        {
            "kind": name,
            "n_found": int((kind == number).sum()),
            "n_far": int(((kind == number) & ~is_near).sum()),
            "n_shared": int(((kind == number) & is_near & ~is_clean).sum()),
            "n_measured": int((kind_of == number).sum()),
        }
        for number, name in enumerate(KINDS)
    ]
    return Found(pairs, kind_of, controls, tuple(counts), len(captured.documents) - len(readable))


def _sampled(kinds: Sequence[Bool[np.ndarray, " _"]], most: int, seed: int) -> Index:
    """Draw pairs; the kind with the fewest goes first, and each takes at most its share of what is left."""
    rng = np.random.default_rng([seed, 0])
    chosen: list[Index] = []
    left = most
    for number, own in enumerate(sorted(map(np.flatnonzero, kinds), key=len)):
        n = min(len(own), left // (len(kinds) - number))
        chosen.append(rng.choice(own, n, replace=False))
        left -= n
    return np.sort(np.concatenate(chosen))


def whole_files(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Return the whole file where a document is a piece of one; every byte of it is held out too."""
    found = {}
    for document in documents:
        if document.whole is not None and document.cut_from is not None:
            text = document.whole[0]
            if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() == document.cut_from:
                name = document.name.rsplit("[", 1)[0]
                document = replace(document, name=name, text=text, cut_from=None, whole=None)
        found[document.sha256] = document
    return tuple(found.values())
