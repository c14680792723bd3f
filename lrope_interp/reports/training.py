"""The page of a training run: loss, increments over time, and how the run went; read from its logs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrope_interp.errors import LRopeError
from lrope_interp.files import LARGE, Form, ManifestFile, ModelFile, RunFile, read_json, read_log
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.render import rendered
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import facts, number, place, plural
from lrope_interp.runs import Run, read_run

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


def plot_loss(run_folder: Path) -> go.Figure:
    """Draw train and validation loss in nats per byte, with bits on the right, from `loss_frame`."""
    frame = loss_frame(run_folder)
    train, validation = (frame[frame["split"] == split] for split in ("train", "validation"))
    figure = theme.new_figure(height=360)
    hover = "step %{x:,}: %{y:.3f} nats, %{customdata:.3f} bits"
    figure.add_trace(
        go.Scatter(
            x=train["step"], y=train["nats_per_byte"], customdata=train["bits_per_byte"], mode="lines",
            line={"color": theme.layer_colour(2, 6), "width": 1.5}, name="train",
            hovertemplate=hover + " per token<extra>train</extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=validation["step"], y=validation["nats_per_byte"], customdata=validation["bits_per_byte"],
            mode="lines+markers", line={"color": theme.ACCENT, "width": 2}, marker={"size": 6},
            name="validation",
            hovertemplate=hover + " per byte<extra>validation</extra>",
        )
    )  # fmt: skip
    _bits_axis(figure, _loss_range(frame))
    figure.update_layout(
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, margin={"r": 58}
    )
    figure.update_xaxes(title_text="step", rangemode="tozero")
    return figure


def _loss_range(frame: Frame) -> tuple[float, float]:
    """Return the range of nats: from just below the best to just above the worst."""
    values = frame["nats_per_byte"].dropna()
    if values.empty:
        return 0.0, 6.0
    low, high = float(values.min()), float(values.max())
    pad = max(0.05 * (high - low), 0.05)
    return max(low - pad, 0.0), high + pad


def _bits_axis(figure: go.Figure, nats: tuple[float, float]) -> None:
    """Put bits on the right of an axis in nats; both stay fixed, so that they cannot drift apart."""
    bits = [value / np.log(2) for value in nats]
    figure.add_trace(go.Scatter(x=[None], y=[None], yaxis="y2", showlegend=False, hoverinfo="skip"))
    figure.update_layout(
        yaxis={"title": {"text": "nats per byte"}, "range": list(nats), "fixedrange": True},
        yaxis2={
            "title": {"text": "bits per byte"},
            "range": bits,
            "overlaying": "y",
            "side": "right",
            "tickmode": "auto",
            "nticks": 6,
            "showgrid": False,
            "fixedrange": True,
        },
    )


def plot_increments(run_folder: Path) -> go.Figure:
    """Draw each layer's mean increment over time with a band of one s.d. over tokens, a panel a layer.

    The numbers are those of `increments_frame`. Of increments per head, each head's mean is a line,
    without a band.
    """
    frame = increments_frame(run_folder)
    layers = sorted(frame["layer"].unique().tolist())
    n_columns = min(max(len(layers), 1), 6)
    n_rows = -(-max(len(layers), 1) // n_columns)
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.016,
        vertical_spacing=0.12,
        subplot_titles=[_panel_title(frame, layer) for layer in layers] or ["no increments logged"],
    )
    figure.update_layout(
        template=theme.template(), height=70 + 210 * n_rows, showlegend=False, margin={"t": 46}
    )
    colours = theme.layer_colours(layers)
    for i, layer in enumerate(layers):
        at: dict[str, Any] = {"row": i // n_columns + 1, "col": i % n_columns + 1}
        for trace in _increment_traces(frame[frame["layer"] == layer], colours[layer]):
            figure.add_trace(trace, **at)
        figure.add_hline(y=1, line={"color": theme.CONTROL, "width": 1, "dash": "dash"}, **at)
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.update_yaxes(range=_increment_range(frame))
    figure.update_yaxes(title_text="increment", col=1)
    figure.update_xaxes(nticks=4, title_text="step", row=n_rows)
    return figure


def _panel_title(frame: Frame, layer: int) -> str:
    last = frame[(frame["layer"] == layer) & (frame["step"] == frame["step"].max())]
    return f"layer {layer}  <b>{number(last['mean'].mean())}</b> ± {number(last['sd'].mean())}"


def _increment_range(frame: Frame) -> list[float]:
    """Return a range that holds nearly all of every band, and the end of training for certain.

    One unstable moment must not flatten the rest; the axis can be zoomed out to it.
    """
    if frame.empty:
        return [0.0, 2.0]
    tops = frame["mean"] + (frame["sd"] if (frame["head"] < 0).all() else 0.0)
    last = tops[frame["step"] == frame["step"].max()]
    return [0.0, max(1.3 * float(tops.quantile(0.97)), 1.05 * float(last.max()), 1.2)]


def _increment_traces(frame: Frame, colour: str) -> list[go.Scatter]:
    traces = []
    for head, own in frame.groupby("head"):
        if head == -1:
            around = [own["mean"] - own["sd"], own["mean"] + own["sd"]]
            for i, edge in enumerate(around):
                traces.append(
                    go.Scatter(
                        x=own["step"], y=edge, mode="lines", line={"width": 0}, hoverinfo="skip",
                        fill="tonexty" if i else None, fillcolor=theme.faded(colour, 0.28),
                        name="mean + s.d." if i else "mean − s.d.",
                    )
                )  # fmt: skip
        name = place(int(own["layer"].iloc[0]), int(head))
        traces.append(
            go.Scatter(
                x=own["step"], y=own["mean"], customdata=own["sd"], mode="lines", name=name,
                line={"color": colour, "width": 1.6 if head == -1 else 1.2},
                hovertemplate="step %{x:,}: %{y:.3f} ± %{customdata:.3f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    return traces


_COURSE = {
    "lr": "learning rate",
    "grad_norm": "gradient norm before clipping",
    "bytes_per_second": "bytes per second",
}


def plot_course(run_folder: Path) -> go.Figure:
    """Draw learning rate, gradient norm and speed, small; the numbers of `course_frame`."""
    frame = course_frame(run_folder)
    figure = make_subplots(rows=1, cols=3, subplot_titles=list(_COURSE.values()), horizontal_spacing=0.07)
    figure.update_layout(template=theme.template(), height=210, showlegend=False, margin={"t": 34, "b": 40})
    for i, (column, name) in enumerate(_COURSE.items(), start=1):
        trace = go.Scatter(
            x=frame["step"],
            y=frame[column],
            mode="lines",
            line={"color": theme.CONTROL, "width": 1.5},
            name=name,
            hovertemplate="step %{x:,}: %{y:.4g}<extra></extra>",
        )
        figure.add_trace(trace, row=1, col=i)
    figure.update_annotations(font={"size": 12, "color": theme.INK})
    figure.update_xaxes(title_text="step", nticks=5)
    figure.update_yaxes(rangemode="tozero", nticks=4)
    figure.update_yaxes(type="log", dtick=1, col=2)
    return figure


def render(run_folder: Path) -> str:
    """Render the page of a run folder, finished or not.

    Raises:
        LRopeError: The folder is missing or is no run.
    """
    folder = Path(run_folder)
    run = read_run(folder, allow_unfinished=True)
    config = read_object(folder / "config.json", ModelFile)
    losses = loss_frame(folder)
    step, n_steps = int(losses["step"].max()) if len(losses) else 0, int(run.info.get("n_steps") or 0)
    unfinished = f"This run is not finished: step {step:,} of {n_steps:,} is the last one logged."
    return rendered(
        "templates/training.html.j2",
        verdicts(folder),
        kicker="lrope-interp train",
        about=_facts(run, config),
        warnings=() if run.is_finished else (unfinished,),
        name=folder.resolve().name,
        run=run,
        n_layers=increments_frame(folder)["layer"].nunique(),
        loss=plot_loss(folder),
        increments=plot_increments(folder),
        last_increments=increments_table(folder),
        course=plot_course(folder),
        summary=summary_table(run, losses),
        settings=settings_tables(folder, config),
    )


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
    return {**{name: value for name, value in extra.items() if value}, **known}


def _minute(moment: object) -> str:
    return str(moment).replace("T", " ")[:16] + " UTC" if moment else ""
