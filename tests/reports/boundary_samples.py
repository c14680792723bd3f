"""The tables that say how far a boundary score can be believed, made by hand for the reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

PER_LAYER = ("increments", "byte_mean", "ngram_2", "ngram_5", "cosine", "random_head", "ceiling")
FREE = ("entropy", "surprisal", "entropy_next", "branching_entropy", "pmi")
PLACE = ["signal", "layer", "head", "label", "stratum"]
CONTEXT = "她说中国 שלום a\u0301b\n😀<b>&\x00 the state of our union"


def trust_tables(scores: pd.DataFrame, stratum: str = "characters") -> dict[str, pd.DataFrame]:
    """Return every table beside `scores` that a full analysis writes, in agreement with it."""
    generator = np.random.default_rng(2)
    auc = scores[(scores["metric"] == "roc_auc") & scores["value"].notna() & scores["seed"].isna()]
    return {
        "nulls": _nulls(auc, generator),
        "differences": _differences(auc),
        "shares": _shares(auc),
        "beyond": _beyond(auc[auc["stratum"].isin([stratum, "han"])], generator),
        "errors": _errors(auc[auc["stratum"] == stratum], generator),
        "precision_recall": _precision_recall(auc),
        "matches": _matches(auc),
    }


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    whole = ("layer", "head", "control_layer", "control_head", "other_layer", "other_head")
    frame = pd.DataFrame(rows)
    return frame.astype({name: "Int64" for name in whole if name in frame})


def _where(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in PLACE}


def _nulls(auc: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for _, row in auc.iterrows():
        half = float(generator.uniform(0.01, 0.03))
        p = {"p_shift_alone": 0.001, "p_shift": 0.001, "p_same_byte_alone": 0.02, "p_same_byte": 0.04}
        rows.append(_where(row) | {"null_low": 0.5 - half, "null_high": 0.5 + half} | p | {"n_shifts": 1000})
    return _frame(rows).drop_duplicates(PLACE)


def _pairs(auc: pd.DataFrame):
    for _, cell in auc.groupby(["label", "stratum"]):
        controls = cell[cell["kind"] == "control"]
        for _, layer in cell[cell["signal"] == "increments"].iterrows():
            for _, control in controls.iterrows():
                if pd.isna(control["layer"]) or control["layer"] == layer["layer"]:
                    yield layer, control


def _differences(auc: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for layer, control in _pairs(auc):
        value = layer["value"] - control["value"]
        beside = {
            "control": control["signal"],
            "control_layer": control["layer"],
            "control_head": control["head"],
        }
        bounds = {"value": value, "ci_low": value - 0.012, "ci_high": value + 0.011}
        rows.append(_where(layer) | beside | bounds)
    return _frame(rows)


def _shares(auc: pd.DataFrame) -> pd.DataFrame:
    probes = auc[auc["signal"] == "ceiling"].set_index(["layer", "label", "stratum"])["value"].to_dict()
    rows = []
    for _, row in auc[auc["signal"] == "increments"].iterrows():
        probe = probes.get((row["layer"], row["label"], row["stratum"]))
        if probe is not None:
            share = (row["value"] - 0.5) / (probe - 0.5)
            found = {"share": share, "ci_low": share - 0.05, "ci_high": share + 0.05}
            found |= {"probe_value": probe, "probe_low": probe - 0.01, "probe_high": probe + 0.01}
            rows.append(_where(row) | found)
    return _frame(rows)


def _beyond(auc: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Layers 2 and above carry something about words; layer 1 does by some tests; no layer elsewhere."""
    rows = []
    for _, row in auc[auc["signal"] == "increments"].iterrows():
        real = 0.0004 * (int(row["layer"]) - 1) if row["label"] == "words" else -0.0001
        for baseline, share in (("M0", 1.0), ("M0_lexical", 0.6), ("bins", np.nan)):
            bits = real * share + float(generator.normal(0, 0.00003))
            is_torn = row["label"] == "words" and row["layer"] == 1
            found = {"bits": bits, "bits_low": bits - 0.0003, "bits_high": bits + 0.0003}
            found |= {"delta_auc": bits * 3, "auc_low": bits * 3 - 0.001, "auc_high": bits * 3 + 0.001}
            found |= {"base_auc": 0.8, "full_auc": 0.8 + bits * 3}
            is_beyond = bits > 0.0003
            if baseline == "bins":
                found = dict.fromkeys(found, np.nan) | {"delta_auc": real * 10}
                is_beyond = real > 0 or is_torn
            p = (0.004 if is_beyond else 0.41) if baseline == "bins" else np.nan
            counts = {"n": 9000, "n_positive": 2000, "n_documents": 61}
            rows.append(
                _where(row) | {"baseline": baseline} | found | {"p": p, "is_beyond": is_beyond} | counts
            )
    return _frame(rows).astype({"is_beyond": "boolean"})


def _errors(auc: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for _, layers in auc[auc["signal"] == "increments"].groupby("label"):
        best = layers.loc[layers["value"].idxmax()]
        for rank in range(1, 11):
            text = (CONTEXT * 3)[rank : rank + 49]
            said = {"rank": rank, "error": "miss" if rank % 3 else "false alarm", "character": 400 + rank}
            said["document"] = f"speech <{rank}>.txt"
            for place, character in enumerate(text):
                value = float(generator.normal(0, 1)) + (place == 24)
                one = {"offset": place - 24, "text": character, "value": value}
                rows.append(_where(best) | said | one | {"is_boundary": bool(place % 5 == 0)})
    return _frame(rows)


def _precision_recall(auc: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for _, row in auc.iterrows():
        share = row["n_positive"] / row["n"]
        for recall in np.linspace(0, 1, 20):
            precision = share + (1 - share) * (1 - recall) * (2 * row["value"] - 1)
            rows.append(_where(row) | {"recall": recall, "precision": max(float(precision), share)})
    return _frame(rows)


def _matches(auc: pd.DataFrame) -> pd.DataFrame:
    layers = auc[auc["signal"] == "increments"]
    n_layers = int(layers["layer"].max()) + 1
    rows = []
    for _, row in layers.iterrows():
        other = (int(row["layer"]) + 1) % n_layers
        swap = 0.3 if row["label"] == "words" and row["layer"] == 0 else 0.0
        value = row["value"] - swap
        own = {"value": row["value"], "ci_low": row["value"] - 0.01, "ci_high": row["value"] + 0.01}
        theirs = {"other_value": value, "other_low": value - 0.01, "other_high": value + 0.01}
        where = {"layer": row["layer"], "head": row["head"], "other_layer": other, "other_head": row["head"]}
        said = {"spearman": 0.9 - 0.1 * other, "label": row["label"], "stratum": row["stratum"]}
        rows.append(where | said | own | theirs)
    return _frame(rows)
