"""The corrected tests on English text: a regression, and names matched with other pairs of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.studies.entities.counts import TextCounts
from lrope_interp.probes.studies.entities.matching import (
    Covariates,
    Matches,
    adjusted,
    balance,
    match,
    paired_difference,
    plain_difference,
)
from lrope_interp.probes.studies.entities.regression import Design, curves, has_both
from lrope_interp.probes.studies.entities.signals import EntitySignal, at_place, per_byte, summed
from lrope_interp.probes.studies.entities.units import EntityUnits
from lrope_interp.probes.studies.entities.verdicts import Row

INNER_SPACE, SECOND_WORD, PER_BYTE = "inner_space", "second_word", "per_byte"
RESPONSES = (INNER_SPACE, SECOND_WORD)
RAW, CONTROLS, FIRST_WORDS = "raw", "controls", "first_words"
MATCHED = "matched"


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words of the test text, with what is known of each.

    Attributes:
        units: The pairs; names are marked.
        captured: The model over the same text, with predictions.
        counts: Of the training text.
    """

    units: EntityUnits
    captured: Captured
    counts: TextCounts

    @cached_property
    def words(self) -> list[tuple[str, str]]:
        """The two words of each text."""
        return [(text.split(" ")[0], text.split(" ")[1]) for text in self.units.texts]

    @cached_property
    def word(self) -> Int64[np.ndarray, " n"]:
        """Number of the first word of each pair."""
        first = [one for one, _ in self.words]
        number = {one: at for at, one in enumerate(sorted(set(first)))}
        return np.array([number[one] for one in first], dtype=np.int64)[self.units.kind]

    @cached_property
    def entropy(self) -> Float[np.ndarray, " n"]:
        """How uncertain the model was before the second word, in nats."""
        return self.captured.entropy[self.units.inner[:, 1]].astype(np.float64)

    @cached_property
    def log_p_context(self) -> Float[np.ndarray, " n"]:
        """Log probability of the second word as the model reads it; with the space where tokens hold both."""
        start = self.units.inner[:, 1 if self.captured.has_byte_tokens else 0]
        return -summed(self.captured.surprisal, start, self.units.past)

    @cached_property
    def of_kinds(self) -> dict[str, Float[np.ndarray, " kinds"]]:
        """What each text has of its own: frequencies, lengths in letters, capitals."""
        count = self.counts
        first, second = zip(*self.words, strict=True) if self.words else ((), ())
        capitals = [np.array([word[0].isupper() for word in words], dtype=float) for words in (first, second)]
        return {
            "log_count": np.array([count.log_count(text) for text in self.units.texts]),
            "log_p": np.array(
                [count.log_p(a, text) for a, text in zip(first, self.units.texts, strict=True)]
            ),
            "log_first": np.array([count.log_single(word) for word in first]),
            "length_first": np.array([len(word) for word in first], dtype=float),
            "length_second": np.array([len(word) for word in second], dtype=float),
            "capital_first": capitals[0],
            "capital_second": capitals[1],
            "capital_both": capitals[0] * capitals[1],
        }

    def columns(self) -> Float[np.ndarray, "n columns"]:
        """Return everything that the regression holds equal, first words apart."""
        own = {name: values[self.units.kind] for name, values in self.of_kinds.items()}
        straight = [values for name, values in own.items() if name not in ("log_p", "log_count", "log_first")]
        bent = curves(own["log_p"], own["log_first"], self.entropy, self.log_p_context)
        return np.concatenate([bent, np.stack(straight, axis=1)], axis=1)

    def response(self, values: Float32[np.ndarray, " n_bytes"], name: str) -> Float[np.ndarray, " n"]:
        """Return a response of each pair; NaN where a token hides it."""
        if name == PER_BYTE:
            return per_byte(values, self.units)
        place = self.units.inner[:, RESPONSES.index(name)]
        return at_place(values, place, self.captured.is_token_start)


def regression_rows(pairs: WordPairs, signals: Sequence[EntitySignal]) -> list[Row]:
    """Return what being a name adds, by response, model, signal, layer and head.

    `raw` holds nothing equal; `controls` holds equal, as smooth curves, log P(second | first), the frequency
    of the first word, the model's entropy before the second word and its log probability in context, and
    besides lengths and capitals; `first_words` also gives every first word a mean of its own, and reads only
    those that stand in a name and in something else. `n_others_capitalised` is how many others have two
    capitals: they may be names that the list does not have.
    """
    units = pairs.units
    groups = np.stack([units.document, units.kind], axis=1)
    columns, nothing = pairs.columns(), np.zeros((len(units), 0))
    within = has_both(pairs.word, units.is_name)
    is_capitalised = pairs.of_kinds["capital_both"][units.kind] > 0
    rows: list[Row] = []
    for response in RESPONSES:
        known = ~np.isnan(pairs.response(signals[0].values[0, 0], response))
        kept = known & within
        designs = {
            RAW: (known, Design.of(units.is_name[known], nothing[known], groups[known])),
            CONTROLS: (known, Design.of(units.is_name[known], columns[known], groups[known])),
            FIRST_WORDS: (
                kept,
                Design.of(units.is_name[kept], columns[kept], groups[kept], pairs.word[kept]),
            ),
        }
        for signal in signals:
            for at, head in np.ndindex(signal.values.shape[:2]):
                values = pairs.response(signal.values[at, head], response)
                for model, (own, design) in designs.items():
                    found = asdict(design.estimate(values[own]))
                    renamed = {"coefficient": found.pop("value"), "se": found.pop("error")}
                    renamed |= {"ci_low": found.pop("low"), "ci_high": found.pop("high")}
                    where = place_of(signal, at, head) | {"response": response, "model": model}
                    few = int((is_capitalised & ~units.is_name & own).sum())
                    rows.append(where | renamed | found | {"n_others_capitalised": few})
    return rows


def place_of(signal: EntitySignal, at: int, head: int) -> Row:
    """Return which signal, seed, layer and head some numbers are of."""
    is_alone = signal.values.shape[1] == 1
    return {
        "signal": signal.name,
        "seed": signal.seed,
        "layer": signal.layers[at],
        "head": None if is_alone else head,
    }


def match_pairs(pairs: WordPairs) -> tuple[Matches, list[Row]]:
    """Match names with other pairs of words, and return how equal they are before and after.

    Frequency in training text and log P(second | first) lie within the caliper, lengths within two letters,
    and both words have the same capitals. The model's entropy is watched, not matched.
    """
    own = pairs.of_kinds
    names = ("log_count", "log_p", "length_first", "length_second", "log_first", "entropy")
    entropy = pairs.units.mean_of_kinds(pairs.entropy)
    values = np.stack([*(own[name] for name in names[:-1]), entropy], axis=1)
    exact = [f"{a:.0f}{b:.0f}" for a, b in zip(own["capital_first"], own["capital_second"], strict=True)]
    tolerance = np.array([np.nan, np.nan, 2.0, 2.0, np.inf, np.inf])
    covariates = Covariates(names, values, tolerance, tuple(exact))
    is_name, usable = pairs.units.kind_is_name(), occurs(pairs.units)
    matches = match(covariates, is_name, usable)
    return matches, [row | {"language": "en"} for row in balance(covariates, is_name, usable, matches)]


def matched_rows(
    pairs: WordPairs, signals: Sequence[EntitySignal], matches: Matches, bootstrap: Bootstrap
) -> list[Row]:
    """Return names less others, in means of the layer: of all (`raw`) and of matched ones (`matched`)."""
    rows: list[Row] = []
    for response in (*RESPONSES, PER_BYTE):
        for signal in signals:
            for at, head in np.ndindex(signal.values.shape[:2]):
                values = pairs.response(signal.values[at, head], response)
                where = place_of(signal, at, head) | {"response": response}
                rows += both_designs(pairs.units, values, where, matches, bootstrap)
    return rows


def both_designs(
    units: EntityUnits, values: Float[np.ndarray, " n"], where: Row, matches: Matches, bootstrap: Bootstrap
) -> list[Row]:
    """Return the row of the plain difference and that of the matched one; every text counts once."""
    of_kinds, is_name, usable = units.mean_of_kinds(values), units.kind_is_name(), occurs(units)
    level = adjusted(of_kinds, matches.covariates, is_name, usable)
    found = {
        RAW: plain_difference(of_kinds, is_name, usable, bootstrap),
        MATCHED: paired_difference(level, matches, bootstrap),
    }
    return [
        where
        | {"design": design, "difference": value, "ci_low": low, "ci_high": high, "n": n}
        | {"caliper": matches.caliper if design == MATCHED else np.nan}
        for design, (value, low, high, n) in found.items()
    ]


def occurs(units: EntityUnits) -> Bool[np.ndarray, " kinds"]:
    """Whether each text occurs among these units."""
    return np.bincount(units.kind, minlength=len(units.texts)) > 0
