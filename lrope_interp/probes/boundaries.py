"""Do the model's increments mark boundaries, and better than what costs nothing?

The data flows one way: documents -> capture -> signals -> scores on dev and test -> tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from lrope_interp.data.labels import LABELS
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.probes.bootstrap import MIN_DOCUMENTS, MIN_UNITS, Bootstrap
from lrope_interp.probes.boundary_tables import (
    classes_frame,
    gaps_frame,
    labels_frame,
    scores_frame,
    strata_frame,
    table,
    unscored_frame,
)
from lrope_interp.probes.capture import (
    BATCH_SIZE,
    Captured,
    Progress,
    capture,
    check_layers,
    staged,
    token_start_mask,
)
from lrope_interp.probes.controls import RULES, byte_mean, unseen_bytes_note, untrained
from lrope_interp.probes.gaps import Field, Gaps, Label
from lrope_interp.probes.scoring import FALLBACK_STRATUM, Scored, Scorer, prevalence_rows
from lrope_interp.probes.selection import Selection
from lrope_interp.probes.signals import SIGNALS, Column, all_columns
from lrope_interp.probes.stride import stride_frame, stride_note
from lrope_interp.results import Result, provenance
from lrope_interp.tokenizers import ByteTokenizer

HEADLINE_SIGNALS = ("increments", "byte_mean", "token_mean", "untrained", "entropy", "surprisal")


def boundaries(
    model: LRopeTransformer,
    selection: Selection,
    *,
    layers: Sequence[int] | None = None,
    labels: Sequence[str] = LABELS,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Score increments and controls as detectors of boundaries, all through one harness.

    A high score of a layer says that its increments differ at boundaries. It does not say that
    they carry anything which the byte itself, the model's uncertainty or a random network does
    not; for that, read the controls in the same table.

    Args:
        model: A trained model whose increments are learned.
        selection: Documents, from `select_corpus` or `select_text`.
        layers: Which layers to score; None for all.
        labels: Which boundaries: "punctuation", "whitespace", "words".
        seed: Of the resamples. The untrained controls always have seeds 0 to 4.
        batch_size: Windows at a time; changes nothing but memory and time.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "boundaries" with the tables `scores`, `roc`, `choices`, `classes`,
        `labels`, `strata` and `stride` (and `unscored`, where tokens are longer than a byte), and with
        the test gaps. In `scores`, the row of `untrained` without
        a seed is the mean over seeds, and its ci_low and ci_high are their range.

    Raises:
        LRopeError: A fixed model, an unknown layer or label, a constant signal, nothing to score.
    """
    kept, notes = _scored_layers(model, layers)
    gaps = _gaps(model, selection, _checked(labels))
    captured = _captured(model, selection, kept, batch_size, on_progress)
    signals = [
        *SIGNALS.values(),
        byte_mean(captured["fit"], is_shared=model.cfg.increments == "shared"),
        *untrained(model, selection.fit, batch_size=batch_size, on_progress=on_progress),
        *RULES,
    ]
    scorer = Scorer(gaps["dev"], gaps["test"], Bootstrap(seed))
    found = all_columns(signals, {split: captured[split] for split in ("dev", "test")})
    scored = _score_all(scorer, found, on_progress)
    tables = _tables(scorer, scored, captured["test"])
    tables["stride"] = stride_frame(model, captured["test"], batch_size)
    notes += unseen_bytes_note(captured["fit"], captured["test"])
    has_byte_tokens = captured["test"].has_byte_tokens
    notes += stride_note(tables["stride"], model.cfg.n_ctx, "bytes" if has_byte_tokens else "tokens")
    headline = _headline(tables["scores"])
    if model.own_tokenizer().name != ByteTokenizer.name:
        tables["unscored"] = unscored_frame(gaps["test"])
        headline |= _unscored_headline(tables["unscored"])
        notes += _token_notes(tables["unscored"])
    return Result(
        kind="boundaries",
        provenance=provenance(config=model.cfg.to_dict(), data=selection.data, seed=seed),
        headline=headline,
        tables=tables,
        warnings=tuple(dict.fromkeys([*selection.warnings, *notes, *_warnings(scorer, scored)])),
        gaps=gaps_frame(gaps["test"], found),
    )


def _captured(
    model: LRopeTransformer,
    selection: Selection,
    layers: Sequence[int],
    batch_size: int,
    on_progress: Progress | None,
) -> dict[str, Captured]:
    """Capture every split; fit gives only means of increments, so it needs no predictions."""
    return {
        split: capture(
            model,
            getattr(selection, split),
            layers=layers,
            predictions=split != "fit",
            batch_size=batch_size,
            on_progress=staged(on_progress, f"capturing {split}"),
        )
        for split in ("fit", "dev", "test")
    }


def _scored_layers(
    model: LRopeTransformer, layers: Sequence[int] | None
) -> tuple[tuple[int, ...], list[str]]:
    """Check the layers; a shared head says the same in every layer and is scored once."""
    if model.cfg.increments == "fixed":
        raise LRopeError(
            "this run is fixed: every increment is 1, so there is nothing to test; "
            "choose one trained with --increments per-layer or shared"
        )
    kept = check_layers(model, layers)
    if not kept:
        raise LRopeError("no layer to score; name at least one, or take all")
    if model.cfg.increments == "shared" and len(kept) > 1:
        return kept[:1], [f"shared increments are the same in every layer: scored once, as layer {kept[0]}"]
    return kept, []


def _checked(labels: Sequence[str]) -> tuple[str, ...]:
    for label in labels:
        if label not in LABELS:
            raise unknown("label", label, LABELS)
    if not labels:
        raise LRopeError(f"no label to score; choose from: {', '.join(LABELS)}")
    return tuple(dict.fromkeys(labels))


def _gaps(model: LRopeTransformer, selection: Selection, labels: Sequence[str]) -> dict[str, Gaps]:
    gaps = {}
    for split in ("dev", "test"):
        documents = getattr(selection, split)
        mask = token_start_mask(model, documents)
        gaps[split] = Gaps.of(documents, labels, selection.shared[split], mask)
    for split, found in gaps.items():
        if not found.strata["bytes"].any():
            raise LRopeError(
                f"{selection.data['name']} has no {split} gap to score: its documents have under two bytes, "
                "or the training text contains all of it; choose text that the model has not seen"
            )
    return gaps


def _score_all(scorer: Scorer, found: Sequence[Column], on_progress: Progress | None) -> list[Scored]:
    scored = []
    for done, column in enumerate(found, start=1):
        scored.append(scorer.score(column))
        if on_progress is not None:
            on_progress("scoring", done, len(found))
    return scored


def _tables(scorer: Scorer, scored: Sequence[Scored], test: Captured) -> dict[str, pd.DataFrame]:
    rows = [row for one in scored for row in one.scores]
    rows += [row for one in scorer.test_fields for row in prevalence_rows(one)]
    return {
        "scores": scores_frame(rows),
        "roc": table([row for one in scored for row in one.roc], _ROC),
        "choices": table([row for one in scored for row in one.choices], _CHOICES),
        "classes": classes_frame(test),
        "labels": labels_frame(scorer.test),
        "strata": strata_frame(scorer.test),
    }


_ROC = ("signal", "layer", "head", "label", "stratum", "fpr", "tpr")
_CHOICES = (
    *("signal", "layer", "head", "label", "stratum", "seed"),
    *("align", "sign", "threshold", "dev_roc_auc"),
)


def _headline(scores: pd.DataFrame) -> dict[str, float | None]:
    """Name the AUC of every layer and of its controls, among all gaps between characters."""
    shown = scores[
        (scores["metric"] == "roc_auc")
        & (scores["stratum"] == FALLBACK_STRATUM)
        & scores["signal"].isin(HEADLINE_SIGNALS)
        & scores["seed"].isna()
    ]
    names = map(_headline_name, *(shown[name] for name in ("signal", "layer", "head", "label")))
    return {
        name: None if math.isnan(value) else value
        for name, value in zip(names, shown["value"].tolist(), strict=True)
    }


def _unscored_headline(unscored: pd.DataFrame) -> dict[str, float]:
    return {"gaps inside tokens, not scored": float(unscored["n_unscored"].tolist()[0])}


def _token_notes(unscored: pd.DataFrame) -> list[str]:
    """Say what the tokens hide: gaps inside them, and with them boundaries."""
    counts = dict(zip(unscored["gaps"], zip(unscored["n_unscored"], unscored["n"], strict=True), strict=True))
    inside, among = counts.pop("any")
    hidden = [f"{part:,} of {whole:,} {name}" for name, (part, whole) in counts.items()]
    return [
        f"tokens are longer than a byte: {inside:,} of {among:,} test gaps between characters lie inside a "
        f"token and are not scored, with them {', '.join(hidden)}. What is scored are gaps before a token; "
        "token_mean is the layer's mean increment by token, and a class is that of a token's first byte"
    ]


def _headline_name(signal: str, layer: Any, head: Any, label: str) -> str:
    """Name a figure: "L0 whitespace roc_auc", "byte_mean L0 whitespace roc_auc", "entropy words roc_auc"."""
    place = "" if pd.isna(layer) else f"L{layer}" + ("" if pd.isna(head) else f"H{head}")
    words = ["" if signal == "increments" else signal, place, label, "roc_auc"]
    return " ".join(word for word in words if word)


def _warnings(scorer: Scorer, scored: Sequence[Scored]) -> list[str]:
    """Say what limits the numbers: units, labels that could not be had, silver, empty cells."""
    fields = scorer.test_fields
    found = [
        *_named(
            [one for one in fields if one.units.has_interval and not one.units.is_document],
            f"fewer than {MIN_DOCUMENTS} test documents, so intervals resample blocks of 4,096 bytes, in",
        ),
        *_named(
            [one for one in fields if not one.units.has_interval],
            f"fewer than {MIN_UNITS} units or a single document: no interval in",
        ),
    ]
    found += [
        note for name, label in scorer.test.labels.items() for note in _label_warnings(name, label, fields)
    ]
    return [*found, *scorer.choice_notes(), *(note for one in scored for note in one.notes)]


def _label_warnings(name: str, label: Label, fields: Sequence[Field]) -> list[str]:
    """Say where a label is missing, is another program's opinion, or has gaps of one kind only."""
    n_unknown, n_silver = label.grades.count(""), label.grades.count("silver")
    found = [f"{name} of {n_unknown} test documents are not known: {problem}" for problem in label.problems]
    if n_silver:
        found.append(f"{name} of {n_silver} test documents are silver (jieba), not gold")
    own = [one for one in fields if name in one.labels]
    one_kind = [one.stratum for one in own if len(set(one.labels[name].tolist())) < 2]
    if one_kind:
        found.append(f"no score for {name} in {', '.join(one_kind)}: gaps of one kind only")
    if not own:
        found.append(f"no score for {name}: no document could be labelled")
    return found


def _named(fields: Sequence[Field], words: str) -> list[str]:
    strata = ", ".join(dict.fromkeys(one.stratum for one in fields))
    return [f"{words} {strata}"] if strata else []
