"""The page of `lrope-interp eval`: nats per byte of a text, as a whole and document by document."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import LANGUAGES, NOTHING, interval, number, plural
from lrope_interp.results import ALL_LANGUAGES, Result

_COLOURS = (theme.layer_colour(0, 1), theme.ACCENT, theme.CONTROL, theme.INK)
_SYMBOLS = ("circle", "diamond", "square", "triangle-up")


def _languages(result: Result) -> Frame:
    """Return the table `languages` with a name for each."""
    table = table_of(result, "languages")
    names = {ALL_LANGUAGES: "all text"}
    return table.assign(name=[names.get(code) or LANGUAGES.get(code) or code for code in table["language"]])


def verdicts(result: Result) -> Verdicts:
    """Return a row a language, the whole text first."""
    found, table = result.headline, _languages(result)
    columns = {"name": "what", "nats_per_byte": "value", "ci_low": "low", "ci_high": "high"}
    rows = table.rename(columns=columns)[[*columns.values()]].reindex(columns=[*COLUMNS])
    has_bounds = bool(rows["low"].notna().any())
    size = plural(int(result.provenance["data"]["n_bytes"]), "byte")
    bounds = "95 % over documents" if has_bounds else "too few documents for any"
    return Verdicts(
        headline=f"The model predicts this text with {number(found['nats_per_byte'], 4)} nats per byte "
        f"({number(found['bits_per_byte'], 4)} bits), over {size}.",
        frame=rows,
        names={"what": "Text", "value": "Nats per byte"},
        digits=4,
        reference=None,
        caption=f"Less is better. Intervals: {bounds}. One model alone does not show whether learned "
        "increments help.",
    )


def plot_documents(result: Result) -> go.Figure:
    """Draw a dot a document: its nats per byte against its size."""
    table = table_of(result, "documents")
    figure = theme.new_figure(height=360)
    groups = [*table.groupby("language", sort=False)]
    for i, (language, own) in enumerate(groups):
        figure.add_scatter(
            x=own["n_bytes"], y=own["nats_per_byte"], mode="markers",
            name=plain(LANGUAGES.get(language) or language),
            marker={"color": _COLOURS[i % 4], "symbol": _SYMBOLS[i % 4], "size": 8, "opacity": 0.75},
            text=[plain(name) for name in own["document"]],
            hovertemplate="%{text}<br>%{y:.4f} nats per byte, %{x:,} bytes<extra></extra>",
        )  # fmt: skip
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(legend=legend, showlegend=len(groups) > 1)
    is_wide = table["n_bytes"].max() > 20 * max(table["n_bytes"].min(), 1)
    figure.update_xaxes(
        type="log" if is_wide else "linear", title_text="bytes of the document", tickformat=","
    )
    figure.update_yaxes(title_text="nats per byte")
    return figure


FIGURES: dict[str, Callable[..., go.Figure]] = {"documents": plot_documents}


def page_values(result: Result) -> dict[str, Any]:
    """Return the two tables of the page, as text."""
    languages, documents = _languages(result), table_of(result, "documents")
    bounds = zip(languages["ci_low"], languages["ci_high"], strict=True)
    by_language = pd.DataFrame({
        "Text": languages["name"],
        "Nats per byte": [number(value, 4) for value in languages["nats_per_byte"]],
        "95 % interval": [interval(*ends, 4) or NOTHING for ends in bounds],
        "Bits per byte": [number(value / math.log(2), 4) for value in languages["nats_per_byte"]],
        "Bytes": [f"{n:,}" for n in languages["n_bytes"]],
        "Documents": [f"{n:,}" for n in languages["n_documents"]],
    })  # fmt: skip
    documents = documents.sort_values("nats_per_byte", ascending=False, kind="stable")
    by_document = pd.DataFrame({
        "Document": documents["document"],
        "Language": documents["language"],
        "Nats per byte": [number(value, 4) for value in documents["nats_per_byte"]],
        "Bits per byte": [number(value, 4) for value in documents["bits_per_byte"]],
        "Bytes": [f"{n:,}" for n in documents["n_bytes"]],
    })  # fmt: skip
    return {"by_language": by_language, "by_document": by_document}
