"""ROC and precision-recall curves: which of them are drawn, and their points."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.boundaries.frames import auc_frame, best_layer, controls_beside, signal_name
from lrope_interp.reports.kit.frames import Column, Frame, cell_of
from lrope_interp.results import Result

_PLACE = ["signal", "layer", "head"]
_CONTROLS = 5


def roc_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the ROC curves to draw: the best layer, the strongest controls beside it, and its probe.

    Of a control with several seeds, the first; of a control with a value a layer, that of the best layer.

    Returns:
        Columns `signal`, `layer`, `head`, `name`, `fpr`, `tpr`, each curve's points in order.
    """
    return _curves(result, "roc", label, stratum, ["fpr", "tpr"])


def precision_recall_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the precision-recall curves of the same signals; empty where the result has none.

    Returns:
        Columns `signal`, `layer`, `head`, `name`, `recall`, `precision`.
    """
    return _curves(result, "precision_recall", label, stratum, ["recall", "precision"])


def prevalence(result: Result, label: str, stratum: str) -> float:
    """Return the share of scored gaps that are boundaries: the precision of a guess."""
    counted = auc_frame(result, label, stratum).iloc[0]
    return float(counted["n_positive"]) / max(float(counted["n"]), 1.0)


def _curves(result: Result, table: str, label: str, stratum: str, axes: list[str]) -> Frame:
    curves = cell_of(result, table, label, stratum)
    if curves.empty:
        return pd.DataFrame(columns=[*_PLACE, "name", *axes])
    if "seed" in curves:
        first = curves.groupby(_PLACE)["seed"].transform("min")
        curves = curves[curves["seed"].isna() | (curves["seed"] == first)]
    order = {key: i for i, key in enumerate(_chosen(auc_frame(result, label, stratum)))}
    keys = list(zip(*(curves[name].tolist() for name in _PLACE), strict=True))
    place: Column = pd.Series([order.get(key, -1) for key in keys], index=curves.index, dtype=int)
    shown = curves.assign(name=[_name(*key) for key in keys], order=place)[place >= 0]
    return shown.sort_values("order", kind="stable")[[*_PLACE, "name", *axes]].reset_index(drop=True)


def _chosen(scores: Frame) -> list[tuple[str, int, int]]:
    """Return the signals to draw, in the order of a legend."""
    best, controls = best_layer(scores), controls_beside(scores)
    lines = [] if best is None else [best]
    lines += [line for _, line in controls[:_CONTROLS].iterrows()]
    if best is not None:
        probes = scores[(scores["kind"] == "ceiling") & (scores["layer"] == best["layer"])]
        lines += [line for _, line in probes.iterrows()]
    return [(str(line["signal"]), int(line["layer"]), int(line["head"])) for line in lines]


def _name(signal: str, layer: int, head: int) -> str:
    """Name a curve: a control with a value a layer without its layer, which is the best layer's."""
    return signal_name(signal, layer, head) if signal == "increments" else signal_name(signal)
