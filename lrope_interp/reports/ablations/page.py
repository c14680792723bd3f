"""The page of `lrope-interp ablate`: what the model loses when its increments are frozen or changed."""

from __future__ import annotations

from lrope_interp.reports.ablations.attention import attention_frame, plot_attention
from lrope_interp.reports.ablations.computed import computed_blocks, computed_facts
from lrope_interp.reports.ablations.curves import (
    cumulative_frame,
    plot_cumulative,
    plot_scale,
    scale_frame,
)
from lrope_interp.reports.ablations.details import attention_blocks, example_blocks, group_blocks
from lrope_interp.reports.ablations.frames import base_frame, changes_frame
from lrope_interp.reports.ablations.groups import (
    classes_change_frame,
    distances_frame,
    languages_change_frame,
    plot_groups,
)
from lrope_interp.reports.ablations.heat_map import heat_map_frame, plot_heat_map
from lrope_interp.reports.ablations.places import places_blocks, places_frame
from lrope_interp.reports.ablations.sections import (
    curve_blocks,
    heat_map_blocks,
    other_rows_note,
    split_blocks,
)
from lrope_interp.reports.ablations.split import plot_split, split_frame, waterfall_frame
from lrope_interp.reports.ablations.strips import examples_frame
from lrope_interp.reports.ablations.words import sentences
from lrope_interp.reports.kit.blocks import Prose, Section
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts
from lrope_interp.results import Result

__all__ = [
    "attention_frame",
    "base_frame",
    "changes_frame",
    "classes_change_frame",
    "cumulative_frame",
    "distances_frame",
    "examples_frame",
    "heat_map_frame",
    "languages_change_frame",
    "places_frame",
    "plot_attention",
    "plot_cumulative",
    "plot_groups",
    "plot_heat_map",
    "plot_scale",
    "plot_split",
    "render_ablations",
    "scale_frame",
    "sentences",
    "split_frame",
    "waterfall_frame",
]  # fmt: skip


def render_ablations(result: Result) -> str:
    """Render the page of an ablations result, from the saved result alone."""
    note = other_rows_note(result)
    return Page(
        title="What breaks when the increments are frozen?",
        kicker="lrope-interp ablate",
        lead=sentences(result) or ["This result holds no change that could be measured."],
        facts={**facts(result.provenance, result.created), **computed_facts(result)},
        warnings=result.warnings,
        sections=[
            Section("Where, and by which intervention", heat_map_blocks(result)),
            Section("The split: scale, lexical, contextual", split_blocks(result)),
            Section("Curves", curve_blocks(result)),
            Section("At some gaps only", places_blocks(result)),
            Section("Which predictions", group_blocks(result)),
            Section("What moves inside: attention", attention_blocks(result)),
            Section("The targets that lose most", example_blocks(result)),
            Section(
                "What was computed", [*computed_blocks(result), *([Prose(note, "note")] if note else [])]
            ),
        ],
    ).html()
