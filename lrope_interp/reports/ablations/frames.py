"""The numbers behind the page of ablations, each from the saved result alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lrope_interp.reports.kit.frames import Column, Frame, numbers, table_of
from lrope_interp.reports.kit.wording import in_order
from lrope_interp.results import Result

WORSE, BETTER, OPEN, UNKNOWN = "worse", "better", "interval holds 0", "no interval"
CHANGE, KL, FLIPS = "nats_per_byte", "kl", "flips"
EVERYWHERE = "all"
MAIN = ("mean", "one", "lexical")
ORDER = (
    "one", "mean", "lexical", "resample", "shuffle", "shift", "scale", "local", "local_compensated",
)  # fmt: skip
PARTS = ("split_contextual", "split_lexical", "split_scale", "split_total")
LOCAL = ("local", "local_compensated")
KEYS = ["intervention", "parameter", "design", "layers", "layer", "head", "where"]
_WORDS = ("intervention", "design", "layers", "where", "language", "metric", "byte_class", "label")
_BOUNDS = {"low": "ci_low", "high": "ci_high"}
COLUMNS = [
    *KEYS, "language", "metric", "byte_class", "value", "low", "high", "n", "n_units", "n_documents",
    "place", "shows",
]  # fmt: skip


def changes_frame(result: Result, metric: str = CHANGE) -> Frame:
    """Return every change of a metric, ablated minus untouched, higher is worse.

    Returns:
        The columns of `ablations.csv`, with `low` and `high` for its interval, `place` (what was changed,
        in words) and `shows` (what the interval says; see `shown_by`). Layer and head are -1 where there
        is none, parameter NaN.
    """
    table = table_of(result, "ablations")
    return empty_frame() if table.empty else placed(table[table["metric"] == metric])


def empty_frame() -> Frame:
    """Return a table of changes without a row."""
    kinds = dict.fromkeys(("parameter", "value", "low", "high"), float) | {"layer": int, "head": int}
    return pd.DataFrame(columns=COLUMNS).astype(kinds)


def placed(table: Frame) -> Frame:
    """Give a table of changes its bounds as numbers, what they show, and names for what was changed."""
    found = table.assign(
        **{name: table[name].astype(str) for name in _WORDS if name in table},
        **{name: numbers(table[column]) for name, column in _BOUNDS.items()},
        value=numbers(table["value"]),
        parameter=numbers(table["parameter"]) if "parameter" in table else np.nan,
    )
    if "where" in found:
        found["where"] = found["where"].replace("nan", "")
    found["place"] = _places(found)
    found["shows"] = shown_by(found["low"], found["high"])
    found = found[found["value"].notna()]
    return found.reindex(columns=list(dict.fromkeys([*COLUMNS, *found.columns]))).reset_index(drop=True)


def shown_by(low: Column | Sequence[float], high: Column | Sequence[float]) -> list[str]:
    """Say what intervals of a change show: worse, better, neither, or that there is no interval."""
    lows, highs = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    known = np.isfinite(lows) & np.isfinite(highs)
    return np.select([~known, lows > 0, highs < 0], [UNKNOWN, WORSE, BETTER], OPEN).tolist()


def _places(table: Frame) -> list[str]:
    if not {"design", "layers", "layer", "head"} <= set(table.columns):
        return [""] * len(table)
    keys = (table[name].tolist() for name in ("design", "layers", "layer", "head"))
    return [place_name(*key) for key in zip(*keys, strict=True)]


def place_name(design: str, layers: str, layer: int, head: int) -> str:
    """Name what an intervention changed: `all layers`, `layer 2`, `head 2.1`, `layers 0-3`."""
    if design == "all":
        return "all layers" if head < 0 else f"head {head} of all layers"
    if design == "single":
        return f"layer {layer}" if head < 0 else f"head {layer}.{head}"
    return f"layers {layers}"


def language_of(frame: Frame) -> str:
    """Return the language that the page is about: "all", or the only one there is."""
    found = list(dict.fromkeys(frame["language"]))
    return EVERYWHERE if EVERYWHERE in found or not found else found[0]


def main_where(frame: Frame) -> str:
    """Return where the increments were changed: "" for everywhere, or what `--where` asked for."""
    places = list(dict.fromkeys(frame.loc[~frame["intervention"].isin(LOCAL), "where"]))
    return "" if "" in places or not places else places[0]


def whole_frame(result: Result, metric: str = CHANGE) -> Frame:
    """Return the changes over all bytes, of all languages and classes: the rows that have one number each."""
    frame = changes_frame(result, metric)
    kept = (frame["language"] == language_of(frame)) & (frame["byte_class"] == EVERYWHERE)
    return frame[kept].drop_duplicates(KEYS).reset_index(drop=True)


def at_main_where(frame: Frame) -> Frame:
    """Return the rows of the gaps that the page is about; local edits, which have their own, are left out."""
    return frame[(frame["where"] == main_where(frame)) & ~frame["intervention"].isin(LOCAL)]


def find(frame: Frame, intervention: str, **where: object) -> Frame:
    """Return the rows of one intervention that agree with every given column."""
    kept = frame["intervention"] == intervention
    for name, value in where.items():
        kept &= frame[name] == value
    return frame[kept]


def main_place(frame: Frame) -> tuple[str, int, int]:
    """Return the design, layer and head that one-place figures show.

    All layers where they were changed together; else the place whose change is largest.
    """
    own = at_main_where(frame)
    own = own[own["design"].isin(("all", "single")) & ~own["intervention"].isin(PARTS)]
    if own.empty or ((own["design"] == "all") & (own["head"] < 0)).any():
        return "all", -1, -1
    top = own.loc[own["value"].abs().idxmax()]
    return str(top["design"]), int(top["layer"]), int(top["head"])


def at_place(frame: Frame, place: tuple[str, int, int]) -> Frame:
    """Return the rows about one design, layer and head."""
    return frame[(frame["design"] == place[0]) & (frame["layer"] == place[1]) & (frame["head"] == place[2])]


def interventions_of(frame: Frame, among: Sequence[str] = ORDER) -> list[str]:
    """Return the interventions of a frame that are among those named, in the order of the page."""
    return [name for name in in_order(frame["intervention"], ORDER) if name in among]


def base_frame(result: Result) -> Frame:
    """Return the untouched model's loss by language, in nats per byte.

    Returns:
        Columns `language`, `value`, `low`, `high`, `n`, `n_units`, `n_documents`, `unit`.
    """
    table = table_of(result, "base")
    columns = ["language", "value", "low", "high", "n", "n_units", "n_documents", "unit"]
    if table.empty:
        return pd.DataFrame(columns=columns)
    table = table.rename(columns={"nats_per_byte": "value", "ci_low": "low", "ci_high": "high"})
    return table.assign(**{name: numbers(table[name]) for name in ("value", "low", "high")})[columns]


def untouched_loss(result: Result) -> float:
    """Return the untouched model's loss over everything, NaN where it is not known."""
    frame = base_frame(result)
    own = frame[frame["language"] == language_of(frame)]
    return float(own["value"].iloc[0]) if len(own) else float("nan")
