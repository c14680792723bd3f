"""Models retrained on frozen increments, beside fixed and learned ones of the same seeds.

    python -m benchmarks.frozen FOLDER [FOLDER ...] --out results/frozen-retraining

Reads finished runs (of `lrope-interp train` or `lrope-interp study replicate`) wherever they lie below the
folders, and writes `runs.csv` and `differences.csv`: validation loss in nats per byte, differences paired
by seed with 95 % t intervals. One seed has no interval.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pandas as pd
from scipy.stats import t

PAIRS = (
    ("frozen_lexical", "fixed"),
    ("frozen_lexical", "per_layer"),
    ("frozen_contextual", "fixed"),
    ("frozen_contextual", "per_layer"),
    ("frozen_contextual", "frozen_lexical"),
    ("per_layer", "fixed"),
)
SHAPE = ("preset", "data", "n_steps", "n_parameters")


def main() -> None:
    """Read the runs, write both tables, and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    runs = read_runs(asked.folders)
    seeds = set(runs.loc[runs["arm"].str.startswith("frozen"), "seed"])
    runs = runs[runs["seed"].isin(seeds)].sort_values(["arm", "seed"])
    asked.out.mkdir(parents=True, exist_ok=True)
    runs.to_csv(asked.out / "runs.csv", index=False)
    rows = [row for pair in PAIRS if (row := difference(runs, *pair)) is not None]
    differences = pd.DataFrame(rows)
    differences.to_csv(asked.out / "differences.csv", index=False)
    print(differences.round(4).to_string(index=False))


def read_runs(folders: list[Path]) -> pd.DataFrame:
    """Return arm, seed, shape and validation loss of every finished run, one of each."""
    rows = []
    for path in sorted(found for folder in folders for found in folder.rglob("run.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        if info["status"] == "finished" and not config["training"].get("widened"):
            loss = info["summary"]["validation_nats_per_byte"]
            shape = {name: info[name] for name in SHAPE}
            rows.append({"arm": info["increments"], "seed": info["seed"], **shape, "nats_per_byte": loss})
    return pd.DataFrame(rows).drop_duplicates(["arm", "seed"])


def difference(runs: pd.DataFrame, arm: str, minus: str) -> dict[str, object] | None:
    """Return the mean difference of two arms over the seeds that both have."""
    losses = runs.pivot(index="seed", columns="arm", values="nats_per_byte")
    if not {arm, minus} <= set(losses.columns):
        return None
    paired = (losses[arm] - losses[minus]).dropna()
    n, mean = len(paired), float(paired.mean())
    half = float(t.ppf(0.975, n - 1) * paired.std() / math.sqrt(n)) if n > 1 else math.nan
    return {"arm": arm, "minus": minus, "n": n, "value": mean, "ci_low": mean - half, "ci_high": mean + half}


if __name__ == "__main__":
    main()
