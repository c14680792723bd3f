"""The page of `lrope-interp probe`: what can be decoded from increments, and what decodes it as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.concepts import figures, tables
from lrope_interp.reports.concepts.tables import verdicts
from lrope_interp.results import Result

__all__ = ["FIGURES", "page_values", "verdicts"]


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides: what can be picked."""
    best = tables.best_claims(result)
    return {
        "claims": [(one["features"], one["what"], one) for _, one in best.iterrows()],
        "kinds": [(features, features) for features in tables.features_of(result)],
        "concepts": [(None, one["what"], one) for _, one in best.drop_duplicates("what").iterrows()],
    }


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
