"""The published test of names: does the pair take less room in its own order than reversed?

It is made again here with its weaknesses. A model is causal: the first word of `A B` is read without its
partner and that of `B A` is another word, so what the two orders differ in is mostly which word stands first
and how expected each is, and any frequent sequence would do as well as a name. Names that share a first word
are no independent evidence. The tests beside it (`entities`) hold these equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from scipy.stats import wilcoxon

from lrope_interp.data import Document
from lrope_interp.data.spans.entity_pairs import EntityPair
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units, interval
from lrope_interp.probes.studies.entities.signals import EntitySignal, summed

ALONE, CARRIERS = "alone", "carriers"
SENTENCES = (
    "They spoke of {}.",
    "He mentioned {} twice.",
    "We read about {} again.",
    "It said {} on the page.",
    "Then came {} and others.",
)
MEASURES = ("pair", "inner", "first_word")
"""All bytes of both words and the space; the space and the first byte of the second word; the bytes of the
word that stands first in the real order, wherever it stands."""

_TIE = 1e-5
Row = dict[str, float | int | str | None]


@dataclass(frozen=True)
class Reversed:
    """Every name in both orders, alone and in sentences, as documents of a line each.

    Attributes:
        documents: Sentence by sentence (the first is the name alone), name by name, real order first.
        n_pairs: How many names.
    """

    documents: tuple[Document, ...]
    n_pairs: int

    @classmethod
    def of(cls, pairs: Sequence[EntityPair]) -> Reversed:
        """Write the documents."""
        texts = [
            sentence.format(order)
            for sentence in ("{}", *SENTENCES)
            for pair in pairs
            for order in (pair.text, f"{pair.second} {pair.first}")
        ]
        return cls(
            tuple(Document(f"{at}", text, "made up", "en") for at, text in enumerate(texts)), len(pairs)
        )

    def differences(
        self,
        values: Float[np.ndarray, " n_bytes"],
        captured: Captured,
        pairs: Sequence[EntityPair],
        measure: str,
    ) -> dict[str, Float[np.ndarray, " pairs"]]:
        """Return real less reversed of each name: alone, and its mean over the sentences; ties are 0."""
        start, past = self._places(captured.offsets, pairs, measure)
        sums = summed(values.astype(np.float32), start, past).reshape(-1, self.n_pairs, 2)
        apart = sums[..., 0] - sums[..., 1]
        found = {ALONE: apart[0], CARRIERS: apart[1:].mean(axis=0)}
        return {name: np.where(np.abs(one) < _TIE, 0.0, one) for name, one in found.items()}

    def _places(
        self, offsets: Int64[np.ndarray, " documents_and_one"], pairs: Sequence[EntityPair], measure: str
    ) -> tuple[Int64[np.ndarray, " documents"], Int64[np.ndarray, " documents"]]:
        """Return where each document's bytes in question begin and end."""
        before = [len(sentence.split("{}")[0]) for sentence in ("{}", *SENTENCES)]
        widths = np.array([[len(word.encode()) for word in (pair.first, pair.second)] for pair in pairs])
        first, second = widths[:, 0], widths[:, 1]
        whole = first + second + 1
        spans = {
            "pair": (np.stack([0 * whole, 0 * whole], 1), np.stack([whole, whole], 1)),
            "inner": (np.stack([first, second], 1), np.stack([first + 2, second + 2], 1)),
            "first_word": (np.stack([0 * whole, second + 1], 1), np.stack([first, whole], 1)),
        }
        at = offsets[:-1].reshape(-1, self.n_pairs, 2) + np.array(before)[:, None, None]
        start, past = (at + one[None] for one in spans[measure])
        return start.reshape(-1), past.reshape(-1)


def reversed_rows(
    texts: Reversed,
    captured: Captured,
    signals: Sequence[EntitySignal],
    pairs: Sequence[EntityPair],
    counts: Mapping[str, int],
    bootstrap: Bootstrap,
) -> list[Row]:
    """Return a row a signal, layer, head, measure and context: the share of names that are smaller, and p.

    Args:
        texts: What was read.
        captured: Its bytes.
        signals: Increments and controls over it.
        pairs: The names.
        counts: How often each stands in training text; of the names that share their first word the most
            frequent one alone enters `p_first_words`.
        bootstrap: Draws first words again.
    """
    rows: list[Row] = []
    for signal in signals:
        for at, head in np.ndindex(signal.values.shape[:2]):
            for measure in MEASURES:
                found = texts.differences(signal.values[at, head], captured, pairs, measure)
                place: Row = {"signal": signal.name, "seed": signal.seed, "layer": signal.layers[at]}
                place["head"] = head if signal.values.shape[1] > 1 else None
                for context, apart in found.items():
                    where: Row = {"context": context, "measure": measure}
                    rows.append(place | where | _scores(apart, pairs, counts, bootstrap))
    return rows


def _scores(
    apart: Float[np.ndarray, " pairs"],
    pairs: Sequence[EntityPair],
    counts: Mapping[str, int],
    bootstrap: Bootstrap,
) -> Row:
    words, index = np.unique([pair.first for pair in pairs], return_inverse=True)
    units = Units(index, len(words), len(words), is_document=False)
    is_smaller = (apart < 0).astype(np.float64)
    low = high = np.nan
    if len(words) >= MIN_UNITS:
        low, high = interval(bootstrap.ratio(units, is_smaller, np.ones(len(apart))))
    order = sorted(range(len(pairs)), key=lambda at: (-counts.get(pairs[at].text, 0), pairs[at].text))
    one_each = {pairs[at].first: at for at in reversed(order)}
    alone = apart[sorted(one_each.values())]
    return {
        "share": float(is_smaller.mean()), "ci_low": low, "ci_high": high, "p": one_sided(apart),
        "n": len(apart), "share_first_words": float((alone < 0).mean()), "p_first_words": one_sided(alone),
        "n_first_words": len(words), "difference": float(apart.mean()),
    }  # fmt: skip


def one_sided(apart: Float[np.ndarray, " n"]) -> float:
    """Return the p of Wilcoxon's signed-rank test that differences lie below 0; 1 where all are 0.

    Exact up to 50 differences without ties, else by the normal approximation.
    """
    apart = apart[apart != 0]
    if not len(apart):
        return 1.0
    is_exact = len(apart) <= 50 and len(np.unique(np.abs(apart))) == len(apart)
    found: Any = wilcoxon(apart, alternative="less", method="exact" if is_exact else "asymptotic")
    return float(found.pvalue)
