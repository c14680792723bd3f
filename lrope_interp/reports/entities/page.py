"""The page of `lrope-interp study entities`: the published test of names beside stricter ones."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.entities import figures, tables
from lrope_interp.reports.entities.tables import verdicts
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {"test": figures.plot_test}


def render(result: Result) -> str:
    """Render the page of an entities result, from the saved result alone."""
    return page_of(
        result,
        "entities/report.html.j2",
        verdicts(result),
        kicker="lrope-interp study entities",
        figures_of=figures,
        tables=tables,
    )
