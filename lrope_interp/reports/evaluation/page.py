"""The page of `lrope-interp eval`: nats per byte of a text, as a whole and document by document."""

from __future__ import annotations

import math

from lrope_interp.reports.kit.blocks import Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, interval, number, plural
from lrope_interp.results import Result

_CAPTION = (
    "The sum of -ln p over all bytes divided by their number; the separator EOS before a document is "
    "read and not counted. Bits are nats divided by ln 2. The interval resamples documents, or blocks "
    "where there are few."
)
_DOCUMENTS = "Hardest first. A short document has few bytes of context and is harder for that alone."


def render_evaluation(result: Result) -> str:
    """Render the page of an eval result, from the saved result alone."""
    languages, documents = table_of(result, "languages"), table_of(result, "documents")
    hardest_first = documents.sort_values("nats_per_byte", ascending=False, kind="stable")
    return Page(
        title="How well the model predicts a text",
        kicker="lrope-interp eval",
        lead=[headline(result)],
        facts=facts(result.provenance, result.created),
        warnings=result.warnings,
        sections=[
            Section("By language", [Table(_languages(languages), _CAPTION, left=["Text"])]),
            Section(
                "By document",
                [Table(_documents(hardest_first), _DOCUMENTS, left=["Document", "Language"])],
            ),
            Section(
                "What this does not show",
                [
                    Prose(
                        "Whether learned increments help: that takes pairs of runs that differ in "
                        "nothing else."
                    )
                ],
            ),
        ],
    ).html()


def headline(result: Result) -> str:
    """Say the loss in a sentence, with its interval."""
    found = result.headline
    bounds = interval(found.get("ci_low"), found.get("ci_high"), 4)
    size = plural(int(result.provenance["data"]["n_bytes"]), "byte")
    between = f" {bounds}" if bounds else " (no interval: too few units)"
    return (
        f"{number(found['nats_per_byte'], 4)} nats per byte{between}, "
        f"{number(found['bits_per_byte'], 4)} bits, over {size}."
    )


def _languages(table: Frame) -> Frame:
    return table.assign(
        **{
            "Text": table["language"],
            "Nats per byte": [number(value, 4) for value in table["nats_per_byte"]],
            "95 % interval": [
                interval(low, high, 4) or "–"
                for low, high in zip(table["ci_low"], table["ci_high"], strict=True)
            ],
            "Bits per byte": [number(value / math.log(2), 4) for value in table["nats_per_byte"]],
            "Bytes": [f"{value:,}" for value in table["n_bytes"]],
            "Documents": [f"{value:,}" for value in table["n_documents"]],
        }
    )[["Text", "Nats per byte", "95 % interval", "Bits per byte", "Bytes", "Documents"]]


def _documents(table: Frame) -> Frame:
    return table.assign(
        **{
            "Document": table["document"],
            "Language": table["language"],
            "Nats per byte": [number(value, 4) for value in table["nats_per_byte"]],
            "Bits per byte": [number(value, 4) for value in table["bits_per_byte"]],
            "Bytes": [f"{value:,}" for value in table["n_bytes"]],
        }
    )[["Document", "Language", "Nats per byte", "Bits per byte", "Bytes"]]
