"""How free the text is on either side of a string: branching entropy, and words that it makes.

What follows a whole word is hard to tell, what follows half of one is not (Harris 1955). The same holds read
backwards. No network and no labels: it is what counting strings says of words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, UInt8, UInt32

from lrope_interp.data import Document
from lrope_interp.data.alignment import code_points
from lrope_interp.probes.statistics.decoding import Lattice
from lrope_interp.probes.statistics.suffixes import find, grow, look_up, numbers_of, paired, runs_of

WINDOW = 6
LONGEST = WINDOW - 1
LEAST_COUNT = 10
UNSEEN = -10.0
_NONE = 1e-12  # what rounding may leave of an entropy of 0
_POINT_BITS = 21
PAD = (1 << _POINT_BITS) - 1
_ALL_PADS = (1 << 3 * _POINT_BITS) - 1


@dataclass(frozen=True)
class JoinedText:
    """Characters of some documents.

    Attributes:
        point: The code point of each.
        place: The place of each in its document.
    """

    point: UInt32[np.ndarray, " characters"]
    place: Int32[np.ndarray, " characters"]

    @classmethod
    def of(cls, documents: Iterable[Document]) -> JoinedText:
        """Join the characters of `documents`, read one at a time."""
        points = [code_points(document.text) for document in documents]
        places = [np.arange(len(own), dtype=np.int32) for own in points]
        return cls(
            np.concatenate([np.zeros(0, dtype=np.uint32), *points]),
            np.concatenate([np.zeros(0, dtype=np.int32), *places]),
        )

    @cached_property
    def width(self) -> UInt8[np.ndarray, " characters"]:
        """How many UTF-8 bytes each character has."""
        point = self.point
        return (1 + (point >= 0x80).astype(np.uint8) + (point >= 0x800) + (point >= 0x10000)).astype(np.uint8)

    @cached_property
    def first_byte(self) -> Int64[np.ndarray, " characters"]:
        """The first byte of each character, counted over all documents."""
        return np.cumsum(self.width, dtype=np.int64) - self.width

    @property
    def n_bytes(self) -> int:
        """Bytes of all documents."""
        return int(self.width.sum(dtype=np.int64))

    @cached_property
    def follows(self) -> Bool[np.ndarray, " characters"]:
        """Whether another character of the same document stands before it: whether there is a gap."""
        return self.place > 0

    def at_first_bytes(
        self, values: Float[np.ndarray, "characters *columns"], elsewhere: Float[np.ndarray, "*columns"]
    ) -> Float64[np.ndarray, "n_bytes *columns"]:
        """Put the value of a character at its first byte, and `elsewhere` at its other bytes."""
        out = np.empty((self.n_bytes, *values.shape[1:]), dtype=np.float64)
        out[:] = elsewhere
        out[self.first_byte] = values
        return out

    @property
    def turned(self) -> JoinedText:
        """The same characters read backwards, each document from its end."""
        sizes = np.diff(np.append(np.flatnonzero(self.place == 0), len(self.place)))
        from_end = np.repeat(sizes, sizes) - 1 - self.place
        return JoinedText(self.point[::-1], from_end[::-1].astype(np.int32))


@dataclass(frozen=True)
class Branching:
    """How uncertain the character is that follows each string of at most 5 characters.

    Attributes:
        keys: Of the strings of 1, 2, ... characters (see `suffixes`).
        counts: How often each is followed by anything.
        entropies: Of what follows each, in nats; in the first array after no string at all.
        variations: By how much each string's entropy exceeds that of the string without its last character,
            as a z score among strings of its length; NaN where both are 0, within a single longer string.
    """

    keys: tuple[Int64[np.ndarray, " _"], ...]
    counts: tuple[Int64[np.ndarray, " _"], ...]
    entropies: tuple[Float64[np.ndarray, " _"], ...]
    variations: tuple[Float64[np.ndarray, " _"], ...]

    @classmethod
    def of(cls, text: JoinedText) -> Branching:
        """Count what follows each string of a text."""
        point, counts = _windows(text)
        following, room = point[:, -1], (point[:, :-1] != PAD).sum(axis=1)
        flat, ends = point.ravel(), np.arange(1, len(following) + 1) * WINDOW - 2
        keys: list[np.ndarray] = []
        seen: list[np.ndarray] = []
        entropies = [_entropies(np.zeros_like(following), following, counts, 1)]
        variations: list[np.ndarray] = []
        # The string without its last character ends one place earlier, and its number is known by then.
        places, shorter = np.arange(len(ends)), np.zeros(len(ends), dtype=np.int64)
        for known, at, numbers in grow(flat, ends, room, [1] * LONGEST, counts):
            first, _ = runs_of(numbers)
            own = _entropies(numbers, following[at], counts[at], len(known))
            is_long = room[places] > len(keys)
            places, shorter = places[is_long], shorter[is_long]
            if keys:
                shorter = find(keys[-1], paired(shorter, flat[ends[places] - len(keys)]))
            number_of = np.zeros(len(ends), dtype=np.int64)
            number_of[places] = shorter
            before = entropies[-1][number_of[at[first]]]
            found = np.where(np.maximum(own, before) > _NONE, own - before, np.nan)
            keys.append(known)
            seen.append(np.bincount(numbers, weights=counts[at], minlength=len(known)).astype(np.int64))
            entropies.append(own)
            variations.append(_standard(found))
        return cls(tuple(keys), tuple(seen), tuple(entropies), tuple(variations))

    @cached_property
    def _normalised(self) -> tuple[Float64[np.ndarray, " _"], ...]:
        """Entropies as z scores among strings of the same length that are not rare."""
        pairs = zip(self.entropies[1:], self.counts, strict=True)
        return tuple(_standard(np.where(n >= LEAST_COUNT, entropy, np.nan)) for entropy, n in pairs)

    def after(self, text: JoinedText) -> Float64[np.ndarray, " characters"]:
        """Return the normalised entropy of what follows each character.

        It is that after the longest string that ends there and occurs at least 10 times. Longer strings leave
        less open, whatever they are, so that only those of one length can be compared; 0 is the mean.
        """
        values = np.zeros(len(text.point))
        levels = look_up(text.point, np.arange(len(values)), text.place + 1, self.keys)
        for (places, numbers), entropy in zip(levels, self._normalised, strict=True):
            is_common = ~np.isnan(entropy[numbers])
            values[places[is_common]] = entropy[numbers[is_common]]
        return values

    def autonomy(self, text: JoinedText) -> Float64[np.ndarray, "5 characters"]:
        """Return the variation of each string of 1 to 5 characters that ends at each; NaN where not known."""
        found = np.full((LONGEST, len(text.point)), np.nan)
        levels = look_up(text.point, np.arange(len(text.point)), text.place + 1, self.keys)
        for own, (places, numbers), values in zip(found, levels, self.variations, strict=True):
            own[places] = values[numbers]
        return found


def nvbe_words(
    right: Branching, left: Branching, text: JoinedText
) -> tuple[Lattice, Float64[np.ndarray, "5 characters"]]:
    """Return what each possible word of a text is worth: normalised variation of branching entropy, nVBE.

    A word is worth its autonomy, the sum of the normalised variations on both of its sides, times its length
    (Magistry and Sagot 2012). A string that was never counted has the autonomy -10, far below every other.
    Words have at most 5 characters, which suits Chinese and not alphabets. The authors count the text that is
    segmented too; here only training text is counted, which is what the model has read.

    Args:
        right: Counted on training text.
        left: Counted on the same text turned.
        text: What is to be segmented.

    Returns:
        Its documents as runs, and the score of the word of each length that ends at each character.
    """
    words = right.autonomy(text)
    backwards = left.autonomy(text.turned)[:, ::-1]  # of strings that begin at each character
    for k in range(LONGEST):
        words[k, k:] += backwards[k, : max(len(text.point) - k, 0)]
        words[k, :k] = np.nan
    words[np.isnan(words)] = UNSEEN
    sizes = np.diff(np.append(np.flatnonzero(text.place == 0), len(text.place)))
    return Lattice(sizes), words * np.arange(1, LONGEST + 1)[:, None]


def _standard(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Return z scores among the values that are known; 0 where all are alike."""
    known = values[~np.isnan(values)]
    spread = known.std() if len(known) else 0.0
    return (values - (known.mean() if len(known) else 0.0)) / (spread if spread > _NONE else 1.0)


def _windows(
    text: JoinedText,
) -> tuple[Int64[np.ndarray, "windows 6"], Int64[np.ndarray, " windows"]]:
    """Count the different stretches of six characters, by two sorts of 64-bit keys of three characters.

    Returns:
        The code points of each stretch, `PAD` for what is missing on the left at a document's start; and
        how often it occurs.
    """
    halves = text.point.astype(np.int64)  # each character and the two before it as one number
    for back in (1, 2):
        before = np.full(len(halves), PAD)
        has_before = text.place >= back
        before[has_before] = text.point[np.flatnonzero(has_before) - back]
        halves |= before << (back * _POINT_BITS)
    known = np.unique(np.append(halves, _ALL_PADS))
    half = np.searchsorted(known, halves)
    earlier = np.full(len(half), len(known) - 1)
    has_earlier = text.place >= WINDOW // 2
    earlier[has_earlier] = half[np.flatnonzero(has_earlier) - WINDOW // 2]
    keys, counts = np.unique(earlier * len(known) + half, return_counts=True)
    both = np.stack([known[keys // len(known)], known[keys % len(known)]], axis=1)
    shifts = np.array([2, 1, 0]) * _POINT_BITS
    return ((both[:, :, None] >> shifts) & PAD).reshape(-1, WINDOW), counts


def _entropies(
    contexts: Int64[np.ndarray, " n"],
    following: Int64[np.ndarray, " n"],
    counts: Int64[np.ndarray, " n"],
    n_contexts: int,
) -> Float64[np.ndarray, " n_contexts"]:
    """Return the entropy of what follows each context, in nats."""
    keys = paired(contexts, following)
    order = np.argsort(keys)
    first, _ = runs_of(keys[order])
    together = np.add.reduceat(counts[order], first) if len(first) else counts
    context = numbers_of(keys[order[first]])
    totals = np.maximum(np.bincount(context, weights=together, minlength=n_contexts), 1)
    weighted = np.bincount(context, weights=together * np.log(together), minlength=n_contexts)
    return np.maximum(np.log(totals) - weighted / totals, 0.0)
