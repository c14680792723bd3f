"""The page of `lrope-interp distance`: how far apart each layer takes the words of a text to be."""

from __future__ import annotations

from lrope_interp.reports.distances.figures import (
    EFFECTIVE,
    MEASURES,
    NORMALISED,
    matrix_frame,
    matrix_width,
    pair_frame,
    plot_matrix,
    plot_pair,
)
from lrope_interp.reports.kit.blocks import Block, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, is_number, number, plural
from lrope_interp.results import Result

__all__ = ["matrix_frame", "pair_frame", "plot_matrix", "plot_pair", "render_distance"]

_PAIR_READS = {
    NORMALISED: "A dot is the distance from the last byte of the one place to the last byte of the other, in "
    "mean increments of this text; the vertical line is the token distance, ordinary RoPE's. The grey bar is "
    "where 95 % of all pairs of this text's tokens lie that are as many tokens apart; bold rows lie outside.",
    EFFECTIVE: "What the rotary planes make of that distance, each weighed by its share of the query-key "
    "energy on this text: 0 is the same place. It rises and falls again as planes turn more than once.",
}
_MATRIX_READS = (
    "Rows and columns are the words in reading order; choose a layer in the menu. Blue pairs are closer, "
    "orange ones farther than the mean of this text's tokens that are as many tokens apart; a dot marks a "
    "pair outside their central 95 %."
)
_LIMITS = (
    "One text shows nothing in general. Pairs of one text overlap, so neighbouring cells repeat each other, "
    "and about one in twenty lies outside the range without any cause. A distance says how far a rotation "
    "changes the scores, not how much the model attends."
)


def render_distance(result: Result) -> str:
    """Render the page of `lrope-interp distance` from a saved result alone."""
    sections = [
        Section("The two places", _pair_blocks(result)),
        Section("All pairs of words", _matrix_blocks(result)),
        Section("The words", [Prose(" · ".join(table_of(result, "words")["word"].tolist()), "text")]),
    ]
    return Page(
        title="How far apart the model takes these words to be",
        kicker="lrope-interp distance",
        lead=headline(result),
        facts=facts(result.provenance, result.created),
        warnings=result.warnings,
        sections=sections,
    ).html()


def headline(result: Result) -> list[str]:
    """Say in sentences what was found of the places asked for, or of the matrix."""
    pair = pair_frame(result)
    if pair.empty:
        frame = matrix_frame(result)
        share = (frame["is_outside"].astype(str) == "True").mean()
        n = plural(len(table_of(result, "words")), "word")
        return [f"{n}; {share:.0%} of their pairs lie outside the central 95 % at their token distance."]
    texts = table_of(result, "asked")["text"].tolist()
    between = " and ".join(f"“{text}”" for text in texts)
    outside = pair[pair["is_outside"].astype(str) == "True"]
    n = int(pair["n_tokens"].iloc[0])
    return [f"{between} are {plural(n, 'token')} apart. {_where(pair, outside)}"]


def _where(pair: Frame, outside: Frame) -> str:
    if not pair["low"].map(is_number).any():
        return "Too few pairs of this text are as far apart to say what is usual."
    if outside.empty:
        return (
            "In every layer that is as usual for this text: inside the central 95 % at this token distance."
        )
    found = [
        f"{row.row_label} ({'closer' if row.value < row.expected else 'farther'}, "
        f"{number(row.value)} for {number(row.expected)})"
        for row in outside.itertuples()
    ]
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return f"Outside what is usual for this text in {', '.join(found[:4])}{more}."


def _pair_blocks(result: Result) -> list[Block]:
    if pair_frame(result).empty:
        return []
    plots: list[Block] = [
        Plot(
            plot_pair(result, measure),
            _PAIR_READS[measure],
            _LIMITS if measure == NORMALISED else "",
            measure.capitalize(),
        )
        for measure in MEASURES
    ]
    return [*plots, Table(_pair_table(result), "Every number of the two figures.", left=["Row", "Measure"])]


def _matrix_blocks(result: Result) -> list[Block]:
    width = matrix_width(result)
    first = Plot(plot_matrix(result), _MATRIX_READS, _LIMITS, "Normalised distance", min_width=width)
    second = Plot(plot_matrix(result, EFFECTIVE), "Read as above.", "", "Effective distance", min_width=width)
    return [first, Folded("The same by effective distance", [second])]


def _pair_table(result: Result) -> Frame:
    import pandas as pd

    frame = pd.concat([pair_frame(result, measure) for measure in MEASURES], ignore_index=True)
    return pd.DataFrame(
        {
            "Row": frame["row_label"],
            "Measure": frame["measure"],
            "Distance": [number(value, 3) for value in frame["value"]],
            "Tokens": [str(value) for value in frame["n_tokens"]],
            "Expected": [number(value, 3) for value in frame["expected"]],
            "95 % of pairs": [
                f"{number(low, 3)} to {number(high, 3)}" if is_number(low) else "too few pairs"
                for low, high in zip(frame["low"], frame["high"], strict=True)
            ],
            "Outside": [
                "yes" if str(value) == "True" else "no" if str(value) == "False" else "–"
                for value in frame["is_outside"]
            ],
        }
    )
