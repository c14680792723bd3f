"""The corrected test on Chinese text: marked names against other words that are as long and as frequent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.statistics.bootstrap import Bootstrap
from lrope_interp.probes.studies.entities.counts import TextCounts
from lrope_interp.probes.studies.entities.english import PER_BYTE, both_designs, occurs, place_of
from lrope_interp.probes.studies.entities.matching import Covariates, Matches, balance, match
from lrope_interp.probes.studies.entities.signals import EntitySignal, mean_inside, per_byte
from lrope_interp.probes.studies.entities.units import EntityUnits
from lrope_interp.probes.studies.entities.verdicts import Row

INNER = "inner"


def wanted_strings(units: EntityUnits) -> set[str]:
    """Return what has to be counted in training text: the words, and their first two characters."""
    return {part for text in units.texts for part in (text, text[:2])}


def match_words(units: EntityUnits, captured: Captured, counts: TextCounts) -> tuple[Matches, list[Row]]:
    """Match names with other words of as many characters, and return how equal they are before and after.

    How often the string stands in training text and log P(second character | first) lie within the caliper.
    The model's entropy before the second character is watched, not matched.
    """
    entropy = units.mean_of_kinds(captured.entropy[units.inner[:, 0]].astype(np.float64))
    log_count = np.array([counts.log_count(text) for text in units.texts])
    log_p = np.array([counts.log_p(text[0], text[:2]) for text in units.texts])
    covariates = Covariates(
        ("log_count", "log_p", "entropy"),
        np.stack([log_count, log_p, entropy], axis=1),
        np.array([np.nan, np.nan, np.inf]),
        tuple(str(len(text)) for text in units.texts),
    )
    is_name, usable = units.kind_is_name(), occurs(units)
    matches = match(covariates, is_name, usable)
    return matches, [row | {"language": "zh"} for row in balance(covariates, is_name, usable, matches)]


def chinese_rows(
    units: EntityUnits,
    captured: Captured,
    signals: Sequence[EntitySignal],
    matches: Matches,
    bootstrap: Bootstrap,
) -> list[Row]:
    """Return names less other words, in means of the layer: of all (`raw`) and of matched ones (`matched`).

    `inner` is the mean at the first bytes of the second to last characters, `per_byte` the sum over the word
    a byte.
    """
    rows: list[Row] = []
    for signal in signals:
        for at, head in np.ndindex(signal.values.shape[:2]):
            own = signal.values[at, head]
            found = {INNER: mean_inside(own, units, captured.is_token_start), PER_BYTE: per_byte(own, units)}
            for response, values in found.items():
                where = place_of(signal, at, head) | {"response": response}
                rows += both_designs(units, values, where, matches, bootstrap)
    return rows
