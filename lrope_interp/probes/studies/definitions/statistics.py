"""How much closer definitions are to their uses than pairs like them: differences, intervals, strata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from lrope_interp.data.spans.definitions import KINDS
from lrope_interp.models.distance import effective_distance
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, interval
from lrope_interp.probes.studies.definitions.pairs import NAMES, Matched, Pairs
from lrope_interp.probes.studies.definitions.search import Found

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
TRAINED, UNTRAINED, BEYOND = MODELS = ("trained", "untrained", "trained - untrained")
STRATIFIED = "stratified"

EFFECTS = ("kind", "control", "measure", "model", "layer", "head", "real", "matched", "difference")
EFFECTS += ("ci_low", "ci_high", "n", "n_documents", "n_units")
BY_DISTANCE = ("kind", "layer", "head", "distance", "distance_high", "difference", "ci_low", "ci_high")
BY_DISTANCE += ("n", "n_documents")
_STEPS_AN_OCTAVE = 4
_MOST_LINES = 5
_BINS = 5
_LEAST_IN_BIN = 20
_TINY = 1e-12

Logs = Float64[np.ndarray, "_ rows"]


@dataclass(frozen=True)
class Reading:
    """What one model made of all pairs: log ratios of perceived to even distance, by measure.

    The last row is the mean over the others; the others are layers, or layers and heads.

    Attributes:
        real: Of the definition-use pairs.
        controls: Of each control's pairs.
    """

    real: Mapping[str, Logs]
    controls: Mapping[str, Mapping[str, Logs]]


@dataclass(frozen=True)
class Yardstick:
    """What turns sums of increments into distances; all of it from fit text.

    Attributes:
        mean: Mean increment of each layer and head.
        shares: Each rotary plane's share of the query-key energy.
        inv_freq: What each plane turns a position, in radians.
    """

    mean: Float64[np.ndarray, "layers heads"]
    shares: Float64[np.ndarray, "layers heads planes"]
    inv_freq: Float64[np.ndarray, " planes"]

    def log_ratios(
        self, sums: Float64[np.ndarray, "n layers heads"], n_tokens: Int64[np.ndarray, " n"]
    ) -> dict[str, Logs]:
        """Return ln(perceived distance / what as many mean increments give), by measure.

        Below 0 is closer than evenly spaced tokens would be.
        """
        even = n_tokens[:, None, None] * self.mean
        perceived = {NORMALISED: (sums, even), EFFECTIVE: (self._effective(sums), self._effective(even))}
        found = {}
        for measure, (here, evenly) in perceived.items():
            logs = np.log(np.maximum(here, _TINY)) - np.log(np.maximum(evenly, _TINY))
            rows = logs.reshape(len(logs), self.mean.size)
            found[measure] = np.concatenate([rows, rows.mean(axis=1, keepdims=True)], axis=1)
        return found

    def _effective(
        self, sums: Float64[np.ndarray, "n layers heads"]
    ) -> Float64[np.ndarray, "n layers heads"]:
        shares, inv_freq = torch.from_numpy(self.shares), torch.from_numpy(self.inv_freq)
        return effective_distance(torch.from_numpy(sums), shares, inv_freq).numpy()


def effect_rows(
    found: Found, readings: Mapping[str, Sequence[Reading]], places: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Return one row a kind, control, measure, model and place: the paired and the stratified design.

    Args:
        found: The pairs.
        readings: Of the trained model, and of one untrained model a seed (or none).
        places: Layer and head of each row of a reading.
        seed: Of the bootstrap.
    """
    bootstrap = Bootstrap(seed)
    rows: list[dict[str, Any]] = []
    for kind, own in _kinds(found):
        for control, matched in found.controls.items():
            has = own & (np.bincount(matched.owner, minlength=len(own)) > 0)
            units = units_of(found.pairs.take(has))
            for measure in MEASURES:
                models = {
                    model: _paired(ones, control, matched.owner, measure, has)
                    for model, ones in readings.items()
                    if ones
                }
                where = {"kind": kind, "control": control, "measure": measure}
                rows += [
                    {**where, **place, **row}
                    for model, (real, against) in with_beyond(models).items()
                    for place, row in zip(places, _rows(model, real, against, units, bootstrap), strict=True)
                ]
        rows += _stratified_rows(found, kind, own, readings[TRAINED][0], places, bootstrap)
    return rows


def distance_rows(
    found: Found, reading: Reading, places: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Return the difference to pairs of other names in bins of token distance, of the trained model."""
    bootstrap = Bootstrap(seed)
    owner = found.controls[NAMES].owner
    rows = []
    for kind, own in _kinds(found):
        has = own & (np.bincount(owner, minlength=len(own)) > 0)
        real, against = _paired([reading], NAMES, owner, NORMALISED, has)
        pairs = found.pairs.take(has)
        for inside, low, high in _bins(pairs.n_tokens):
            units = units_of(pairs.take(inside))
            found_rows = _rows(TRAINED, real[inside], against[inside], units, bootstrap)
            span = {"kind": kind, "distance": low, "distance_high": high}
            rows += [{**span, **place, **row} for place, row in zip(places, found_rows, strict=True)]
    return rows


def units_of(pairs: Pairs) -> Units:
    """Return what the bootstrap draws: files, or blocks of the bytes where uses end."""
    return Units.of(pairs.document, pairs.byte)


def matched_mean(
    values: Logs, owner: Int64[np.ndarray, " controls"], n: int
) -> Float64[np.ndarray, "pairs rows"]:
    """Return the mean over the controls of each pair; NaN where it has none."""
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, owner, values)
    counts = np.bincount(owner, minlength=n)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _kinds(found: Found) -> Iterator[tuple[str, Bool[np.ndarray, " n"]]]:
    for number, name in enumerate(KINDS):
        own = found.kind == number
        if own.any():
            yield name, own


def _paired(
    readings: Sequence[Reading], control: str, owner: Any, measure: str, has: Bool[np.ndarray, " n"]
) -> tuple[Logs, Logs]:
    """Return the pairs and the mean of their controls, averaged over models."""
    real = np.mean([one.real[measure] for one in readings], axis=0)
    each = [matched_mean(one.controls[control][measure], owner, len(has)) for one in readings]
    return real[has], np.mean(each, axis=0)[has]


def with_beyond(models: Mapping[str, tuple[Logs, Logs]]) -> dict[str, tuple[Logs, Logs]]:
    """Add how much further the trained model goes than the untrained ones."""
    if UNTRAINED not in models:
        return dict(models)
    (real, against), (other, others) = models[TRAINED], models[UNTRAINED]
    return {**models, BEYOND: (real - other, against - others)}


def _rows(
    model: str, real: Logs, against: Logs, units: Units, bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Yield a row of numbers a place."""
    one = np.ones(len(real))
    counts = {"n": len(real), "n_documents": units.n_documents, "n_units": units.count}
    for at in range(real.shape[1]):
        apart = real[:, at] - against[:, at]
        low, high = np.nan, np.nan
        if units.has_interval:
            low, high = interval(bootstrap.ratio(units, apart, one))
        means = [float(part.mean()) if len(part) else np.nan for part in (real[:, at], against[:, at], apart)]
        named = {"real": np.exp(means[0]), "matched": np.exp(means[1]), "difference": means[2]}
        yield {"model": model, **named, "ci_low": low, "ci_high": high, **counts}


def _stratified_rows(
    found: Found,
    kind: str,
    own: Bool[np.ndarray, " n"],
    reading: Reading,
    places: Sequence[Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """Return the same comparison without pairing: within strata, all controls of other names pooled."""
    matched: Matched = found.controls[NAMES]
    inside = own[matched.owner]
    pool, real = matched.pairs.take(inside), found.pairs.take(own)
    both = Pairs.joined([real, pool])
    is_real = np.arange(len(both)) < len(real)
    stratum = _strata(both)
    units, is_told = units_of(both), units_of(real).has_interval
    rows = []
    for measure in MEASURES:
        logs = np.concatenate([reading.real[measure][own], reading.controls[NAMES][measure][inside]])
        for at, place in enumerate(places):
            value, resampled = _within_strata(logs[:, at], is_real, stratum, units, bootstrap)
            low, high = interval(resampled) if is_told else (np.nan, np.nan)
            where = {"kind": kind, "control": STRATIFIED, "measure": measure, "model": TRAINED, **place}
            means = {"real": np.exp(logs[is_real, at].mean()), "difference": value}
            means["matched"] = means["real"] / np.exp(value)
            counts = {"n": len(real), "n_documents": units.n_documents, "n_units": units.count}
            rows.append({**where, **means, "ci_low": low, "ci_high": high, **counts})
    return rows


def _strata(pairs: Pairs) -> Int64[np.ndarray, " n"]:
    """Return equal numbers for equal classes of bytes at both ends, lines between, and distance in steps."""
    octave = np.floor(np.log2(np.maximum(pairs.n_tokens, 1)) * _STEPS_AN_OCTAVE).astype(np.int64)
    key = np.stack([octave, np.minimum(pairs.n_lines, _MOST_LINES), pairs.group])
    return np.unique(key, axis=1, return_inverse=True)[1].ravel()


def _within_strata(
    values: Float64[np.ndarray, " n"],
    is_real: Bool[np.ndarray, " n"],
    stratum: Int64[np.ndarray, " n"],
    units: Units,
    bootstrap: Bootstrap,
) -> tuple[float, Float64[np.ndarray, " resamples"]]:
    """Return the mean over strata of real less pooled, weighed by real pairs, and its resamples."""
    shape = (units.count, int(stratum.max(initial=0)) + 1)
    cells = units.index * shape[1] + stratum
    sums = []
    for side in (is_real, ~is_real):
        for weight in (side.astype(np.float64), side * values):
            sums.append(np.bincount(cells, weights=weight, minlength=shape[0] * shape[1]).reshape(shape))
    once = np.ones((1, units.count))
    found = [
        _weighed(*(weights @ part for part in sums)) for weights in (once, bootstrap.weights(units.count))
    ]
    return float(found[0][0]), found[1]


def _weighed(n_real: Any, real: Any, n_pool: Any, pool: Any) -> Float64[np.ndarray, " resamples"]:
    """Return sum_s n_real (mean real - mean pooled) / sum_s n_real over strata that have both."""
    has = (n_real > 0) & (n_pool > 0)
    pooled = np.divide(pool, n_pool, out=np.zeros_like(pool), where=has)
    apart = np.where(has, real - n_real * pooled, 0.0).sum(axis=1)
    n = np.where(has, n_real, 0.0).sum(axis=1)
    return np.divide(apart, n, out=np.full_like(apart, np.nan), where=n > 0)


def _bins(n_tokens: Int64[np.ndarray, " n"]) -> Iterator[tuple[Bool[np.ndarray, " n"], int, int]]:
    """Yield up to five bins of about equal size, with the least and greatest distance in each."""
    edges = np.unique(np.quantile(n_tokens, np.linspace(0, 1, _BINS + 1)[1:-1])) if len(n_tokens) else []
    number = np.searchsorted(edges, n_tokens, side="left")
    for one in np.unique(number):
        inside = number == one
        if inside.sum() >= _LEAST_IN_BIN:
            yield inside, int(n_tokens[inside].min()), int(n_tokens[inside].max())
