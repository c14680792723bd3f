"""The numbers behind the training report, read from a run folder's logs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lrope_interp.errors import LRopeError
from lrope_interp.files import LARGE, Form, RunFile, read_json, read_log
from lrope_interp.reports.kit.frames import Frame

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"


def loss_frame(run_folder: Path) -> Frame:
    """Return the losses that were logged.

    Returns:
        Columns `step`, `split` ("train" or "validation"), `nats_per_byte`, `bits_per_byte`, `bytes`.
        Train is the mean over the steps since the line before, in nats per token, EOS included, divided
        by the bytes of a token where tokens are longer than one; validation counts bytes only.
    """
    tokenizer = read_object(Path(run_folder) / "run.json", RunFile).get("tokenizer") or {}
    tokens_per_byte = float(tokenizer.get("tokens_per_byte", 1.0))
    lines = _lines(Path(run_folder) / METRICS_FILE)
    rows = [
        {
            "step": int(line["step"]),
            "split": line.get("split", "train"),
            "nats_per_byte": _nats(line, tokens_per_byte),
            "bits_per_byte": _nats(line, tokens_per_byte) / math.log(2),
            "bytes": line.get("bytes"),
        }
        for line in lines
    ]
    return pd.DataFrame(rows, columns=["step", "split", "nats_per_byte", "bits_per_byte", "bytes"])


def _nats(line: Mapping[str, Any], tokens_per_byte: float) -> float:
    """Return nats a byte; a loss is in nats a token."""
    if line.get("nats_per_byte") is not None:
        return float(line["nats_per_byte"])
    value = line.get("loss")
    return math.nan if value is None else float(value) * tokens_per_byte


def increments_frame(run_folder: Path) -> Frame:
    """Return each layer's (and head's) increments over time.

    Columns `step`, `layer`, `head` (-1: none), `mean`, `sd`; `sd` is the spread over the tokens of one
    training batch, not the uncertainty of the mean.
    """
    rows = [
        (
            int(line["step"]),
            int(entry["layer"]),
            _head(entry.get("head")),
            float(entry["mean"]),
            float(entry["sd"]),
        )
        for line in _lines(Path(run_folder) / METRICS_FILE)
        for entry in line.get("increments") or []
    ]
    return pd.DataFrame(rows, columns=["step", "layer", "head", "mean", "sd"])


def _head(value: object) -> int:
    return value if isinstance(value, int) else -1


def course_frame(run_folder: Path) -> Frame:
    """Return how the run went, null where it was not timed.

    Columns `step`, `lr`, `grad_norm`, `seconds`, `bytes_per_second`.
    """
    folder = Path(run_folder)
    train = [line for line in _lines(folder / METRICS_FILE) if line.get("split", "train") == "train"]
    metrics = pd.DataFrame(train).reindex(columns=["step", "lr", "grad_norm"])
    timing = pd.DataFrame(_lines(folder / TIMING_FILE)).reindex(
        columns=["step", "seconds", "bytes_per_second"]
    )
    return metrics.merge(timing, on="step", how="left").astype(float)


def read_object(path: Path, form: type[Form]) -> dict[str, Any]:
    """Return a JSON object, empty where the file is missing or broken: a report shows what there is."""
    try:
        return read_json(path, form, most_bytes=LARGE)
    except LRopeError:
        return {}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [line for _, line in read_log(path)]
