"""Which layer of another run does what a layer of this one does, and whether they agree on it."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.boundaries.frames import LABEL_ORDER, in_order, place
from lrope_interp.reports.kit.frames import Column, Frame, numbers, table_of, whole_numbers
from lrope_interp.reports.kit.wording import interval, listed, number
from lrope_interp.results import Result

_PLACES = ["layer", "head", "other_layer", "other_head"]


def matches_frame(result: Result, stratum: str) -> Frame:
    """Return the matched layers of two runs, one line a pair and label.

    Returns:
        Columns `layer`, `head`, `other_layer`, `other_head` (-1: none), `spearman`, `label`, `value`,
        `low`, `high` (ROC-AUC of this run), `other_value`, `other_low`, `other_high`. Empty without matches.
    """
    numeric = {"low": "ci_low", "high": "ci_high"}
    numeric |= {name: name for name in ("spearman", "value", "other_value", "other_low", "other_high")}
    table = table_of(result, "matches")
    if table.empty:
        return pd.DataFrame(columns=[*_PLACES, "label", *numeric])
    table = table[table["stratum"] == stratum]
    whole = {name: whole_numbers(table, name) for name in _PLACES}
    frame = table.assign(**whole, **{name: numbers(table[key]) for name, key in numeric.items()})
    return frame.sort_values(_PLACES, kind="stable")[[*_PLACES, "label", *numeric]].reset_index(drop=True)


def matches_table(frame: Frame) -> Frame:
    """Return the pairs as strings: a row a pair, a column a run and label."""
    labels = in_order(frame["label"], LABEL_ORDER)
    rows = []
    for (layer, head, other_layer, other_head), pair in frame.groupby(_PLACES):
        row = {
            "This run": place(layer, head),
            "Other run": place(other_layer, other_head),
            "|Spearman|": number(abs(pair["spearman"].iloc[0]), 2),
        }
        for label in labels:
            own = pair[pair["label"] == label]
            row[f"{label.replace('_', ' ')}: this"] = _score(own, "value", "low", "high")
            row[f"{label.replace('_', ' ')}: other"] = _score(own, "other_value", "other_low", "other_high")
        rows.append(row)
    return pd.DataFrame(rows)


def matches_sentence(frame: Frame) -> str:
    """Say for which labels the best layer of one run is matched with the best layer of the other."""
    agreed, apart = [], []
    for label in in_order(frame["label"], LABEL_ORDER):
        own = frame[(frame["label"] == label) & frame["value"].notna() & frame["other_value"].notna()]
        if own.empty:
            continue
        best, other = own.loc[own["value"].idxmax()], own.loc[own["other_value"].idxmax()]
        told = f"{label.replace('_', ' ')} ({_named(best, '')} here, {_named(other, 'other_')} there)"
        (agreed if best.name == other.name else apart).append(told)
    parts = []
    if agreed:
        parts.append(f"The best layers of the two runs are each other's match for {listed(agreed)}.")
    if apart:
        parts.append(f"They are not for {listed(apart)}: no layer number has that role.")
    weak = frame["spearman"].abs().min()
    parts.append(f"The weakest match has |Spearman| {number(weak, 2)}. Two runs are two draws, not a test.")
    return " ".join(parts)


def _score(own: Frame, value: str, low: str, high: str) -> str:
    if own.empty:
        return "–"
    first: Column = own.iloc[0]
    return f"{number(first[value], 3)} {interval(first[low], first[high])}".rstrip()


def _named(row: Column, whose: str) -> str:
    return place(int(row[f"{whose}layer"]), int(row[f"{whose}head"]))
