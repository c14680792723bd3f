"""Results of the studies and the small analyses, made by hand: costs, pairs of runs, names, distances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from report_samples import HOSTILE, PROVENANCE

from lrope_interp.probes.studies.context.plan import CostPlan
from lrope_interp.probes.studies.context.tables import costs_table, path_table, targets_table
from lrope_interp.probes.studies.replication.replication import Comparison, replicate_result
from lrope_interp.results import Result, provenance

WHOLE = {"layer": "Int64", "head": "Int64", "seed": "Int64", "n": "Int64", "n_tokens": "Int64"}


def typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.astype({name: kind for name, kind in WHOLE.items() if name in frame})


# --- the cost of context: times grow with its square, round k is k per cent slower in every arm --------

COST_ARMS = {"fixed": 0.0, "shared": 0.01, "per_layer": 0.04}
CONTEXTS = (512, 8192, 131_072)


def cost_rounds(contexts: tuple[int, ...] = CONTEXTS, n: int = 5) -> pd.DataFrame:
    rows = []
    for context, (arm, extra) in product(contexts, COST_ARMS.items()):
        seconds = context / 1e5 + context**2 / 1e9
        for k in range(1 if context > 8192 else n):
            slow, wobble = 1 + k / 100, 1 + extra * (1 + k / 10)
            found = {("forward", ""): seconds * slow * wobble, ("decode", ""): 0.01 * slow * wobble}
            if context <= 8192:
                found["train_step", ""] = 3 * seconds * wobble
            for part, share in (("heads", extra), ("sum", 0.001), ("angles", 0.002), ("rotation", 0.01)):
                found["increment_path", part] = context / 1e5 * share
            for (phase, part), size in found.items():
                same = {"arm": arm, "context": context, "round": k}
                rows.append({"phase": phase, "part": part, **same, "seconds": size})
    return pd.DataFrame(rows)


def cost_result(contexts: tuple[int, ...] = CONTEXTS, angle_error: float = 2.4e-7) -> Result:
    angles = [(c, "float64", angle_error, 4, c // 2, 9.9 * c) for c in contexts]
    angles += [(c, "float32", 1e-6 * c, 0, c - 1, 9.9 * c) for c in contexts]
    flops, memory = [], []
    for c, (arm, extra) in product(contexts, COST_ARMS.items()):
        parts = {"linears": 1e6, "attention": c * 10, "increment_heads": 1e5 * extra, "rotation": 1e3}
        for part, size in parts.items():
            flops.append((arm, c, part, int(c * size * (1 + extra * (part == "increment_heads")))))
        for phase in ("forward", *(("train_step",) if c <= 8192 else ()), "decode", "increment_path"):
            memory.append((phase, arm, c, 20_000_000, int(c * 1000 * (1 + extra / 2))))
    tables = {
        "rounds": cost_rounds(contexts),
        "memory": pd.DataFrame(memory, columns=["phase", "arm", "context", "standing", "working"]),
        "flops": pd.DataFrame(flops, columns=["arm", "context", "part", "flops"]),
        "arms": pd.DataFrame(
            [
                (arm, 1_000_000 + int(1e6 * extra), int(1e6 * extra), extra)
                for arm, extra in COST_ARMS.items()
            ],
            columns=["arm", "n_parameters", "extra", "extra_share"],
        ),
        "angles": pd.DataFrame(
            angles, columns=["context", "method", "max_error", "plane", "position", "largest"]
        ),
    }
    tables["costs"] = costs_table(tables["rounds"], tables["memory"])
    tables["path"] = path_table(tables["rounds"])
    plan = CostPlan({}, tuple(COST_ARMS), contexts)
    tables["targets"] = targets_table(plan, tables["costs"], tables["angles"])
    known = provenance(config={"n_layers": 6, "n_heads": 8, "d_model": 256}, data={}, seed=0)
    known["measured"] = {"device": "cpu", "device_name": "a processor", "threads": 2, "cores": 2}
    known["measured"] |= {"dtype": "float32", "repeats": 5}
    said = ("one forward pass an arm at 131,072 tokens: its time has no spread to judge it by",)
    return Result("context", known, {"largest_context": float(contexts[-1])}, tables, said)


# --- a paired experiment: losses with a spread that pairs share, and curves that end in them -----------

PAIRED_ARMS = {  # effect, spread, parameters
    "fixed": (0.0, 0.0, 1_607_424),
    "fixed_wide": (-0.0003, 0.0008, 1_632_768),
    "shared": (-0.0012, 0.0040, 1_611_713),
    "per_layer": (-0.0110, 0.0030, 1_633_158),
}


def replication_result(n_seeds: int = 5, margin: float = 0.003, reference: str = "fixed") -> Result:
    draw = np.random.default_rng(1)
    rows: dict[str, list[dict[str, object]]] = {"runs": [], "languages": [], "curves": []}
    for seed in range(n_seeds):
        shared = draw.normal(1.83, 0.006)
        for arm, (effect, spread, parameters) in PAIRED_ARMS.items():
            loss, same = shared + effect + draw.normal(0, 1) * spread, {"arm": arm, "seed": seed}
            sizes = {"n_parameters": parameters, "n_steps": 600, "bytes_read": 2_457_000}
            losses = {
                "nats_per_byte": loss,
                "train_loss": loss - 0.04,
                "validation_nats_per_byte": loss + 0.01,
            }
            rows["runs"].append({**same, **losses, **sizes, "model_sha256": f"{seed:064x}"})
            for language, more, n_bytes in (("en", -0.1, 332_697), ("zh", 0.3, 75_582)):
                own = {"language": language, "nats_per_byte": loss + more, "n_bytes": n_bytes}
                rows["languages"].append(same | own)
            for step, split in product(range(100, 700, 100), ("train", "validation")):
                at = loss + 1.2 * np.exp(-step / 150) + draw.normal(0, 0.002) * (step < 600)
                rows["curves"].append(same | {"step": step, "split": split, "loss": at})
    config = {"preset": "tiny", "n_layers": 6, "n_heads": 4, "d_model": 128}
    data = {"name": "bilingual", "split": "dev", "n_documents": 22, "n_bytes": 408_279, "sha256": "cd" * 32}
    said = ["not all runs were trained with the same threads: 1, 2"]
    return replicate_result(rows, Comparison(reference, margin), config=config, data=data, warnings=said)


# --- names: a layer for each verdict -------------------------------------------------------------------

VERDICTS = ("constant", "smaller", "control finds it too", "not shown")


def _names(value: str, null: float, **where: tuple[str, ...]) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    signals = [("increments", None), ("lexical", None)]
    signals += [(name, seed) for name in ("untrained", "random_head") for seed in range(3)]
    for places in product(*where.values()):
        for (layer, verdict), (signal, seed) in product(enumerate(VERDICTS), signals):
            own = null + (0.0 if layer == 0 else rng.normal(0, 0.02) - 0.1 * (signal == "increments"))
            row = dict(zip(where, places, strict=True)) | {"signal": signal, "layer": layer, "head": None}
            row |= {"seed": seed, value: own, "ci_low": own - 0.05 * (layer > 0), "difference": own - null}
            row |= {"ci_high": own + 0.05 * (layer > 0), "p": 0.03, "n": 90, "n_first_words": 60}
            rows.append(row | {"p_first_words": 0.2, "verdict": verdict if signal == "increments" else ""})
    return typed(rows)


def entities_result() -> Result:
    places, designs = ("inner_space", "second_word", "per_byte"), ("raw", "matched")
    pairs = {"first": ["New", HOSTILE], "second": ["York", "x"], "kind": ["place", "given"]}
    pairs |= {"training_count": [134, 2], "is_common": [True, False], "test_count": [9, 0]}
    balance = {"language": ["en"], "covariate": ["log_p"], "before": [1.9], "after": [0.04]}
    balance |= {"n_names": [40], "n_others": [900], "n_matched": [30]}
    measures, models = ("pair", "inner", "first_word"), ("raw", "controls", "first_words")
    tables = {
        "reversed": _names("share", 0.5, context=("alone", "carriers"), measure=measures),
        "regression": _names("coefficient", 0.0, response=places[:2], model=models),
        "matched": _names("difference", 0.0, response=places, design=designs),
        "chinese": _names("difference", 0.0, response=("inner", "per_byte"), design=designs),
        "balance": pd.DataFrame(balance),
        "pairs": pd.DataFrame(pairs | {"matched_with": ["Old Friends", ""]}),
    }
    headline = {"n_pairs": 2.0, "n_first_words": 2.0, "coverage": 0.5, "test_occurrences": 9.0}
    return Result("entities", PROVENANCE, dict(headline), tables, (HOSTILE,))


# --- distances between words, and between a definition and its uses ------------------------------------


def distance_result(
    words: tuple[str, ...] = ("peace", "of", "中国", HOSTILE), n_layers: int = 2, *, is_asked: bool = True
) -> Result:
    rng, rows = np.random.default_rng(3), []
    for measure, (a, b) in product(("normalised", "effective"), combinations(range(len(words)), 2)):
        for layer in range(n_layers):
            n_tokens = 5 * (b - a)
            value = float(n_tokens * rng.lognormal(0, 0.3))
            low, high = (math.nan, math.nan) if b - a > 2 else (0.9 * n_tokens, 1.1 * n_tokens)
            outside = pd.NA if math.isnan(low) else not low <= value <= high
            row = {"layer": layer, "head": pd.NA, "measure": measure, "word_a": words[a], "word_b": words[b]}
            row |= {"index_a": a, "index_b": b, "value": value, "n_tokens": n_tokens}
            rows.append(row | {"expected": float(n_tokens), "low": low, "high": high, "is_outside": outside})
    matrix = typed(rows).astype({"is_outside": "boolean"})
    own = matrix[(matrix["index_a"] == 0) & (matrix["index_b"] == 1)]
    columns = [name for name in matrix if not name.startswith(("word", "index"))]
    named = {"index": range(len(words)), "word": words, "start": range(len(words)), "end": range(len(words))}
    asked = {"place": ["from", "to"], "text": list(words[:2]), "start": [0, 1], "end": [1, 2]}
    distances: Any = (own if is_asked else own.iloc[:0])[columns].reset_index(drop=True)
    tables = {"distances": distances, "matrix": matrix, "words": pd.DataFrame(named)}
    return Result(
        "distance", PROVENANCE, {}, tables | {"asked": pd.DataFrame(asked).iloc[: 2 if is_asked else 0]}
    )


CLOSER = {"names": -0.1, "same_name": -0.1, "roles": -0.1}


def definitions_result(differences: Mapping[str, float] = CLOSER, beyond: float = -0.1) -> Result:
    """Every layer has the same difference, with an interval of 0.01 on both sides."""
    values = {(control, "trained"): value for control, value in differences.items()}
    values |= {("names", "untrained"): 0.0, ("names", "trained - untrained"): beyond}
    counts, rows = {"n": 600, "n_documents": 60}, []
    for measure, ((control, model), value) in product(("normalised", "effective"), values.items()):
        for layer in (0, 1, pd.NA):
            row = {"kind": "call", "control": control, "measure": measure, "model": model, "layer": layer}
            row |= {"head": pd.NA, "real": math.exp(value), "matched": 1.0, "difference": value}
            rows.append(row | {"ci_low": value - 0.01, "ci_high": value + 0.01, **counts, "n_units": 60})
    near = {"kind": "call", "layer": pd.NA, "head": pd.NA, "distance": 5, "distance_high": 20}
    near |= {"difference": -0.1, "ci_low": -0.2, "ci_high": 0.0, **counts}
    found = {"kind": "call", "n_found": 900, "n_far": 200, "n_shared": 100, "n_measured": 600}
    none = {"kind": "method", "n_found": 9, "n_far": 9, "n_shared": 0, "n_measured": 0}
    match = {"kind": "call", "control": "names", "n": 600, "n_controls": 3000}
    tables = {
        "definitions": typed(rows),
        "by_distance": typed([near, near | {"layer": 0}, near | {"layer": 1}]),
        "counts": pd.DataFrame([found, none]),
        "matches": pd.DataFrame([match | {"apart_tokens": 0.0, "apart_lines": 0.5}]),
        "pairs": pd.DataFrame({"kind": ["call"]}),
    }
    return Result("definitions", PROVENANCE, {}, tables)


def evaluation_result(text: str = "speech 1") -> Result:
    sizes = {"nats_per_byte": [1.25], "ci_low": [0.9], "ci_high": [1.5], "n_bytes": [9], "n_documents": [1]}
    documents = {"document": [text], "language": [text], "nats_per_byte": [1.25], "bits_per_byte": [1.8]}
    tables = {"languages": pd.DataFrame({"language": [text], **sizes})}
    tables["documents"] = pd.DataFrame({**documents, "n_bytes": [9]})
    headline = {"nats_per_byte": 1.25, "bits_per_byte": 1.8, "ci_low": 0.9, "ci_high": 1.5}
    return Result("eval", PROVENANCE, dict(headline), tables)
