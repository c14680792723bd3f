"""What features add to all that the text alone tells: the gain over a joint probe of the controls."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.concepts.frames import claims_of
from lrope_interp.reports.concepts.names import tick
from lrope_interp.reports.concepts.panels import BLUE, COLUMNS, Look, Panels, empty_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

GAIN, TYPE_GAIN, UNTRAINED = "gain", "type_gain", "gain_untrained"
LOOKS = {
    GAIN: Look("unseen documents", BLUE),
    TYPE_GAIN: Look("unseen words", "#5b9bd0", "square"),
    UNTRAINED: Look("untrained model, unseen documents", theme.CONTROL, "diamond"),
}


def gain_frame(result: Result, features: str, family: str) -> Frame:
    """Return the gain in nats a span over the joint probe, by concept and layer.

    Returns:
        The columns of `concept_panels.Panels`: a panel a concept; the series `gain`, `type_gain` and
        `gain_untrained`, which has no interval.
    """
    claims = claims_of(result, features)
    claims = claims[claims["family"] == family]
    rows = []
    for _, claim in claims.iterrows():
        for series in LOOKS:
            bounds = {"low": claim.get(f"{series}_low"), "high": claim.get(f"{series}_high")}
            row = {"panel": claim["concept"], "series": series, "x": tick(claim["layer"])}
            rows.append(row | {"value": claim[series], "spread": "interval"} | bounds)
    found = pd.DataFrame(rows, columns=COLUMNS)
    found = found.astype(dict.fromkeys(("value", "low", "high"), float))
    return found[found["value"].notna()].reset_index(drop=True) if len(found) else empty_frame()


def gain_panels(result: Result, features: str, family: str) -> Panels:
    """Return `gain_frame` ready to be drawn; the heading names where something is added."""
    claims = claims_of(result, features)
    adding = claims[(claims["family"] == family) & claims["is_adding"]]
    notes = {
        str(concept): f"adds: {', '.join(tick(layer) for layer in own['layer'])}"
        for concept, own in adding.groupby("concept", sort=False)
    }
    frame = gain_frame(result, features, family)
    return Panels(frame, LOOKS, "nats a span", reference=0.0, notes=notes)
