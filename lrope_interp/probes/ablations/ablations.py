"""Freeze the increments and see what breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lrope_interp.data.texts import AnyText
from lrope_interp.errors import LRopeError, check_seed, plural, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import increments_name
from lrope_interp.probes.ablations.passes import run_arms
from lrope_interp.probes.ablations.places import INSIDE_WORDS, LOCAL_PLACES, Places
from lrope_interp.probes.ablations.plan import (
    FROZEN,
    LEXICAL,
    RESAMPLE,
    AblationArm,
    passes,
    plan,
)
from lrope_interp.probes.ablations.tables import Tables, increments_frame
from lrope_interp.probes.capture.capture import BATCH_SIZE, Layers, Progress, check_layers, lay_out, staged
from lrope_interp.probes.capture.increment_statistics import IncrementStatistics, fit_increments
from lrope_interp.probes.capture.selection import Selection, select
from lrope_interp.probes.capture.suites import DEFAULT, FULL, OVERLAPS, amounts, is_full
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap
from lrope_interp.progress import shows_progress
from lrope_interp.results import Result, provenance

FULL_PLACES = ("whitespace", "punctuation", "words", INSIDE_WORDS)


@shows_progress("ablate")
def ablate(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    layers: Layers = None,
    *,
    freeze: str | int | None = None,
    is_each: bool = False,
    where: str = "",
    suite: str = DEFAULT,
    heads: bool = False,
    max_bytes: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Write over the increments of a model in many ways, and measure what its predictions lose.

    A loss that rises says that *this trained model* relies on what was taken away; a model trained
    without it might do as well (`train --increments frozen:RUN` tells).

    Args:
        model: Any model; of a fixed one nothing changes when it is frozen to 1.
        text: What to read: a text, a list of them, or a `Path`; see `select_text`. Means and pools are fitted
            on its `fit` part, changes are measured on `test`.
        data: Or a corpus by name, or what `select_corpus`, `select_text` or `select_gold` gave. Default: the
            held-out text of the run's own corpus.
        layers: With `freeze`: one layer, several with `is_each`, or all (None).
        freeze: "1", "mean" or "lexical": only this intervention; None runs a suite.
        is_each: With `freeze`, whether each of the layers is frozen alone instead.
        where: With `freeze`, at which gaps only ("": at all); in the full suite, at which gaps local edits
            are made ("": where words begin, or the text's nearest to it). See `places.PLACES`.
        suite: Where `freeze` is None. "default": to 1, to the layer's mean and to the byte's, which split
            what freezing to 1 costs. "full": also increments from elsewhere, shuffled, shifted, scaled and
            edited locally, layers together, and kinds of gaps; on more text.
        heads: Whether single heads are frozen too (with `freeze`: instead), in a model that has increments
            per head.
        max_bytes: The most bytes of each language in each split; None for what the suite reads.
        seed: Of resamples, shuffles and draws.
        batch_size: Windows at a time; it bounds the memory and changes no number beyond 1e-5.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "ablate" with the tables `ablations`, `distances`, `attention`, `examples`,
        `base`, `places`, `passes` and, where means were written, `increments`.

    Raises:
        LRopeError: A layer that does not exist, a label that never occurs, or single heads of a model
            whose heads share their increments.
    """
    check_seed(seed)
    freeze = None if freeze is None else str(freeze)
    every, n_heads = tuple(range(model.cfg.n_layers)), model.cfg.n_heads if model.cfg.per_head else 1
    chosen = check_layers(model, layers)
    has_all = is_full(suite)
    if freeze is None and (layers is not None or is_each):
        raise LRopeError("a suite ablates every layer: choose layers together with an intervention (freeze)")
    if freeze is not None and freeze not in FROZEN:
        raise unknown("value to freeze to:", freeze, FROZEN)
    if freeze is not None and has_all:
        raise LRopeError("freeze is one intervention and the full suite many: give one of them")
    if where and freeze is None and not has_all:
        raise LRopeError(
            f"the default suite changes increments everywhere: to change them at {where}, give an "
            "intervention too (freeze), or the suite full, whose local edits are made there"
        )
    if heads and n_heads == 1:
        raise LRopeError(
            "the heads of this model share their increments, so none can be ablated alone; train one with "
            "increments per head for that"
        )
    if len(chosen) > 1 and chosen != every and not (is_each or heads):
        raise LRopeError(
            f"layers {', '.join(map(str, chosen))} together are neither one layer nor all {len(every)}: "
            "ask for each alone, or use ablated(model, ..., layers=[...]) in Python"
        )
    selection = select(model, text, data, **amounts("ablate", suite, max_bytes))
    overlap = OVERLAPS[suite if freeze is None else FULL]  # as `evaluate`, where one intervention is asked
    captured = lay_out(model, selection.test, (), predictions=False)
    is_scored = ~np.concatenate([np.zeros(0, dtype=bool), *selection.shared["test"]])
    if not (is_scored & captured.is_token_start).any():
        raise LRopeError("there is no text to score: every test document is empty or stands in training text")
    places = Places(captured, seed)
    label = next((name for name in LOCAL_PLACES if places.occurring([name])), None)
    arms = plan(
        len(every),
        chosen,
        freeze=freeze,
        is_each=is_each,
        where=where,
        suite=suite,
        heads=n_heads if heads else 0,
        local=where or label,
        places=places.occurring(FULL_PLACES) if has_all else (),
    )
    masks = {arm.where: places.mask(arm.where) for arm in arms if arm.where}
    means, fitted = [layer for arm in arms if arm.is_fitted for layer in arm.layers], None
    if means:
        how = {"n_layers": max(means) + 1, "overlap": overlap, "batch_size": batch_size}
        fitted = fit_increments(model, selection.fit, **how, on_progress=staged(on_progress, "fit"))
    outcomes = run_arms(
        model,
        fitted,
        captured,
        masks,
        places.words(),
        passes(arms),
        seed=seed,
        overlap=overlap,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    tables = Tables(captured, outcomes, is_scored, Bootstrap(seed))
    frames = {
        "ablations": tables.ablations(arms),
        "distances": tables.distances(arms, label or "", places.since(label)),
        "attention": tables.attention(),
        "examples": tables.examples(arms),
        "base": tables.base(),
        "places": places.frame(sorted(masks)),
        "passes": tables.passes(),
    }
    known = provenance(config=model.cfg.to_dict(), data=dict(selection.data), seed=seed)
    if fitted is not None:
        frames["increments"] = increments_frame(fitted)
        known["fit"] = {"n_bytes": fitted.n_bytes, "n_documents": fitted.n_documents}
    known["suite"] = suite if freeze is None else "asked"
    return Result(
        kind="ablate",
        provenance=known,
        headline=_headline(frames),
        tables=frames,
        warnings=(*selection.warnings, *_warnings(model, tables, arms, fitted, frames["places"], label)),
    )


def _headline(frames: dict[str, pd.DataFrame]) -> dict[str, float | None]:
    rows = frames["ablations"]
    is_whole = (
        (rows["metric"] == "nats_per_byte") & (rows["language"] == "all") & (rows["byte_class"] == "all")
    )
    whole = rows[is_whole & (rows["design"] == "all") & (rows["where"] == "") & rows["head"].isna()]
    values = dict(zip(whole["intervention"], whole["value"], strict=True))
    blocks = frames["passes"]
    wanted = {"mean_all": "mean", "one_all": "one"}
    wanted |= {name: name for name in ("split_scale", "split_lexical", "split_contextual", "split_total")}
    n_run, n_saved = (int(blocks[name].to_numpy(int).sum()) for name in ("blocks_run", "blocks_saved"))
    return {
        "untouched": float(frames["base"]["nats_per_byte"].to_numpy()[0]),
        **{key: values.get(name) for key, name in wanted.items()},
        "n_passes": float(len(blocks)),
        "gain": (n_run + n_saved) / n_run,
    }


def _warnings(
    model: LRopeTransformer,
    tables: Tables,
    arms: Sequence[AblationArm],
    fitted: IncrementStatistics | None,
    places: pd.DataFrame,
    label: str | None,
) -> Iterator[str]:
    if increments_name(model) == "fixed":
        yield (
            "the increments of this model are all 1: freezing them to 1 or to a mean and moving them about "
            "changes nothing"
        )
    if not any(arm.reads_attention for arm in arms):
        yield "attention is looked at only where all increments of all layers are frozen"
    if not tables.groups[0].units.has_interval:
        yield f"no interval: fewer than {MIN_UNITS} documents"
    for row in places.to_dict("records"):
        if row["n_known"] < row["n_documents"]:
            yield (
                f"{row['where']} is known in {row['n_known']} of {plural(row['n_documents'], 'document')}; "
                "in the others nothing was changed there, and their bytes count all the same"
            )
    if label is None:
        yield "the text has no words, lines, punctuation or white space: no local edits, no loss by distance"
    if fitted is not None and any(arm.intervention in (LEXICAL, RESAMPLE) for arm in arms):
        is_new = np.diff(fitted.first)[tables.captured.tokens] == 0
        if is_new.any():
            yield (
                f"{int(is_new.sum()):,} of {plural(len(is_new), 'token')} never occur in the fit text: "
                "their byte's mean is their layer's, another occurrence any of its increments"
            )
    if not tables.captured.has_byte_tokens:
        yield (
            "tokens are longer than a byte: a byte's mean is its token's; a label marks the token that holds "
            "its gap; the loss of a token counts at its first byte, by whose class it goes"
        )
