"""Are definitions and their uses drawn together? The conjecture of the article, against matched pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64, Int64

from lrope_interp.data import Document, shared_shingles
from lrope_interp.data.held_out import sample_documents
from lrope_interp.data.spans.definitions import KINDS
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.controls import randomised_control
from lrope_interp.models.rotary import inverse_frequencies
from lrope_interp.probes.capture.capture import (
    BATCH_SIZE,
    Progress,
    capture,
    lay_out,
    most_tokens,
    staged,
    window_sums,
)
from lrope_interp.probes.capture.captured import Captured
from lrope_interp.probes.capture.controls import calibration_tokens
from lrope_interp.probes.capture.selection import FIT_BYTES, Selection, describe
from lrope_interp.probes.studies.definitions.pairs import Pairs
from lrope_interp.probes.studies.definitions.search import MOST_PAIRS, Found, find_pairs, whole_files
from lrope_interp.probes.studies.definitions.statistics import (
    BY_DISTANCE,
    EFFECTS,
    NORMALISED,
    TRAINED,
    UNTRAINED,
    Reading,
    Yardstick,
    distance_rows,
    effect_rows,
    units_of,
)
from lrope_interp.results import Result, provenance, table

_COUNTS = ("kind", "n_found", "n_far", "n_shared", "n_measured")
_MATCHES = ("kind", "control", "n", "n_controls", "apart_tokens", "apart_lines")
_FEW = 500


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
    readings = _readings(model, selection, laid_out, found, options, on_progress)
    places = _places(model)
    effects = table(effect_rows(found, readings, places, options.seed), EFFECTS)
    by_distance = table(distance_rows(found, readings[TRAINED][0], places, options.seed), BY_DISTANCE)
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
            "counts": _whole_table(found.counts, _COUNTS),
            "matches": _whole_table(_match_rows(found), _MATCHES),
            "pairs": _pairs_frame(found, documents),
        },
        warnings=tuple([*_selection_warnings(selection), *_warnings(found, model)]),
    )


def _readings(
    model: LRopeTransformer,
    selection: Selection,
    laid_out: Captured,
    found: Found,
    options: DefinitionOptions,
    on_progress: Progress | None,
) -> dict[str, list[Reading]]:
    """Read all pairs with the model itself and with models that never learned."""
    fit = sample_documents(selection.fit, FIT_BYTES)
    tokens = calibration_tokens(fit, model.cfg.n_ctx, model.own_tokenizer()).to(model.cfg.device)
    readings: dict[str, list[Reading]] = {TRAINED: [], UNTRAINED: []}
    models = [(TRAINED, model), *((UNTRAINED, seed) for seed in options.untrained_seeds)]
    for name, one in models:
        read = randomised_control(model, tokens, one) if isinstance(one, int) else one
        stage = staged(on_progress, f"{name} model")
        captured = capture(read, fit, predictions=False, batch_size=options.batch_size)
        yardstick = _yardstick(read, captured, tokens)
        readings[name].append(_reading(read, laid_out, found, yardstick, options.batch_size, stage))
    return readings


def _yardstick(
    model: LRopeTransformer, fit: Captured, tokens: Int64[torch.Tensor, "windows pos"]
) -> Yardstick:
    mean = fit.at_tokens(fit.increments).mean(axis=-1, dtype=np.float64)
    shares = model.plane_shares(tokens).double().cpu().numpy()
    inv_freq = inverse_frequencies(model.cfg.d_head, model.cfg.rope_base).numpy()
    return Yardstick(mean, shares.reshape(*mean.shape, -1), inv_freq)


def _reading(
    model: LRopeTransformer,
    laid_out: Captured,
    found: Found,
    yardstick: Yardstick,
    batch_size: int,
    on_progress: Progress | None,
) -> Reading:
    """Read all pairs at once, so that those which share a window are read together."""
    parts = {"": found.pairs, **{name: one.pairs for name, one in found.controls.items()}}
    every = Pairs.joined(list(parts.values()))
    sums = window_sums(
        model,
        laid_out,
        every.document,
        every.first,
        every.last,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    return reading_of(found, sums, yardstick)


def reading_of(found: Found, sums: Float64[np.ndarray, "n layers heads"], yardstick: Yardstick) -> Reading:
    """Return the log ratios of sums that stand in the order: pairs, then each control's pairs."""
    sizes = [len(found.pairs), *(len(one.pairs) for one in found.controls.values())]
    n_tokens = [found.pairs.n_tokens, *(one.pairs.n_tokens for one in found.controls.values())]
    cut = np.split(sums, np.cumsum(sizes)[:-1])
    logs = [yardstick.log_ratios(part, n) for part, n in zip(cut, n_tokens, strict=True)]
    return Reading(logs[0], dict(zip(found.controls, logs[1:], strict=True)))


def _places(model: LRopeTransformer) -> list[dict[str, Any]]:
    """Return layer and head of each row of a reading; the last is all of them."""
    n_heads = model.cfg.n_heads if model.cfg.per_head else 1
    heads = range(n_heads) if n_heads > 1 else [None]
    rows = [{"layer": layer, "head": head} for layer in range(model.cfg.n_layers) for head in heads]
    return [*rows, {"layer": None, "head": None}]


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


def _whole_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    frame = table(rows, names)
    return frame.astype({name: "Int64" for name in names if name.startswith("n")})


def _pairs_frame(found: Found, documents: Sequence[Document]) -> pd.DataFrame:
    """Return one row a definition-use pair that was measured."""
    pairs = found.pairs
    columns = {
        "document": pd.Series([documents[one].name for one in pairs.document], dtype="str"),
        "kind": pd.Series([KINDS[one] for one in found.kind], dtype="str"),
        "byte": pd.Series(pairs.byte, dtype="Int64"),
        "n_tokens": pd.Series(pairs.n_tokens, dtype="Int64"),
        "n_lines": pd.Series(pairs.n_lines, dtype="Int64"),
    }
    return pd.DataFrame(columns)


def _headline(effects: pd.DataFrame) -> dict[str, float | None]:
    """Name the overall difference of each kind against other names."""
    is_main = effects["layer"].isna() & (effects["measure"] == NORMALISED) & (effects["model"] == TRAINED)
    rows: Any = effects[is_main & (effects["control"] == "names")]
    return {f"{row.kind} difference": float(row.difference) for row in rows.itertuples(index=False)}


def _selection_warnings(selection: Selection) -> list[str]:
    """Return what the selection says, less what it counted on pieces where whole files are read."""
    return [one for one in selection.warnings if "64-byte shingles in" not in one]


def _warnings(found: Found, model: LRopeTransformer) -> list[str]:
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
                f"{most_tokens(model.cfg.n_ctx)} tokens apart, too far for a window of {model.cfg.n_ctx}"
            )
    if found.n_unreadable:
        warnings.append(f"{found.n_unreadable} documents do not parse as Python and are left out")
    return warnings
