"""The page of `lrope-interp probe`: what can be decoded from increments, and what decodes it as well."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go

from lrope_interp.reports.concepts import figures, tables
from lrope_interp.reports.concepts.tables import verdicts
from lrope_interp.reports.kit.render import page_of
from lrope_interp.results import Result

__all__ = ["FIGURES", "render", "verdicts"]


def render(result: Result) -> str:
    """Render the page of a concepts result, from the saved result alone."""
    best = tables.best_claims(result)
    return page_of(
        result,
        "concepts/report.html.j2",
        verdicts(result),
        claims=[(one["features"], one["what"], one) for _, one in best.iterrows()],
        kinds=[(features, features) for features in tables.features_of(result)],
        concepts=[(None, one["what"], one) for _, one in best.drop_duplicates("what").iterrows()],
        figures_of=figures,
        tables=tables,
    )


FIGURES: dict[str, Callable[..., go.Figure]] = {
    "map": figures.plot_map,
    "layers": figures.plot_layers,
    "controls": figures.plot_controls,
    "selectivity": figures.plot_selectivity,
    "codes": figures.plot_codes,
    "sparse": figures.plot_sparse,
    "structure": figures.plot_structure,
    "erasure": figures.plot_erasure,
}
