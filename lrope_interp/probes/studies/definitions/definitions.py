"""Are definitions and their uses drawn together? The conjecture of the article, against matched pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float64, Int64

from lrope_interp.data import shared_shingles
from lrope_interp.data.held_out import MAX_BYTES, sample_documents
from lrope_interp.data.spans.definitions import KINDS
from lrope_interp.errors import LRopeError, plural
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
from lrope_interp.probes.capture.selection import ALSO_TRAINED, Selection, describe, select
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap, Units
from lrope_interp.probes.statistics.estimates import Estimate, Scoring
from lrope_interp.probes.studies.definitions.pairs import (
    CONTROLS,
    MOST_PAIRS,
    NAMES,
    USES,
    Found,
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
_FIT_BYTES = 100_000
_STEPS_AN_OCTAVE = 4
_MOST_LINES = 5
_BINS = 5
_LEAST_IN_BIN = 20
_TINY = 1e-12

Logs = Float64[np.ndarray, "_ places"]
Reading = Mapping[str, Logs]
"""What one model made of all pairs: log ratios of perceived to even distance, by measure."""


def definition_uses(
    model: LRopeTransformer,
    data: str | Selection | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    most_pairs: int = MOST_PAIRS,
    untrained_seeds: Sequence[int] = (0,),
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
        data: Python source: name of a corpus, by default the model's own, or a selection.
        max_bytes: The most bytes in each split.
        seed: Of the sample of pairs, of their controls and of the intervals.
        batch_size: Windows at a time.
        most_pairs: How many pairs are measured at most.
        untrained_seeds: One untrained model each.
        on_progress: Told about every stage.

    Returns:
        A result of kind "definitions": `definitions` (differences; layer NA is the mean of all),
        `by_distance`, `counts`, `matches` and `pairs`.

    Raises:
        LRopeError: A fixed model, or no pair of Python names.
    """
    if model.cfg.increments == "fixed":
        raise LRopeError("a fixed model spaces all tokens evenly: it draws nothing together; give another")
    selection = select(model, None, data, max_bytes=max_bytes)
    documents = whole_files((*selection.dev, *selection.test))
    shared = shared_shingles(documents, selection.training or ())
    laid_out = lay_out(model, documents, tuple(range(model.cfg.n_layers)), predictions=False)
    found = find_pairs(
        laid_out,
        shared.masks,
        most_tokens=most_tokens(model.cfg.n_ctx),
        seed=seed,
        most_pairs=most_pairs,
        on_progress=on_progress,
    )
    fit = sample_documents(selection.fit, _FIT_BYTES)
    tokens = calibration_tokens(fit, model.cfg.n_ctx, model.own_tokenizer()).to(model.cfg.device)
    pairs: Any = found.pairs
    readings: dict[str, list[Reading]] = {TRAINED: [], UNTRAINED: []}
    for name, of_model in [(TRAINED, None), *((UNTRAINED, one) for one in untrained_seeds)]:
        read = model if of_model is None else randomised_control(model, tokens, of_model)
        captured = capture(read, fit, predictions=False, batch_size=batch_size)
        mean = captured.at_tokens(captured.increments).mean(axis=-1, dtype=np.float64)
        shares = read.plane_shares(tokens).double().cpu().numpy().reshape(*mean.shape, -1)
        inv_freq = inverse_frequencies(read.cfg.d_head, read.cfg.rope_base).numpy()
        # All pairs are read at once, so that those which share a window are read together.
        sums = window_sums(
            read,
            laid_out,
            *(pairs[column].to_numpy() for column in ("document", "first", "last")),
            batch_size=batch_size,
            on_progress=staged(on_progress, f"{name} model"),
        )
        readings[name].append(log_ratios(sums, pairs["n_tokens"].to_numpy(), mean, shares, inv_freq))
    heads = range(model.cfg.n_heads) if model.cfg.per_head and model.cfg.n_heads > 1 else [None]
    places = [{"layer": layer, "head": head} for layer in range(model.cfg.n_layers) for head in heads]
    places.append({"layer": None, "head": None})
    effects = table(effect_rows(pairs, readings, places, seed), EFFECTS)
    by_distance = table(distance_rows(pairs, readings[TRAINED][0], places, seed), BY_DISTANCE)
    uses = pairs[pairs["control"] == USES]
    measured = uses.assign(
        document=[documents[number].name for number in uses["document"]],
        kind=[KINDS[number] for number in uses["kind"]],
    )
    return Result(
        kind="definitions",
        provenance=provenance(
            config=model.cfg.to_dict(),
            data=describe(str(selection.data["name"]), documents, split="dev and test"),
            seed=seed,
        ),
        headline=_headline(effects),
        tables={
            "definitions": effects,
            "by_distance": by_distance,
            "counts": table(found.counts, _COUNTS),
            "matches": table(_match_rows(pairs), _MATCHES),
            "pairs": table(measured.to_dict("records"), _PAIRS),
        },
        # What the selection counted on pieces says nothing where whole files are read.
        warnings=tuple(
            [
                *(one for one in selection.warnings if ALSO_TRAINED not in one),
                *_warnings(found, model.cfg.n_ctx),
            ]
        ),
    )


def log_ratios(
    sums: Float64[np.ndarray, "n layers heads"],
    n_tokens: Int64[np.ndarray, " n"],
    mean: Float64[np.ndarray, "layers heads"],
    shares: Float64[np.ndarray, "layers heads planes"],
    inv_freq: Float64[np.ndarray, " planes"],
) -> Reading:
    """Return ln(perceived distance / what as many mean increments give), by measure.

    Below 0 is closer than evenly spaced tokens would be. The last column is the mean over the others, which
    are layers, or layers and heads.

    Args:
        sums: Of the increments of each pair.
        n_tokens: From one end of the pair to the other.
        mean: Mean increment of each layer and head, of fit text as what follows.
        shares: Each rotary plane's share of the query-key energy.
        inv_freq: What each plane turns a position, in radians.
    """
    even = n_tokens[:, None, None] * mean
    planes = torch.from_numpy(shares), torch.from_numpy(inv_freq)
    effective = [effective_distance(torch.from_numpy(one), *planes).numpy() for one in (sums, even)]
    found = {}
    for measure, (here, evenly) in {NORMALISED: (sums, even), EFFECTIVE: effective}.items():
        logs = np.log(np.maximum(here, _TINY)) - np.log(np.maximum(evenly, _TINY))
        rows = logs.reshape(len(logs), mean.size)
        found[measure] = np.concatenate([rows, rows.mean(axis=1, keepdims=True)], axis=1)
    return found


def effect_rows(
    pairs: pd.DataFrame,
    readings: Mapping[str, Sequence[Reading]],
    places: Sequence[Mapping[str, Any]],
    seed: int,
) -> list[dict[str, Any]]:
    """Return one row a kind, control, measure, model and place: the paired and the stratified design.

    Args:
        pairs: As in `Found`.
        readings: Of the trained model, and of one untrained model a seed (or none).
        places: Layer and head of each column of a reading.
        seed: Of the bootstrap.
    """
    bootstrap = Bootstrap(seed)
    rows: list[dict[str, Any]] = []
    for kind, own in _kinds(pairs):
        for control in CONTROLS:
            uses, matched = _with_controls(own, control)
            units = units_of(uses)
            for measure in MEASURES:
                models = {
                    model: _paired(ones, measure, uses, matched) for model, ones in readings.items() if ones
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
        rows += _stratified_rows(kind, own, readings[TRAINED][0], places, bootstrap)
    return rows


def distance_rows(
    pairs: pd.DataFrame, reading: Reading, places: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Return the difference to pairs of other names in bins of token distance, of the trained model."""
    bootstrap = Bootstrap(seed)
    rows = []
    for kind, own in _kinds(pairs):
        uses, matched = _with_controls(own, NAMES)
        real, against = _paired([reading], NORMALISED, uses, matched)
        for inside, low, high in _bins(uses["n_tokens"].to_numpy()):
            found_rows = _rows(TRAINED, real[inside], against[inside], units_of(uses[inside]), bootstrap)
            span = {"kind": kind, "distance": low, "distance_high": high}
            rows += [{**span, **place, **row} for place, row in zip(places, found_rows, strict=True)]
    return rows


def units_of(pairs: pd.DataFrame) -> Units:
    """Return what the bootstrap draws: files."""
    return Units.of(pairs["document"].to_numpy())


def matched_mean(
    values: Logs, owner: Int64[np.ndarray, " controls"], n: int
) -> Float64[np.ndarray, "n places"]:
    """Return the mean over the controls of each pair; NaN where it has none."""
    sums = np.zeros((n, values.shape[1]))
    np.add.at(sums, owner, values)
    counts = np.bincount(owner, minlength=n)[:, None]
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def _kinds(pairs: Any) -> Iterator[tuple[str, Any]]:
    """Yield the pairs of each kind, controls with them."""
    for number, own in pairs.groupby("kind"):
        yield KINDS[int(number)], own


def _with_controls(pairs: Any, control: str) -> tuple[Any, Any]:
    """Return the definition-use pairs that have a control, and those controls."""
    matched = pairs[pairs["control"] == control]
    return pairs[(pairs["control"] == USES) & pairs["owner"].isin(matched["owner"])], matched


def _paired(readings: Sequence[Reading], measure: str, uses: Any, matched: Any) -> tuple[Logs, Logs]:
    """Return the pairs and the mean of their controls, averaged over models."""
    owner = uses.index.get_indexer(matched["owner"])
    real = [one[measure][uses.index] for one in readings]
    against = [matched_mean(one[measure][matched.index], owner, len(uses)) for one in readings]
    return np.mean(real, axis=0), np.mean(against, axis=0)


def _rows(
    model: str, real: Logs, against: Logs, units: Units, bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    """Yield a row of numbers a place."""
    scoring = Scoring(units, bootstrap)
    counts = {"n": len(real), "n_documents": units.n_documents, "n_units": units.count}
    for at in range(real.shape[1]):
        apart = real[:, at] - against[:, at]
        means = [np.exp(part.mean()) if len(part) else np.nan for part in (real[:, at], against[:, at])]
        found = scoring.mean(apart)
        named = {"real": means[0], "matched": means[1], "difference": found.value}
        yield {"model": model, **found.row(), **named, **counts}


def _stratified_rows(
    kind: str,
    pairs: Any,
    reading: Reading,
    places: Sequence[Mapping[str, Any]],
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """Return the same comparison without pairing: within strata, all controls of other names pooled.

    A stratum has the same classes of bytes at both ends, line ends between, and distance in steps.
    """
    both = pairs[pairs["control"].isin((USES, NAMES))]
    is_real = (both["control"] == USES).to_numpy()
    n_tokens, n_lines, group = (both[name].to_numpy() for name in ("n_tokens", "n_lines", "group"))
    octave = np.floor(np.log2(np.maximum(n_tokens, 1)) * _STEPS_AN_OCTAVE).astype(np.int64)
    key = np.stack([octave, np.minimum(n_lines, _MOST_LINES), group])
    stratum = np.unique(key, axis=1, return_inverse=True)[1].ravel()
    units, is_told = units_of(both), units_of(both[is_real]).has_interval
    rows = []
    for measure in MEASURES:
        logs = reading[measure][both.index]
        for at, place in enumerate(places):
            value, resampled = _within_strata(logs[:, at], is_real, stratum, units, bootstrap)
            low, high = Estimate(value, resampled if is_told else None, units.count).interval
            where = {"kind": kind, "control": STRATIFIED, "measure": measure, "model": TRAINED, **place}
            means = {"real": np.exp(logs[is_real, at].mean()), "difference": value}
            means["matched"] = means["real"] / np.exp(value)
            counts = {"n": int(is_real.sum()), "n_documents": units.n_documents, "n_units": units.count}
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


def _match_rows(pairs: Any) -> list[dict[str, Any]]:
    """Say how well each control matches: how many pairs have one, and how far off it is."""
    distances = ["n_tokens", "n_lines"]
    apart = (pairs[distances] - pairs.loc[pairs["owner"], distances].to_numpy()).abs()
    apart = apart.rename(columns={"n_tokens": "apart_tokens", "n_lines": "apart_lines"})
    groups = pairs[["kind", "control", "owner"]].join(apart).groupby(["kind", "control"])
    found = groups.agg(
        n=("owner", "nunique"),
        n_controls=("owner", "size"),
        apart_tokens=("apart_tokens", "mean"),
        apart_lines=("apart_lines", "mean"),
    )
    every = pd.MultiIndex.from_product([range(len(KINDS)), CONTROLS], names=["kind", "control"])
    rows = found.reindex(every).fillna({"n": 0, "n_controls": 0}).reset_index()
    return rows.assign(kind=[KINDS[number] for number in rows["kind"]]).to_dict("records")


def _headline(effects: pd.DataFrame) -> dict[str, float | None]:
    """Name the overall difference of each kind against other names."""
    is_main = effects["layer"].isna() & (effects["measure"] == NORMALISED) & (effects["model"] == TRAINED)
    rows: Any = effects[is_main & (effects["control"] == "names")]
    return {f"{row.kind} difference": float(row.difference) for row in rows.itertuples(index=False)}


def _warnings(found: Found, n_ctx: int) -> list[str]:
    warnings = []
    pairs: Any = found.pairs
    units = units_of(pairs[pairs["control"] == USES])
    if not units.has_interval:
        warnings.append(f"no interval: pairs come from fewer than {MIN_UNITS} files")
    for row in found.counts:
        if row["n_measured"] < _FEW:
            warnings.append(
                f"{plural(row['n_measured'], 'pair')} of the kind {row['kind']} measured, fewer than {_FEW}: "
                f"of {row['n_found']:,} that the text has, {row['n_far']:,} are more than "
                f"{most_tokens(n_ctx)} tokens apart, too far for a window of {n_ctx}"
            )
    if found.n_unreadable:
        warnings.append(f"{plural(found.n_unreadable, 'document')} left out: no valid Python")
    return warnings
