"""The page of `lrope-interp study definitions`: are definitions and their uses drawn together?"""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.definitions import figures, tables
from lrope_interp.reports.definitions.tables import verdicts
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "effects": figures.plot_effects,
    "by_distance": figures.plot_by_distance,
}


def render(result: Result) -> str:
    """Render the page of a definitions result, from the saved result alone."""
    kinds = tables.kinds_of(result)
    return page_of(
        result,
        "definitions/report.html.j2",
        verdicts(result),
        kicker="lrope-interp study definitions",
        cells=[(kind, measure, None) for kind in kinds for measure in tables.MEASURES],
        kinds=kinds,
        figures_of=figures,
        tables=tables,
    )
