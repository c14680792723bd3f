"""The report of a training run: loss, increments over time, and how the run went."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lrope_interp.files import ManifestFile, ModelFile
from lrope_interp.reports.kit.blocks import Beside, Block, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import facts, number, plural
from lrope_interp.reports.training.figures import plot_course, plot_increments, plot_loss
from lrope_interp.reports.training.frames import course_frame, increments_frame, loss_frame, read_object
from lrope_interp.runs import Run, read_run

__all__ = [
    "course_frame",
    "increments_frame",
    "loss_frame",
    "plot_course",
    "plot_increments",
    "plot_loss",
    "render_training",
]

UNIFORM = math.log(256)
"""Nats per byte of a guess that every byte is as likely as any other."""


def render_training(run_folder: Path) -> str:
    """Render the page of a run folder, finished or not.

    Raises:
        LRopeError: The folder is missing or is no run.
    """
    folder = Path(run_folder)
    run = read_run(folder, allow_unfinished=True)
    config = read_object(folder / "config.json", ModelFile)
    losses = loss_frame(folder)
    unfinished = [] if run.is_finished else [_unfinished(run, losses)]
    return Page(
        title=f"Training run {folder.resolve().name}",
        kicker="lrope-interp train",
        lead=[_headline(losses)],
        facts=_facts(run, config),
        warnings=unfinished,
        sections=[
            Section("Loss", [Plot(plot_loss(folder), _LOSS_READS, _LOSS_LIMITS, min_width=330)]),
            Section("Increments over time", _increments(folder, run)),
            Section(
                "Course of the run", [Plot(plot_course(folder), _COURSE_READS, _COURSE_LIMITS, min_width=760)]
            ),
            Section(
                "In the end" if run.is_finished else "So far",
                [Beside([_summary_table(run, losses), _increments_table(folder)])],
            ),
            Section("Text and settings", _settings(folder, config)),
        ],
    ).html()


_LOSS_READS = (
    "Train is the mean over the steps since the point before, over all next tokens (document separators "
    "included); validation is a fixed held-out text, bytes only. The right axis is the left one divided "
    "by ln 2."
)
_LOSS_LIMITS = (
    "It does not show whether learned increments help: that takes paired runs with `--increments fixed` "
    "and several seeds."
)
_INCREMENTS_READS = (
    "Line: mean increment over the tokens of a training batch; band: one standard deviation over "
    "tokens; dashed: 1, ordinary RoPE, where every run begins. A short spike may leave the panel."
)
_INCREMENTS_LIMITS = (
    "A level means nothing by itself (a multiple of all increments is another rope_base), the band is "
    "spread, not uncertainty, and neither shows what the increments respond to: `lrope-interp "
    "boundaries` does."
)
_COURSE_READS = (
    "Learning rate as scheduled, gradient norm at the logged steps, and training speed without validation."
)
_COURSE_LIMITS = "Speed depends on the machine and its other work; it is no property of the model."


def _headline(losses: Frame) -> str:
    validation = losses[losses["split"] == "validation"]
    if validation.empty:
        return "No validation yet."
    last = validation.iloc[-1]
    return (
        f"Validation loss {number(last['nats_per_byte'], 3)} nats per byte "
        f"({number(last['bits_per_byte'], 3)} bits) after {int(last['step']):,} steps; guessing all "
        f"bytes alike costs {UNIFORM:.3f}."
    )


def _unfinished(run: Run, losses: Frame) -> str:
    step = int(losses["step"].max()) if len(losses) else 0
    n_steps = int(run.info.get("n_steps") or 0)
    return f"This run is not finished: step {step:,} of {n_steps:,} is the last one logged."


def _facts(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    info = run.info
    known = facts(
        {"config": config.get("model"), "versions": info.get("versions"), "seed": info.get("seed"),
         "command": info.get("command")}
    )  # fmt: skip
    n_parameters = info.get("n_parameters")
    if isinstance(n_parameters, int):
        known["Model"] = f"{known.get('Model', '')} · {n_parameters:,} parameters".strip(" ·")
    device = " ".join(str(info[key]) for key in ("device", "dtype") if info.get(key))
    threads = f", {info['threads']} threads" if info.get("threads") else ""
    extra = {
        "Run": f"preset {info.get('preset')}, {plural(int(info.get('n_steps') or 0), 'step')}",
        "Text": str(info.get("data", "")),
        "Device": device + threads,
        "Started": _minute(info.get("started")),
        "Finished": _minute(info.get("finished")) or "not yet",
    }
    return {**{k: v for k, v in extra.items() if v}, **known}


def _minute(moment: object) -> str:
    return str(moment).replace("T", " ")[:16] + " UTC" if moment else ""


def _increments(folder: Path, run: Run) -> list[Block]:
    frame = increments_frame(folder)
    if frame.empty:
        fixed = run.info.get("increments") == "fixed"
        note = "Increments are fixed to 1 in this run." if fixed else "No increments logged yet."
        return [Prose(note)]
    width = 150 * min(frame["layer"].nunique(), 6) + 60
    return [Plot(plot_increments(folder), _INCREMENTS_READS, _INCREMENTS_LIMITS, min_width=width)]


def _summary_table(run: Run, losses: Frame) -> Table:
    """Return the figures of the last step; of an unfinished run, what is known so far."""
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
    return Table(pd.DataFrame(rows, columns=["Figure", "Value"]), left=["Figure"])


_SUMMARY = (
    ("step", "Steps", 0),
    ("validation_nats_per_byte", "Validation, nats per byte", 4),
    ("validation_bits_per_byte", "Validation, bits per byte", 4),
    ("validation_bytes", "Validation text, bytes", 0),
    ("train_loss", "Train, nats per token (last line)", 4),
    ("bytes", "Bytes read", 0),
    ("seconds", "Seconds of training", 0),
    ("bytes_per_second", "Bytes a second", 0),
)


def _increments_table(folder: Path) -> Table:
    frame = increments_frame(folder)
    last = frame[frame["step"] == frame["step"].max()] if len(frame) else frame
    table = pd.DataFrame(
        {
            "Layer": [
                f"{layer}" if head < 0 else f"{layer}.{head}"
                for layer, head in last[["layer", "head"]].to_numpy()
            ],
            "Mean increment": [number(value, 3) for value in last["mean"]],
            "S.d. over tokens": [number(value, 3) for value in last["sd"]],
            "S.d. / mean": [number(sd / mean, 3) for sd, mean in zip(last["sd"], last["mean"], strict=True)],
        }
    )
    return Table(table, left=["Layer"])


def _settings(folder: Path, config: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    sources = read_object(folder / "data.json", ManifestFile).get("sources")
    if sources:
        table = pd.DataFrame(
            [{key: _word(value) for key, value in source.items()} for source in sources]
        ).fillna("")
        table.columns = [str(name).replace("_", " ") for name in table.columns]
        blocks.append(Table(table, left=list(table.columns)))
    for name in ("training", "model"):
        values = config.get(name)
        if isinstance(values, Mapping):
            rows = pd.DataFrame([(k, _word(v)) for k, v in values.items()], columns=["Setting", "Value"])
            blocks.append(
                Folded(f"{name.capitalize()} settings ({len(rows)})", [Table(rows, left=list(rows.columns))])
            )
    return blocks


def _word(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)
