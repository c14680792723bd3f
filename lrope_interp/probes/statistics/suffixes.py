"""Numbers for the last few symbols before a place, exact and without hashing.

The last n symbols are the last n - 1 of them, which have a number already, and one symbol further
back: two integers that fit into one 64-bit key. A string that is seen too rarely gets no number,
and no longer string that ends in it can be seen more often; so what is kept stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64, Integer, Shaped

_SYMBOL_BITS = 21  # every code point and every 16-bit token; the rest of the key holds 2**42 numbers


def grow(
    symbols: Integer[np.ndarray, " n_symbols"],
    ends: Int64[np.ndarray, " n"],
    room: Integer[np.ndarray, " n"],
    least: Sequence[int],
    weights: Int64[np.ndarray, " n"] | None = None,
) -> Iterator[tuple[Int64[np.ndarray, " strings"], Int64[np.ndarray, " kept"], Int64[np.ndarray, " kept"]]]:
    """Number the strings that end at `ends`, of one symbol first, then of two, ...

    Yields the keys of those that were seen often enough, sorted (the place of a key is the string's number);
    where strings end that got a number (indices into `ends`); and their numbers, rising.

    Args:
        symbols: All symbols, below 2**21.
        ends: Where the last symbol of each string stands.
        room: How many symbols up to and including that one a string may have.
        least: How often a string must occur to get a number, by length; the last decides how long
            strings may be.
        weights: How often each place counts; None for once.
    """
    places, numbers = np.arange(len(ends)), np.zeros(len(ends), dtype=np.int64)
    for length, enough in enumerate(least, start=1):
        has_room = room[places] >= length
        places, numbers = places[has_room], numbers[has_room]
        keys = paired(numbers, symbols[ends[places] - (length - 1)])
        order = np.argsort(keys)
        keys, places = keys[order], places[order]
        first, lengths = runs_of(keys)
        counts = lengths if weights is None or not len(first) else np.add.reduceat(weights[places], first)
        is_kept = counts >= enough
        places = places[np.repeat(is_kept, lengths)]
        numbers = np.repeat(np.arange(np.count_nonzero(is_kept)), lengths[is_kept])
        yield keys[first[is_kept]], places, numbers


def look_up(
    symbols: Integer[np.ndarray, " n_symbols"],
    ends: Int64[np.ndarray, " n"],
    room: Integer[np.ndarray, " n"],
    keys: Iterable[Int64[np.ndarray, " _"]],
) -> Iterator[tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]]:
    """Yield, for strings of one symbol, two, ...: the places where one is known, and its number."""
    places, numbers = np.arange(len(ends)), np.zeros(len(ends), dtype=np.int64)
    for length, known in enumerate(keys, start=1):
        has_room = room[places] >= length
        places, numbers = places[has_room], numbers[has_room]
        wanted = paired(numbers, symbols[ends[places] - (length - 1)])
        numbers = find(known, wanted)
        is_known = numbers >= 0
        places, numbers = places[is_known], numbers[is_known]
        yield places, numbers


def paired(high: Integer[np.ndarray, " n"], low: Integer[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return one key for two numbers; the second is a symbol."""
    return (high.astype(np.int64) << _SYMBOL_BITS) | low


def symbols_of(keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the second of the two numbers in each key."""
    return keys & ((1 << _SYMBOL_BITS) - 1)


def numbers_of(keys: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the first of the two numbers in each key."""
    return keys >> _SYMBOL_BITS


def runs_of(
    ordered: Shaped[np.ndarray, " n"],
) -> tuple[Int64[np.ndarray, " runs"], Int64[np.ndarray, " runs"]]:
    """Return where each run of equal values begins, and how long it is."""
    is_first = np.ones(len(ordered), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(is_first)
    return first, np.diff(first, append=len(ordered))


def find(known: Int64[np.ndarray, " n_known"], wanted: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Return the place of each wanted key among sorted ones, -1 where it is not there."""
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)
