"""Concepts made by hand: one claim stands, one control wins plainly, one concept could not be measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from lrope_interp.results import Result, provenance

N, N_DOCUMENTS = 1_200, 60
AREAS = {
    "byte_window": 0.80, "ngram": 0.85, "static_position": 0.70, "entropy": 0.65, "untrained": 0.60,
    "random_head": 0.58, "majority": 0.5,
}  # fmt: skip
ABOVE = {"person": 0.05, "place": -0.15}  # of every layer; the last layer of "person" stands highest
OF_MODELS = ("untrained", "random_head")
UNITS = ("word", "clause")
HALF = 0.02  # half of every interval


def concepts_result(
    concepts: Sequence[str] = ("person", "place", "rare"),
    families: Sequence[str] = ("entities",),
    features: Sequence[str] = ("increments",),
    n_layers: int = 2,
    *,
    suite: str = "full",
    has_intervals: bool = True,
    hostile: str = "",
) -> Result:
    """Return a result with every table; `hostile` is put wherever a file's text may stand."""
    if hostile:
        concepts, families = [*concepts[:-1], hostile], [*families[:-1], hostile]
    layers: list[int | None] = [*range(n_layers), *([None] if n_layers > 1 else [])]
    cells = [(f, c, k, layer) for k in features for layer in layers for f in families for c in concepts]
    tables = {
        "claims": pd.DataFrame([_claim(*cell) for cell in cells]),
        "probes": pd.DataFrame([row for cell in cells for row in _probes(*cell)]).drop_duplicates(),
        "fits": _fits(families, features, layers),
        "spans": _spans(families, concepts),
        "contrasts": _contrasts(n_layers),
        "pairs": _pairs(n_layers),
        "trees": _trees(n_layers),
        "examples": _examples(families, concepts, n_layers, hostile),
    }
    if suite == "full":
        tables["sparse"] = _sparse(families, concepts)
        tables["erasures"] = _erasures(families, concepts, n_layers)
    tables = {name: _typed(table, has_intervals) for name, table in tables.items()}
    if not has_intervals:
        tables["claims"]["verdict"], tables["claims"]["is_adding"] = "not measured", False
    config = {"n_layers": n_layers, "n_heads": 2, "d_model": 32, "increments": "per_layer"}
    data = {"name": hostile or "chinese", "n_bytes": 30_000, "n_documents": N_DOCUMENTS, "split": "test"}
    return Result(
        kind="probe",
        provenance=provenance(config=config, data=data, seed=0) | {"model": "runs/small"} | {"suite": suite},
        headline={
            "n_claims": float(len(cells)),
            "n_beyond_controls": 1.0,
            "n_adding": 1.0,
            "best_above": 0.1,
        },
        tables=tables,
        warnings=("claims are uncorrected", *([hostile] if hostile else ())),
        created="2026-11-22T07:00:00+00:00",
    )


def _typed(table: pd.DataFrame, has_intervals: bool) -> pd.DataFrame:
    whole = ("layer", "head", "n", "n_documents", "n_concept", "n_types", "seed", "n_features", "rank")
    found = table.astype({name: "Int64" for name in whole if name in table}).reset_index(drop=True)
    bounds = [name for name in found if name.endswith(("_low", "_high"))]
    return found if has_intervals else found.assign(**dict.fromkeys(bounds, np.nan))


def _bounded(name: str, value: float, half: float = HALF) -> dict[str, float]:
    return {name: value, f"{name}_low": value - half, f"{name}_high": value + half}


def above(concept: str, layer: int | None) -> float:
    """Return what was planted: how far a concept's ROC-AUC is above its best control."""
    return np.nan if concept == "rare" else ABOVE.get(concept, -0.05) + 0.01 * (layer or 0)


def _claim(family: str, concept: str, features: str, layer: int | None) -> dict[str, Any]:
    value = above(concept, layer)
    stands = concept == "person"
    best = {"best_control": "" if concept == "rare" else "ngram", "best_control_auc": AREAS["ngram"]}
    row: dict[str, Any] = {"family": family, "concept": concept, "features": features, "layer": layer, **best}
    row |= _bounded("auc", AREAS["ngram"] + value) | _bounded("above", value)
    row |= {f"type_{name}": one for name, one in best.items()}
    row |= _bounded("type_auc", AREAS["ngram"] + value - 0.02) | _bounded("type_above", value - 0.02)
    row |= _bounded("selectivity", 0.2) | _bounded("gain", 0.03 if stands else -0.01)
    row |= _bounded("type_gain", 0.025 if stands else -0.02)
    verdict = "not measured" if concept == "rare" else "beyond controls" if stands else "control wins"
    row |= {f"{name}_auc": AREAS.get(name, np.nan) for name in (*AREAS, "fixed")}
    row |= {"gain_untrained": 0.001, "mdl_bits": 1.5, "is_adding": stands, "verdict": verdict}
    return row | {"n": N, "n_concept": 200, "n_types": 80, "n_documents": N_DOCUMENTS}


def _probes(family: str, concept: str, features: str, layer: int | None) -> Iterable[dict[str, Any]]:
    base = {"family": family, "n": N, "n_documents": N_DOCUMENTS, "seed": None}
    own = {"features": features, "layer": layer}
    for split, less in (("document", 0.0), ("type", 0.02)):
        value = AREAS["ngram"] + above(concept, layer) - less
        yield _score(base | own, concept, split, "none", "roc_auc", value)
        for control, area in AREAS.items():
            of = own if control in OF_MODELS else {"features": "", "layer": None}
            if control in OF_MODELS and split == "document":
                for seed in range(2):
                    yield _score(base | of | {"seed": seed}, concept, split, control, "roc_auc", area)
            yield _score(base | of, concept, split, control, "roc_auc", area)
    known = base | own
    yield _score(known, "all", "document", "none", "accuracy", 0.7)
    yield _score(known, "all", "document", "none", "selectivity", 0.2)
    yield _score(known, "all", "document", "none", "mdl_bits", 1.5)
    for seed in range(2):
        yield _score(known | {"seed": seed}, "all", "document", "control_task", "accuracy", 0.45 + 0.1 * seed)
    text = base | {"features": "", "layer": None}
    yield _score(text, "all", "document", "majority", "accuracy", 0.55)
    yield _score(text, "all", "document", "ngram", "mdl_bits", 0.9)


def _score(
    known: dict[str, Any], concept: str, split: str, control: str, metric: str, value: float
) -> dict[str, Any]:
    score = {"value": value, "ci_low": value - HALF, "ci_high": value + HALF}
    return known | {"concept": concept, "split": split, "control": control, "metric": metric} | score


def _fits(families: Sequence[str], features: Sequence[str], layers: Sequence[int | None]) -> pd.DataFrame:
    sets = [("ngram", "", None), *(("none", k, layer) for k in features for layer in layers)]
    rows = [
        {"family": family, "control": control, "features": kind, "layer": layer, "c": 0.1}
        | {"n_features": 9, "n_train": 2_000, "n_fits": 18, "n_unconverged": 0}
        for family in families
        for control, kind, layer in sets
    ]
    return pd.DataFrame(rows)


def _spans(families: Sequence[str], concepts: Sequence[str]) -> pd.DataFrame:
    rows = [
        {"family": family, "concept": concept, "split": split, "n": 200, "n_types": 80, "n_documents": 30}
        | {"source": "words by their tags", "grade": "gold"}
        for family in families
        for concept in concepts
        for split in ("train", "test")
    ]
    return pd.DataFrame(rows)


def _signals(n_layers: int) -> Iterable[tuple[str, int | None, float]]:
    """Return a signal, its layer, and by how much it follows units."""
    for layer in range(n_layers):
        yield from (("", layer, 0.1 + 0.01 * layer), ("lexical", layer, 0.08), ("untrained", layer, 0.0))
    yield from (("entropy", None, 0.3), ("surprisal", None, 0.2))


def _contrasts(n_layers: int) -> pd.DataFrame:
    counts = {"within": 1.0, "n_between": 300, "n_within": 400, "n_documents": N_DOCUMENTS}
    rows = []
    for unit, (signal, layer, size), name in product(UNITS, _signals(n_layers), ("all", "letter")):
        row = {"unit": unit, "layer": layer, "head": None, "byte_class": name, "language": "all"}
        row |= {"between": 1 + size, "ratio": 1 + size, "control": signal, **counts}
        rows.append(row | {"ci_low": 1 + size - HALF, "ci_high": 1 + size + HALF})
    return pd.DataFrame(rows)


def _pairs(n_layers: int) -> pd.DataFrame:
    rows = []
    for (signal, layer, size), metric in product(_signals(n_layers), ("roc_auc", "distance_ratio")):
        row = {"unit": UNITS[1], "layer": layer, "head": None, "language": "all", "control": signal}
        row |= {"metric": metric, "n": 500, "n_documents": N_DOCUMENTS, "value": 0.5 + size}
        rows.append(row | {"ci_low": 0.5 + size - HALF, "ci_high": 0.5 + size + HALF})
    return pd.DataFrame(rows)


def _trees(n_layers: int) -> pd.DataFrame:
    shapes = [(name, None, 0.05) for name in ("right", "left", "balanced", "random")]
    signals, metrics, rows = [*shapes, *_signals(n_layers)], ("f1", "precision", "recall"), []
    for unit, (signal, layer, size), metric in product((*UNITS[1:], "any"), signals, metrics):
        row = {"unit": unit, "layer": layer, "head": None, "language": "all", "metric": metric, "n": 90}
        row |= {"tree": signal or "increments", "value": 0.2 + size, "ci_low": 0.2, "ci_high": 0.3 + size}
        rows.append(row | {"n_documents": N_DOCUMENTS})
    return pd.DataFrame(rows)


def _examples(families: Sequence[str], concepts: Sequence[str], n_layers: int, hostile: str) -> pd.DataFrame:
    text, rows = hostile or "她说中国 a\u0301b\n", []
    passages = product(families, concepts, range(2), enumerate(text), range(n_layers))
    for family, concept, passage, (at, character), layer in passages:
        row = {"family": family, "concept": concept, "passage": passage, "document": hostile or "d1"}
        row |= {"character": 10 + at, "text": character, "layer": layer, "value": 0.5 + 0.3 * (at % 4)}
        rows.append(row | {"in_span": 2 <= at < 4})
    return pd.DataFrame(rows)


def _sparse(families: Sequence[str], concepts: Sequence[str]) -> pd.DataFrame:
    rows = []
    for family, concept, k in product(families, concepts, (1, 2, 4)):
        row = {"family": family, "concept": concept, "features": "increments", "layer": None, "n": N}
        row |= {"n_features": k, "metric": "roc_auc", "value": 0.7 + 0.02 * k, "random_value": 0.6}
        rows.append(row | {"shuffled_value": 0.5, "seed": 0, "selected": "L0 first; L1 last"})
    return pd.DataFrame(rows)


def _erasures(families: Sequence[str], concepts: Sequence[str], n_layers: int) -> pd.DataFrame:
    metrics = {
        "increment_change": 0.1, "increment_change_elsewhere": 0.05, "contrast_before": 0.3,
        "contrast_after": 0.02, "nats_per_byte": 0.001, "nats_per_byte_concept": 0.01,
    }  # fmt: skip
    shares = {"leace": 1.0, "random": 0.4, "shuffled": 0.5, "difference": 0.6, "beyond_shuffled": 0.5}
    columns, rows = ["concept", "metric", "value", "ci_low", "ci_high"], []
    for family, layer, (arm, share) in product(families, range(1, n_layers), shares.items()):
        found = [("all", "states_moved", share, np.nan, np.nan)]
        for concept, (metric, size) in product(concepts, metrics.items()):
            moved = np.array([1.0, 0.5, 2.0]) * size * share
            if (arm, metric) == ("beyond_shuffled", "contrast_after"):
                moved = np.array([-0.2, -0.3, -0.1])
            found.append((concept, metric, *moved))
        known = {"family": family, "layer": layer, "arm": arm, "n": N, "n_documents": N_DOCUMENTS}
        known |= {"rank": 3, "seed": 0}
        rows += [known | dict(zip(columns, one, strict=True)) for one in found]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["family", "arm", *columns])
