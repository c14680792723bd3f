"""Every signal of a label in one ranking: layers, controls and the supervised probe, as numbers."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.boundaries.frames import auc_frame, best_heads
from lrope_interp.reports.kit.frames import Column, Frame, cell_of, numbers
from lrope_interp.results import Result

KEY = ["signal", "layer", "head"]


def leaderboard_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return what the leaderboard draws, best first: one line a layer and one a control.

    Of increments per head each layer's best head stands for it; of a control with a value a layer
    its best layer does. Both are picked on the text that is scored, so neither is favoured, and both
    are a little too high. The other lines are in `auc_frame`.

    Returns:
        The columns of `auc_frame`, and `null_low`, `null_high` (95 % of the ROC-AUC under circular
        shifts of the same signal), `probe` (ROC-AUC of the supervised probe on that layer's hidden
        state; layers only) and `n_places` (layers and heads that the line was picked from). Lines
        without a value are left out; the p values of a mean over seeds are null.
    """
    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna()]
    best = scores[_stands_for_its_signal(scores)]
    n_places = scores.groupby("signal")["value"].transform("size").where(scores["signal"] != "increments", 1)
    frame = best.assign(n_places=n_places.reindex(best.index), probe=_probe(best, scores))
    frame = frame.merge(_nulls(result, label, stratum), on=KEY, how="left")
    is_range = frame["spread"] == "range"
    for name in ("p_shift", "p_same_byte"):
        frame[name] = frame[name].mask(is_range)
    return frame.sort_values("value", ascending=False, kind="stable", ignore_index=True)


def by_layer_frame(result: Result, label: str, stratum: str) -> Frame:
    """Return the lines of `auc_frame` that have a layer: increments and each layer's own controls.

    Of increments per head, each layer's best head; of a control per head, the same head.
    """
    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna() & (scores["layer"] >= 0)]
    heads = dict(best_heads(scores))
    own = [
        head in (-1, heads.get(layer, -1))
        for layer, head in zip(scores["layer"], scores["head"], strict=True)
    ]
    return scores[pd.Series(own, index=scores.index, dtype=bool)].sort_values(
        ["signal", "layer"], kind="stable"
    )


def _stands_for_its_signal(scores: Frame) -> Column:
    """Say which lines are drawn: each layer's best head, and the best place of any other signal."""
    is_layer = scores["signal"] == "increments"
    best = scores.groupby("signal")["value"].transform("idxmax") == scores.index
    heads = set(best_heads(scores))
    places = zip(scores["layer"].tolist(), scores["head"].tolist(), strict=True)
    of_layer = pd.Series([place in heads for place in places], index=scores.index, dtype=bool)
    return (is_layer & of_layer) | (~is_layer & best)


def _probe(best: Frame, scores: Frame) -> Column:
    """Return the score of the supervised probe on each layer's hidden state, NaN for the other lines."""
    probes = scores[scores["kind"] == "ceiling"].groupby("layer")["value"].max()
    return best["layer"].map(probes).astype(float).where(best["signal"] == "increments")


def _nulls(result: Result, label: str, stratum: str) -> Frame:
    table = cell_of(result, "nulls", label, stratum)
    if table.empty:
        return pd.DataFrame({name: [] for name in (*KEY, "null_low", "null_high")}).astype(
            {"signal": "str", "layer": int, "head": int, "null_low": float, "null_high": float}
        )
    chosen = table.drop_duplicates(KEY)
    bounds = {name: numbers(chosen[name]) for name in ("null_low", "null_high")}
    return chosen.assign(**bounds)[[*KEY, *bounds]]
