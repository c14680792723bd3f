"""The page of `lrope-interp probe`: what can be decoded from increments, and what beats it."""

from __future__ import annotations

from lrope_interp.reports.concepts.computed import computed_blocks
from lrope_interp.reports.concepts.details import erasure_blocks, example_blocks, structure_blocks
from lrope_interp.reports.concepts.sections import (
    beside_blocks,
    code_blocks,
    gain_blocks,
    map_blocks,
    selectivity_blocks,
)
from lrope_interp.reports.concepts.words import sentences
from lrope_interp.reports.kit.blocks import Section
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts
from lrope_interp.results import Result

__all__ = ["render_concepts"]


def render_concepts(result: Result) -> str:
    """Render the page of a concepts result, from the saved result alone."""
    return Page(
        title="What do the increments know of concepts?",
        kicker="lrope-interp probe",
        lead=sentences(result) or ["This result holds no claim that could be measured."],
        facts=facts(result.provenance, result.created),
        warnings=result.warnings,
        sections=[
            Section("Every concept, every layer, against the best control", map_blocks(result)),
            Section("What beats what", beside_blocks(result)),
            Section("Concepts or words by heart: selectivity", selectivity_blocks(result)),
            Section("What they add to all that the text tells", gain_blocks(result)),
            Section("How much has to be said", code_blocks(result)),
            Section("Units of the text: gaps, pairs, trees", structure_blocks(result)),
            Section("Erased from what a head reads", erasure_blocks(result)),
            Section("Examples", example_blocks(result)),
            Section("What was computed", computed_blocks(result)),
        ],
    ).html()
