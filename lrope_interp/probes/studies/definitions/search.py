"""The definition-use pairs of held-out files, sampled, with their controls."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.data import Document
from lrope_interp.data.spans.definitions import KINDS
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.capture import Progress
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.studies.definitions.pairs import (
    CONTROLS,
    DocumentNames,
    Matched,
    Pairs,
    is_readable,
    match_document,
)

MOST_PAIRS = 2_000


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

    pairs: Pairs
    kind: Int64[np.ndarray, " n"]
    controls: Mapping[str, Matched]
    counts: tuple[Mapping[str, Any], ...]
    n_unreadable: int


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
    every = [_Uses.of(DocumentNames(captured, number, shared[number]), most_tokens) for number in readable]
    uses = _Uses.joined(every)
    if not uses.is_usable.any():
        raise LRopeError(
            f"no definition has a use within {most_tokens} tokens that is not shared with training text; "
            "give more code, or a model with longer windows"
        )
    chosen = _sample(uses, most_pairs, seed)
    pairs, kind = uses.pairs.take(chosen), uses.kind[chosen]
    rng = np.random.default_rng([seed, 1])
    parts = []
    for done, number in enumerate(np.unique(pairs.document).tolist(), start=1):
        own = np.flatnonzero(pairs.document == number)
        names = DocumentNames(captured, number, shared[number])
        parts.append((own, match_document(names, pairs.take(own), kind[own], most_tokens, rng)))
        if on_progress is not None:
            on_progress("pairs", done, len(np.unique(pairs.document)))
    controls = {name: _gathered([(own, found[name]) for own, found in parts]) for name in CONTROLS}
    return Found(pairs, kind, controls, _counts(uses, kind), len(captured.documents) - len(readable))


def whole_files(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Return the whole file where a document is a piece of one; every byte of it is held out too."""
    return tuple({one.sha256: one for one in map(_whole, documents)}.values())


def _whole(document: Document) -> Document:
    if document.whole is None or document.cut_from is None:
        return document
    text = document.whole[0]
    if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != document.cut_from:
        return document
    name = document.name.rsplit("[", 1)[0]
    return replace(document, name=name, text=text, cut_from=None, whole=None)


@dataclass(frozen=True)
class _Uses:
    """All definition-use pairs, their kinds, which are near enough, and which are not shared."""

    pairs: Pairs
    kind: Int64[np.ndarray, " n"]
    is_near: Bool[np.ndarray, " n"]
    is_clean: Bool[np.ndarray, " n"]

    @classmethod
    def of(cls, names: DocumentNames, most: int) -> _Uses:
        i, j, kind = names.uses()
        pairs = names.pairs(i, j)
        return cls(pairs, kind, (pairs.n_tokens >= 1) & (pairs.n_tokens <= most), names.is_clean(i, j))

    @classmethod
    def joined(cls, parts: Sequence[_Uses]) -> _Uses:
        columns = ([getattr(one, name) for one in parts] for name in ("kind", "is_near", "is_clean"))
        return cls(Pairs.joined([one.pairs for one in parts]), *map(np.concatenate, columns))

    @property
    def is_usable(self) -> Bool[np.ndarray, " n"]:
        return self.is_near & self.is_clean


def _sample(uses: _Uses, most: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Draw pairs; the kind with the fewest goes first, and each takes at most its share of what is left."""
    rng = np.random.default_rng([seed, 0])
    rows = sorted((np.flatnonzero(uses.is_usable & (uses.kind == one)) for one in range(len(KINDS))), key=len)
    chosen: list[Int64[np.ndarray, " m"]] = []
    left = most
    for number, own in enumerate(rows):
        n = min(len(own), left // (len(rows) - number))
        chosen.append(rng.choice(own, n, replace=False))
        left -= n
    return np.sort(np.concatenate(chosen))


def _gathered(parts: Sequence[tuple[Int64[np.ndarray, " _"], Matched]]) -> Matched:
    """Put the controls of all documents together; owners become numbers of all pairs."""
    owners = [own[found.owner] for own, found in parts]
    return Matched(Pairs.joined([found.pairs for _, found in parts]), np.concatenate(owners))


def _counts(uses: _Uses, measured: Int64[np.ndarray, " m"]) -> tuple[Mapping[str, Any], ...]:
    """Say of each kind how many pairs there are and what became of them."""
    rows = []
    for number, name in enumerate(KINDS):
        own = uses.kind == number
        row = {"kind": name, "n_found": int(own.sum()), "n_far": int((own & ~uses.is_near).sum())}
        row["n_shared"] = int((own & uses.is_near & ~uses.is_clean).sum())
        rows.append(row | {"n_measured": int((measured == number).sum())})
    return tuple(rows)
