"""The page of `lrope-interp show`: a text as each layer spaces it."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.kit.blocks import Block, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, number, plural
from lrope_interp.reports.spacing.figures import plot_spacing
from lrope_interp.reports.spacing.layout import (
    attention_frame,
    spacing_frame,
    summary_frame,
    unit_of,
    words_frame,
)
from lrope_interp.results import Result

__all__ = [
    "attention_frame",
    "plot_spacing",
    "render_spacing",
    "spacing_frame",
    "summary_frame",
    "words_frame",
]


def render_spacing(result: Result) -> str:
    """Render the page of `lrope-interp show` from a saved result alone."""
    frame = spacing_frame(result)
    attention = attention_frame(result, frame)
    unit = unit_of(result)
    text = "".join(frame.loc[frame["row"] == 0, "text"])
    summary = summary_frame(frame)
    reads = _reads(frame, attention, unit, has_words=len(words_frame(result, frame)) > 0)
    limits = (
        "It does not show what attention does with the distances (only differences of positions reach "
        "it, and a row is a row whatever its scale), and one text shows nothing in general: "
        "`lrope-interp boundaries` measures."
    )
    blocks: list[Block] = [Plot(plot_spacing(result), reads, limits)]
    if len(summary) > _MANY_ROWS:
        layers = sorted(summary["layer"].unique().tolist())
        texts = [reads, *["Read as above."] * (len(layers) - 1)]
        blocks = [
            Plot(
                plot_spacing(result, int(layer), row_height=26),
                text,
                limits if i == 0 else "",
                f"Layer {layer}",
            )
            for i, (layer, text) in enumerate(zip(layers, texts, strict=True))
        ]
    table = Table(_summary_table(summary, unit), _SUMMARY_CAPTIONS[unit], left=["Row"])
    return Page(
        title="How far apart the model places this text",
        kicker="lrope-interp show",
        lead=[_headline(summary, len(text), unit)],
        facts=facts(result.provenance, result.created),
        warnings=result.warnings,
        sections=[
            Section("The text, spaced by each layer", blocks),
            Section("How uneven each layer is, on this text", [table]),
            Section("The characters shown", [Prose(text, "text")]),
        ],
    ).html()


_MANY_ROWS = 12  # beyond these, one figure a layer

_SUMMARY_CAPTIONS = {
    "byte": "Each character's increment a byte, divided by the row's mean a byte; the first character is "
    "left out. Delimiters are white space and punctuation. Averages over the few characters above, without "
    "intervals: a description, not a test.",
    "token": "Each token's increment, divided by the row's mean a token; the first token is left out. "
    "Delimiters are tokens that begin with white space or punctuation. Averages over the few tokens above, "
    "without intervals: a description, not a test.",
}
_STANDS = {
    "byte": "Each character stands at its cumulative position, a character of several bytes at its last "
    "byte; the space in front of it is its increment.",
    "token": "Each token stands at its cumulative position, the tokens of one character as one; the space "
    "between a token and the one before it is its increment. The gaps inside a token have none.",
}


def _reads(frame: Frame, attention: Frame, unit: str, has_words: bool) -> str:
    lines = [
        _STANDS[unit],
        "Every row is stretched to the same mean increment, so only unevenness shows; the grey row is "
        f"ordinary RoPE, one step a {unit}.",
        "Thin lines follow a character from row to row; ␣ is a space, ⏎ a line end, both coloured like "
        "punctuation.",
    ]
    if has_words:
        lines.append("Ticks above the topmost row stand where the reference has a word begin.")
    if frame["block"].max() > 0:
        lines.append("Long texts wrap; a wrapped line begins with the gap after the character before.")
    if len(attention):
        lines.append(
            "Bars under the rows: how much the query (triangle) looks at each character, placed as that "
            "layer places it, scaled to the tallest bar."
        )
    return " ".join(lines)


def _headline(summary: Frame, n_characters: int, unit: str) -> str:
    told = summary[summary["n_delimiters"] > 0]
    size = f"{plural(n_characters, 'character')} through {plural(summary['layer'].nunique(), 'layer')}."
    if told.empty or told["elsewhere"].isna().all():
        return size
    contrast = told["at_delimiters"] - told["elsewhere"]
    row = told.loc[contrast.abs().idxmax()]
    if unit == "token":
        return (
            f"{size} Delimiters and the rest differ most in {row['row_label']}: a token that begins with a "
            f"space or punctuation mark is {number(row['at_delimiters'])} times the mean step there, any "
            f"other token {number(row['elsewhere'])} times."
        )
    return (
        f"{size} Delimiters and the rest differ most in {row['row_label']}: a byte of a space or "
        f"punctuation mark is {number(row['at_delimiters'])} times the mean step there, a byte of any other "
        f"character {number(row['elsewhere'])} times."
    )


def _summary_table(summary: Frame, unit: str) -> Frame:
    return pd.DataFrame(
        {
            "Row": summary["row_label"],
            f"Mean increment a {unit}": [number(value, 3) for value in summary["mean_per_byte"]],
            "Spread (s.d.)": [number(value) for value in summary["sd"]],
            "At delimiters": [number(value) for value in summary["at_delimiters"]],
            "Elsewhere": [number(value) for value in summary["elsewhere"]],
            "Delimiters": [str(value) for value in summary["n_delimiters"]],
            "Characters" if unit == "byte" else "Tokens": [str(value) for value in summary["n"]],
        }
    )
