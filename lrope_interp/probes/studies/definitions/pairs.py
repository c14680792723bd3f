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
import pandas as pd
from jaxtyping import Bool, Int64

from lrope_interp.data import Document, byte_class, character_starts, label_gaps
from lrope_interp.data.spans.definitions import KINDS, definitions_of
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.capture import Progress, counted
from lrope_interp.probes.capture.captured import Captured

NAMES, REPEATED, ROLES = CONTROLS = ("names", "same_name", "roles")
"""Controls: any two different names; two uses of one definition; a definition and the use of another name."""

N_CONTROLS = 5
MOST_PAIRS = 2_000
_TOLERANCE = {NAMES: 0.0, REPEATED: 0.1, ROLES: 0.1}
_IDENTIFIER = re.compile(r"[^\W\d]\w*(?![\w\"'])")

USES = ""
"""What stands in the column `control` of the definition-use pairs themselves."""

Index = Int64[np.ndarray, " _"]


@dataclass(frozen=True)
class Found:
    """What was found and what of it is measured.

    Attributes:
        pairs: Pairs of tokens: the sampled definition-use pairs by document, then each control's. Columns:
            `document` (its number), `first` and `last` (the tokens of the document that hold the last bytes
            of the two names), `n_tokens` and `n_lines` (tokens and line ends between), `byte` (at which the
            later name ends), `group` (both ends' classes of bytes, as one number), `kind` (its number in
            `KINDS`), `control` (`USES`, or one of `CONTROLS`), and `owner` (the row of the definition-use
            pair that each belongs to).
        counts: One row a kind: how many there are, how many too far apart for a window, how many
            shared with training text, and how many are measured.
        n_unreadable: Documents that do not parse as Python.
    """

    pairs: pd.DataFrame
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

    def pairs(self, i: Index, j: Index) -> pd.DataFrame:
        """Return pairs of the names i and j, as in `Found`."""
        return pd.DataFrame(
            {
                "document": np.full(len(i), self.number),
                "first": self.token[i],
                "last": self.token[j],
                "n_tokens": self.token[j] - self.token[i],
                "n_lines": self.line[j] - self.line[i],
                "byte": self.byte[j],
                "group": self.kind[i] * 64 + self.kind[j],
            }
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


def match_document(
    names: DocumentNames, wanted: pd.DataFrame, most: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the controls of the definition-use pairs of one document: up to five each, of every control.

    They are within the tolerance of the token distance, and nearest in lines. One line end more or less
    counts as equal; among equals the nearer token distance goes first, and then chance decides.
    """
    parts = []
    for control, tolerance in _TOLERANCE.items():
        kinds = np.unique(wanted["kind"]).tolist()
        candidates = [names.pairs(*names.candidates(control, kind, most)).assign(kind=kind) for kind in kinds]
        among: Any = pd.concat(candidates, ignore_index=True)
        n_tokens, n_lines, group, kind = (
            among[name].to_numpy() for name in ("n_tokens", "n_lines", "group", "kind")
        )
        chosen = []
        rows: Any = wanted.itertuples()
        for row in rows:
            apart = np.abs(n_tokens - row.n_tokens)
            is_alike = (group == row.group) & (kind == row.kind)
            usable = np.flatnonzero((apart <= tolerance * row.n_tokens) & is_alike)
            lines = np.maximum(np.abs(n_lines[usable] - row.n_lines) - 1, 0)
            order = np.lexsort((rng.random(len(usable)), apart[usable], lines))
            chosen.append(usable[order[:N_CONTROLS]])
        owner = np.repeat(wanted.index, [len(one) for one in chosen])
        parts.append(among.iloc[np.concatenate(chosen)].assign(control=control, owner=owner))
    return pd.concat(parts)


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
        raise LRopeError(
            "no document is Python that parses, so no definition can be found; give the corpus code"
        )
    parts = []
    for number in readable:
        names = DocumentNames(captured, number, shared[number])
        i, j, kind = names.uses()
        parts.append(names.pairs(i, j).assign(kind=kind, is_clean=names.is_clean(i, j)))
    every: Any = pd.concat(parts, ignore_index=True)
    is_clean, is_near = every.pop("is_clean"), every["n_tokens"].between(1, most_tokens)
    if not (is_near & is_clean).any():
        raise LRopeError(
            f"no definition has a use within {most_tokens} tokens that is not shared with training text; "
            "give more code, or a model with longer windows"
        )
    usable = [(is_near & is_clean & (every["kind"] == one)).to_numpy() for one in range(len(KINDS))]
    chosen = _sampled(usable, most_pairs, seed)
    uses = every.iloc[chosen].reset_index(drop=True)
    rng = np.random.default_rng([seed, 1])
    controls = []
    numbers = np.unique(uses["document"]).tolist()
    for number in counted(numbers, "pairs", on_progress):
        names = DocumentNames(captured, number, shared[number])
        controls.append(match_document(names, uses[uses["document"] == number], most_tokens, rng))
    matched: Any = pd.concat(controls)
    pairs = pd.concat(
        [
            uses.assign(control=USES, owner=uses.index),
            *(matched[matched["control"] == control] for control in CONTROLS),
        ],
        ignore_index=True,
    )
    is_counted = {"n_found": 1, "n_far": ~is_near, "n_shared": is_near & ~is_clean}
    is_counted["n_measured"] = every.index.isin(chosen)
    counts: Any = pd.DataFrame(is_counted).groupby(every["kind"]).sum()
    counts = counts.reindex(range(len(KINDS)), fill_value=0).assign(kind=KINDS)
    return Found(pairs, tuple(counts.to_dict("records")), len(captured.documents) - len(readable))


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
