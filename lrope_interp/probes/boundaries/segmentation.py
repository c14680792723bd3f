"""The words that a signal finds: decoded among the gaps of a stratum, and in the whole text.

A threshold cuts every gap by itself, as if words had no length. Here each signal is read as evidence, whose
weight dev tells, and the most probable segmentation given it and the lengths of dev's words is scored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Num

from lrope_interp.data.alignment import Kind, character_kinds, code_points
from lrope_interp.data.labels.words import given_names
from lrope_interp.probes.boundaries.words import Runs, token_counts, word_lengths
from lrope_interp.probes.capture.gaps import Field, Gaps
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units
from lrope_interp.probes.statistics.decoding import LogRatio, decode, log_lengths, weighted_lengths
from lrope_interp.probes.statistics.estimates import Estimate, Scoring

WEIGHTS = (1.0, 0.5, 0.0)


@dataclass(frozen=True)
class WholeText:
    """All gaps of documents whose words are gold, as SIGHAN scores them: every word counts, of any kind.

    White space counts for nothing. A signal decides at the gaps of its stratum that a letter, mark or number
    follows, where its label says all. Elsewhere one rule of the characters decides for every signal alike: no
    boundary within a run of letters and numbers that are not Chinese, between equal signs (……), before a
    mark, or within a token; one everywhere else.

    Attributes:
        runs: Of the gaps.
        is_boundary: Whether a word begins or ends there.
        by_rule: What the rule calls.
        at: Which gap of the stratum decides; -1 where the rule does.
        units: What a bootstrap draws.
    """

    runs: Runs
    is_boundary: Bool[np.ndarray, " n"]
    by_rule: Bool[np.ndarray, " n"]
    at: Int64[np.ndarray, " n"]
    units: Units

    @classmethod
    def of(cls, gaps: Gaps, one: Field, label: str) -> WholeText | None:
        """Find the gaps of the documents that a stratum is of; None where no words of them are gold."""
        present = np.unique(gaps.document[one.gaps])
        chosen = [n for n in present.tolist() if gaps.labels[label].grades[n] == "gold"]
        if not any(gaps.documents[n].words for n in chosen):
            return None
        first = gaps.characters.first
        document = gaps.document[first]
        kinds = np.concatenate([character_kinds(document.text) for document in gaps.documents])
        points = np.concatenate([code_points(document.text) for document in gaps.documents])
        is_edge = np.zeros(len(first) + 1, dtype=bool)
        starts = np.searchsorted(document, np.arange(len(gaps.documents)))
        for n in chosen:
            own = gaps.documents[n]
            is_edge[starts[n] + np.array(own.words or (), dtype=np.int64).ravel()] = True
            if label == "words_merged" and own.words and own.tags:
                is_edge[starts[n] + np.array(given_names(own.words, own.tags), dtype=np.int64)] = False
        kept = np.flatnonzero((kinds & Kind.SPACE) == 0)
        before, after = kept[:-1], kept[1:]
        number = np.arange(1, len(kept))
        is_gap = (document[before] == document[after]) & ~gaps.is_shared[first[after]]
        is_gap &= np.isin(document[after], chosen)
        before, after, number = before[is_gap], after[is_gap], number[is_gap]
        so_far = np.cumsum(is_edge)
        is_letter, is_mark = ((kinds & kind) != 0 for kind in (Kind.WORD, Kind.EXTENDS))
        is_plain = is_letter & ((kinds & Kind.HAN) == 0)
        is_whole = (is_plain[before] & is_plain[after]) | is_mark[after]
        is_whole |= (points[before] == points[after]) & ~is_letter[after]
        by_rule = ~(is_whole | gaps.is_inside_token[first[after]]) | (after > before + 1)
        at = np.minimum(np.searchsorted(one.gaps, first[after]), len(one.gaps) - 1)
        is_decided = (one.gaps[at] == first[after]) & is_letter[after] & ~is_mark[after]
        return cls(
            runs=Runs.of(document[after], number),
            is_boundary=so_far[after] > so_far[before],
            by_rule=by_rule,
            at=np.where(is_decided, at, -1),
            units=Units.of(document[after]),
        )


@dataclass(frozen=True)
class Prior:
    """What dev says of words, by its labels or by another segmentation of it.

    Attributes:
        runs: Of dev's gaps.
        is_boundary: At each.
        log_length: Log-probabilities of words of 1, 2, ... characters, as long as dev's runs leave them.
    """

    runs: Runs
    is_boundary: Bool[np.ndarray, " n"]
    log_length: Float[np.ndarray, " longest"]

    @classmethod
    def of(cls, runs: Runs, is_boundary: Bool[np.ndarray, " n"]) -> Prior:
        """Count the words of dev."""
        return cls(runs, is_boundary, log_lengths(word_lengths(runs, is_boundary)))

    def lengths_for(self, dev: Num[np.ndarray, " n"]) -> Float[np.ndarray, " longest"]:
        """Return lengths with that weight of `WEIGHTS` which gives a signal the best token F1 on dev.

        Evidence that has seen its neighbours holds some of the lengths already. Each half of dev is decoded
        with evidence that the other gave: in its own sample every signal looks as if it needed no lengths.
        """
        sizes = self.runs.sizes
        ends = np.append(0, np.cumsum(sizes))
        middle = int(np.searchsorted(ends, len(dev) / 2, side="right")) - 1
        counts = np.zeros((len(WEIGHTS), 2))
        for runs in (slice(0, middle), slice(middle, len(sizes))):
            own = slice(int(ends[runs.start]), int(ends[runs.stop]))
            rest = np.r_[0 : own.start, own.stop : len(dev)]
            evidence = LogRatio.of(dev[rest], self.is_boundary[rest]).at(dev[own])
            part = Runs(self.runs.first[own] - own.start, self.runs.last[own] - own.start)
            for k, weight in enumerate(WEIGHTS):
                called = decode(sizes[runs], evidence, weighted_lengths(self.log_length, weight))
                hits, n_called, n_true = token_counts(part, called, self.is_boundary[own])
                counts[k] += 2 * hits.sum(), n_called.sum() + n_true.sum()
        best = int(np.argmax(counts[:, 0] / np.maximum(counts[:, 1], 1)))
        return weighted_lengths(self.log_length, WEIGHTS[best])


@dataclass(frozen=True)
class WordTask:
    """Words of one label in one stratum of test, and how they are scored.

    Attributes:
        runs: Of the stratum's gaps.
        is_boundary: The label at each.
        units: What a bootstrap draws of them.
        whole: The whole text, where its words are gold.
        prior: Of dev's labels; None where dev could not be used.
        unlabelled: Of what nVBE makes of dev without labels; None where it was not counted.
    """

    runs: Runs
    is_boundary: Bool[np.ndarray, " n"]
    units: Units
    whole: WholeText | None
    prior: Prior | None
    unlabelled: Prior | None

    def estimates(
        self,
        bootstrap: Bootstrap,
        dev: Num[np.ndarray, " n_dev"] | None,
        test: Num[np.ndarray, " n"] | None,
        threshold: float,
        *,
        is_segmentation: bool = False,
    ) -> dict[str, Estimate]:
        """Score a signal: token F1 cut, decoded, and decoded without labels; F1 of words of the whole text.

        Args:
            bootstrap: The resamples.
            dev: The signal at dev's gaps; None for one that says nothing.
            test: The same at the gaps of test.
            threshold: At and above which a gap is cut, alone; NaN for no such score.
            is_segmentation: Whether 1 is a call: then that is scored, and nothing is decoded.
        """
        found = {}
        if test is not None and not np.isnan(threshold):
            found["token_f1_cut"] = self._token_f1(bootstrap, test >= threshold)
        if is_segmentation and test is not None:
            called = np.abs(test) > 0.5
        elif self.prior is not None:
            called = self._decoded(self.prior, dev, test)
            if self.unlabelled is not None:
                alone = self._decoded(self.unlabelled, dev, test)
                found["token_f1_unsupervised"] = self._token_f1(bootstrap, alone)
        else:
            return found
        return found | self.of_calls(bootstrap, called)

    def of_calls(self, bootstrap: Bootstrap, called: Bool[np.ndarray, " n"]) -> dict[str, Estimate]:
        """Score calls: F1 of tokens within the stratum's runs, and of the words of the whole text."""
        found = {"token_f1": self._token_f1(bootstrap, called)}
        if self.whole is not None:
            whole = self.whole
            everywhere = np.where(whole.at >= 0, called[whole.at], whole.by_rule)
            counts = token_counts(whole.runs, everywhere, whole.is_boundary)
            found["word_f1"] = Scoring(whole.units, bootstrap).ratio(2 * counts[0], counts[1] + counts[2])
        return found

    def _decoded(
        self, prior: Prior, dev: Num[np.ndarray, " n_dev"] | None, test: Num[np.ndarray, " n"] | None
    ) -> Bool[np.ndarray, " n"]:
        if dev is None or test is None:
            return decode(self.runs.sizes, np.zeros(len(self.is_boundary)), prior.log_length)
        ratio = LogRatio.of(dev, prior.is_boundary)
        lengths = prior.lengths_for(dev) if prior is self.prior else prior.log_length
        return decode(self.runs.sizes, ratio.at(test), lengths)

    def _token_f1(self, bootstrap: Bootstrap, called: Bool[np.ndarray, " n"]) -> Estimate:
        hits, n_called, n_true = token_counts(self.runs, called, self.is_boundary)
        return Scoring(self.units, bootstrap).ratio(2 * hits, n_called + n_true)
