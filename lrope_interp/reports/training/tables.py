"""The numbers behind the page of a run, read from its logs: losses, increments, its course and settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lrope_interp.errors import LRopeError
from lrope_interp.files import LARGE, Form, ManifestFile, RunFile, read_json, read_log
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import number, place
from lrope_interp.runs import Run

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"
UNIFORM = math.log(256)
"""Nats per byte of a guess that every byte is as likely as any other."""


def loss_frame(run_folder: Path) -> Frame:
    """Return the losses that were logged.

    Returns:
        Columns `step`, `split` ("train" or "validation"), `nats_per_byte`, `bits_per_byte`, `bytes`.
        Train is the mean over the steps since the line before, in nats per token, EOS included, divided
        by the bytes of a token where tokens are longer than one; validation counts bytes only.
    """
    tokenizer = read_object(Path(run_folder) / "run.json", RunFile).get("tokenizer") or {}
    tokens_per_byte = float(tokenizer.get("tokens_per_byte", 1.0))
    rows = []
    for line in _lines(Path(run_folder) / METRICS_FILE):
        nats = _nats(line, tokens_per_byte)
        split = line.get("split", "train")
        rows.append((int(line["step"]), split, nats, nats / math.log(2), line.get("bytes")))
    return pd.DataFrame(rows, columns=["step", "split", "nats_per_byte", "bits_per_byte", "bytes"])


def _nats(line: Mapping[str, Any], tokens_per_byte: float) -> float:
    """Return nats per byte; a loss is in nats per token."""
    if line.get("nats_per_byte") is not None:
        return float(line["nats_per_byte"])
    value = line.get("loss")
    return math.nan if value is None else float(value) * tokens_per_byte


def increments_frame(run_folder: Path) -> Frame:
    """Return each layer's (and head's) increments over time.

    Columns `step`, `layer`, `head` (-1: none), `mean`, `sd`; `sd` is the spread over the tokens of one
    training batch, not the uncertainty of the mean.
    """
    rows = []
    for line in _lines(Path(run_folder) / METRICS_FILE):
        for entry in line.get("increments") or []:
            head = entry.get("head") if isinstance(entry.get("head"), int) else -1
            rows.append(
                (int(line["step"]), int(entry["layer"]), head, float(entry["mean"]), float(entry["sd"]))
            )
    return pd.DataFrame(rows, columns=["step", "layer", "head", "mean", "sd"])


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


def verdicts(run_folder: Path) -> Verdicts:
    """Return the last validation loss in words, and a row a layer and head: its increments at the end."""
    losses, last = loss_frame(run_folder), _last(increments_frame(run_folder))
    columns = {"value": last["mean"], "low": last["mean"] - last["sd"], "high": last["mean"] + last["sd"]}
    names = [place(layer, head) for layer, head in zip(last["layer"], last["head"], strict=True)]
    step = f"{int(last['step'].iloc[0]):,}" if len(last) else ""
    return Verdicts(
        headline=_headline(losses[losses["split"] == "validation"]),
        frame=last.assign(what=pd.Series(names, index=last.index, dtype="str"), **columns).reindex(
            columns=COLUMNS
        ),
        names={"what": "Increments", "value": "Mean ± s.d."},
        digits=2,
        reference=1.0,
        caption=f"Over the tokens of a training batch at step {step}; brackets are their spread and no "
        "uncertainty. Upright: 1, ordinary RoPE, where every run begins.",
    )


def _last(increments: Frame) -> Frame:
    return increments[increments["step"] == increments["step"].max()] if len(increments) else increments


def _headline(validation: Frame) -> str:
    if validation.empty:
        return "No validation yet."
    last = validation.iloc[-1]
    nats, bits = (number(last[name], 3) for name in ("nats_per_byte", "bits_per_byte"))
    return (
        f"Validation loss {nats} nats per byte ({bits} bits) after {int(last['step']):,} steps; "
        f"guessing all bytes alike costs {UNIFORM:.3f}."
    )


_SUMMARY = (
    ("step", "Steps", 0),
    ("validation_nats_per_byte", "Validation, nats per byte", 4),
    ("validation_bits_per_byte", "Validation, bits per byte", 4),
    ("validation_bytes", "Validation text, bytes", 0),
    ("train_loss", "Train, nats per token (last line)", 4),
    ("bytes", "Bytes read", 0),
    ("seconds", "Seconds of training", 0),
    ("bytes_per_second", "Bytes per second", 0),
)


def summary_table(run: Run, losses: Frame) -> Frame:
    """Return the numbers of the last step as strings; of an unfinished run, what is known so far."""
    known: dict[str, Any] = dict(run.summary)
    if len(losses):
        known.setdefault("step", int(losses["step"].max()))
    for split, key in (("train", "train_loss"), ("validation", "validation_nats_per_byte")):
        own = losses[losses["split"] == split]
        if key not in known and len(own):
            known[key] = own["nats_per_byte"].iloc[-1]
    rows = [
        (words, number(known[key], digits) if digits else f"{int(known[key]):,}")
        for key, words, digits in _SUMMARY
        if known.get(key) is not None
    ]
    return pd.DataFrame(rows, columns=["Number", "Value"])


def increments_table(run_folder: Path) -> Frame:
    """Return the last increments as strings."""
    last = _last(increments_frame(run_folder))
    return pd.DataFrame(
        {
            "Layer": [place(layer, head) for layer, head in zip(last["layer"], last["head"], strict=True)],
            "Mean increment": [number(value, 3) for value in last["mean"]],
            "S.d. over tokens": [number(value, 3) for value in last["sd"]],
            "S.d. / mean": [number(sd / mean, 3) for sd, mean in zip(last["sd"], last["mean"], strict=True)],
        }
    )


def settings_tables(run_folder: Path, config: Mapping[str, Any]) -> dict[str, Frame]:
    """Return what was read and how it was trained, a table a kind, by its name."""
    tables: dict[str, Frame] = {}
    sources = read_object(Path(run_folder) / "data.json", ManifestFile).get("sources")
    if sources:
        frame = pd.DataFrame([{key: _word(value) for key, value in source.items()} for source in sources])
        frame.columns = [str(name).replace("_", " ") for name in frame.columns]
        tables["Sources of the text"] = frame.fillna("")
    for name in ("training", "model"):
        values = config.get(name)
        if isinstance(values, Mapping):
            rows = [(key, _word(value)) for key, value in values.items()]
            tables[f"{name.capitalize()} settings"] = pd.DataFrame(rows, columns=["Setting", "Value"])
    return tables


def _word(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)
