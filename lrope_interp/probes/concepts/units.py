"""Text with its units and signals, as the structure analyses read it: arrays only, no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped

from lrope_interp.data.spans.typed import Spans
from lrope_interp.errors import LRopeError
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.results import ALL_LANGUAGES

LAYERLESS = ("entropy", "surprisal")
SMALLEST = ("word", "token")
"""Levels that the others are made of: of prose, and of code."""
HOLDERS = ("sentence", "line")
"""Levels in which a tree is built: of prose, and of code."""

Signal: TypeAlias = Float32[np.ndarray, "_ _ _"]


@dataclass(frozen=True)
class Stretches:
    """Units as bytes of the joined documents, in the order of their first bytes.

    Attributes:
        document: Number of the document of each.
        first: Its first byte.
        past: The byte past its last one.
    """

    document: Int64[np.ndarray, " n"]
    first: Int64[np.ndarray, " n"]
    past: Int64[np.ndarray, " n"]

    def is_within(self, n_bytes: int) -> Bool[np.ndarray, " n_bytes"]:
        """Return which gaps have both their sides in one unit; the gap before a unit is not within it."""
        change = np.zeros(n_bytes + 1, dtype=np.int64)
        np.add.at(change, self.first + 1, 1)
        np.subtract.at(change, self.past, 1)
        return np.cumsum(change)[:n_bytes] > 0

    def in_documents(self, n_documents: int) -> Bool[np.ndarray, " n_documents"]:
        """Return which documents have any."""
        return np.bincount(self.document, minlength=n_documents) > 0


@dataclass(frozen=True)
class StructuredText:
    """Documents, the units that they are made of, and what was read at their bytes.

    Attributes:
        captured: The documents, joined.
        signals: By name: an array [layers, heads, n_bytes], or a sequence of such arrays, one a
            draw. "" is the normalised increments, any other name a control. "entropy" and "surprisal"
            have one layer and one head.
        units: Units by the name of their level. A document without one of a level is taken not to be
            marked at that level, and is left out of it.
        is_scored: False at bytes of text that training text shares; nothing else needs to be False.
        bootstrap: The resamples, which all signals share.
    """

    captured: Captured
    signals: Mapping[str, Signal | Sequence[Signal]]
    units: Mapping[str, Spans]
    is_scored: Bool[np.ndarray, " n_bytes"]
    bootstrap: Bootstrap

    def __post_init__(self) -> None:
        """Refuse signals of another text."""
        n_layers = len(self.captured.layers)
        for name in self.signals:
            for one in self._draws(name):
                if one.shape[-1] != self.captured.n_bytes or one.shape[0] not in (1, n_layers):
                    raise LRopeError(
                        f"signal {name or 'increments'!r} must be [{n_layers} layers or 1, heads, "
                        f"{self.captured.n_bytes} bytes], not {list(one.shape)}; read it from the same "
                        "documents and layers as the increments"
                    )

    def columns(self, name: str) -> Iterator[tuple[dict[str, Any], list[Float32[np.ndarray, " n_bytes"]]]]:
        """Give each layer and head of a signal: what rows say of it, and every draw's value at every byte."""
        draws = self._draws(name)
        n_layers, n_heads = draws[0].shape[:2]
        has_layers = name not in LAYERLESS and n_layers == len(self.captured.layers)
        for at, head in np.ndindex(n_layers, n_heads):
            layer = self.captured.layers[at] if has_layers else None
            where = {"layer": layer, "head": head if n_heads > 1 else None}
            yield where, [one[at, head] for one in draws]

    def _draws(self, name: str) -> list[Signal]:
        given = self.signals[name]
        return [given] if isinstance(given, np.ndarray) else list(given)

    @cached_property
    def stretches(self) -> dict[str, Stretches]:
        """The units of each level as bytes."""
        return {
            name: Stretches(spans.document, *spans.bytes_of(self.captured.documents))
            for name, spans in self.units.items()
        }

    def first_known(self, levels: Sequence[str]) -> Stretches:
        """Return each document's units of the first of some levels that it has units of."""
        n_documents = len(self.captured.documents)
        is_open = np.ones(n_documents, dtype=bool)
        parts = [Stretches(*np.zeros((3, 0), dtype=np.int64))]
        for level in (level for level in levels if level in self.stretches):
            one = self.stretches[level]
            own = is_open[one.document]
            parts.append(Stretches(one.document[own], one.first[own], one.past[own]))
            is_open &= ~one.in_documents(n_documents)
        names = ("document", "first", "past")
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        order = np.lexsort((columns[2], columns[1]))
        return Stretches(*(column[order] for column in columns))

    @cached_property
    def words(self) -> Stretches:
        """The smallest units: words of prose, tokens of code."""
        return self.first_known(SMALLEST)

    @cached_property
    def spoken(self) -> Shaped[np.ndarray, " n_documents"]:
        """The language of each document."""
        return np.array([document.language for document in self.captured.documents], dtype=str)

    def languages(self) -> list[tuple[str, Bool[np.ndarray, " n_documents"]]]:
        """Return "all" and, where there are several, each language, with which documents are in it."""
        names = np.unique(self.spoken).tolist()
        several = [(name, self.spoken == name) for name in names] if len(names) > 1 else []
        return [(ALL_LANGUAGES, np.ones(len(self.spoken), dtype=bool)), *several]

    def units_at(self, at: Int64[np.ndarray, " n"]) -> Units:
        """Return what is resampled of places given by their bytes."""
        return Units.of(self.captured.document[at])
