"""The page of `lrope-interp boundaries`: what the increments detect, beside what else detects it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lrope_interp.reports.blocks import Beside, Block, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.boundary_figures import CHANCE, plot_auc, plot_roc
from lrope_interp.reports.boundary_frames import (
    LANGUAGES,
    auc_frame,
    best_layer,
    classes_frame,
    controls_beside,
    labels_and_strata,
    languages,
    roc_frame,
    signal_name,
    table_frame,
)
from lrope_interp.reports.class_figure import plot_classes
from lrope_interp.reports.frames import Frame, Row
from lrope_interp.reports.page import Page
from lrope_interp.reports.wording import facts, interval, is_number, listed, number
from lrope_interp.results import Result

__all__ = [
    "auc_frame", "classes_frame", "headline", "plot_auc", "plot_classes", "plot_roc", "render_boundaries",
    "roc_frame", "table_frame",
]  # fmt: skip

_STRATA = {
    "characters": "all gaps between characters",
    "nondelimiter": "gaps whose next character is no delimiter",
    "han": "gaps between two Chinese characters",
    "bytes": "all gaps between bytes",
    **{code: f"gaps between characters, {name} documents" for code, name in LANGUAGES.items()},
}
_LABELS = {
    "whitespace": "the character after the gap is white space",
    "punctuation": "the character after the gap is a punctuation mark",
    "words": "a word begins after the gap",
}


def render_boundaries(result: Result) -> str:
    """Render the page of a boundaries result, from the saved result alone."""
    found = [(label, strata) for label, strata in labels_and_strata(result) if strata]
    empty = [label for label, strata in labels_and_strata(result) if not strata]
    notes = [f"Label {label}: no score could be computed (see the table of labels)." for label in empty]
    return Page(
        title="Do the increments mark boundaries?",
        kicker="lrope-interp boundaries",
        lead=[(label.capitalize(), _lead(result, label, strata)) for label, strata in found],
        facts=facts(result.provenance, result.created),
        warnings=[*result.warnings, *notes],
        sections=[
            *[_label_section(result, label, strata) for label, strata in found],
            Section("Mean increment by character class", _classes(result)),
            Section("What was scored", _scored(result)),
        ],
    ).html()


def _lead(result: Result, label: str, strata: list[str]) -> str:
    """Say the headline, and for a text in several languages what becomes of it in each alone."""
    alone = [
        f"{LANGUAGES[code].capitalize()} alone: {_shortly(result, label, code)}."
        for code in strata
        if code in LANGUAGES
    ]
    return " ".join([headline(result, label, strata[0]), *alone])


def _shortly(result: Result, label: str, stratum: str) -> str:
    scores = auc_frame(result, label, stratum)
    best, controls = best_layer(scores), controls_beside(scores)
    layer = "no layer has a score" if best is None else f"{best['name']} {number(best['value'], 3)}"
    return layer if controls.empty else f"{layer}, {_reaches(controls.iloc[0])}"


def headline(result: Result, label: str, stratum: str) -> str:
    """Say in a sentence or two what the best layer reaches, and what the controls reach without it."""
    scores = auc_frame(result, label, stratum)
    best = best_layer(scores)
    if best is None:
        return "No layer has a score."
    n_layers = int((scores["signal"] == "increments").sum())
    among = f" (the best of {n_layers}, picked on this text)" if n_layers > 1 else ""
    start = f"{best['name'].capitalize()}{among} reaches ROC-AUC {number(best['value'], 3)} "
    controls = controls_beside(scores)
    named = controls[(np.arange(len(controls)) < _NAMED_CONTROLS) | (controls["signal"] == "untrained")]
    reached = [_reaches(line) for _, line in named.iterrows()]
    if len(controls) > len(named):
        reached.append(f"{len(controls) - len(named)} more in the table")
    against = f"Beside it: {listed(reached)}. " if reached else "No control has a score. "
    return (start + interval(best["low"], best["high"])).rstrip() + ". " + against + _verdict(best, controls)


_NAMED_CONTROLS = 4


def _reaches(line: Row) -> str:
    spread = f" (seeds {number(line['low'])} to {number(line['high'])})" if line["spread"] == "range" else ""
    return f"{_control_name(line)} {number(line['value'], 3)}{spread}"


def _control_name(line: Row) -> str:
    """Name a control without its layer, which is the best layer's."""
    name = signal_name(line["signal"])
    return name if line["name"].startswith(name) and line["layer"] >= 0 else str(line["name"])


def _verdict(best: Row, controls: Frame) -> str:
    """Compare with the strongest control, without pretending to a paired test."""
    if controls.empty:
        return "Without a control this number is not a result."
    top = controls.iloc[0]
    name = _control_name(top)
    high = best["high"] if is_number(best["high"]) else best["value"]
    low = best["low"] if is_number(best["low"]) else best["value"]
    if top["value"] > high:
        return f"The control wins: {name} detects more than any layer."
    if top["value"] >= min(low, best["value"] - 0.005):
        return f"That is no more than the {name} detects: the layer is not shown to add anything."
    return f"Above every control here by at least {number(best['value'] - top['value'], 3)}."


def _label_section(result: Result, label: str, strata: list[str]) -> Section:
    meaning = _LABELS.get(label, "")
    blocks: list[Block] = [Prose(f"A boundary here means: {meaning}.", "note")] if meaning else []
    blocks += _stratum(result, label, strata[0])
    apart = [code for code in strata if code in LANGUAGES]
    if apart:
        blocks.append(Beside([_bars_of(result, label, code) for code in apart]))
    for stratum in strata[1:]:
        summary = _STRATA.get(stratum, stratum) + (": curves and scores" if stratum in LANGUAGES else "")
        blocks.append(Folded(f"{summary[0].upper()}{summary[1:]}", _stratum(result, label, stratum)))
    return Section(f"{label.capitalize()}", blocks)


_LONG = 30  # rows of a table that is folded


def _stratum(result: Result, label: str, stratum: str) -> list[Block]:
    scores = auc_frame(result, label, stratum)
    roc = plot_roc(result, label, stratum)
    has_curves = any(trace.name != CHANCE for trace in roc.data)
    curves = Plot(roc, _ROC_READS, _ROC_LIMITS, "ROC curves")
    plots: list[Block] = [] if stratum in LANGUAGES else [_bars_of(result, label, stratum)]
    plots += [curves] if has_curves else []
    frame, styles = table_frame(result, label, stratum)
    counted = scores.iloc[0]
    size = f"{int(counted['n']):,} gaps, {int(counted['n_positive']):,} of them boundaries"
    table = Table(frame, f"Best first; {size}. {_TABLE}", left=["Signal"], row_styles=styles)
    return [
        Beside(plots),
        Folded(f"All {len(frame)} scores as a table", [table]) if len(frame) > _LONG else table,
    ]


def _bars_of(result: Result, label: str, stratum: str) -> Plot:
    """Return the bars of a stratum; how to read them is told in full where languages are together."""
    title = f"{label.capitalize()}, {_STRATA.get(stratum, stratum)}"
    is_language = stratum in LANGUAGES
    reads = "Read as above, within one language." if is_language else _AUC_READS
    return Plot(plot_auc(result, label, stratum), reads, "" if is_language else _auc_limits(result), title)


_AUC_READS = (
    "Bars start at chance and reach each layer's ROC-AUC: the share of (boundary, other gap) pairs that "
    "the increment orders rightly; whiskers are 95 % intervals, where there are documents enough. "
    "Grey across the figure: signals of the whole model. Broken line across a bar: a control of that layer. "
    "Grey band beside a bar: the range over untrained models."
)


def _auc_limits(result: Result) -> str:
    unit = "token" if "unscored" in result.tables else "byte"
    return (
        f"A bar below a grey line is no finding. Layer 0 sees the {unit} alone, so it cannot exceed a table "
        f"of {unit}s by knowing more; no interval here compares two signals."
    )


_ROC_READS = (
    "Each curve lowers the threshold from the largest signal to the smallest. Of the controls with a "
    "value a layer, the one at the best layer is drawn."
)
_ROC_LIMITS = (
    "It does not show how rare boundaries are: see average precision beside prevalence in the table."
)
_TABLE = (
    "Sign (+ opens, − contracts at boundaries), alignment of multi-byte characters and the F1 threshold "
    "were chosen on other documents (dev). Average precision of a guess equals the prevalence."
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
