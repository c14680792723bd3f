"""The page of `lrope-interp ablate`: what the model loses when its increments are frozen or changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go

from lrope_interp.reports.ablations import figures, tables
from lrope_interp.reports.ablations.tables import verdicts
from lrope_interp.results import Result

__all__ = ["FIGURES", "page_values", "verdicts"]

FIGURES: dict[str, Callable[..., go.Figure]] = {
    "changes": figures.plot_heat_map,
    "split": figures.plot_split,
    "scale": figures.plot_scale,
    "layers": figures.plot_cumulative,
    "groups": figures.plot_groups,
    "attention": figures.plot_attention,
}


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides: the interventions, to be picked, and their names."""
    names = {name: tables.short(name) for name in tables.interventions(result)}
    return {"names": names, "cells": [(name, result) for name in names]}
