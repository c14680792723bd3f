"""The page of `lrope-interp study definitions`: are definitions and their uses drawn together?"""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.definitions.figures import plot_by_distance, plot_effects, table_frame
from lrope_interp.reports.definitions.frames import (
    APART,
    BEYOND,
    CONTROLS,
    DRAWN,
    EFFECTIVE,
    KINDS,
    LEAST_PAIRS,
    MEASURES,
    NORMALISED,
    UNKNOWN,
    distance_frame,
    effects_frame,
    kinds_of,
    n_layers,
    overall,
    with_bounds,
)
from lrope_interp.reports.kit.blocks import Block, Folded, Plot, Section, Table
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, listed, number, plural
from lrope_interp.results import Result

__all__ = ["effects_frame", "plot_by_distance", "plot_effects", "render_definitions", "verdicts"]

_PAIRED = ("names", "same_name", "roles")
_READS = (
    "Each dot is the mean over pairs of ln(perceived / even) of the pair less that of up to five matched "
    "pairs, in per cent, with its 95 % interval over files (or blocks of them): left of the line a "
    "definition and its use are closer than pairs like them. Matched pairs come from the same "
    "file, are as many tokens apart, with about as many line ends between, and end in the same "
    "classes of bytes. Grey crosses are a "
    "model with random weights whose increments vary as much."
)
_LIMITS = (
    "Closer does not mean attended to. What stands between a definition and its use differs from other text "
    "in more than was matched: a body follows the one, and the other is often an argument."
)
_DISTANCE_READS = (
    "The same difference against two different names, in bins of about as many pairs; the thick line is the "
    "mean of all layers, with its interval."
)
_TABLE = (
    "`Pairs` and `Controls`: how much farther apart (+) or closer (-) than as many mean increments they are. "
    "`trained - untrained` is the difference of the two models' differences on the same pairs."
)
_COUNTS = (
    "A pair is measured if both ends fit in one window and no byte between them stands in a 64-byte shingle "
    "that training text has too."
)


def render_definitions(result: Result) -> str:
    """Render the page from a saved result alone."""
    sections = [
        Section(f"{kind.capitalize()}: {KINDS[kind]}", _kind_blocks(result, kind))
        for kind in kinds_of(result)
    ]
    return Page(
        title="Are definitions and their uses drawn together?",
        kicker="lrope-interp study definitions",
        lead=verdicts(result),
        facts=facts(result.provenance, result.created),
        warnings=result.warnings,
        sections=[*sections, Section("What was found and measured", _count_blocks(result))],
    ).html()


def verdicts(result: Result) -> list[str]:
    """Say of every kind in a sentence whether it is drawn together beyond all matched pairs."""
    counts = table_of(result, "counts").set_index("kind")
    return [
        _verdict(result, kind, int(counts.loc[kind, "n_measured"])) for kind in KINDS if kind in counts.index
    ]


def _verdict(result: Result, kind: str, n: int) -> str:
    """Drawn together only where every matched control and the untrained model say so."""
    name = f"{kind.capitalize()}s"
    if n < LEAST_PAIRS:
        return f"{name}: not measured, with {plural(n, 'pair')} that a window holds."
    rows = {one: overall(result, kind, one) for one in _PAIRED}
    known = {one: row for one, row in rows.items() if row is not None and row.shows != UNKNOWN}
    if not known:
        return f"{name}: no interval could be had, so nothing is said."
    beyond = overall(result, kind, "names", BEYOND)
    details = listed([f"{with_bounds(row)} against {CONTROLS[one]}" for one, row in known.items()])
    # What was not measured, the untrained model first of all, is not beaten.
    said = {UNKNOWN if row is None else row.shows for row in (*rows.values(), beyond)}
    if said == {DRAWN}:
        finding = "are drawn together beyond every matched pair and beyond an untrained model"
    elif said == {APART}:
        finding = "are pushed apart beyond every matched pair and beyond an untrained model"
    else:
        finding = "are not shown to be drawn together beyond matched pairs"
    closer, of = n_layers(result, kind, "names", DRAWN)
    farther, _ = n_layers(result, kind, "names", APART)
    more = "" if beyond is None else f"; less an untrained model's difference {with_bounds(beyond)}"
    return (
        f"{name} ({plural(n, 'pair')}): definition and use {finding}. Mean of all layers: {details}{more}. "
        f"Against different names {closer} of {of} layers are closer and {farther} farther, each by its own "
        "95 % interval."
    )


def _kind_blocks(result: Result, kind: str) -> list[Block]:
    blocks: list[Block] = [
        Plot(plot_effects(result, kind), _READS, _LIMITS, "Normalised distance", min_width=640)
    ]
    if not distance_frame(result, kind).empty:
        blocks.append(Plot(plot_by_distance(result, kind), _DISTANCE_READS, "", "By token distance"))
    effective = Plot(plot_effects(result, kind, EFFECTIVE), "Read as above.", "", min_width=640)
    tables: list[Block] = [_table(result, kind, measure) for measure in MEASURES]
    return [
        *blocks,
        Folded("Effective distance: what the rotary planes make of it", [effective]),
        Folded("Every number", tables),
    ]


def _table(result: Result, kind: str, measure: str) -> Table:
    caption = f"{measure.capitalize()} distance. {_TABLE if measure == NORMALISED else ''}".strip()
    return Table(table_frame(result, kind, measure), caption, left=["Row", "Held against", "Model", "Shows"])


def _count_blocks(result: Result) -> list[Block]:
    counts, matches = table_of(result, "counts"), table_of(result, "matches")
    found = pd.DataFrame(
        {
            "Kind": [KINDS.get(one, one) for one in counts["kind"]],
            "Found": _counted(counts, "n_found"),
            "Too far apart": _counted(counts, "n_far"),
            "Shared with training": _counted(counts, "n_shared"),
            "Measured": _counted(counts, "n_measured"),
        }
    )
    matched = matches[matches["n"] > 0]
    quality = pd.DataFrame(
        {
            "Kind": matched["kind"],
            "Held against": [CONTROLS.get(one, one) for one in matched["control"]],
            "Pairs with a match": _counted(matched, "n"),
            "Matches": _counted(matched, "n_controls"),
            "Off by tokens": [number(value, 2) for value in matched["apart_tokens"]],
            "Off by line ends": [number(value, 2) for value in matched["apart_lines"]],
        }
    )
    return [
        Table(found, _COUNTS, left=["Kind"]),
        Table(quality, "How well the controls match, on average.", left=["Kind", "Held against"]),
    ]


def _counted(frame: Frame, name: str) -> list[str]:
    return [f"{int(value):,}" for value in frame[name]]
