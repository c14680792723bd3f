"""The figures of the page on definitions and their uses."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.definitions.tables import (
    BEYOND,
    MEASURES,
    NORMALISED,
    OVERALL,
    TRAINED,
    distance_frame,
    effects_frame,
    kinds_of,
)
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, worded
from lrope_interp.reports.kit.rows_figure import aligned, dots, named, reach, rows_figure
from lrope_interp.results import Result

_LOOKS: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("names", TRAINED): ("against two different names", {"color": theme.ACCENT}),
    ("roles", TRAINED): ("against another definition and use", {"color": "#2f75b5", "symbol": "square"}),
    ("same_name", TRAINED): ("against two uses of one name", {"color": "#092654", "symbol": "diamond"}),
    ("names", "untrained"): ("untrained model, two different names", {"color": theme.CONTROL, "symbol": "x"}),
}
_ROW, _MANY = 48, 12  # pixels; rows that get less
_SPREAD = 0.2


def chosen(result: Result, kind: str | None, measure: str = NORMALISED) -> str:
    """Return the kind that is drawn, the first if none is named."""
    known = kinds_of(result)
    found = next(iter(known), None) if kind is None else kind
    if found is None or found not in known or measure not in MEASURES:
        raise LRopeError(
            f"{kind} in {measure} distance is not measured; measured are {', '.join(known) or 'none'} in "
            f"{' and '.join(MEASURES)} distance"
        )
    return found


def plot_effects(result: Result, kind: str | None = None, measure: str = NORMALISED) -> go.Figure:
    """Draw real less matched, a row a layer: each control beside the others, the untrained model grey."""
    frame = effects_frame(result, chosen(result, kind, measure), measure)
    places = list(dict.fromkeys(frame["place"]))
    main = frame[(frame["control"] == "names") & (frame["model"] == TRAINED)]
    words = dict(zip(main["place"], worded(main, {"": ("value", "low", "high")})[""], strict=True))
    columns, heading = aligned([[words.get(place, "–")] for place in places], ["against different names, %"])
    names = [named(place, is_strong=place == OVERALL) for place in places]
    height = _ROW if len(places) <= _MANY else 36
    figure = rows_figure(names, columns, heading, 0.0, height=height)
    for at, ((control, model), (name, marker)) in enumerate(_LOOKS.items()):
        own = frame[(frame["control"] == control) & (frame["model"] == model)]
        if len(own):
            shifted = own.assign(y=own["y"] + (at - (len(_LOOKS) - 1) / 2) * _SPREAD)
            figure.add_trace(dots(shifted, name, {"size": 8} | marker, _hovers(own, name)))
    shown = frame[frame["model"] != BEYOND]
    figure.update_xaxes(
        title_text="definition to use, less pairs like it (%; below 0: drawn together)",
        range=reach(shown["value"], shown["low"], shown["high"], least=(-1.0, 1.0)),
    )
    layout: Any = figure.layout
    figure.update_layout(margin={"t": 84}, height=layout.height + 26)
    return figure


def plot_by_distance(result: Result, kind: str | None = None) -> go.Figure:
    """Draw the difference to two different names against token distance, a line a layer."""
    frame = distance_frame(result, chosen(result, kind))
    figure = theme.new_figure(height=380)
    figure.add_hline(y=0, line={"color": theme.INK, "width": 1})
    colours = theme.layer_colours([int(one) for one in frame.loc[frame["layer"] >= 0, "layer"]])
    for place, own in frame.groupby("place", sort=False):
        layer = int(own["layer"].iloc[0])
        colour, width = (colours[layer], 1.5) if layer >= 0 else (theme.ACCENT, 3)
        figure.add_scatter(
            x=(own["distance"] + own["distance_high"]) / 2, y=own["value"], name=str(place),
            mode="lines+markers", line={"color": colour, "width": width},
            error_y={
                "type": "data", "symmetric": False, "array": own["high"] - own["value"],
                "arrayminus": own["value"] - own["low"], "thickness": 1, "width": 2, "visible": layer < 0,
            },
            text=_hovers(own, "against two different names"), hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="token distance")
    figure.update_yaxes(title_text="less pairs like it (%)")
    return figure


def _hovers(frame: Frame, name: str) -> list[str]:
    return [
        f"<b>{row.place}</b>, {name}<br>{row.value:+.2f} % [{row.low:+.2f}, {row.high:+.2f}]"
        f"<br>{row.n:,} pairs of {row.n_documents:,} files"
        for row in frame.itertuples()
    ]
