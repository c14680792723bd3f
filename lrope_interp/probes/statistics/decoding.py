"""The best segmentation of runs of characters, given what each word and each boundary is worth.

A run of n gaps has n + 1 characters, and its two ends are boundaries. All runs are walked at once, one
character a step, so that many short ones cost no more than a few long ones. Arrays are joined runs with one
entry a character: that of a word stands at its last character, that of a boundary at the character before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int64, Num

LONGEST = 64
_SURE = 1e6  # stands in for infinity: what is certain, or out of the question, must still be added up


@dataclass(frozen=True)
class Lattice:
    """Runs of characters.

    Attributes:
        sizes: How many characters each has, at least 1.
    """

    sizes: Int64[np.ndarray, " runs"]

    @cached_property
    def place(self) -> Int64[np.ndarray, " characters"]:
        """The place of each character in its run, from 0."""
        return np.arange(self.sizes.sum()) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)

    @cached_property
    def is_last(self) -> Bool[np.ndarray, " characters"]:
        """Whether a run ends with the character; after the others there is a gap."""
        return self.place == np.repeat(self.sizes, self.sizes) - 1

    @cached_property
    def _steps(self) -> tuple[Int64[np.ndarray, " steps"], Int64[np.ndarray, " characters"]]:
        """How many runs reach each step, and where each character stands if all first ones come first, ..."""
        n_active = np.bincount(self.place)
        rank = np.empty(len(self.sizes), dtype=np.int64)
        rank[np.argsort(-self.sizes, kind="stable")] = np.arange(len(self.sizes))
        return n_active, (np.cumsum(n_active) - n_active)[self.place] + np.repeat(rank, self.sizes)

    def best_scores(
        self,
        words: Float[np.ndarray, "lengths _"],
        boundaries: Float[np.ndarray, " characters"],
    ) -> Float[np.ndarray, " characters"]:
        """Return the score of the best segmentation of each run from its start through each character.

        Args:
            words: Of a word of 1, 2, ... characters that ends with each character; a single column where
                only the length counts. Finite.
            boundaries: Of a boundary after each character, added where one is. Finite.
        """
        (n_active, to), n_lengths = self._steps, len(words)
        falling, is_alike = words[::-1], words.shape[1] == 1
        if not is_alike:
            falling = np.empty_like(falling)
            falling[:, to] = words[::-1]
        added, found = np.empty((2, len(to)))
        added[to] = boundaries
        # The last scores of every run stand in rows k to k + n_lengths, the newest last. Each is written
        # twice, so that these rows are always a slice, and nothing is moved.
        recent = np.full((2 * n_lengths, len(self.sizes)), -np.inf)
        recent[n_lengths - 1] = 0
        candidates = np.empty((n_lengths, len(self.sizes)))
        k = first = 0
        for n in n_active.tolist():
            here, own = candidates[:, :n], slice(first, first + n)
            np.add(recent[k : k + n_lengths, :n], falling if is_alike else falling[:, own], out=here)
            best = here.max(axis=0, out=found[own])
            best += added[own]
            recent[k, :n] = recent[k + n_lengths, :n] = best
            k, first = (k + 1) % n_lengths, first + n
        return found[to]

    def best_ends(
        self,
        words: Float[np.ndarray, "lengths _"],
        boundaries: Float[np.ndarray, " characters"],
    ) -> Bool[np.ndarray, " characters"]:
        """Mark where words of the best segmentation end; of equally good ones, that of shorter last words."""
        scores = self.best_scores(words, boundaries)
        best, length = np.full(len(scores), -np.inf), np.zeros(len(scores), dtype=np.int64)
        for n, own in enumerate(words, start=1):
            at = np.flatnonzero(self.place >= n - 1) if n > 1 else np.arange(len(scores))
            before = np.where(self.place[at] >= n, scores[at - n], 0.0)
            candidates = before + (own if len(own) == 1 else own[at])
            is_better = candidates > best[at]
            best[at[is_better]], length[at[is_better]] = candidates[is_better], n
        back, is_end = length.tolist(), np.zeros(len(scores), dtype=bool)
        ends, found = np.flatnonzero(self.is_last).tolist(), []
        for end, size in zip(ends, self.sizes.tolist(), strict=True):
            start = end - size
            while end > start:
                found.append(end)
                end -= back[end]
        is_end[found] = True
        return is_end

    def margins(self, words: Float[np.ndarray, "lengths characters"]) -> Float[np.ndarray, " characters"]:
        """Return by how much the best segmentation with a boundary after each character beats that without.

        At the end of a run, where there is no choice, it is 0.
        """
        n, nothing = len(self.place), np.zeros(len(self.place))
        words = words[: int(self.sizes.max(initial=1))]
        turned = np.zeros_like(words)  # each word stands at its first character, counted from the end
        for k, own in enumerate(words):
            turned[k, k:] = own[::-1][: n - k]
        behind = Lattice(self.sizes[::-1]).best_scores(turned, nothing)[::-1]
        ahead = self.best_scores(words, nothing)
        after = np.where(self.is_last, 0.0, np.append(behind[1:], 0.0))
        without = np.full(n, -np.inf)
        for k, own in enumerate(words[1:], start=1):  # of k + 1 characters: k gaps inside
            ends = np.flatnonzero(self.place >= k)
            before = np.where(self.place[ends] > k, ahead[ends - k - 1], 0.0)
            through = np.full(n, -np.inf)
            through[ends] = before + own[ends] + after[ends]
            for inside in range(1, k + 1):
                np.maximum(without[: n - inside], through[inside:], out=without[: n - inside])
        return np.where(self.is_last, 0.0, ahead + after - without)


@dataclass(frozen=True)
class LogRatio:
    """How much more likely a value of a signal is at a boundary than elsewhere, as a logarithm.

    By Bayes it is the log-odds of a boundary at that value minus those of any gap: the base rate, which the
    lengths of words hold already, is not counted a second time. It is estimated in bins of equally many gaps,
    each share of boundaries shrunk towards the base rate as if by one more gap. Bins need no shape: entropy
    may speak for a boundary where it is high and where it is lowest; equal values share one. On words of
    Chinese news and five signals, isotonic regression, a logistic spline and bins from 16 to 64 differ by at
    most 0.02 in token F1. Neighbouring gaps count as independent, which they are not.

    Attributes:
        lowest: The lowest value of each bin, rising.
        ratios: In nats, finite also where a bin, or the whole sample, has gaps of one kind only.
    """

    lowest: Num[np.ndarray, " bins"]
    ratios: Float[np.ndarray, " bins"]

    @classmethod
    def of(cls, values: Num[np.ndarray, " n"], is_boundary: Bool[np.ndarray, " n"]) -> LogRatio:
        """Estimate it in about 2 n^(1/3) bins; without a gap every value says nothing."""
        if not len(values):
            return cls(np.zeros(1), np.zeros(1))
        levels = np.linspace(0, 1, max(2, round(2 * len(values) ** (1 / 3))), endpoint=False)
        lowest = np.unique(np.quantile(values, levels, method="inverted_cdf"))
        bins = np.searchsorted(lowest, values, side="right") - 1
        n, hits = np.bincount(bins), np.bincount(bins, weights=is_boundary)
        base = (is_boundary.sum() + 0.5) / (len(values) + 1)
        share = (hits + base) / (n + 1)
        return cls(lowest, np.log(share / (1 - share)) - np.log(base / (1 - base)))

    def at(self, values: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Return it at other values; one below all bins belongs to the lowest."""
        return self.ratios[np.maximum(np.searchsorted(self.lowest, values, side="right") - 1, 0)]


def log_lengths(lengths: Int64[np.ndarray, " words"]) -> Float[np.ndarray, " longest"]:
    """Return log-probabilities of words of 1, 2, ... characters, as far as the longest, or 64.

    They are counted, and smoothed by one word that is spread like a geometric distribution of the same mean;
    without a word one of a single character is likely as any other.
    """
    longest = min(int(lengths.max(initial=1)), LONGEST)
    stop = 1 / lengths.mean() if len(lengths) else 0.5
    spread = (1 - stop) ** np.arange(longest)
    counts = np.bincount(lengths[lengths <= longest], minlength=longest + 1)[1:]
    return np.log((counts + spread / spread.sum()) / (counts.sum() + 1))


def weighted_lengths(
    log_length: Float[np.ndarray, " longest"], weight: float
) -> Float[np.ndarray, " longest"]:
    """Return lengths of words that count by a weight from 1, as they are, to 0: geometric, of the same mean.

    Words of geometric lengths are what boundaries make that know nothing of each other, at the base rate.
    """
    n = np.arange(1, len(log_length) + 1)
    stop = 1 / float((n * np.exp(log_length)).sum())
    alone = (n - 1) * np.log1p(-min(stop, 1 - 1e-9)) + np.log(stop)
    return weight * log_length + (1 - weight) * alone


def decode(
    n_gaps: Int64[np.ndarray, " runs"],
    log_ratio: Float[np.ndarray, " gaps"],
    log_length: Float[np.ndarray, " longest"],
) -> Bool[np.ndarray, " gaps"]:
    """Return the most probable boundaries of runs of gaps, all in all (Viterbi).

    Args:
        n_gaps: How many gaps each run has.
        log_ratio: Of what is seen at each gap, by how much it speaks for a boundary. An infinite one counts
            as a million nats, one that is not known as 0.
        log_length: Of words of 1, 2, ... characters; longer ones are not considered.
    """
    lattice = Lattice(n_gaps + 1)
    boundaries = np.zeros(len(lattice.place))
    boundaries[~lattice.is_last] = finite(log_ratio)
    return lattice.best_ends(finite(log_length)[:, None], boundaries)[~lattice.is_last]


def finite(numbers: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return numbers that can be added: none beyond a million, and 0 for what is not a number."""
    return np.clip(np.nan_to_num(numbers, nan=0.0, posinf=_SURE, neginf=-_SURE), -_SURE, _SURE)
