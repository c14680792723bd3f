"""The page of `lrope-interp show`: a text as each layer spaces it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import number, signed
from lrope_interp.reports.spacing.figures import plot_spacing
from lrope_interp.reports.spacing.tables import (
    attention_frame,
    spacing_frame,
    summary_frame,
    unit_of,
    verdicts,
    words_frame,
)
from lrope_interp.results import Result

__all__ = ["FIGURES", "page_values", "verdicts"]

_MANY_ROWS = 12  # beyond these, one figure a layer

FIGURES: dict[str, Callable[..., go.Figure]] = {"spacing": plot_spacing}


def page_values(result: Result) -> dict[str, Any]:
    """Return what the template asks for besides; what was asked for is shown first."""
    frame, unit = spacing_frame(result), unit_of(result)
    summary = summary_frame(frame)
    attention = attention_frame(result, frame)
    layers = [*dict.fromkeys([*attention["layer"], *summary["layer"]])]
    layers = [None] if len(summary) <= _MANY_ROWS else layers
    return {
        "layers": layers,
        "cells": [(str(layer), layer) for layer in layers],
        "unit": unit,
        "has_words": len(words_frame(result, frame)) > 0,
        "has_attention": len(attention) > 0,
        "table": _summary_table(summary, unit),
        "text": "".join(frame.loc[frame["row"] == 0, "text"]),
    }


def _summary_table(summary: Frame, unit: str) -> Frame:
    contrast = summary["at_delimiters"] - summary["elsewhere"]
    return pd.DataFrame(
        {
            "Row": summary["row_label"],
            f"Increment per {unit}": [number(value, 3) for value in summary["mean_per_byte"]],
            "Spread (s.d.)": [number(value) for value in summary["sd"]],
            "At delimiters": [number(value) for value in summary["at_delimiters"]],
            "Elsewhere": [number(value) for value in summary["elsewhere"]],
            "Difference": [signed(value, 2) for value in contrast],
            "Widest steps": summary["widest"],
        }
    )
