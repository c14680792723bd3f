"""The page of `lrope-interp ablate`: what the model loses when its increments are frozen or changed."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.ablations import figures, tables
from lrope_interp.reports.ablations.tables import verdicts
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "changes": figures.plot_heat_map,
    "split": figures.plot_split,
    "scale": figures.plot_scale,
    "layers": figures.plot_cumulative,
    "groups": figures.plot_groups,
    "attention": figures.plot_attention,
}


def render(result: Result) -> str:
    """Render the page of an ablate result, from the saved result alone."""
    names = {name: tables.short(name) for name in tables.interventions(result)}
    return page_of(
        result,
        "ablations/report.html.j2",
        verdicts(result),
        names=names,
        cells=[(name, result) for name in names],  # of the pickers
        figures=figures,
        tables=tables,
    )
