"""Boundary scores made by hand, and the tables that say how far they can be believed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from report_samples import HOSTILE, PROVENANCE

from lrope_interp.results import Result

PER_LAYER = ("increments", "byte_mean", "ngram_2", "ngram_5", "cosine", "random_head", "ceiling")
FREE = ("entropy", "surprisal", "entropy_next", "branching_entropy", "pmi")
PLACE = ["signal", "layer", "head", "label", "stratum"]
WHOLE = ("layer", "head", "control_layer", "control_head", "other_layer", "other_head", "seed", "sign")
CONTEXT = "她说中国 שלום a\u0301b\n😀<b>&\x00 the state of our union"
LABELS = {"punctuation": 0.05, "whitespace": 0.16, "words": 0.2}
SIZES = {"bytes": 380_000, "characters": 300_000, "nondelimiter": 240_000, "han": 62_000}
CLASSES = {"space": 2.6, "newline": 3.1, "punctuation .!?": 1.9, "other punctuation": 1.7, "a-z": 0.7,
           "A-Z": 1.1, "0-9": 0.9, "han lead": 1.2, "han continuation": 0.8, "other lead": 1.3,
           "other": np.nan}  # fmt: skip


def boundaries_result(
    n_layers: int = 6,
    n_heads: int = 0,
    n_seeds: int = 5,
    hostile: bool = False,
    languages: tuple[str, ...] = (),
    labels: Sequence[str] = tuple(LABELS),
    strata: Sequence[str] = tuple(SIZES),
) -> Result:
    """Whitespace is found by a byte table as well as by layer 0; Chinese words best by entropy."""
    draw = np.random.default_rng(1)
    places = list(product(range(n_layers), range(n_heads) if n_heads else [None]))
    kinds = {"increments": "layer", "ceiling": "ceiling"}
    signals = [(name, kinds.get(name, "control"), *place, None) for name in PER_LAYER for place in places]
    signals += [(name, "control", None, None, None) for name in (*FREE, *([HOSTILE] if hostile else []))]
    signals += [("untrained", "control", *place, seed) for place in places for seed in range(n_seeds)]
    scores, curves = [], []
    for label, stratum in product(labels, (*strata, *languages)):
        impossible = label != "words" and stratum in ("nondelimiter", "han")
        for signal, kind, layer, head, seed in signals:
            area, n = _auc(signal, layer, label, stratum, draw), SIZES.get(stratum, 90_000)
            found = {"roc_auc": area, "average_precision": area**4, "f1": area**3, "mcc": area - 0.4}
            found |= {"precision": area**3, "recall": area**2}
            found |= {"token_f1": area**5, "pk": 1 - area} if label == "words" else {}
            for metric, value in found.items():
                shown = np.nan if impossible else value
                has_bounds = metric == "roc_auc" and seed is None and not impossible
                row = {"signal": signal, "kind": kind, "layer": layer, "head": head, "label": label}
                row |= {"stratum": stratum, "align": "sum" if layer else "last", "seed": seed}
                row |= {"sign": 1 if area > 0.5 else -1, "metric": metric, "value": shown}
                row |= {"raw_value": shown, "ci_low": area - 0.006 if has_bounds else np.nan}
                row |= {"ci_high": area + 0.005 if has_bounds else np.nan, "n": n, "n_documents": 61}
                row |= {"p_shift": 0.001 if has_bounds else np.nan}
                row |= {"n_positive": 0 if impossible else int(n * LABELS[label])}
                scores.append(row | {"p_same_byte": 0.043 if has_bounds else np.nan})
            if not impossible and not seed:
                fpr = np.linspace(0, 1, 60)
                tpr = fpr ** (1 / max(area, 0.5) - 1)
                curves += [(signal, layer, head, label, stratum, *at) for at in zip(fpr, tpr, strict=True)]
    tables = {"scores": _with_means(_frame(scores))}
    tables["roc"] = pd.DataFrame(curves, columns=[*PLACE, "fpr", "tpr"])
    tables["classes"] = _classes(places, draw)
    graded = [(label, "en", "rule", 150_000, int(150_000 * LABELS[label])) for label in labels]
    columns = ["label", "language", "grade", "n", "n_positive"]
    tables["labels"] = pd.DataFrame([*graded, ("words", "zh", "gold", 62_000, 31_000)], columns=columns)
    tables |= trust_tables(tables["scores"])
    warnings = ("fewer than 5 test documents: no interval in han", *([HOSTILE] if hostile else []))
    return Result("boundaries", PROVENANCE, {"L0 whitespace roc_auc": 0.973}, tables, warnings)


def _auc(signal: str, layer: int | None, label: str, stratum: str, draw: np.random.Generator) -> float:
    base = {"whitespace": 0.97, "punctuation": 0.9, "words": 0.72}[label] - 0.08 * (stratum == "han")
    if signal == "untrained":
        return float(np.clip(draw.normal(0.58, 0.06), 0.42, 0.9))
    if layer is None:
        free = {"entropy": 0.8, "surprisal": 0.71, "entropy_next": 0.706, "branching_entropy": 0.83}
        return free.get(signal, 0.55)
    if signal == "ceiling":
        return float(np.clip(base + 0.1 - 0.01 * layer, 0.6, 0.996))
    if signal == "random_head":
        return float(np.clip(draw.normal(0.56, 0.05), 0.45, 0.7))
    fall = 0.05 * layer * (1 - 0.2 * (layer % 2))
    value = base - fall + (0.02 if signal == "byte_mean" and layer == 0 else 0.0)
    return float(np.clip(value + draw.normal(0, 0.01), 0.46, 0.985))


def _with_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Add what the analysis adds: the mean over seeds with its range, and the prevalence."""
    same = ["signal", "kind", "layer", "head", "label", "stratum", "metric", "n", "n_positive", "n_documents"]
    seeds = scores[scores["seed"].notna()].groupby(same, dropna=False)
    means = seeds.agg(
        value=("value", "mean"),
        raw_value=("raw_value", "mean"),
        ci_low=("value", "min"),
        ci_high=("value", "max"),
    )
    known = scores[(scores["signal"] == "entropy") & scores["value"].notna()]
    share = known["n_positive"] / known["n"]
    values = share.where(known["metric"] == "average_precision", 2 * share / (1 + share))
    nothing = known.assign(signal="prevalence", align="", value=values.where(known["metric"] != "roc_auc"))
    nothing = nothing.assign(sign=None, raw_value=None, ci_low=None, ci_high=None).astype(scores.dtypes)
    means = means.reset_index().assign(align="").reindex(columns=scores.columns).astype(scores.dtypes)
    return pd.concat([scores, means, nothing], ignore_index=True)


def _classes(places: Sequence[tuple[int, int | None]], draw: np.random.Generator) -> pd.DataFrame:
    rows = []
    for language, (layer, head), (name, mean) in product(("all", "en", "zh"), places, CLASSES.items()):
        is_absent = name == "other" or (language == "en" and "han" in name)
        n = 0 if is_absent else int(draw.integers(5, 90_000))
        ratio = mean * draw.lognormal(0, 0.1) ** (1 + layer)
        rows.append((layer, head, name, 2 * ratio, 0.4, n, ratio, language))
    columns = ["layer", "head", "byte_class", "mean", "sd", "n", "mean_normalised", "language"]
    return pd.DataFrame(rows, columns=columns)


def trust_tables(scores: pd.DataFrame, stratum: str = "characters") -> dict[str, pd.DataFrame]:
    """Return every table beside `scores` that a full analysis writes, in agreement with it."""
    draw = np.random.default_rng(2)
    auc = scores[(scores["metric"] == "roc_auc") & scores["value"].notna() & scores["seed"].isna()]
    layers = auc[auc["signal"] == "increments"]
    return {
        "nulls": _frame(_nulls(auc, draw)).drop_duplicates(PLACE),
        "differences": _frame(_differences(auc)),
        "shares": _frame(_shares(auc)),
        "beyond": _frame(_beyond(layers[layers["stratum"].isin([stratum, "han"])], draw)).astype(
            {"is_beyond": "boolean"}
        ),
        "errors": _frame(_errors(layers[layers["stratum"] == stratum], draw)),
        "precision_recall": _frame(_precision_recall(auc)),
        "matches": _frame(_matches(layers)),
    }


def _frame(rows: Any) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    return frame.astype({name: "Int64" for name in WHOLE if name in frame})


def _where(row: Any) -> dict[str, Any]:
    return {name: row[name] for name in PLACE}


def _bounds(name: str, value: float, half: float) -> dict[str, float]:
    return {f"{name}low": value - half, f"{name}high": value + half}


def _nulls(auc: pd.DataFrame, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    p = {"p_shift_alone": 0.001, "p_shift": 0.001, "p_same_byte_alone": 0.02, "p_same_byte": 0.04}
    for _, row in auc.iterrows():
        yield _where(row) | _bounds("null_", 0.5, float(draw.uniform(0.01, 0.03))) | p | {"n_shifts": 1000}


def _differences(auc: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for _, cell in auc.groupby(["label", "stratum"]):
        layers, controls = cell[cell["signal"] == "increments"], cell[cell["kind"] == "control"]
        for (_, layer), (_, control) in product(layers.iterrows(), controls.iterrows()):
            if pd.isna(control["layer"]) or control["layer"] == layer["layer"]:
                value = layer["value"] - control["value"]
                beside = {"control": control["signal"], "control_layer": control["layer"]}
                beside |= {"control_head": control["head"], "value": value}
                yield _where(layer) | beside | {"ci_low": value - 0.012, "ci_high": value + 0.011}


def _shares(auc: pd.DataFrame) -> Iterator[dict[str, Any]]:
    probes = auc[auc["signal"] == "ceiling"].set_index(["layer", "label", "stratum"])["value"].to_dict()
    for _, row in auc[auc["signal"] == "increments"].iterrows():
        probe = probes.get((row["layer"], row["label"], row["stratum"]))
        if probe is not None:
            share = (row["value"] - 0.5) / (probe - 0.5)
            found = {"share": share, "probe_value": probe} | _bounds("ci_", share, 0.05)
            yield _where(row) | found | _bounds("probe_", probe, 0.01)


def _beyond(layers: pd.DataFrame, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Layers 2 and above carry something about words; layer 1 does by some tests; no layer elsewhere."""
    for _, row in layers.iterrows():
        real = 0.0004 * (int(row["layer"]) - 1) if row["label"] == "words" else -0.0001
        is_torn = row["label"] == "words" and row["layer"] == 1
        for baseline, share in (("M0", 1.0), ("M0_lexical", 0.6), ("bins", np.nan)):
            bits = real * share + float(draw.normal(0, 0.00003))
            found = {"bits": bits, "delta_auc": bits * 3, "base_auc": 0.8, "full_auc": 0.8 + bits * 3}
            found |= _bounds("bits_", bits, 0.0003) | _bounds("auc_", bits * 3, 0.001)
            is_beyond, p = bits > 0.0003, np.nan
            if baseline == "bins":
                found = dict.fromkeys(found, np.nan) | {"delta_auc": real * 10}
                is_beyond = real > 0 or is_torn
                p = 0.004 if is_beyond else 0.41
            counts = {"n": 9000, "n_positive": 2000, "n_documents": 61}
            yield _where(row) | {"baseline": baseline} | found | {"p": p, "is_beyond": is_beyond} | counts


def _errors(layers: pd.DataFrame, draw: np.random.Generator) -> Iterator[dict[str, Any]]:
    for _, own in layers.groupby("label"):
        best = _where(own.loc[own["value"].idxmax()])
        for rank in range(1, 11):
            said = {"rank": rank, "error": "miss" if rank % 3 else "false alarm", "character": 400 + rank}
            said["document"] = f"speech <{rank}>.txt"
            for place, character in enumerate((CONTEXT * 3)[rank : rank + 49]):
                value = float(draw.normal(0, 1)) + (place == 24)
                one = {"offset": place - 24, "text": character, "value": value}
                yield best | said | one | {"is_boundary": bool(place % 5 == 0)}


def _precision_recall(auc: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for _, row in auc.iterrows():
        share = row["n_positive"] / row["n"]
        for recall in np.linspace(0, 1, 20):
            precision = share + (1 - share) * (1 - recall) * (2 * row["value"] - 1)
            yield _where(row) | {"recall": recall, "precision": max(float(precision), share)}


def _matches(layers: pd.DataFrame) -> Iterator[dict[str, Any]]:
    n_layers = int(layers["layer"].max()) + 1
    for _, row in layers.iterrows():
        other = (int(row["layer"]) + 1) % n_layers
        value = row["value"] - (0.3 if row["label"] == "words" and row["layer"] == 0 else 0.0)
        where = {"layer": row["layer"], "head": row["head"], "other_layer": other, "other_head": row["head"]}
        where |= {"spearman": 0.9 - 0.1 * other, "label": row["label"], "stratum": row["stratum"]}
        both = {"value": row["value"], "other_value": value} | _bounds("ci_", row["value"], 0.01)
        yield where | both | _bounds("other_", value, 0.01)
