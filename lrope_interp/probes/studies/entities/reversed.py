"""The published test of names: does the pair take less room in its own order than reversed?

It is made again here with its weaknesses. A model is causal: the first word of `A B` is read without its
partner and that of `B A` is another word, so what the two orders differ in is mostly which word stands first
and how expected each is, and any frequent sequence would do as well as a name. Names that share a first word
are no independent evidence. The tests beside it (`corrected`) hold these equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from scipy.stats import wilcoxon

from lrope_interp.data import Document
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units, interval
from lrope_interp.probes.studies.entities.pairs import EntityPair
from lrope_interp.probes.studies.entities.signals import EntitySignal, Row, each_place, summed

ALONE, CARRIERS = "alone", "carriers"
SENTENCES = (
    "They spoke of {}.",
    "He mentioned {} twice.",
    "We read about {} again.",
    "It said {} on the page.",
    "Then came {} and others.",
)
_TEXTS = ("{}", *SENTENCES)
_TIE = 1e-5


def both_orders(pairs: Sequence[EntityPair]) -> tuple[Document, ...]:
    """Write every name in both orders, alone and in sentences, as documents of a line each.

    They come sentence by sentence (the first is the name alone), name by name, real order first.
    """
    texts = [
        text.format(order)
        for text in _TEXTS
        for pair in pairs
        for order in (pair.text, f"{pair.second} {pair.first}")
    ]
    return tuple(Document(f"{at}", text, "made up", "en") for at, text in enumerate(texts))


def measured_bytes(
    pairs: Sequence[EntityPair], offsets: Int64[np.ndarray, " documents_and_one"]
) -> dict[str, tuple[Int64[np.ndarray, " documents"], Int64[np.ndarray, " documents"]]]:
    """Return where the bytes that a measure adds up begin and end in each document of `both_orders`.

    `pair` is both words and the space; `inner` the space and the first byte of the second word; `first_word`
    the word that stands first in the real order, wherever it stands.
    """
    first, second = np.array([[len(word.encode()) for word in (one.first, one.second)] for one in pairs]).T
    nothing, whole = 0 * first, first + second + 1
    spans = {  # start and past in the real order, and in the other
        "pair": ((nothing, nothing), (whole, whole)),
        "inner": ((first, second), (first + 2, second + 2)),
        "first_word": ((nothing, second + 1), (first, whole)),
    }
    before = np.array([len(text.split("{}")[0]) for text in _TEXTS])[:, None, None]
    at = offsets[:-1].reshape(-1, len(pairs), 2) + before
    return {
        measure: ((at + np.stack(start, 1)).reshape(-1), (at + np.stack(past, 1)).reshape(-1))
        for measure, (start, past) in spans.items()
    }


def reversed_rows(
    pairs: Sequence[EntityPair],
    offsets: Int64[np.ndarray, " documents_and_one"],
    signals: Sequence[EntitySignal],
    counts: Mapping[str, int],
    bootstrap: Bootstrap,
) -> list[Row]:
    """Return a row a signal, layer, head, measure and context: the share of names that are smaller, and p.

    Args:
        pairs: The names.
        offsets: Where each document of `both_orders` begins in what was read, and the end.
        signals: Increments and controls over them.
        counts: How often each stands in training text; of the names that share their first word the most
            frequent one alone enters `p_first_words`.
        bootstrap: Draws first words again.
    """
    words, index = np.unique([pair.first for pair in pairs], return_inverse=True)
    units = Units(index, len(words), len(words), is_document=False)
    order = sorted(range(len(pairs)), key=lambda at: (-counts.get(pairs[at].text, 0), pairs[at].text))
    most_frequent = sorted({pairs[at].first: at for at in reversed(order)}.values())
    spans = measured_bytes(pairs, offsets)
    rows: list[Row] = []
    for place, values in each_place(signals):
        for measure, (start, past) in spans.items():
            sums = summed(values, start, past).reshape(-1, len(pairs), 2)
            each = sums[..., 0] - sums[..., 1]
            for context, found in ((ALONE, each[0]), (CARRIERS, each[1:].mean(axis=0))):
                apart = np.where(np.abs(found) < _TIE, 0.0, found)
                is_smaller = (apart < 0).astype(np.float64)
                low = high = np.nan
                if len(words) >= MIN_UNITS:
                    low, high = interval(bootstrap.ratio(units, is_smaller, np.ones(len(apart))))
                alone = apart[most_frequent]
                scores = {
                    "share": float(is_smaller.mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "p": one_sided(apart),
                    "n": len(apart),
                    "share_first_words": float((alone < 0).mean()),
                    "p_first_words": one_sided(alone),
                    "n_first_words": len(words),
                    "difference": float(apart.mean()),
                }
                rows.append(place | {"context": context, "measure": measure} | scores)
    return rows


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
