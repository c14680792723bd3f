"""The page of `lrope-interp boundaries`: what the increments detect, beside what else detects it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.boundaries import figures, findings, tables
from lrope_interp.reports.boundaries.findings import verdicts
from lrope_interp.results import Result

__all__ = ["FIGURES", "findings", "page_values", "tables", "verdicts"]


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides: what can be picked, and labels without a score."""
    found = tables.labels_and_strata(result)
    unscored = [f"Label {label}: no score could be computed." for label, strata in found if not strata]
    cells = [(label, stratum, _of(result, label, stratum)) for label, strata in found for stratum in strata]
    return {"warnings": (*result.warnings, *unscored), "cells": cells}


def _of(result: Result, label: str, stratum: str) -> Result:
    """Return the rows about one label and stratum, so that no figure of them searches the whole tables."""
    own = {
        name: table[(table["label"] == label) & (table["stratum"] == stratum)]
        for name, table in result.tables.items()
        if {"label", "stratum"} <= {*table.columns}
    }
    return replace(result, tables=result.tables | own)


def _of_label(draw: Callable[[Result, str, str], go.Figure]) -> Callable[..., go.Figure]:
    """Let a figure of one label and stratum be that of the first label and its widest stratum."""

    def drawn(result: Result, label: str | None = None, stratum: str | None = None) -> go.Figure:
        known = {name: strata for name, strata in tables.labels_and_strata(result) if strata}
        label = next(iter(known), None) if label is None else label
        strata = known.get(label, []) if label is not None else []
        if label is None or not strata or stratum not in (None, *strata):
            scored = "; ".join(f"{name}: {', '.join(strata)}" for name, strata in known.items())
            raise LRopeError(f"{label} in {stratum} has no score; scored were {scored or 'none'}")
        return draw(_of(result, label, stratum or strata[0]), label, stratum or strata[0])

    return drawn


FIGURES: dict[str, Callable[..., go.Figure]] = {
    "labels": figures.plot_labels,
    "layers": _of_label(figures.plot_by_layer),
    "controls": _of_label(figures.plot_leaderboard),
    "differences": _of_label(figures.plot_differences),
    "beyond": _of_label(figures.plot_beyond),
    "curves": _of_label(figures.plot_curves),
    "bytes": figures.plot_classes,
}
