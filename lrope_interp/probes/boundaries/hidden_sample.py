"""Which gaps of the fit documents lend their hidden states to supervised probes.

The stream of all of them does not fit into memory, so a sample is kept: drawn within each document
by a generator that its own hash seeds, so that neither the order of documents nor their company
changes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from lrope_interp.probes.capture.gaps import Gaps

MOST_STATES = 50_000
_HAN_SHARE = 1 / 3


@dataclass(frozen=True)
class HiddenSample:
    """Sampled gaps between characters, and at which bytes their hidden states stand.

    Attributes:
        gaps: Joined bytes, rising: first bytes of characters.
        last: For each, the byte (of the token that holds the last byte) of its character.
        at: All bytes at which a state is kept, rising and once each.
    """

    gaps: Int64[np.ndarray, " n"]
    last: Int64[np.ndarray, " n"]
    at: Int64[np.ndarray, " states"]

    @classmethod
    def of(cls, gaps: Gaps, n_states: int = MOST_STATES) -> HiddenSample:
        """Sample so that at most `n_states` states are kept, a third of them for gaps in `han`."""
        n_han = int(n_states * _HAN_SHARE) if gaps.strata["han"].any() else 0
        chosen = _drawn(gaps, gaps.strata["characters"], n_states - n_han, 0)
        chosen |= _drawn(gaps, gaps.strata["han"], n_han, 1)
        at = np.flatnonzero(chosen)
        last = gaps.characters.last[gaps.characters.of_byte[at]]
        return cls(at, last, np.union1d(at, last))

    def rows(self, align: str) -> Int64[np.ndarray, " n"]:
        """Return which kept state belongs to each gap, read as "lead" or as "last"."""
        return np.searchsorted(self.at, self.gaps if align == "lead" else self.last)


def _drawn(
    gaps: Gaps, inside: Bool[np.ndarray, " n_bytes"], n_states: int, stream: int
) -> Bool[np.ndarray, " n_bytes"]:
    """Draw gaps whose states, one for a character of one byte and else two, are at most `n_states`."""
    chosen = np.zeros(len(inside), dtype=bool)
    weight = 1 + (gaps.characters.n_tokens[gaps.characters.of_byte] > 1)
    wanted = int(weight[inside].sum())
    share = min(1.0, n_states / wanted) if wanted else 0.0
    edges = np.append(np.flatnonzero(gaps.t == 0), len(inside))
    for document, start, stop in zip(gaps.documents, edges[:-1], edges[1:], strict=True):
        rng = np.random.default_rng([int(document.sha256[:16], 16), stream])
        own = np.flatnonzero(inside[start:stop])
        chosen[start + rng.permutation(own)[: int(share * len(own))]] = True
    return chosen
