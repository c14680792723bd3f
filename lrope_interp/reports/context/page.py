"""The page of `lrope-interp study context`: what learned increments cost as context grows."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.context import figures, tables
from lrope_interp.reports.context.tables import verdicts
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "time": figures.plot_time,
    "memory": figures.plot_memory,
    "angles": figures.plot_angles,
}


def render(result: Result) -> str:
    """Render the page of a context result, from the saved result alone."""
    return page_of(
        result,
        "context/report.html.j2",
        verdicts(result),
        kicker="lrope-interp study context",
        figures_of=figures,
        tables=tables,
    )
