"""Whether probes tell concepts or learn words by heart: control tasks, and words that no train text has.

A control task gives every lexical type a random label, and a probe that does well on it can learn words
by heart (Hewitt and Liang, 2019). Selectivity is the accuracy less that on control tasks.
"""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.ablations.numbers import change
from lrope_interp.reports.concepts.frames import beside_frame, best_claims, probes_of
from lrope_interp.reports.concepts.names import DOCUMENT, TYPE, control_name, tick
from lrope_interp.reports.concepts.panels import BLUE, COLUMNS, Look, Panels, empty_frame
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, Row, numbers, table_of
from lrope_interp.reports.kit.wording import NOTHING, is_number, number
from lrope_interp.results import Result

ACCURACY, CONTROL_TASK, SELECTIVITY, MAJORITY = "accuracy", "control_task", "selectivity", "majority"
LOOKS = {
    ACCURACY: Look("accuracy on the concepts", BLUE),
    CONTROL_TASK: Look("accuracy on random labels (mean and range of five)", theme.ACCENT, "diamond"),
    SELECTIVITY: Look("selectivity, 95 % interval", BLUE, "square"),
    MAJORITY: Look("always the commonest", theme.CONTROL, "line-ew-open", is_joined=True),
}


def selectivity_frame(result: Result, features: str) -> Frame:
    """Return accuracy, accuracy on control tasks and selectivity of each family, by layer.

    Returns:
        The columns of `concept_panels.Panels`: panels "FAMILY: accuracy" and "FAMILY: selectivity".
    """
    found = [_tasks(result, features), _scores(result, features), _majority(result, features)]
    frame = pd.concat([one for one in found if len(one)] or [empty_frame()], ignore_index=True)
    if frame.empty:
        return frame
    depth = frame["layer"].where(frame["layer"] >= 0, 10**6)
    order = {name: i for i, name in enumerate(dict.fromkeys(probes_of(result)["family"]))}
    frame = frame.assign(
        depth=depth, order=[order[name] for name in frame["family"]], kind=frame["series"] == SELECTIVITY
    )
    return frame.sort_values(["order", "kind", "depth"], kind="stable").reset_index(drop=True)[COLUMNS]


def _scores(result: Result, features: str) -> Frame:
    table = probes_of(result)
    own = table[(table["features"] == features) & (table["control"] == "none")]
    own = own[(own["split"] == DOCUMENT) & own["metric"].isin((ACCURACY, SELECTIVITY))]
    return _placed(own.assign(series=own["metric"]))


def _tasks(result: Result, features: str) -> Frame:
    """Return the mean and the range of the accuracy on control tasks."""
    table = table_of(result, "probes")
    if not {"control", "metric", "features"} <= set(table.columns):
        return empty_frame()
    own = table[(table["control"] == CONTROL_TASK) & (table["features"] == features)]
    own = own[own["metric"] == ACCURACY].assign(value=numbers(own["value"]))
    grouped = own.groupby(["family", "layer"], sort=False)["value"].agg(["mean", "min", "max"]).reset_index()
    named = grouped.rename(columns={"mean": "value", "min": "low", "max": "high"})
    return _placed(named.assign(series=CONTROL_TASK, spread="range"))


def _majority(result: Result, features: str) -> Frame:
    """Return the accuracy of the commonest class, at every layer that its family has."""
    table, scores = probes_of(result), _scores(result, features)
    own = table[(table["control"] == MAJORITY) & (table["metric"] == ACCURACY)]
    value = dict(zip(own["family"], own["value"], strict=True))
    places = scores[scores["series"] == ACCURACY]
    places = places[places["family"].isin(set(value))]
    return places.assign(
        value=places["family"].map(value), low=float("nan"), high=float("nan"), series=MAJORITY
    )


def _placed(rows: Frame) -> Frame:
    kinds = [SELECTIVITY if one == SELECTIVITY else ACCURACY for one in rows["series"]]
    panel = [f"{family}: {kind}" for family, kind in zip(rows["family"], kinds, strict=True)]
    return rows.assign(panel=panel, x=[tick(layer) for layer in rows["layer"]])[["family", "layer", *COLUMNS]]


def selectivity_panels(result: Result, features: str) -> Panels:
    """Return `selectivity_frame` ready to be drawn."""
    frame = selectivity_frame(result, features)
    zero = dict.fromkeys(frame.loc[frame["series"] == SELECTIVITY, "panel"], 0.0)
    return Panels(frame, LOOKS, "share of spans", reference=zero)


def leakage_table(result: Result, features: str) -> Frame:
    """Return the best claim of each concept on unseen documents, on unseen words, and what lies between.

    Beside it the same difference of the control that is best on unseen documents.
    """
    rows = [_leakage(result, claim) for _, claim in best_claims(result, features).iterrows()]
    return pd.DataFrame([row for row in rows if row])


def _leakage(result: Result, claim: Row) -> dict[str, str]:
    if not is_number(claim["auc"]):
        return {}
    control = str(claim["best_control"])
    by_type = beside_frame(result, claim, TYPE).set_index("control")["value"]
    return {
        "Family": str(claim["family"]),
        "Concept": str(claim["concept"]),
        "Where": str(claim["place"]),
        "Unseen documents": number(claim["auc"], 3),
        "Unseen words": number(claim["type_auc"], 3),
        "Leakage": _less(claim["auc"], claim["type_auc"]),
        "Best control": control_name(control),
        "Its leakage": _less(claim["best_control_auc"], by_type.get(control)),
        "Types": f"{int(claim['n_types']):,}" if is_number(claim["n_types"]) else NOTHING,
    }


def _less(value: object, other: object) -> str:
    if not (is_number(value) and is_number(other)):
        return NOTHING
    return change(float(value) - float(other), 3)  # pyright: ignore[reportArgumentType]
