"""The page of `lrope-interp distance`: how far apart each layer takes the words of a text to be."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.distances import figures, tables
from lrope_interp.reports.distances.tables import MEASURES, verdicts
from lrope_interp.reports.kit.frames import table_of
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

_MOST_CELLS = 60_000  # of all matrices; beyond, that of the effective distance stays in the table

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "distance": figures.plot_distance,
    "pair": figures.plot_pair,
    "matrix": figures.plot_matrix,
}


def render(result: Result) -> str:
    """Render the page of `lrope-interp distance` from a saved result alone."""
    matrix = tables.matrix_frame(result)
    places = matrix[["row_label", "layer", "head"]].drop_duplicates().to_numpy().tolist()
    measures = MEASURES if len(table_of(result, "matrix")) <= _MOST_CELLS else MEASURES[:1]
    return page_of(
        result,
        "distances/report.html.j2",
        verdicts(result),
        has_pair=not tables.pair_frame(result).empty,
        cells=[(name, measure, (layer, head)) for measure in measures for name, layer, head in places],
        figures_of=figures,
        tables=tables,
        words=table_of(result, "words")["word"].tolist(),
    )
