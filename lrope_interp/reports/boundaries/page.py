"""The page of `lrope-interp boundaries`: what the increments detect, beside what else detects it."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.boundaries.class_figure import plot_classes
from lrope_interp.reports.boundaries.contrast_figures import plot_beyond, plot_differences
from lrope_interp.reports.boundaries.contrasts import beyond_frame, differences_frame
from lrope_interp.reports.boundaries.curves import precision_recall_frame, roc_frame
from lrope_interp.reports.boundaries.error_strips import errors_frame
from lrope_interp.reports.boundaries.figures import plot_by_layer, plot_curves
from lrope_interp.reports.boundaries.frames import (
    DEFAULT_STRATUM,
    LANGUAGES,
    auc_frame,
    classes_frame,
    labels_and_strata,
    languages,
)
from lrope_interp.reports.boundaries.layer_matches import matches_frame, matches_sentence, matches_table
from lrope_interp.reports.boundaries.leaderboard import by_layer_frame, leaderboard_frame
from lrope_interp.reports.boundaries.leaderboard_figure import plot_leaderboard
from lrope_interp.reports.boundaries.score_table import table_frame
from lrope_interp.reports.boundaries.sections import stratum_blocks, stratum_name
from lrope_interp.reports.boundaries.table_meanings import MEANINGS
from lrope_interp.reports.boundaries.verdicts import headline, shortly, standing
from lrope_interp.reports.kit.blocks import Beside, Block, Files, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, is_number, number
from lrope_interp.results import GAPS_FILE, Result

__all__ = [
    "auc_frame", "beyond_frame", "by_layer_frame", "classes_frame", "differences_frame", "errors_frame",
    "headline", "leaderboard_frame", "matches_frame", "plot_beyond", "plot_by_layer", "plot_classes",
    "plot_curves", "plot_differences", "plot_leaderboard", "precision_recall_frame", "render_boundaries",
    "roc_frame", "table_frame",
]  # fmt: skip

_LABELS = {
    "whitespace": "the character after the gap is white space",
    "punctuation": "the character after the gap is a punctuation mark",
    "words": "a word begins after the gap",
    "words_merged": "a word begins after the gap, where the parts of a Chinese name are one word",
    "despaced": "a word began after the gap before all white space was removed from the text",
    "sentences": "a sentence begins after the gap, by a rule (silver: nobody checked it)",
    "lines": "a line of code begins after the gap",
    "tokens": "a token of the programming language begins after the gap",
    "brackets_open": "the character after the gap is an opening bracket of code (no string, no comment)",
    "brackets_close": "the character after the gap is a closing bracket of code (no string, no comment)",
    "scopes": "a function, class or other scope of the code begins after the gap",
}


def render_boundaries(result: Result) -> str:
    """Render the page of a boundaries result, from the saved result alone."""
    found = [(label, strata) for label, strata in labels_and_strata(result) if strata]
    empty = [label for label, strata in labels_and_strata(result) if not strata]
    notes = [f"Label {label}: no score could be computed (see the table of labels)." for label in empty]
    return Page(
        title="Do the increments mark boundaries?",
        kicker="lrope-interp boundaries",
        lead=[(_title(label), _lead(result, label, strata)) for label, strata in found],
        facts=facts(result.provenance, result.created),
        warnings=[*result.warnings, *notes],
        sections=[
            *[_label_section(result, label, strata) for label, strata in found],
            Section("The layers of another run", _matches(result)),
            Section("Mean increment by character class", _classes(result)),
            Section("What was scored", _scored(result)),
            Section("Tables", _tables(result)),
        ],
    ).html()


def _title(label: str) -> str:
    return label.replace("_", " ").capitalize()


def _lead(result: Result, label: str, strata: list[str]) -> str:
    """Say the headline, and for a text in several languages what becomes of it in each alone."""
    alone = [
        f"{LANGUAGES[code].capitalize()} alone: {shortly(result, label, code)}."
        for code in strata
        if code in LANGUAGES
    ]
    return " ".join([headline(result, label, strata[0]), *alone])


def _label_section(result: Result, label: str, strata: list[str]) -> Section:
    meaning = _LABELS.get(label, "")
    blocks: list[Block] = [Prose(f"A boundary here means: {meaning}.", "note")] if meaning else []
    stands = standing(result, label, strata[0])
    blocks += [Prose(stands)] if stands else []
    blocks += stratum_blocks(result, label, strata[0], is_first=True)
    for stratum in strata[1:]:
        summary = stratum_name(stratum)
        blocks.append(
            Folded(
                f"{summary[0].upper()}{summary[1:]}", stratum_blocks(result, label, stratum, is_first=False)
            )
        )
    return Section(_title(label), blocks)


def _matches(result: Result) -> list[Block]:
    frame = matches_frame(result, DEFAULT_STRATUM)
    if frame.empty:
        return []
    table = matches_table(frame)
    return [Prose(matches_sentence(frame)), Table(table, _MATCHES, left=["This run", "Other run"])]


_MATCHES = (
    "Layers are paired so that the sum of |Spearman| between their increments on the same gaps is largest "
    "(Hungarian method). ROC-AUC with 95 % intervals of both, over all gaps between characters."
)


def _classes(result: Result) -> list[Block]:
    found = languages(result) or [(None, "")]
    blocks: list[Block] = []
    for i, (language, name) in enumerate(found):
        if classes_frame(result, language).empty:
            continue
        limits = _CLASS_LIMITS if i == 0 else ""
        reads = _CLASS_READS if i == 0 else "Read as the first."
        blocks.append(Plot(plot_classes(result, language), reads, limits, name.capitalize()))
    return [Beside(blocks)] if len(blocks) > 1 else blocks


_CLASS_READS = (
    "Each cell: the mean increment of that kind of byte over the layer's mean increment; blue steps "
    "far, brown steps short, white is the mean. Grey numbers count bytes."
)
_CLASS_LIMITS = (
    "Means of a class, without intervals: they do not show what context adds, nor the spread within a class."
)
_UNSCORED = (
    "Test gaps between characters, and how many lie inside a token: those have no increment of their own and "
    "are not scored. A label below counts its boundaries only."
)


def _scored(result: Result) -> list[Block]:
    blocks: list[Block] = []
    for name, caption in (
        ("labels", "Labels and where they come from."),
        ("strata", "Strata."),
        ("unscored", _UNSCORED),
    ):
        if name not in result.tables or result.tables[name].empty:
            continue
        table: Frame = result.tables[name]
        shown = pd.DataFrame({column: [_cell(v) for v in table[column]] for column in table.columns})
        words = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
        shown.columns = [str(c).replace("_", " ") for c in shown.columns]
        blocks.append(Table(shown, caption, left=[str(c).replace("_", " ") for c in words]))
    return blocks


def _cell(value: object) -> str:
    if isinstance(value, str) or not is_number(value):
        return str(value)
    as_float = float(value)  # pyright: ignore[reportArgumentType]
    return f"{as_float:,.0f}" if as_float.is_integer() else number(as_float, 3)


def _tables(result: Result) -> list[Block]:
    """Name every file that stands beside the page, so that its numbers can be checked elsewhere."""
    files = [
        (f"{name}.csv", f"{len(table):,}", MEANINGS.get(name, ""))
        for name, table in result.tables.items()
        if len(table)
    ]
    if result.gaps is not None:
        files.append((GAPS_FILE, f"{len(result.gaps):,}", MEANINGS["gaps"]))
    if not files:
        return []
    return [
        Folded(f"{len(files)} files hold every number of this page", [Prose(_FILES, "note"), Files(files)])
    ]


_FILES = (
    "The links work where this page lies beside its tables, as it was written. Empty cells are numbers that "
    "could not be had."
)
