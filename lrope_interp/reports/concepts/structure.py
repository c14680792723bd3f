"""Whether increments follow the units of a text: gaps, pairs of words, and trees, by layer and control."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lrope_interp.reports.concepts.names import INCREMENTS, signal_name, tick
from lrope_interp.reports.concepts.panels import BLUE, COLUMNS, Look, Panels, empty_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.wording import listed
from lrope_interp.results import Result

_TABLES = ("lexical", "ngram_3")
_LAYERED = ("untrained", "random_head", *_TABLES)
_SINGLE = "single"
LOOKS = {
    INCREMENTS: Look("increments", BLUE),
    "lexical": Look("mean of the byte", theme.ACCENT, "triangle-up"),
    "ngram_3": Look("mean of the last three bytes", theme.ACCENT, "triangle-down"),
    "untrained": Look("untrained", theme.CONTROL, "diamond"),
    "random_head": Look("random head", theme.CONTROL, "x-thin-open"),
    _SINGLE: Look("no layer", theme.CONTROL, "square"),
}
EVERYWHERE = "all"


@dataclass(frozen=True)
class Measure:
    """One of the tables of structure.

    Attributes:
        table: Its name.
        value: The column that holds the number.
        signal: The column that says whose it is.
        where: Which rows are shown.
        y_title: What the number is.
        reference: What it is where nothing follows the units, if one number says that.
    """

    table: str
    value: str
    signal: str
    where: tuple[tuple[str, str], ...]
    y_title: str
    reference: float | None


CONTRASTS = Measure("contrasts", "ratio", "control", (("byte_class", "all"),), "between / within", 1.0)
PAIRS = Measure("pairs", "value", "control", (("metric", "roc_auc"),), "ROC-AUC", 0.5)
TREES = Measure("trees", "value", "tree", (("metric", "f1"),), "F1 of brackets", None)
MEASURES = (CONTRASTS, PAIRS, TREES)


def structure_frame(result: Result, measure: Measure) -> Frame:
    """Return one number a unit, signal and layer, over all languages (or the only one).

    Returns:
        The columns of `concept_panels.Panels`: a panel a unit, the layers and then what has no layer along
        the axis; and `signal`, `layer`, `n`, `n_documents`.
    """
    table = table_of(result, measure.table)
    needed = {"unit", measure.value, measure.signal, "language", *(name for name, _ in measure.where)}
    if table.empty or not needed <= set(table.columns):
        return empty_frame().assign(signal="", layer=-1)
    for name, wanted in measure.where:
        table = table[table[name] == wanted]
    languages = list(dict.fromkeys(table["language"]))
    language = EVERYWHERE if EVERYWHERE in languages or not languages else languages[0]
    table = table[table["language"] == language]
    signal = table[measure.signal].fillna("").astype(str).replace("", INCREMENTS)
    found = table.assign(
        signal=signal,
        panel=table["unit"].astype(str),
        value=numbers(table[measure.value]),
        low=numbers(table["ci_low"]),
        high=numbers(table["ci_high"]),
        spread=np.where(signal.isin(("untrained", "random_head", "random")), "range", "interval"),
    )
    found = found[found["value"].notna()]
    if found.empty:
        return empty_frame().assign(signal="", layer=-1)
    is_single = (found["layer"] < 0) | ~found["signal"].isin((INCREMENTS, *_LAYERED))
    found = found.assign(
        series=found["signal"].where(~is_single, _SINGLE),
        x=[
            signal_name(name) if alone else tick(layer, head)
            for name, alone, layer, head in zip(
                found["signal"], is_single, found["layer"], found["head"], strict=True
            )
        ],
        order=found["panel"].map({name: i for i, name in enumerate(dict.fromkeys(found["panel"]))}),
        is_single=is_single,
    )
    ordered = found.sort_values(["order", "is_single", "layer", "head"], kind="stable")
    kept = [*COLUMNS, "signal", "layer", "n", "n_documents"]
    return ordered.reset_index(drop=True).reindex(columns=list(dict.fromkeys(kept)))


def structure_panels(result: Result, measure: Measure) -> Panels:
    """Return `structure_frame` ready to be drawn."""
    frame = structure_frame(result, measure)
    x_title = "layer, or what has none"
    return Panels(frame, LOOKS, measure.y_title, x_title=x_title, reference=measure.reference)


def structure_sentence(result: Result, measure: Measure) -> str:
    """Say for each unit whether increments are ahead of every control, as they stand."""
    frame = structure_frame(result, measure)
    own = frame[frame["signal"] == INCREMENTS]
    if own.empty:
        return ""
    parts = [_unit_words(frame[frame["panel"] == unit], unit) for unit in dict.fromkeys(own["panel"])]
    return (
        "The best layer of increments beside the best control and its best layer, as they stand, without a "
        f"test: {'; '.join(parts)}."
    )


def _unit_words(rows: Frame, unit: str) -> str:
    is_own = rows["signal"] == INCREMENTS
    if is_own.all():
        return f"{unit}, no control"
    best = rows[is_own].loc[rows.loc[is_own, "value"].idxmax()]
    top = rows[~is_own].loc[rows.loc[~is_own, "value"].idxmax()]
    name = signal_name(str(top["signal"]))
    side = "ahead of" if best["value"] > top["value"] else "behind"
    return f"{unit} {best['value']:.3f} ({side} {name} {top['value']:.3f})"


def told_units(result: Result) -> str:
    """Say of which units the gaps are wider than those within, by their intervals, and what says so too."""
    frame = structure_frame(result, CONTRASTS)
    own = frame[(frame["signal"] == INCREMENTS)]
    if own.empty or own["low"].isna().all():
        return ""
    parts = []
    for unit, rows in own.groupby("panel", sort=False):
        wide = rows[rows["low"] > 1]
        tables = frame[(frame["panel"] == unit) & frame["signal"].isin(_TABLES)]
        known = tables.groupby("layer")["value"].max().to_dict()
        beyond = [
            low > known.get(layer, np.inf) for low, layer in zip(wide["low"], wide["layer"], strict=True)
        ]
        parts.append(f"{unit} {len(wide)} of {len(rows)} ({sum(beyond)} above what the last bytes tell)")
    return (
        "Gaps between units are wider than gaps within them, among bytes of one class, in so many layers: "
        f"{listed(parts)}."
    )
