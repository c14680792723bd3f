"""The page of `lrope-interp study replicate`: are the arms equal, and could the experiment have told?"""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.kit.render import page_of
from lrope_interp.reports.replication import figures, tables
from lrope_interp.reports.replication.tables import verdicts
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "differences": figures.plot_differences,
    "curves": figures.plot_curves,
    "gaps": figures.plot_gaps,
}


def render(result: Result) -> str:
    """Render the page of a replicate result, from the saved result alone."""
    return page_of(
        result,
        "replication/report.html.j2",
        verdicts(result),
        kicker="lrope-interp study replicate",
        figures_of=figures,
        tables=tables,
    )
