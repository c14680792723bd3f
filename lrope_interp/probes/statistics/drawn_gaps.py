"""Which gaps are fitted on, and which held out, whatever order the documents come in.

A document draws by what it holds, a sequence of whole numbers, so that neither its number nor rounding
of any signal decides. Two documents that hold the same draw alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int, Shaped

MAX_FIT_GAPS = 50_000


def draw_gaps(
    document: Int[np.ndarray, " n"], code: Int[np.ndarray, " n"], seed: int, most: int = MAX_FIT_GAPS
) -> Int[np.ndarray, " kept"]:
    """Draw at most `most` gaps at random.

    Args:
        document: The document of each gap; gaps of one document in their order.
        code: A whole number for each gap that is a matter of the text, such as its class of byte.
        seed: Another seed draws others.
        most: Where there are no more gaps than this, all are kept.

    Returns:
        The numbers of the gaps, rising.
    """
    if len(document) <= most:
        return np.arange(len(document))
    tickets = np.empty(len(document))
    for at, rng in _draws(document, code, seed):
        tickets[at] = rng.random(len(at))
    return np.flatnonzero(tickets <= np.partition(tickets, most - 1)[most - 1])


def hold_out(
    document: Int[np.ndarray, " n"], code: Shaped[np.ndarray, " n"], seed: int, share: float = 0.2
) -> Bool[np.ndarray, " n"]:
    """Hold out whole documents, about `share` of them and at least one; True where held out."""
    draws = list(_draws(document, code, seed))
    tickets = np.array([rng.random() for _, rng in draws])
    is_held = np.zeros(len(document), dtype=bool)
    for k in np.argsort(tickets)[: max(1, round(share * len(draws)))]:
        is_held[draws[k][0]] = True
    return is_held


def _draws(
    document: Int[np.ndarray, " n"], code: Shaped[np.ndarray, " n"], seed: int
) -> Iterator[tuple[Int[np.ndarray, " gaps"], np.random.Generator]]:
    """Yield the gaps of each document, and its source of random numbers."""
    order = np.argsort(document, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(document[order])) + 1):
        digest = hashlib.blake2b(code[at].astype(np.int64).tobytes(), digest_size=8).digest()
        yield at, np.random.Generator(np.random.Philox(key=[seed, int.from_bytes(digest)]))
