"""Do the model's increments mark boundaries, and better than what costs nothing?

The data flows one way: documents -> capture -> signals -> scores on dev and test -> comparisons with
controls, nulls and the ceiling -> tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import torch

from lrope_interp.data.labels.kinds import LABELS, default_labels
from lrope_interp.data.texts import AnyText
from lrope_interp.errors import LRopeError, check_seed, unknown
from lrope_interp.models import LRopeTransformer
from lrope_interp.models.frozen import attached_increments, increments_name
from lrope_interp.probes.boundaries.beyond import BEYOND_TABLE, beyond_rows
from lrope_interp.probes.boundaries.combination import BOTH, COUNTS, combination_columns
from lrope_interp.probes.boundaries.comparisons import (
    DIFFERENCE_COLUMNS,
    ERROR_COLUMNS,
    NULL_COLUMNS,
    SHARE_COLUMNS,
    VERDICT_COLUMNS,
    WORD_DIFFERENCE_COLUMNS,
    difference_rows,
    error_rows,
    match_tables,
    null_rows,
    share_rows,
    verdict_rows,
    with_bands,
    with_p_values,
    word_difference_rows,
)
from lrope_interp.probes.boundaries.harness import (
    FALLBACK_STRATUM,
    SCORE_COLUMNS,
    Scored,
    Scorer,
    prevalence_rows,
    seed_means,
)
from lrope_interp.probes.boundaries.signals import SCORED_SPLITS, gather, gather_default, twin_columns
from lrope_interp.probes.boundaries.tables import (
    classes_frame,
    gaps_frame,
    labels_frame,
    strata_frame,
    stride_frame,
    stride_note,
    unscored_frame,
)
from lrope_interp.probes.boundaries.text_controls import NVBE_WORDS
from lrope_interp.probes.capture.capture import (
    BATCH_SIZE,
    Layers,
    Progress,
    begin,
    capture,
    check_layers,
    counted,
    staged,
    token_start_mask,
)
from lrope_interp.probes.capture.gaps import ALIGNMENTS, Field, Gaps, Label
from lrope_interp.probes.capture.selection import HELD_OUT, Selection, check_beside, select
from lrope_interp.probes.capture.suites import DEFAULT, OVERLAPS, amounts, is_full
from lrope_interp.probes.statistics.bootstrap import MIN_UNITS, Bootstrap
from lrope_interp.probes.statistics.logistic import Fits
from lrope_interp.progress import shows_progress
from lrope_interp.results import Result, provenance, table
from lrope_interp.tokenizers import ByteTokenizer

HEADLINE_SIGNALS = ("increments", "byte_mean", "token_mean", "untrained", "entropy", "surprisal", "ceiling")
_CURVE = ("signal", "layer", "head", "label", "stratum")
_CHOICES = (
    *("signal", "layer", "head", "label", "stratum", "seed"),
    *("align", "sign", "threshold", "prevalence_threshold", "token_threshold", "dev_roc_auc"),
)


@shows_progress("boundaries")
def boundaries(
    model: LRopeTransformer,
    text: AnyText | None = None,
    data: str | Selection | None = None,
    layers: Layers = None,
    *,
    labels: Sequence[str] | None = None,
    align: str | None = None,
    fixed_model: LRopeTransformer | None = None,
    match: LRopeTransformer | None = None,
    suite: str = DEFAULT,
    max_bytes: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    on_progress: Progress | None = None,
) -> Result:
    """Score increments and controls as detectors of boundaries, all through one harness.

    A high score of a layer says that its increments differ at boundaries. It does not say that
    they carry anything which the byte itself, the model's uncertainty or a random network does
    not; for that, read the controls in the same table, the paired differences and what is beyond
    surprisal.

    Args:
        model: A trained model whose increments are learned.
        text: What to read: a text, a list of them, or a `Path`; see `select_text`.
        data: Or a corpus by name, or what `select_corpus`, `select_text` or `select_gold` gave. Default: the
            held-out text of the run's own corpus.
        layers: Which layers; None for all.
        labels: Which boundaries, see `lrope_interp.data.labels.kinds.LABELS`; None for all that can be
            known of the text.
        align: "lead", "last" or "sum" reads every character of several bytes so; None or "dev" chooses
            on dev, for each signal, label and stratum.
        fixed_model: A model with fixed positions, whose neighbouring states are compared as a control. The
            documents must be held out from it too.
        match: A run of another seed, whose layers are matched with those of the model; the same holds.
        suite: "default": little text of every document, and the controls that cost little. "full": also
            tables that count text, rules, the supervised ceiling, nulls, what is beyond surprisal, and more
            seeds of untrained models and random heads.
        max_bytes: The most bytes of each language in each split; None for what the suite reads.
        seed: Of resamples, shifts and flips. The untrained controls always have seeds from 0 on.
        batch_size: Windows at a time; changes nothing but memory and time.
        on_progress: Told the stage, what is done of it and all of it.

    Returns:
        A result of kind "boundaries" with the tables `verdicts`, `scores`, `differences`,
        `word_differences`, `errors`, `roc`, `precision_recall`, `choices`, `classes`, `labels` and `strata`
        (of the full suite also `nulls`, `shares`, `beyond` and `stride`; `unscored`, where tokens are longer
        than a byte; `matches` and `correlations`, where a run is matched), and with the test gaps. In
        `scores`, the row without a seed of a control with seeds is the mean over them, and its ci_low and
        ci_high are their range.

    Raises:
        LRopeError: A fixed model, an unknown layer or label, a constant signal, nothing to score.
    """
    check_seed(seed)
    has_all = is_full(suite)
    align = None if align == "dev" else align
    if align is not None and align not in ALIGNMENTS:
        raise LRopeError(f"unknown alignment {align!r}; choose from: dev, {', '.join(ALIGNMENTS)}")
    if labels is not None:
        labels = tuple(dict.fromkeys([labels] if isinstance(labels, str) else labels))
        for label in labels:
            if label not in LABELS:
                raise unknown("label", label, LABELS)
        if not labels:
            raise LRopeError(f"no label to score; choose from: {', '.join(LABELS)}")
    layers, notes = _scored_layers(model, layers)
    _check_models(model, fixed_model, match)
    selection = select(model, text, data, **amounts("boundaries", suite, max_bytes))
    check_beside(fixed_model, "the fixed model", selection)
    check_beside(match, "the model to match", selection)
    labels, gaps = labels or default_labels(selection.test), {}
    for split in HELD_OUT if has_all else SCORED_SPLITS:
        documents = getattr(selection, split)
        mask = token_start_mask(model, documents)
        gaps[split] = Gaps.of(documents, labels, selection.shared.get(split), mask)
        if split in SCORED_SPLITS and not gaps[split].strata[FALLBACK_STRATUM].any():
            raise LRopeError(
                f"{selection.data['name']} has no {split} gap to score: its documents have under two "
                "characters, or the training text contains all of it; choose text that the model has not seen"
            )
    has_byte_tokens = model.own_tokenizer().name == ByteTokenizer.name

    how = {"batch_size": batch_size, "on_progress": on_progress}
    counts = None
    if has_all:
        captured, found, counts, said = gather(model, selection, gaps, layers, **how)
    else:
        captured, found, said = gather_default(model, selection, layers, **how)
    if fixed_model is not None:
        found += twin_columns(fixed_model, selection, layers, OVERLAPS[suite], **how)

    unlabelled = next((one.values["dev"] for one in found if one.signal.name == NVBE_WORDS), None)
    of_nulls = captured["test"] if has_all else None
    scorer = Scorer(gaps["dev"], gaps["test"], Bootstrap(seed), of_nulls, align, unlabelled)
    if has_all:
        fits = Fits()
        found += combination_columns(scorer, gaps["fit"], found, fits, on_progress)
        notes += fits.notes("combinations of signals")
    for one in found:
        scorer.refuse_constant(one)
    scored = Scored()
    # Several at once: most of the work is done outside of Python's lock.
    with ThreadPoolExecutor(max(1, min(4, torch.get_num_threads()))) as pool:
        for _, one in zip(counted(found, "scoring", on_progress), pool.map(scorer.score, found), strict=True):
            scored.add(one)
    trials = [one for one in scored.trials if not math.isnan(one.auc.value)]
    begin(on_progress, "comparing")
    cheap, scores = scorer.baseline_trials(), scored.rows["scores"]
    with_bands(scores, trials)
    scores += [row for one in scorer.test_fields for row in prevalence_rows(one)]
    scores += scorer.baseline_rows(cheap)
    more: dict[str, pd.DataFrame] = {}
    if has_all:
        nulls = null_rows(trials)
        with_p_values(scores, nulls)
        beyond = beyond_rows(scorer, gaps["fit"], captured, found, counts, selection.training, on_progress)
        more = {
            "nulls": table(nulls, NULL_COLUMNS),
            "shares": table(share_rows(trials), SHARE_COLUMNS),
            "beyond": table(beyond, BEYOND_TABLE),
            "stride": stride_frame(model, captured["test"], batch_size),
        }
        notes += stride_note(more["stride"], model.cfg.n_ctx, "bytes" if has_byte_tokens else "tokens")
    tables = {
        "verdicts": table(verdict_rows(trials), VERDICT_COLUMNS),
        "scores": table([*scores, *seed_means(scores)], SCORE_COLUMNS),
        "differences": table(difference_rows(trials), DIFFERENCE_COLUMNS),
        "word_differences": table(word_difference_rows([*trials, *cheap]), WORD_DIFFERENCE_COLUMNS),
        "errors": table(error_rows(scorer, trials), ERROR_COLUMNS),
        "roc": table(scored.rows["roc"], (*_CURVE, "fpr", "tpr")),
        "precision_recall": table(scored.rows["precision_recall"], (*_CURVE, "recall", "precision")),
        "choices": table(scored.rows["choices"], _CHOICES),
        "classes": classes_frame(captured["test"]),
        "labels": labels_frame(scorer.test),
        "strata": strata_frame(scorer.test),
        **more,
    }
    if match is not None:
        other = {
            split: capture(
                match,
                getattr(selection, split),
                layers=(0,) if match.cfg.increments == "shared" else None,
                predictions=False,
                overlap=OVERLAPS[suite],
                batch_size=batch_size,
                on_progress=staged(on_progress, f"capturing the other run's {split}"),
            )
            for split in SCORED_SPLITS
        }
        tables |= match_tables(scorer, captured["test"], scored, other)
    notes += said
    headline = _headline(tables["scores"]) | _added(tables["word_differences"])
    if not has_byte_tokens:
        tables["unscored"] = unscored_frame(gaps["test"])
        headline["gaps inside tokens, not scored"] = float(tables["unscored"]["n_unscored"].tolist()[0])
        notes += _token_notes(tables["unscored"])
    return Result(
        kind="boundaries",
        provenance=provenance(config=model.cfg.to_dict(), data=selection.data, seed=seed) | {"suite": suite},
        headline=headline,
        tables=tables,
        warnings=tuple(dict.fromkeys([*selection.warnings, *notes, *_warnings(scorer, scored)])),
        gaps=gaps_frame(gaps["test"], found),
    )


def _check_models(
    model: LRopeTransformer, twin: LRopeTransformer | None, match: LRopeTransformer | None
) -> None:
    """Refuse models that cannot be held beside the one that is tested."""
    if twin is not None and increments_name(twin) != "fixed":
        raise LRopeError(
            "the fixed model must come from a run with fixed increments; those of this one are "
            f"{increments_name(twin).replace('_', ' ')}"
        )
    if match is not None and match.cfg.increments == "fixed":
        raise LRopeError(
            "the model to match must come from a run that learned its increments; this one is fixed"
        )
    for other, which in ((twin, "the fixed model"), (match, "the model to match")):
        if other is not None and other.own_tokenizer().fingerprint != model.own_tokenizer().fingerprint:
            raise LRopeError(
                f"{which} must come from a run with the same tokenizer, or gaps cannot be compared"
            )


def _scored_layers(model: LRopeTransformer, layers: Layers) -> tuple[tuple[int, ...], list[str]]:
    """Check the layers; a shared head says the same in every layer and is scored once.

    Returns:
        The layers, and what a reader must know.
    """
    if attached_increments(model) is not None:
        raise LRopeError(
            "this run's increments are frozen: it did not learn them, and has no heads to control for; "
            "choose the run that they were taken from"
        )
    if model.cfg.increments == "fixed":
        raise LRopeError(
            "this run is fixed: every increment is 1, so there is nothing to test; "
            "choose one trained with increments per-layer or shared"
        )
    kept = check_layers(model, layers)
    if model.cfg.increments == "shared":
        note = "shared increments are the same in every layer: scored once, as layer 0"
        return (0,), [note] if kept != (0,) else []
    return kept, []


def _headline(scores: pd.DataFrame) -> dict[str, float | None]:
    """Name the AUC of every layer and of its controls, among all gaps between characters.

    "L0 whitespace roc_auc", "byte_mean L0 whitespace roc_auc", "entropy words roc_auc".
    """
    shown = scores[
        (scores["metric"] == "roc_auc")
        & (scores["stratum"] == FALLBACK_STRATUM)
        & scores["signal"].isin(HEADLINE_SIGNALS)
        & scores["seed"].isna()
    ]
    found: dict[str, float | None] = {}
    keys = zip(*(shown[name].tolist() for name in ("signal", "layer", "head", "label", "value")), strict=True)
    for signal, layer, head, label, value in keys:
        place = "" if pd.isna(layer) else f"L{layer}" + ("" if pd.isna(head) else f"H{head}")
        words = ["" if signal == "increments" else signal, place, label, "roc_auc"]
        found[" ".join(word for word in words if word)] = None if math.isnan(value) else value
    return found


def _added(differences: pd.DataFrame) -> dict[str, float | None]:
    """Name what the model adds to counting, in F1 of words of the whole text, in the narrowest stratum."""
    is_it = (differences["signal"] == BOTH) & (differences["control"] == COUNTS)
    own = differences[is_it & (differences["metric"] == "word_f1")]
    pairs = zip(
        own["label"].tolist(), own["value"].tolist(), strict=True
    )  # the last stratum is the narrowest
    return {f"model added to counts {label} word_f1": value for label, value in pairs}


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


def _warnings(scorer: Scorer, scored: Scored) -> list[str]:
    """Say what limits the numbers: units, labels that could not be had, silver, empty cells."""
    fields = scorer.test_fields
    found = [
        *_named(
            [one for one in fields if not one.units.has_interval],
            f"fewer than {MIN_UNITS} test documents: no interval in",
        ),
    ]
    found += [
        note for name, label in scorer.test.labels.items() for note in _label_warnings(name, label, fields)
    ]
    return [*found, *scorer.choice_notes(), *scored.notes]


def _label_warnings(name: str, label: Label, fields: Sequence[Field]) -> list[str]:
    """Say where a label is missing, is another program's opinion, or has gaps of one kind only."""
    n_unknown, n_silver = label.grades.count(""), label.grades.count("silver")
    found = [f"{name} of {n_unknown} test documents are not known: {problem}" for problem in label.problems]
    if n_silver:
        by = "a rule" if name == "sentences" else "jieba"
        found.append(f"{name} of {n_silver} test documents are silver (by {by}), not gold")
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
