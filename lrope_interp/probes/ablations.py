"""Freeze the increments and see what breaks (EVALUATION 5)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool

from lrope_interp.data import Document
from lrope_interp.errors import LRopeError
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.ablation_batch import Text
from lrope_interp.probes.ablation_examples import examples_frame
from lrope_interp.probes.ablation_options import AblationOptions
from lrope_interp.probes.ablation_passes import Runner
from lrope_interp.probes.ablation_plan import Arm, Shape, passes, plan
from lrope_interp.probes.ablation_tables import Tables, increments_frame, since_boundary
from lrope_interp.probes.bootstrap import Bootstrap
from lrope_interp.probes.capture import Progress, check_layers, lay_out, staged
from lrope_interp.probes.gap_masks import INSIDE_WORDS, byte_mask, words_of
from lrope_interp.probes.increment_statistics import IncrementStatistics, fit_increments
from lrope_interp.probes.selection import Selection
from lrope_interp.results import Result, provenance

LOCAL_PLACES = ("words", "despaced", "tokens", "lines", "punctuation", "whitespace")
FULL_PLACES = ("whitespace", "punctuation", "words", INSIDE_WORDS)


def ablations(
    model: LRopeTransformer,
    selection: Selection,
    options: AblationOptions = AblationOptions(),  # noqa: B008
    *,
    on_progress: Progress | None = None,
) -> Result:
    """Write over the increments of a model in many ways, and measure what its predictions lose.

    A loss that rises says that *this trained model* relies on what was taken away; a model trained
    without it might do as well (`train --increments frozen:RUN` tells).

    Args:
        model: Any model; of a fixed one nothing changes when it is frozen to 1.
        selection: Means and pools are fitted on `fit`, changes are measured on `test`.
        options: Which interventions.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "ablations" with the tables `ablations`, `distances`, `attention`, `examples`,
        `base`, `increments` and `passes`.

    Raises:
        LRopeError: A layer that does not exist, a label that never occurs, or single heads of a model
            whose heads share their increments.
    """
    captured = lay_out(model, selection.test, (), predictions=False)
    is_scored = ~np.concatenate([np.zeros(0, dtype=bool), *selection.shared["test"]])
    if not (is_scored & captured.is_token_start).any():
        raise LRopeError("there is no text to score: every test document is empty or stands in training text")
    places = _Places(selection.test)
    check_layers(model, options.layers)
    shape = Shape(model.cfg.n_layers, model.cfg.n_heads if model.cfg.per_head else 1)
    arms = plan(options, shape, places.local(options.where), places.occurring(FULL_PLACES))
    masks = {arm.where: places.mask(arm.where) for arm in arms if arm.where}
    on_fit = staged(on_progress, "fit")
    fitted = fit_increments(model, selection.fit, batch_size=options.batch_size, on_progress=on_fit)
    text = Text(
        captured,
        {name: captured.at_tokens(mask) for name, mask in masks.items()},
        captured.at_tokens(words_of(selection.test)),
    )
    runner = Runner(model, fitted, options.seed, options.batch_size)
    outcomes = runner.run(text, passes(arms), on_progress)
    tables = Tables(captured, outcomes, is_scored, Bootstrap(options.seed))
    return _result(model, selection, options, tables, arms, fitted)


def _result(
    model: LRopeTransformer,
    selection: Selection,
    options: AblationOptions,
    tables: Tables,
    arms: Sequence[Arm],
    fitted: IncrementStatistics,
) -> Result:
    places = _Places(tables.captured.documents)
    label = places.local("")
    since = since_boundary(tables.captured, places.mask(label))
    frames = {
        "ablations": tables.ablations(arms),
        "distances": tables.distances(arms, label, since),
        "attention": tables.attention(),
        "examples": examples_frame(tables.captured, tables.outcomes, arms, tables.is_scored),
        "base": tables.base(),
        "increments": increments_frame(fitted),
        "passes": tables.passes(model.cfg.n_layers),
    }
    known = provenance(config=model.cfg.to_dict(), data=dict(selection.data), seed=options.seed)
    known |= {"fit": {"n_bytes": fitted.n_bytes, "n_documents": fitted.n_documents}, "suite": options.name}
    return Result(
        kind="ablations",
        provenance=known,
        headline=_headline(frames),
        tables=frames,
        warnings=tuple([*selection.warnings, *_warnings(model, tables, fitted)]),
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


def _warnings(model: LRopeTransformer, tables: Tables, fitted: IncrementStatistics) -> list[str]:
    found = []
    captured = tables.captured
    is_new = np.diff(fitted.first)[captured.tokens] == 0
    if is_new.any():
        found.append(
            f"{int(is_new.sum())} of {len(is_new)} tokens never occur in the fit text: `lexical` gives them "
            "their layer's mean, `resample` any of its increments"
        )
    if model.cfg.increments == "fixed":
        found.append(
            "the increments of this model are fixed, so freezing them where they are changes nothing"
        )
    units = tables.whole.units
    if not units.has_interval:
        found.append(f"no interval: {units.count} units of {units.n_documents} documents")
    elif not units.is_document:
        found.append("fewer than 50 documents: intervals resample blocks of 4,096 bytes")
    return found


class _Places:
    """Where labels hold in some documents; each is looked up once."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._masks: dict[str, Bool[np.ndarray, " n_bytes"]] = {}

    def mask(self, where: str) -> Bool[np.ndarray, " n_bytes"]:
        """Return at which bytes a place is; raises where it never is."""
        if where not in self._masks:
            self._masks[where] = byte_mask(self._documents, where)
        return self._masks[where]

    def occurring(self, names: Sequence[str]) -> list[str]:
        """Return those of some places that occur."""
        return [name for name in names if self._occurs(name)]

    def local(self, asked: str) -> str:
        """Return at which gaps local edits are made: as asked for, or the first place that occurs."""
        if asked:
            self.mask(asked)
            return asked
        found = self.occurring(LOCAL_PLACES)
        if not found:
            raise LRopeError(
                "the text has no words, lines, punctuation or white space, so no local edit can be made; "
                "name the gaps yourself (where)"
            )
        return found[0]

    def _occurs(self, name: str) -> bool:
        try:
            self.mask(name)
        except LRopeError:
            return False
        return True
