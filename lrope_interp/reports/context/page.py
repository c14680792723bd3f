"""The page of `lrope-interp study context`: what learned increments cost as context grows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from lrope_interp.reports.context.figures import plot_angles, plot_memory, plot_time
from lrope_interp.reports.context.frames import PHASES, REFERENCE, arm_word, flops_frame
from lrope_interp.reports.context.words import bracketed, radians, sentences, share, signed
from lrope_interp.reports.kit.blocks import Beside, Block, Folded, Plot, Prose, Section, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.page import Page
from lrope_interp.reports.kit.wording import NOTHING, facts, is_number, number
from lrope_interp.results import Result

__all__ = ["plot_angles", "plot_memory", "plot_time", "render_context_cost", "sentences"]


def render_context_cost(result: Result) -> str:
    """Render the page of a bench result, from the saved result alone."""
    return Page(
        title="What learned increments cost as context grows",
        kicker="lrope-interp study context",
        lead=sentences(result),
        facts={**_measured(result), **facts(result.provenance, result.created)},
        warnings=result.warnings,
        sections=[
            Section("Time and memory", _costs(result)),
            Section("The increment path", _path(result)),
            Section("Angles", _angles(result)),
            Section("Operations", [_flops(result)]),
            Section("What this does not show", [Prose(text) for text in _CAVEATS]),
        ],
    ).html()


_CAVEATS = (
    "Whether learned increments help: that takes paired runs, which lrope-interp study replicate makes. "
    "Weights are untrained; the increments differ from 1, but no cost depends on their values.",
    "One text at a time. With more texts a batch the products are larger and the small operations of the "
    "increment path weigh less.",
    "A decoded token includes the copy of all past keys and values that TransformerLens' cache makes for "
    "every token. The copy is the same in every arm, and makes the ratio of long contexts smaller than a "
    "cache without copies would.",
)


def _measured(result: Result) -> dict[str, str]:
    found = result.provenance.get("measured") or {}
    where = f"{found.get('device', '?')} {found.get('device_name', '')}".strip()
    return {
        "Machine": f"{where}, {found.get('threads', '?')} threads of {found.get('cores', '?')} cores",
        "How": f"{found.get('dtype', '?')}, one text, {found.get('repeats', '?')} rounds after warm-up, "
        "arms in alternation",
    }


_READS = (
    "Time over that of fixed RoPE, the line at 100 %. A point is the median over rounds of the ratio within "
    "a round, a bar its quartiles."
)
_PATH_READS = (
    f"{_READS} Dashed: a forward pass of fixed RoPE plus what the increment path takes more by itself."
)
_LIMITS = "Bars that cross 100 % cannot be told from no cost. Where there was one pass, there is no bar."
_MEMORY_READS = (
    "Peak memory over that of fixed RoPE: weights, in training two moments, in decoding the cache, and what "
    "the computation takes on top."
)


def _costs(result: Result) -> list[Block]:
    return [
        Table(_glance(result), _GLANCE_CAPTION, left=["Arm"]),
        Beside(
            [
                _plot(plot_time(result, ["forward", "increment_path"]), _PATH_READS, "A forward pass"),
                _plot(plot_time(result, ["train_step"]), _READS, "A training step"),
            ]
        ),
        Beside(
            [
                _plot(plot_time(result, ["decode"]), _READS, "Decoding one token"),
                Plot(
                    plot_memory(result, ["forward", "train_step", "decode"]),
                    _MEMORY_READS,
                    "On a CPU, resident memory: allocator and threads blur it by some per cent.",
                    "Peak memory",
                    min_width=330,
                ),
            ]
        ),
        Folded("Every phase, with its milliseconds and megabytes", [_every_phase(result)]),
    ]


def _plot(figure: Any, reads: str, title: str) -> Plot:
    return Plot(figure, reads, _LIMITS, title, min_width=330)


_CAPTION = (
    "Medians over rounds, quartiles in brackets. Against fixed: the ratio of times in the same round, and "
    "for the increment path what it adds to a forward pass of fixed RoPE."
)


_GLANCE_CAPTION = (
    "Time and peak memory beyond those of fixed RoPE; medians over rounds of the ratio within a round, and "
    "its quartiles. An interval with both signs cannot be told from no cost."
)


def _glance(result: Result) -> Frame:
    costs: Frame = result.tables["costs"]
    rows = []
    for (context, arm), own in costs[costs["arm"] != REFERENCE].groupby(["context", "arm"], sort=False):
        lines = {line.phase: line for line in own.itertuples(index=False)}
        times = {
            title: " ".join([against(lines[phase], lines[phase].ratio_to_fixed), _quartiles_of(lines[phase])])
            for phase, title in _GLANCE.items()
            if phase in lines
        }
        forward = lines.get("forward")
        memory = NOTHING if forward is None else against(forward, forward.peak_ratio)
        rows.append({"Arm": arm_word(arm), "Tokens": f"{context:,}", **times, "Memory, forward": memory})
    columns = ["Arm", "Tokens", *_GLANCE.values(), "Memory, forward"]
    return pd.DataFrame([{name: row.get(name, NOTHING) for name in columns} for row in rows])


_GLANCE = {
    "forward": "Forward pass",
    "increment_path": "Increment path alone",
    "train_step": "Training step",
    "decode": "One token",
}


def _quartiles_of(line: Any) -> str:
    return bracketed(line.ratio_q1, line.ratio_q3)


def _every_phase(result: Result) -> Table:
    costs: Frame = result.tables["costs"]
    lines = list(costs.itertuples(index=False))
    table = pd.DataFrame(
        {
            "Phase": [PHASES[line.phase] for line in lines],
            "Arm": [arm_word(line.arm) for line in lines],
            "Tokens": [f"{line.context:,}" for line in lines],
            "Milliseconds": [milliseconds(line.seconds_median) for line in lines],
            "Quartiles": [_quartiles(line) for line in lines],
            "Against fixed": [against(line, line.ratio_to_fixed) for line in lines],
            "Quartiles of it": [spread(line) for line in lines],
            "Peak MB": [number(line.peak_mb, 1) for line in lines],
            "Memory against fixed": [
                NOTHING if line.phase == "increment_path" else against(line, line.peak_ratio)
                for line in lines
            ],
            "Rounds": [f"{line.n}" for line in lines],
        }
    )
    return Table(table, _CAPTION, left=["Phase", "Arm"])


def against(line: Any, ratio: Any) -> str:
    """Format a ratio to fixed RoPE as a share; a dash for fixed RoPE itself."""
    return NOTHING if line.arm == REFERENCE else signed(ratio - 1)


def spread(line: Any) -> str:
    """Format the quartiles of a ratio; a dash where there are none."""
    return NOTHING if line.arm == REFERENCE else bracketed(line.ratio_q1, line.ratio_q3) or NOTHING


def milliseconds(seconds: Any) -> str:
    """Format seconds as milliseconds, to three figures or whole."""
    if not is_number(seconds):
        return NOTHING
    value = 1000 * float(seconds)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _quartiles(line: Any) -> str:
    return f"[{milliseconds(line.q1)}, {milliseconds(line.q3)}]" if is_number(line.q1) else NOTHING


_PATH_CAPTION = (
    "From the residual stream to turned queries and keys, in all layers, each part timed alone: increment "
    "heads with their sigmoid (for fixed, ones), the running sum in float64, angles with cosines and sines, "
    "and the turning of queries and keys. The share is that of a forward pass of fixed RoPE."
)


def _path(result: Result) -> list[Block]:
    path: Frame = result.tables["path"]
    lines = list(path.itertuples(index=False))
    table = pd.DataFrame(
        {
            "Part": [line.part for line in lines],
            "Arm": [arm_word(line.arm) for line in lines],
            "Tokens": [f"{line.context:,}" for line in lines],
            "Milliseconds": [milliseconds(line.seconds_median) for line in lines],
            "Quartiles": [_quartiles(line) for line in lines],
            "Of a forward pass": [share(line.share_of_forward) for line in lines],
        }
    )
    totals = (
        path.assign(own=path["part"].where(path["part"] == "heads", "sum, angles, rotation"))
        .groupby(["context", "arm", "own"], sort=False)["seconds_median"]
        .sum()
        .unstack()
        .reset_index()
    )
    short = pd.DataFrame(
        {
            "Arm": [arm_word(arm) for arm in totals["arm"]],
            "Tokens": [f"{context:,}" for context in totals["context"]],
            "Heads, ms": [milliseconds(value) for value in totals["heads"]],
            "Sum, angles and rotation, ms": [milliseconds(v) for v in totals["sum, angles, rotation"]],
        }
    )
    return [
        Table(short, _PATH_CAPTION, left=["Arm"]),
        Folded("Every part, and its share of a forward pass", [Table(table, left=["Part", "Arm"])]),
    ]


_ANGLES_READS = (
    "The largest error of an angle over all positions and planes, with increments near their maximum, "
    "against sums and frequencies in whole numbers of 160 binary places."
)
_ANGLES_LIMITS = (
    "An angle itself is rounded to float32 once it is below one turn, which is an error of up to 2.4e-7."
)


def _angles(result: Result) -> list[Block]:
    angles: Frame = result.tables["angles"]
    lines = list(angles.itertuples(index=False))
    table = pd.DataFrame(
        {
            "Running sum": [
                {"float64": "float64, as the model"}.get(line.method, line.method) for line in lines
            ],
            "Tokens": [f"{line.context:,}" for line in lines],
            "Last position": [f"{line.largest:,.0f}" for line in lines],
            "Largest error": [radians(line.max_error) for line in lines],
            "In plane": [f"{line.plane}" for line in lines],
            "At token": [f"{line.position:,}" for line in lines],
        }
    )
    caption = "Plane 0 turns fastest, by one radian a position."
    return [
        Plot(plot_angles(result), _ANGLES_READS, _ANGLES_LIMITS, min_width=330),
        Table(table, caption, left=["Running sum"]),
    ]


_FLOPS_CAPTION = (
    "Floating-point operations of a forward pass in millions, counted from the shape: a multiplication "
    "and an addition count one each; attention is causal; norms, activations and the softmax are left out."
)


def _flops(result: Result) -> Table:
    frame = flops_frame(result)
    parts = ("linears", "attention", "increment_heads", "rotation", "total")
    table = pd.DataFrame(
        {
            "Arm": [arm_word(arm) for arm in frame["arm"]],
            "Tokens": [f"{context:,}" for context in frame["context"]],
            **{
                part.replace("_", " ").capitalize(): [_millions(float(value)) for value in frame[part]]
                for part in parts
            },
            "Against fixed": [against(line, line.ratio) for line in frame.itertuples(index=False)],
        }
    )
    return Table(table, _FLOPS_CAPTION, left=["Arm"])


def _millions(value: float) -> str:
    return f"{value / 1e6:,.0f}" if value >= 1e8 else f"{value / 1e6:.3g}"
