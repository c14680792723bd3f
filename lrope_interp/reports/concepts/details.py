"""The sections of the page beyond claims: structure, erasures and examples."""

from __future__ import annotations

from lrope_interp.reports.concepts.erasures import ERASURES, erased_families, erasure_panels
from lrope_interp.reports.concepts.sections import panels_blocks
from lrope_interp.reports.concepts.strips import example_strips
from lrope_interp.reports.concepts.structure import (
    CONTRASTS,
    MEASURES,
    PAIRS,
    TREES,
    structure_panels,
    structure_sentence,
)
from lrope_interp.reports.kit.blocks import Block, Folded, Prose
from lrope_interp.results import Result

_TITLES = {
    CONTRASTS: "Gaps between units against gaps within",
    PAIRS: "Two words of one unit against two of different units",
    TREES: "Trees of gaps",
}
_STRUCTURE = {
    CONTRASTS: (
        "Mean increment at gaps between units over that at gaps within one, before bytes of the same class, "
        "by layer: above 1 the model moves units apart. The mean of the byte knows the byte after the gap "
        "and nothing else; entropy and surprisal stand at the right.",
        "Which bytes of a class stand at borders can make a ratio differ from 1: what is not above the mean "
        "of the byte is no finding about units. No two rows were tested in pairs.",
    ),
    PAIRS: (
        "The chance that of two pairs of words, equal in words, bytes, spaces, marks and Chinese characters "
        "between, the one within a unit is closer by its summed increments: 0.5 is chance.",
        "Which words and marks lie between is not matched; the controls say how far that goes.",
    ),
    TREES: (
        "Share (F1) of the marked units that a tree finds which splits every sentence at its widest gaps, "
        "beside the same tree of other signals, and right, left, balanced and random trees.",
        "A reference that marks few units a sentence keeps every F1 low: compare trees, not with 1. A tree "
        "of one shape can do well and know nothing of the text.",
    ),
}


def structure_blocks(result: Result) -> list[Block]:
    """Return gap contrasts, matched pairs and gap trees, each with what stands beside."""
    blocks: list[Block] = []
    for measure in MEASURES:
        reads, limits = _STRUCTURE[measure]
        figure = panels_blocks(structure_panels(result, measure), reads, limits, _TITLES[measure])
        said = structure_sentence(result, measure)
        blocks += [*figure, *([Prose(said, "note")] if figure and said else [])]
    return blocks


def erasure_blocks(result: Result) -> list[Block]:
    """Return what erasing each family does, the first family open."""
    found: list[Block] = []
    for family in erased_families(result):
        blocks = _erased(result, family, is_first=not found)
        found += [Folded(f"{family}: all of it", blocks)] if found and blocks else blocks[:2]
        found += [Folded(f"{family}: the loss", blocks[2:])] if found == blocks[:2] and blocks[2:] else []
    return found


def _erased(result: Result, family: str, *, is_first: bool) -> list[Block]:
    blocks: list[Block] = []
    for erasure in ERASURES:
        reads = _ERASURE_READS[erasure.title] if is_first else "Read as above."
        limits = _ERASURE_LIMITS if is_first and not blocks else ""
        title = f"{family}: {erasure.title[0].lower()}{erasure.title[1:]}"
        blocks += panels_blocks(erasure_panels(result, erasure, family), reads, limits, title)
    return blocks


_ERASURE_READS = {
    ERASURES[0].title: "The family is erased (LEACE) from what the increment head of one layer reads, and "
    "from nothing else: mean change of its increments, in units of their mean. Random directions, as many, "
    "say how much any erasure does.",
    ERASURES[1].title: "Mean increment at the first bytes of the concept's spans less that at the family's "
    "other spans, before and after: what falls to 0 rested on what was erased.",
    ERASURES[2].title: "Change of the loss at the concept's bytes and the byte after each span: above 0, "
    "something is lost.",
    ERASURES[3].title: "Change of the loss over all bytes.",
}
_ERASURE_LIMITS = (
    "What goes along with a concept, as capitals go along with names, is erased with it; what a head reads "
    "in a way that is not linear survives. Random erasures match the number of directions, not how far the "
    "states move."
)


def example_blocks(result: Result) -> list[Block]:
    """Return passages a concept, the first open."""
    blocks: list[Block] = []
    for i, (title, strips) in enumerate(example_strips(result)):
        blocks += [Prose(title), strips] if i == 0 else [Folded(title, [strips])]
    return blocks
