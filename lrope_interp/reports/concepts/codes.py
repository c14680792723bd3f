"""How much has to be said: code lengths of probes, and how few single features are enough."""

from __future__ import annotations

import math

import pandas as pd

from lrope_interp.reports.concepts.frames import probes_of
from lrope_interp.reports.concepts.names import DOCUMENT, control_name, tick
from lrope_interp.reports.concepts.panels import BLUE, COLUMNS, Look, Panels, empty_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.results import Result

_OWN = {"none": Look("what is claimed", BLUE)}
_MODELS = {
    "untrained": Look("untrained", theme.CONTROL, "diamond"),
    "random_head": Look("random head", theme.CONTROL, "x-thin-open"),
    "fixed": Look("fixed twin", theme.CONTROL, "square-open"),
    "joint_plus": Look("with all of the text", "#5b9bd0", "square"),
    "joint_untrained": Look("untrained with all of the text", theme.CONTROL, "square"),
}
_TEXT = "text"
_JOINT = ("joint_plus", "joint_untrained")
SPARSE_LOOKS = {
    "value": Look("the best features", BLUE, is_joined=True),
    "random_value": Look("random features", theme.CONTROL, "diamond", is_joined=True),
    "shuffled_value": Look("shuffled labels", theme.CONTROL, "x-thin-open", is_joined=True),
}


def codes_frame(result: Result, features: str) -> Frame:
    """Return the bits a span that each probe's code of the concepts takes, by family and layer.

    Returns:
        The columns of `concept_panels.Panels`; controls that read the text alone have a place of their own
        on the axis. Code lengths have no interval. Empty but for the full suite.
    """
    table = probes_of(result)
    own = table[(table["metric"] == "mdl_bits") & (table["split"] == DOCUMENT)]
    is_own = own["features"] == features
    rows = []
    for family in dict.fromkeys(own.loc[is_own, "family"]):
        there = own["family"] == family
        layered = own[there & is_own].assign(depth=lambda f: f["layer"].where(f["layer"] >= 0, 10**6))
        for row in layered.sort_values("depth", kind="stable").itertuples():
            rows.append((family, row.control, tick(int(str(row.layer))), row.value))
        rows += [
            (family, _TEXT, control_name(str(row.control)), row.value)
            for row in own[there & (own["features"] == "")].itertuples()
        ]
    found = pd.DataFrame(rows, columns=["panel", "series", "x", "value"])
    found = found.assign(low=math.nan, high=math.nan, spread="interval")
    found = found[found["series"].isin((*_OWN, *_MODELS, _TEXT))] if len(found) else empty_frame()
    return found.reset_index(drop=True)[COLUMNS]


def codes_panels(result: Result, features: str) -> Panels:
    """Return `codes_frame` ready to be drawn."""
    looks = _OWN | _MODELS | {_TEXT: Look("the text alone", theme.ACCENT, "triangle-up")}
    return Panels(codes_frame(result, features), looks, "bits a span", x_title="layer, or control")


def sparse_frame(result: Result) -> Frame:
    """Return held-out ROC-AUC by number of single features, a panel a concept.

    Returns:
        The columns of `concept_panels.Panels` and `note`, which features were picked. No intervals.
    """
    table = table_of(result, "sparse")
    if table.empty:
        return empty_frame().assign(note="")
    n_families = table["family"].nunique()
    rows = []
    for row in table.itertuples():
        panel = f"{row.family}: {row.concept}" if n_families > 1 else str(row.concept)
        for series in SPARSE_LOOKS:
            note = str(row.selected) if series == "value" else ""
            rows.append((panel, series, f"{row.n_features}", getattr(row, series), note))
    found = pd.DataFrame(rows, columns=["panel", "series", "x", "value", "note"])
    found = found.assign(value=numbers(found["value"]), low=math.nan, high=math.nan, spread="interval")
    return found[found["value"].notna()].reset_index(drop=True)


def sparse_panels(result: Result) -> Panels:
    """Return `sparse_frame` ready to be drawn."""
    return Panels(sparse_frame(result), SPARSE_LOOKS, "ROC-AUC", x_title="features", reference=0.5)
