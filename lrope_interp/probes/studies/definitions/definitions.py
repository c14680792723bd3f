"""Are definitions and their uses drawn together? The conjecture of the article, against matched pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64

from lrope_interp.data import shared_shingles
from lrope_interp.data.held_out import sample_documents
from lrope_interp.data.spans.definitions import KINDS
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.models.distance import effective_distance
from lrope_interp.models.increments import inverse_frequencies
from lrope_interp.probes.capture.capture import (
    BATCH_SIZE,
    Progress,
    capture,
    lay_out,
    most_tokens,
    staged,
    window_sums,
)
from lrope_interp.probes.capture.controls import calibration_tokens
from lrope_interp.probes.capture.selection import FIT_BYTES, Selection, describe
from lrope_interp.probes.statistics.bootstrap import Bootstrap, Units, interval
from lrope_interp.probes.studies.definitions.pairs import (
    MOST_PAIRS,
    NAMES,
    Found,
    TokenPairs,
    find_pairs,
    whole_files,
)
from lrope_interp.results import Result, provenance, table

NORMALISED, EFFECTIVE = MEASURES = ("normalised", "effective")
TRAINED, UNTRAINED, BEYOND = MODELS = ("trained", "untrained", "trained - untrained")
STRATIFIED = "stratified"

EFFECTS = ("kind", "control", "measure", "model", "layer", "head", "real", "matched", "difference")
EFFECTS += ("ci_low", "ci_high", "n", "n_documents", "n_units")
BY_DISTANCE = ("kind", "layer", "head", "distance", "distance_high", "difference", "ci_low", "ci_high")
BY_DISTANCE += ("n", "n_documents")
_COUNTS = ("kind", "n_found", "n_far", "n_shared", "n_measured")
_MATCHES = ("kind", "control", "n", "n_controls", "apart_tokens", "apart_lines")
_PAIRS = ("document", "kind", "byte", "n_tokens", "n_lines")
_FEW = 500
_STEPS_AN_OCTAVE = 4
_MOST_LINES = 5
_BINS = 5
_LEAST_IN_BIN = 20
_TINY = 1e-12

Logs = Float64[np.ndarray, "_ rows"]


@dataclass(frozen=True)
class DefinitionOptions:
    """How definitions and uses are compared.

    Attributes:
        seed: Of the sample of pairs, of their controls and of the intervals.
        batch_size: Windows at a time.
        most_pairs: How many pairs are measured at most.
        untrained_seeds: One untrained model each.
    """

    seed: int = 0
    batch_size: int = BATCH_SIZE
    most_pairs: int = MOST_PAIRS
    untrained_seeds: tuple[int, ...] = (0,)


def definition_uses(
    model: LRopeTransformer,
    selection: Selection,
    options: DefinitionOptions | None = None,
    *,
    on_progress: Progress | None = None,
) -> Result:
    """Compare the perceived distance between definitions and their uses with that of pairs like them.

    Pairs come from the whole held-out files of `dev` and `test` (nothing is chosen on either); means
    and plane energies from `fit`. Each pair is read within one window, so that the model has both
    ends in sight. What is compared is ln(perceived / even), even being what as many mean increments
    give: below 0 is closer than evenly spaced. The difference is the pair's own value less the mean of its
    controls; -0.05 says 5 % closer than pairs like it.

    What it does not show: that the model attends to the definition, or knows that it is one. Text between
    a definition and its use differs from other text in more than what was matched.

    Args:
        model: A model with learned increments.
        selection: Python source.
        options: How.
        on_progress: Told about every stage.

    Returns:
        A result of kind "definitions": `definitions` (differences; layer NA is the mean of all),
        `by_distance`, `counts`, `matches` and `pairs`.

    Raises:
        LRopeError: A fixed model, or no pair of Python names.
    """
    options = options or DefinitionOptions()
    if model.cfg.increments == "fixed":
        raise LRopeError("a fixed model spaces all tokens evenly: it draws nothing together; give another")
    documents = whole_files((*selection.dev, *selection.test))
    shared = shared_shingles(documents, selection.training or ())
    laid_out = lay_out(model, documents, tuple(range(model.cfg.n_layers)), predictions=False)
    found = find_pairs(
        laid_out,
        shared.masks,
        most_tokens=most_tokens(model.cfg.n_ctx),
        seed=options.seed,
        most_pairs=options.most_pairs,
        on_progress=on_progress,
    )
    fit = sample_documents(selection.fit, FIT_BYTES)
    tokens = calibration_tokens(fit, model.cfg.n_ctx, model.own_tokenizer()).to(model.cfg.device)
    # All pairs are read at once, so that those which share a window are read together.
    every = TokenPairs.joined([found.pairs, *(one.pairs for one in found.controls.values())])
    readings: dict[str, list[PairReading]] = {TRAINED: [], UNTRAINED: []}
    for name, seed in [(TRAINED, None), *((UNTRAINED, seed) for seed in options.untrained_seeds)]:
        read = model if seed is None else randomised_control(model, tokens, seed)
        captured = capture(read, fit, predictions=False, batch_size=options.batch_size)
        mean = captured.at_tokens(captured.increments).mean(axis=-1, dtype=np.float64)
        shares = read.plane_shares(tokens).double().cpu().numpy().reshape(*mean.shape, -1)
        inv_freq = inverse_frequencies(read.cfg.d_head, read.cfg.rope_base).numpy()
        sums = window_sums(
            read,
            laid_out,
            every.document,
            every.first,
            every.last,
            batch_size=options.batch_size,
            on_progress=staged(on_progress, f"{name} model"),
        )
        readings[name].append(reading_of(found, sums, Yardstick(mean, shares, inv_freq)))
    heads = range(model.cfg.n_heads) if model.cfg.per_head and model.cfg.n_heads > 1 else [None]
    places = [{"layer": layer, "head": head} for layer in range(model.cfg.n_layers) for head in heads]
    places.append({"layer": None, "head": None})
    effects = table(effect_rows(found, readings, places, options.seed), EFFECTS)
    by_distance = table(distance_rows(found, readings[TRAINED][0], places, options.seed), BY_DISTANCE)
    pairs = found.pairs
    columns = (
        one.tolist() for one in (pairs.document, found.kind, pairs.byte, pairs.n_tokens, pairs.n_lines)
    )
    measured: list[Mapping[str, Any]] = [
        dict(zip(_PAIRS, (documents[document].name, KINDS[kind], *numbers), strict=True))
        for document, kind, *numbers in zip(*columns, strict=True)
    ]
    return Result(
        kind="definitions",
        provenance=provenance(
            config=model.cfg.to_dict(),
            data=describe(str(selection.data["name"]), documents, split="dev and test"),
            seed=options.seed,
        ),
        headline=_headline(effects),
        tables={
            "definitions": effects,
            "by_distance": by_distance,
            "counts": table(found.counts, _COUNTS),
            "matches": table(_match_rows(found), _MATCHES),
            "pairs": table(measured, _PAIRS),
        },
        # What the selection counted on pieces says nothing where whole files are read.
        warnings=tuple(
            [
                *(one for one in selection.warnings if "64-byte shingles in" not in one),
                *_warnings(found, model.cfg.n_ctx),
            ]
        ),
    )


@dataclass(frozen=True)
class PairReading:
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
        shares, inv_freq = torch.from_numpy(self.shares), torch.from_numpy(self.inv_freq)
        effective = [
            effective_distance(torch.from_numpy(one), shares, inv_freq).numpy() for one in (sums, even)
        ]
        perceived = {NORMALISED: (sums, even), EFFECTIVE: effective}
        found = {}
        for measure, (here, evenly) in perceived.items():
            logs = np.log(np.maximum(here, _TINY)) - np.log(np.maximum(evenly, _TINY))
            rows = logs.reshape(len(logs), self.mean.size)
            found[measure] = np.concatenate([rows, rows.mean(axis=1, keepdims=True)], axis=1)
        return found


def reading_of(
    found: Found, sums: Float64[np.ndarray, "n layers heads"], yardstick: Yardstick
) -> PairReading:
    """Return the log ratios of sums that stand in the order: pairs, then each control's pairs."""
    parts = [found.pairs, *(one.pairs for one in found.controls.values())]
    cut = np.split(sums, np.cumsum([len(one) for one in parts])[:-1])
    real, *controls = (yardstick.log_ratios(own, part.n_tokens) for own, part in zip(cut, parts, strict=True))
    return PairReading(real, dict(zip(found.controls, controls, strict=True)))


def effect_rows(
    found: Found,
    readings: Mapping[str, Sequence[PairReading]],
    places: Sequence[Mapping[str, Any]],
    seed: int,
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
                if UNTRAINED in models:  # how much further the trained model goes than the untrained ones
                    (real, against), (other, others) = models[TRAINED], models[UNTRAINED]
                    models[BEYOND] = (real - other, against - others)
                where = {"kind": kind, "control": control, "measure": measure}
                rows += [
                    {**where, **place, **row}
                    for model, (real, against) in models.items()
                    for place, row in zip(places, _rows(model, real, against, units, bootstrap), strict=True)
                ]
        rows += _stratified_rows(found, kind, own, readings[TRAINED][0], places, bootstrap)
    return rows


def distance_rows(
    found: Found, reading: PairReading, places: Sequence[Mapping[str, Any]], seed: int
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


def units_of(pairs: TokenPairs) -> Units:
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
    readings: Sequence[PairReading], control: str, owner: Any, measure: str, has: Bool[np.ndarray, " n"]
) -> tuple[Logs, Logs]:
    """Return the pairs and the mean of their controls, averaged over models."""
    real = np.mean([one.real[measure] for one in readings], axis=0)
    each = [matched_mean(one.controls[control][measure], owner, len(has)) for one in readings]
    return real[has], np.mean(each, axis=0)[has]


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
    reading: PairReading,
    places: Sequence[Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """Return the same comparison without pairing: within strata, all controls of other names pooled.

    A stratum has the same classes of bytes at both ends, line ends between, and distance in steps.
    """
    matched = found.controls[NAMES]
    inside = own[matched.owner]
    pool, real = matched.pairs.take(inside), found.pairs.take(own)
    both = TokenPairs.joined([real, pool])
    is_real = np.arange(len(both)) < len(real)
    octave = np.floor(np.log2(np.maximum(both.n_tokens, 1)) * _STEPS_AN_OCTAVE).astype(np.int64)
    key = np.stack([octave, np.minimum(both.n_lines, _MOST_LINES), both.group])
    stratum = np.unique(key, axis=1, return_inverse=True)[1].ravel()
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


def _match_rows(found: Found) -> list[Mapping[str, Any]]:
    """Say how well each control matches: how many pairs have one, and how far off it is."""
    rows = []
    for number, kind in enumerate(KINDS):
        for control, matched in found.controls.items():
            own = found.kind[matched.owner] == number
            real, other = found.pairs.take(matched.owner[own]), matched.pairs.take(own)
            apart = [np.abs(other.n_tokens - real.n_tokens), np.abs(other.n_lines - real.n_lines)]
            means = [float(part.mean()) if len(part) else np.nan for part in apart]
            n = len(np.unique(matched.owner[own]))
            values = (kind, control, n, len(other), *means)
            rows.append(dict(zip(_MATCHES, values, strict=True)))
    return rows


def _headline(effects: pd.DataFrame) -> dict[str, float | None]:
    """Name the overall difference of each kind against other names."""
    is_main = effects["layer"].isna() & (effects["measure"] == NORMALISED) & (effects["model"] == TRAINED)
    rows: Any = effects[is_main & (effects["control"] == "names")]
    return {f"{row.kind} difference": float(row.difference) for row in rows.itertuples(index=False)}


def _warnings(found: Found, n_ctx: int) -> list[str]:
    warnings = []
    units = units_of(found.pairs)
    if not units.is_document:
        warnings.append(
            f"{units.n_documents} files are few, so intervals resample blocks of 4,096 bytes within them: "
            "they are somewhat too narrow"
        )
    for row in found.counts:
        if row["n_measured"] < _FEW:
            warnings.append(
                f"{row['n_measured']} pairs of the kind {row['kind']} are measured, fewer than {_FEW}: of "
                f"{row['n_found']} that the text has, {row['n_far']} are more than "
                f"{most_tokens(n_ctx)} tokens apart, too far for a window of {n_ctx}"
            )
    if found.n_unreadable:
        warnings.append(f"{found.n_unreadable} documents do not parse as Python and are left out")
    return warnings
