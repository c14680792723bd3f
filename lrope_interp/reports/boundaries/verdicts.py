"""The findings of a boundary report in sentences, the control's victory said as plainly as the layer's."""

from __future__ import annotations

import numpy as np

from lrope_interp.reports.boundaries.contrast_figures import signed, signed_interval
from lrope_interp.reports.boundaries.contrasts import beyond_frame, beyond_places, differences_frame, share_of
from lrope_interp.reports.boundaries.frames import auc_frame, best_layer, controls_beside, signal_name
from lrope_interp.reports.kit.frames import Frame, Row
from lrope_interp.reports.kit.wording import interval, is_number, listed, number
from lrope_interp.results import LOSES, WINS, Result

_NAMED_CONTROLS = 4
_NAMED_BESIDE_A_TEST = 2


def shortly(result: Result, label: str, stratum: str) -> str:
    """Say in half a sentence what the best layer and its strongest control reach."""
    scores = auc_frame(result, label, stratum)
    best, controls = best_layer(scores), controls_beside(scores)
    layer = "no layer has a score" if best is None else f"{best['name']} {number(best['value'], 3)}"
    return layer if controls.empty else f"{layer}, {_reaches(controls.iloc[0])}"


def headline(result: Result, label: str, stratum: str) -> str:
    """Say what the best layer reaches, what the controls reach without it, and who wins.

    Where differences were tested in pairs, fewer controls are named beside it.
    """
    scores = auc_frame(result, label, stratum)
    best = best_layer(scores)
    if best is None:
        return "No layer has a score."
    n_layers = int((scores["signal"] == "increments").sum())
    among = f" (the best of {n_layers}, picked on this text)" if n_layers > 1 else ""
    start = f"{best['name'].capitalize()}{among} reaches ROC-AUC {number(best['value'], 3)} "
    controls = controls_beside(scores)
    verdict = paired_verdict(result, label, stratum)
    n_named = _NAMED_BESIDE_A_TEST if verdict else _NAMED_CONTROLS
    named = controls[(np.arange(len(controls)) < n_named) | (controls["signal"] == "untrained")]
    reached = [_reaches(line) for _, line in named.iterrows()]
    if len(controls) > len(named):
        reached.append(f"{len(controls) - len(named)} more in the table")
    parts = [
        (start + interval(best["low"], best["high"])).rstrip() + ".",
        f"Beside it: {listed(reached)}." if reached else "No control has a score.",
        verdict or _verdict(best, controls),
        beyond_sentence(result, label, stratum),
    ]
    return " ".join(part for part in parts if part)


def paired_verdict(result: Result, label: str, stratum: str) -> str:
    """Compare the best layer with its strongest control by paired resamples; empty without them."""
    differences = differences_frame(result, label, stratum)
    if differences.empty:
        return ""
    top = differences.iloc[0]
    layer = signal_name("increments", int(top["layer"]), int(top["head"]))
    control = _bare_name(str(top["control"]), int(top["control_layer"]), str(top["name"]))
    picked = "paired; layer and control both picked on this text"
    bounds = signed_interval(top["low"], top["high"])
    if not is_number(top["low"]):
        return _without_interval(control, float(top["value"]))
    if top["verdict"] == LOSES:
        against = interval(-top["high"], -top["low"])
        by = f"{number(-top['value'], 3)} {against}"
        return f"The control wins: {control} beats every layer, the best one by {by} ({picked})."
    if top["verdict"] == WINS:
        by = f"{number(top['value'], 3)} {interval(top['low'], top['high'])}"
        return f"Above the strongest control, {control}, by {by} ({picked})."
    return (
        f"No difference from the strongest control is shown: {layer} minus {control} is "
        f"{signed(top['value'])} {bounds} ({picked})."
    )


def standing(result: Result, label: str, stratum: str) -> str:
    """Say how the best layer stands against chance and against a supervised probe; empty where unknown."""
    best = best_layer(auc_frame(result, label, stratum))
    if best is None:
        return ""
    parts = [_chances(best), _share(result, label, stratum)]
    return " ".join(part for part in parts if part)


def beyond_sentence(result: Result, label: str, stratum: str) -> str:
    """Say which layers tell something that surprisal does not; empty where nobody asked."""
    frame = beyond_frame(result, label, stratum)
    if frame.empty or not frame["is_beyond"].notna().any():
        return "" if frame.empty else "Beyond surprisal: too few documents for an answer."
    passed, torn = beyond_places(frame)
    some = f" {_together(torn)}: by some of the tests only, which is no finding." if torn else ""
    if not passed:
        return f"Nothing beyond surprisal is shown.{some}"
    verb = "carries" if len(passed) == 1 else "carry"
    return f"{_together(passed)} {verb} something beyond surprisal, by every test.{some}"


def _together(places: list[str]) -> str:
    """Join places of one kind: `Layers 2, 3 and 4`."""
    kind = places[0].split()[0]
    numbers = [name.split()[1] for name in places]
    return f"{kind.capitalize()}{'s' if len(places) > 1 else ''} {listed(numbers)}"


def _reaches(line: Row) -> str:
    name = _bare_name(str(line["signal"]), int(line["layer"]), str(line["name"]))
    spread = f" (seeds {number(line['low'])} to {number(line['high'])})" if line["spread"] == "range" else ""
    return f"{name} {number(line['value'], 3)}{spread}"


def _bare_name(signal: str, layer: int, full: str) -> str:
    """Name a control without its layer, which is the best layer's."""
    name = signal_name(signal)
    return name if full.startswith(name) and layer >= 0 else str(full)


def _verdict(best: Row, controls: Frame) -> str:
    """Compare with the strongest control, without pretending to a paired test."""
    if controls.empty:
        return "Without a control this number is not a result."
    top = controls.iloc[0]
    name = _bare_name(str(top["signal"]), int(top["layer"]), str(top["name"]))
    if not is_number(best["low"]):
        return _without_interval(name, float(best["value"] - top["value"]))
    if top["value"] > best["high"]:
        return f"The control wins: {name} detects more than any layer."
    if top["value"] >= min(best["low"], best["value"] - 0.005):
        return f"That is no more than the {name} detects: the layer is not shown to add anything."
    return f"Above every control here by at least {number(best['value'] - top['value'], 3)}."


def _without_interval(control: str, difference: float) -> str:
    side, by = "behind" if difference < 0 else "ahead of", number(abs(difference), 3)
    return f"It is {side} the strongest control, {control}, by {by}; without an interval that is no verdict."


def _chances(best: Row) -> str:
    """Say the p values of the best layer, which count all layers and heads."""
    tests = {"p_shift": "under circular shifts", "p_same_byte": "among gaps of the same byte"}
    known = [f"p = {number(best[name], 3)} {words}" for name, words in tests.items() if is_number(best[name])]
    if not known:
        return ""
    return f"Against chance, {best['name']} has {listed(known)} (family-wise: over all layers and heads)."


def _share(result: Result, label: str, stratum: str) -> str:
    share = share_of(result, label, stratum)
    if share is None or not is_number(share["share"]):
        return ""
    low, high = share["ci_low"], share["ci_high"]
    bounds = f" [{100 * float(low):.0f}, {100 * float(high):.0f}]" if interval(low, high) else ""
    probe = number(share["probe_value"], 3)
    return (
        f"Above 1/2 its ROC-AUC is {100 * float(share['share']):.0f} %{bounds} of that of a supervised "
        f"probe on the same hidden state ({probe})."
    )
