"""The numbers behind the page of a paired experiment, each from the saved result alone."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result


def arm_name(arm: str) -> str:
    """Return an arm in words: "per layer"."""
    return arm.replace("_", " ")


def pair_name(arm: str, reference: str) -> str:
    """Return a comparison in words: "per layer − fixed"."""
    return f"{arm_name(arm)} − {arm_name(reference)}"


def comparisons(result: Result) -> list[tuple[str, str]]:
    """Return (arm, reference) of every comparison, those with the reference of the headline first."""
    table: Frame = result.tables["differences"]
    return list(dict.fromkeys(zip(table["arm"], table["reference"], strict=True)))


def verdict_frame(result: Result, margin: float | None = None) -> Frame:
    """Return the rows of `differences` at one margin (by default the headline's), a row a comparison."""
    table: Frame = result.tables["differences"]
    wanted = float(result.provenance["margin"] if margin is None else margin)
    return table[table["margin"] == wanted].reset_index(drop=True)


def margins(result: Result) -> list[float]:
    """Return every margin that was tested, the smallest first."""
    table: Frame = result.tables["differences"]
    return sorted(float(margin) for margin in table["margin"].unique())


def pairs_frame(result: Result) -> Frame:
    """Return every paired difference: columns `arm`, `reference`, `seed`, `difference`."""
    runs: Frame = result.tables["runs"]
    losses = runs.pivot(index="seed", columns="arm", values="nats_per_byte")
    rows = [
        (arm, reference, int(seed), float(difference))
        for arm, reference in comparisons(result)
        for seed, difference in (losses[arm] - losses[reference]).dropna().items()
    ]
    return pd.DataFrame(rows, columns=["arm", "reference", "seed", "difference"])


def curve_frame(result: Result, split: str = "validation") -> Frame:
    """Return the learning curves of one split: columns `arm`, `seed`, `step`, `loss`."""
    curves: Frame = result.tables["curves"]
    own = curves[curves["split"] == split]
    return own[["arm", "seed", "step", "loss"]].reset_index(drop=True)


def gap_frame(result: Result) -> Frame:
    """Return each arm's validation curve minus that of the reference with the same seed.

    Columns `arm`, `seed`, `step`, `difference`; steps that only one of the two logged are left out.
    """
    curves = curve_frame(result)
    reference = curves[curves["arm"] == result.provenance["reference"]]
    others = curves[curves["arm"] != result.provenance["reference"]]
    merged = others.merge(reference, on=["seed", "step"], suffixes=("", "_reference"))
    merged["difference"] = merged["loss"] - merged["loss_reference"]
    return merged[["arm", "seed", "step", "difference"]]


def mean_over_seeds(frame: Frame, column: str) -> Frame:
    """Return the mean of a column at every step that all seeds of an arm have."""
    grouped = frame.groupby(["arm", "step"], sort=False)[column]
    found = grouped.agg(["mean", "count"]).reset_index()
    most = found.groupby("arm")["count"].transform("max")
    return found[found["count"] == most].rename(columns={"mean": column})[["arm", "step", column]]


def arms_frame(result: Result) -> Frame:
    """Return one row an arm: its size, what it read, and mean and s.d. of its losses over seeds."""
    runs: Frame = result.tables["runs"]
    grouped = runs.groupby("arm", sort=False)
    loss = grouped["nats_per_byte"]
    found = pd.DataFrame(
        {
            "n_seeds": loss.size(),
            "n_parameters": grouped["n_parameters"].first(),
            "n_steps": grouped["n_steps"].first(),
            "bytes_read": grouped["bytes_read"].mean(),
            "mean": loss.mean(),
            "sd": loss.std(),
            "train_loss": grouped["train_loss"].mean(),
        }
    )
    found["extra_parameters"] = found["n_parameters"] - _smallest(result, found)
    return found.reset_index()


def _smallest(result: Result, arms: Frame) -> int:
    return int(arms.loc[result.provenance["reference"], "n_parameters"])


def languages_frame(result: Result) -> Frame:
    """Return the mean over seeds of each arm's loss in each language: `arm`, a column a language."""
    table: Frame = result.tables["languages"]
    order = list(dict.fromkeys(table["arm"]))
    found = table.pivot_table(index="arm", columns="language", values="nats_per_byte", aggfunc="mean")
    return found.loc[order].reset_index()
