"""The page of `lrope-interp study context`: what learned increments cost as context grows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, worded
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import NOTHING, is_number, listed
from lrope_interp.results import Result

REFERENCE = "fixed"
TARGET_CONTEXT = 131_072
PHASES = {
    "forward": "forward pass",
    "increment_path": "increment path",
    "train_step": "training step",
    "decode": "decoding a token",
}
MARKS = {"met": ("✓", "won"), "not met": ("✗", "lost")}


def arm_word(arm: str) -> str:
    """Return an arm in words: "per layer"."""
    return arm.replace("_", " ")


def learned_arms(result: Result) -> list[str]:
    """Return the arms beside fixed RoPE, in the order of the result."""
    return [arm for arm in result.tables["arms"]["arm"] if arm != REFERENCE]


def _lines(result: Result, name: str) -> list[Any]:
    table: Frame = result.tables[name]
    return list(table.itertuples(index=False))


def contexts_of(result: Result) -> list[int]:
    """Return every context that was measured, ascending."""
    return sorted(int(context) for context in set(result.tables["costs"]["context"]))


def phase_frame(result: Result, phase: str, column: str = "ratio_to_fixed") -> Frame:
    """Return the rows of `costs` of one phase that have a ratio, fixed RoPE left out, by context."""
    costs: Frame = result.tables["costs"]
    own = costs[(costs["phase"] == phase) & (costs["arm"] != REFERENCE) & costs[column].notna()]
    return own.sort_values("context", kind="stable").reset_index(drop=True)


_TARGETS = {  # of a target: what it is, in which unit, and how the limit is meant
    "time": ("time, %", 100, "under"),
    "memory": ("peak memory, %", 100, "under"),
    "angle": ("largest angle error, µrad", 1e6, "at most"),
}


def verdicts(result: Result) -> Verdicts:
    """Return one row a target, at the longest context: what was found and asked, and whether it is met."""
    lines = _lines(result, "targets")
    frame, context = pd.DataFrame([_target(result, line) for line in lines]), int(lines[0].context)
    return Verdicts(
        headline=_headline(result, context),
        frame=frame.reindex(columns=[*COLUMNS, "reference"]),
        names={"what": "Beyond fixed RoPE", "value": "Found", "control": "Asked"},
        digits=2,
        caption=f"At {context:,} tokens. Time of the increment path, over a forward pass of fixed RoPE; "
        "memory of a forward pass. Brackets: quartiles.",
        about_drawing="Upright line: what was asked.",
        marks=MARKS,
    )


def _target(result: Result, line: Any) -> dict[str, Any]:
    name, unit, limit = _TARGETS[line.target]
    found = {"what": f"{arm_word(line.arm)}: {name}" if line.arm else name, "value": unit * line.value}
    found |= {"low": np.nan, "high": np.nan, "reference": unit * line.limit}
    if line.target == "time":
        own = phase_frame(result, "increment_path")
        for row in own[(own["arm"] == line.arm) & (own["context"] == line.context)].itertuples():
            found |= {"low": unit * (row.ratio_q1 - 1), "high": unit * (row.ratio_q3 - 1)}
    verdict = "no verdict" if line.verdict == "none" else line.verdict
    return found | {"control": f"{limit} {unit * line.limit:g}", "verdict": verdict}


def _headline(result: Result, context: int) -> str:
    """Say in at most 25 words what the main arm costs at the longest context, and what is met."""
    arms = learned_arms(result)
    targets: Frame = result.tables["targets"]
    arm = "per_layer" if "per_layer" in arms else arms[-1]
    own = targets[targets["arm"] == arm].set_index("target")["value"]
    shares: Frame = result.tables["arms"].set_index("arm")["extra_share"]
    costs = [f"{share(shares[arm])} parameters"]
    costs += [f"{share(own[name])} {word}" for name, word in _COSTS.items() if is_number(own[name])]
    judged = targets[targets["verdict"] != "none"]
    n_met = int((judged["verdict"] == "met").sum())
    unknown = f", {len(targets) - len(judged)} unknown" if len(targets) > len(judged) else ""
    met = f"{n_met} of {len(targets)} targets {'is' if n_met == 1 else 'are'} met{unknown}"
    said = met if len(judged) else f"targets are for {TARGET_CONTEXT:,}"
    return f"{arm_word(arm).capitalize()} increments add {listed(costs)} at {context:,} tokens; {said}."


_COSTS = {"time": "time", "memory": "peak memory"}


def change(value: Any) -> str:
    """Format a share with its sign, in per cent; two decimals below one per cent."""
    if not is_number(value):
        return NOTHING
    percent = 100 * float(value)
    if abs(percent) < 0.005:
        return "0.00 %"
    return f"{percent:+.{1 if abs(percent) >= 1 else 2}f} %".replace("-", "−")


def share(value: Any) -> str:
    """Format a share in per cent, without a plus."""
    return change(value).removeprefix("+")


def _against(line: Any, ratio: Any) -> str:
    """Format a ratio to fixed RoPE as a share; a dash for fixed RoPE itself."""
    return NOTHING if line.arm == REFERENCE else change(ratio - 1)


def _quartiles_of_ratio(line: Any) -> str:
    if line.arm == REFERENCE or not is_number(line.ratio_q1):
        return ""
    return f"[{change(line.ratio_q1 - 1)}, {change(line.ratio_q3 - 1)}]"


_GLANCE = {
    "forward": "Forward pass, %",
    "increment_path": "Increment path alone, %",
    "train_step": "Training step, %",
    "decode": "One token, %",
}
_MEMORY = "Memory, %"


def glance_table(result: Result) -> Frame:
    """Return what each arm costs beyond fixed RoPE at each context: a column a phase, and memory."""
    costs: Frame = result.tables["costs"]
    rows = []
    for (context, arm), own in costs[costs["arm"] != REFERENCE].groupby(["context", "arm"], sort=False):
        row = {"Arm": arm_word(arm), "Tokens": f"{context:,}"}
        row |= dict.fromkeys([*_GLANCE.values(), _MEMORY], NOTHING)
        for line in own.itertuples(index=False):
            found = f"{_against(line, line.ratio_to_fixed)} {_quartiles_of_ratio(line)}".strip()
            row[_GLANCE[line.phase]] = found.replace(" %", "")
            if line.phase == "forward":
                row[_MEMORY] = _against(line, line.peak_ratio).replace(" %", "")
        rows.append(row)
    return pd.DataFrame(rows)


def _timed(result: Result, name: str) -> Frame:
    """Return a table with arms in words and times in milliseconds."""
    table: Frame = result.tables[name]
    times = {column: 1000 * table[column] for column in ("seconds_median", "q1", "q3") if column in table}
    return table.assign(arm=table["arm"].map(arm_word), **times)


def costs_table(result: Result) -> Frame:
    """Return every phase with its milliseconds and megabytes."""
    table = _timed(result, "costs")
    table["peak_ratio"] = table["peak_ratio"].where(table["phase"] != "increment_path")
    return worded(table.replace({"phase": PHASES}), {
        "Phase": "phase", "Arm": "arm", "Tokens": "context", "Milliseconds": ("seconds_median", "q1", "q3"),
        "Over fixed": ("ratio_to_fixed", "ratio_q1", "ratio_q3"), "Peak MB": "peak_mb",
        "Memory over fixed": "peak_ratio", "Rounds": "n",
    }, digits=4)  # fmt: skip


def path_table(result: Result) -> Frame:
    """Return the parts of the increment path, each timed alone."""
    table = _timed(result, "path")
    table["share"] = 100 * table["share_of_forward"]
    return worded(table, {
        "Part": "part", "Arm": "arm", "Tokens": "context", "Milliseconds": ("seconds_median", "q1", "q3"),
        "Of a forward pass, %": "share",
    })  # fmt: skip


def path_totals(result: Result) -> Frame:
    """Return the time of the increment heads, and of all that turns increments into angles, by arm."""
    own = _timed(result, "path").assign(
        part=lambda frame: frame["part"].where(frame["part"] == "heads", "rest")
    )
    found = (
        own.groupby(["context", "arm", "part"], sort=False)["seconds_median"].sum().unstack().reset_index()
    )
    columns = {
        "Arm": "arm",
        "Tokens": "context",
        "Heads, ms": "heads",
        "Sum, angles and rotation, ms": "rest",
    }
    return worded(found, columns)


def angles_table(result: Result) -> Frame:
    """Return the largest angle error of each running sum."""
    table: Frame = result.tables["angles"]
    return worded(table.replace({"method": {"float64": "float64, as the model"}}), {
        "Running sum": "method", "Tokens": "context", "Last position": "largest",
        "Largest error, rad": "max_error", "In plane": "plane", "At token": "position",
    }, digits=2)  # fmt: skip


def flops_frame(result: Result) -> Frame:
    """Return operations with a column a part, their total, and the total over that of fixed RoPE."""
    flops: Frame = result.tables["flops"]
    wide = flops.pivot(index=["context", "arm"], columns="part", values="flops")
    wide = wide[list(dict.fromkeys(flops["part"]))]
    wide["total"] = wide.sum(axis=1)
    fixed = wide["total"].xs(REFERENCE, level="arm")
    wide["ratio"] = wide["total"] / fixed.reindex(wide.index.get_level_values("context")).to_numpy()
    order = pd.MultiIndex.from_frame(flops[["context", "arm"]].drop_duplicates())
    return wide.reindex(order).reset_index()


def flops_table(result: Result) -> Frame:
    """Return the operations of a forward pass in millions."""
    frame = flops_frame(result)
    parts = [name for name in frame if name not in ("context", "arm", "ratio")]
    frame = frame.assign(arm=frame["arm"].map(arm_word), **{part: frame[part] / 1e6 for part in parts})
    headings = {part.replace("_", " ").capitalize(): part for part in parts}
    return worded(frame, {"Arm": "arm", "Tokens": "context", **headings, "Over fixed": "ratio"}, digits=4)


def arms_table(result: Result) -> Frame:
    """Return the parameters of every arm."""
    table: Frame = result.tables["arms"]
    table = table.assign(arm=table["arm"].map(arm_word), share=100 * table["extra_share"])
    columns = {"Arm": "arm", "Parameters": "n_parameters", "Beyond fixed": "extra", "Share, %": "share"}
    return worded(table, columns)


_COLOURS = {
    "shared": theme.layer_colour(1, 5),
    "shared_per_head": theme.layer_colour(2, 5),
    "per_layer": theme.layer_colour(3, 5),
    "per_layer_per_head": theme.layer_colour(4, 5),
}
_LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_METHODS = {"float64": "the model's path", "float32": "a sum in float32"}
_HEIGHT = 320


def plot_time(result: Result, phase: str = "forward") -> go.Figure:
    """Draw the time of a phase over that of fixed RoPE; bars are the quartiles of paired rounds.

    Beside a forward pass, what the increment path takes more by itself is dashed.
    """
    if phase not in PHASES:
        raise LRopeError(f"there is no phase {phase!r}: choose from {', '.join(PHASES)}")
    phases = ["forward", "increment_path"] if phase == "forward" else [phase]
    return _over_context(result, phases, "ratio_to_fixed", "time, of fixed RoPE's")


def plot_memory(result: Result) -> go.Figure:
    """Draw the peak of memory of each phase over that of fixed RoPE."""
    return _over_context(
        result, ["forward", "train_step", "decode"], "peak_ratio", "peak memory, of fixed RoPE's"
    )


def _over_context(result: Result, phases: list[str], column: str, title: str) -> go.Figure:
    figure = theme.new_figure(height=_HEIGHT)
    figure.add_hline(y=1, line={"color": theme.CONTROL, "width": 1})
    for phase, dash in zip(phases, theme.DASHES, strict=False):
        frame = phase_frame(result, phase, column)
        for arm in learned_arms(result):
            own = frame[frame["arm"] == arm]
            name = f"{arm_word(arm)}, {PHASES[phase]}" if len(phases) > 1 else arm_word(arm)
            if len(own):
                figure.add_scatter(
                    x=own["context"], y=own[column], name=name, mode="lines+markers", marker={"size": 7},
                    error_y=_bars(own) if column == "ratio_to_fixed" else None,
                    line={"color": _COLOURS.get(arm, theme.INK), "width": 2, "dash": dash},
                    hovertemplate=f"{name}, %{{x:,}} tokens: %{{y:.2%}}<extra></extra>",
                )  # fmt: skip
    _context_axis(figure, result)
    figure.update_yaxes(title_text=title, tickformat=".1%")
    figure.update_layout(legend=_LEGEND, margin={"t": 64})
    return figure


def _bars(rows: Any) -> dict[str, Any]:
    """Return the quartiles as bars around the median; none where there was one round."""
    above, below = rows["ratio_q3"] - rows["ratio_to_fixed"], rows["ratio_to_fixed"] - rows["ratio_q1"]
    return {"array": above.fillna(0), "arrayminus": below.fillna(0), "thickness": 1.2, "width": 3}


def _context_axis(figure: go.Figure, result: Result) -> None:
    contexts = contexts_of(result)
    figure.update_xaxes(
        title_text="context, tokens", type="log", tickvals=contexts, ticktext=[f"{n:,}" for n in contexts]
    )


def plot_angles(result: Result) -> go.Figure:
    """Draw the largest angle error of each running sum over context, with what was asked."""
    angles: Frame = result.tables["angles"]
    targets: Frame = result.tables["targets"]
    limit = float(targets.loc[targets["target"] == "angle", "limit"].iloc[0])
    figure = theme.new_figure(height=_HEIGHT)
    for method, colour in (("float64", theme.layer_colour(3, 5)), ("float32", theme.CONTROL)):
        own = angles[angles["method"] == method].sort_values("context")
        figure.add_scatter(
            x=own["context"], y=own["max_error"], mode="lines+markers", name=_METHODS[method],
            line={"color": colour, "width": 2}, marker={"size": 7},
            hovertemplate=f"{_METHODS[method]}, %{{x:,}} tokens: %{{y:.2e}} rad<extra></extra>",
        )  # fmt: skip
    figure.add_hline(y=limit, line={"color": theme.ACCENT, "width": 1, "dash": "dash"})
    figure.add_annotation(  # on a logarithmic axis an annotation's y is the exponent
        x=0, xref="paper", xanchor="left", y=math.log10(limit), yanchor="bottom", showarrow=False,
        text=f"asked: {limit:g}", font={"size": 11, "color": theme.ACCENT},
    )  # fmt: skip
    _context_axis(figure, result)
    figure.update_yaxes(title_text="largest error, radians", type="log", exponentformat="power", dtick=1)
    figure.update_layout(legend=_LEGEND, margin={"t": 52})
    return figure


FIGURES: dict[str, Callable[..., go.Figure]] = {
    "time": plot_time,
    "memory": plot_memory,
    "angles": plot_angles,
}
