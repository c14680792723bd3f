"""The page of `lrope-interp study replicate`: are the arms equal, and could the experiment have told?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame, worded
from lrope_interp.reports.kit.rows_figure import reach
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import (
    is_number,
    listed,
    plural,
)
from lrope_interp.results import Result

MARKS = {
    "equivalent": ("=", "won"),
    "equivalent, not 0": ("≈", "won"),
    "different, better": ("▲", "won"),
    "different, worse": ("▼", "lost"),
    "inconclusive": ("?", "open"),
}
PUBLISHED = {
    "fixed": "1.0753",
    "shared": "1.0747",
    "shared per head": "1.0740",
    "per layer (two seeds)": "1.0722, 1.0712",
    "per layer per head": "1.0701",
}
"""Validation loss in nats per byte, as the public experiment behind the blog post gives it."""


def arm_name(arm: str) -> str:
    """Return an arm in words: "per layer"."""
    return arm.replace("_", " ")


def pair_name(arm: str, reference: str) -> str:
    """Return a comparison in words: "per layer − fixed"."""
    return f"{arm_name(arm)} − {arm_name(reference)}"


def comparisons(result: Result) -> list[tuple[str, str]]:
    """Return (arm, reference) of every comparison, those with the reference of the headline first."""
    table: Frame = result.tables["differences"]
    return list(dict.fromkeys(zip(table["arm"], table["reference"], strict=True)))


def margins(result: Result) -> list[float]:
    """Return every margin that was tested, the smallest first."""
    return sorted(float(margin) for margin in result.tables["differences"]["margin"].unique())


def margin_of(result: Result) -> float:
    """Return the margin of the headline."""
    return float(result.provenance["margin"])


def differences_frame(result: Result, margin: float | None = None) -> Frame:
    """Return the rows of `differences` at one margin (by default the headline's), a row a comparison.

    Returns:
        The columns of the table, and `said`: the verdict with its direction.
    """
    table: Frame = result.tables["differences"]
    wanted = margin_of(result) if margin is None else margin
    found = table[table["margin"] == wanted].reset_index(drop=True)
    return found.assign(said=[_said(line) for line in found.itertuples(index=False)])


def _said(line: Any) -> str:
    if line.verdict == "different":
        return "different, better" if line.mean < 0 else "different, worse"
    if line.verdict == "equivalent" and line.is_nonzero:
        return "equivalent, not 0"
    return "no verdict" if line.verdict == "none" else line.verdict


def verdicts(result: Result) -> Verdicts:
    """Return one row a comparison at the margin of the headline, with the power that it had."""
    lines, margin = differences_frame(result), margin_of(result)
    frame = pd.DataFrame({
        "what": [pair_name(*key) for key in zip(lines["arm"], lines["reference"], strict=True)],
        "control": [_power(line) for line in lines.itertuples(index=False)],
        "difference": lines["mean"], "difference_low": lines["ci90_low"],
        "difference_high": lines["ci90_high"], "verdict": lines["said"],
    }).reindex(columns=[*COLUMNS])  # fmt: skip
    return Verdicts(
        headline=_headline(result, lines),
        frame=frame,
        names={
            "what": "Comparison",
            "control": "Power; seeds for 80 %",
            "difference": "Nats per byte",
        },
        digits=4,
        caption=f"Brackets: 90 %. Equivalent: within ±{margin:g}; different: 95 % leaves out 0. "
        "Power: how often as many seeds would find equal arms equivalent; seeds: how many would in 80 %.",
        marks=MARKS,
    )


def _headline(result: Result, lines: Frame) -> str:
    reference, margin = str(result.provenance["reference"]), margin_of(result)
    own = lines[lines["reference"] == reference]
    n_seeds = int(own["n_seeds"].max())
    parts = []
    for said in [*MARKS, "no verdict"]:
        arms = [arm_name(arm) for arm in own.loc[own["said"] == said, "arm"]]
        which = listed(arms) if len(arms) < 3 else f"{len(arms)} of {len(own)} arms"
        which = f"all {len(own)} arms" if 2 < len(arms) == len(own) else which
        parts += [f"{which} {said}"] if arms else []
    seeds = plural(n_seeds, "paired seed")
    return f"Against {arm_name(reference)} at ±{margin:g} nats per byte, {seeds}: {'; '.join(parts)}."


def _power(line: Any) -> str:
    """Say how often as many seeds would find equal arms equivalent, and how many would in 80 %."""
    if not is_number(line.power):
        return ""
    share = "under 1 %" if line.power < 0.01 else f"{100 * line.power:.0f} %"
    return (
        f"{share}; {int(line.n_seeds_for_power):,}"
        if is_number(line.n_seeds_for_power)
        else f"{share}; > 1,000"
    )


def differences_table(result: Result, margin: float) -> Frame:
    """Return everything about the comparisons at one margin as text."""
    table = differences_frame(result, margin)
    pairs = [pair_name(*key) for key in zip(table["arm"], table["reference"], strict=True)]
    larger = table[["p_lower", "p_upper"]].max(axis=1)
    return worded(table.assign(pair=pairs, p=larger), {
        "Comparison": "pair", "Verdict": "said", "Mean": "mean", "90 % interval": ("ci90_low", "ci90_high"),
        "95 % interval": ("ci95_low", "ci95_high"), "S.d.": "sd", "Seeds": "n_seeds", "p (TOST)": "p",
        "Power": "power", "Seeds for 80 %": "n_seeds_for_power",
    })  # fmt: skip


def pairs_frame(result: Result) -> Frame:
    """Return every paired difference: columns `arm`, `reference`, `seed`, `difference`."""
    runs: Frame = result.tables["runs"]
    losses = runs.pivot(index="seed", columns="arm", values="nats_per_byte")
    rows = [
        (arm, reference, int(seed), float(difference))
        for arm, reference in comparisons(result)
        for seed, difference in (losses[arm] - losses[reference]).dropna().items()
    ]
    return pd.DataFrame(rows, columns=["arm", "reference", "seed", "difference"])


def curve_frame(result: Result, split: str = "validation") -> Frame:
    """Return the learning curves of one split: columns `arm`, `seed`, `step`, `loss`."""
    curves: Frame = result.tables["curves"]
    return curves.loc[curves["split"] == split, ["arm", "seed", "step", "loss"]].reset_index(drop=True)


def gap_frame(result: Result) -> Frame:
    """Return each arm's validation curve minus that of the reference with the same seed.

    Columns `arm`, `seed`, `step`, `difference`; steps that only one of the two logged are left out.
    """
    curves = curve_frame(result)
    is_reference = curves["arm"] == result.provenance["reference"]
    merged = curves[~is_reference].merge(
        curves[is_reference], on=["seed", "step"], suffixes=("", "_reference")
    )
    merged["difference"] = merged["loss"] - merged["loss_reference"]
    return merged[["arm", "seed", "step", "difference"]]


def mean_over_seeds(frame: Frame, column: str) -> Frame:
    """Return the mean of a column at every step that all seeds of an arm have."""
    found = frame.groupby(["arm", "step"], sort=False)[column].agg(["mean", "count"]).reset_index()
    most = found.groupby("arm")["count"].transform("max")
    return found[found["count"] == most].rename(columns={"mean": column})[["arm", "step", column]]


def arms_frame(result: Result) -> Frame:
    """Return one row an arm: its size, what it read, and mean and s.d. of its losses over seeds."""
    runs: Frame = result.tables["runs"]
    grouped = runs.groupby("arm", sort=False)
    loss = grouped["nats_per_byte"]
    found = pd.DataFrame(
        {
            "n_parameters": grouped["n_parameters"].first(),
            "n_steps": grouped["n_steps"].first(),
            "bytes_read": grouped["bytes_read"].mean(),
            "mean": loss.mean(),
            "sd": loss.std(),
            "train_loss": grouped["train_loss"].mean(),
        }
    )
    reference = found.loc[result.provenance["reference"], "n_parameters"]
    return found.assign(extra_parameters=found["n_parameters"] - int(reference)).reset_index()


def arms_table(result: Result) -> Frame:
    """Return the arms as text, with a column a language where there are several."""
    frame = arms_frame(result)
    frame = frame.assign(name=frame["arm"].map(arm_name), megabytes=frame["bytes_read"] / 1e6)
    table: Frame = result.tables["languages"]
    losses = table.pivot_table(index="arm", columns="language", values="nats_per_byte", aggfunc="mean")
    languages = [*losses.columns] if len(losses.columns) > 1 else []
    frame = frame.merge(losses, left_on="arm", right_index=True)
    return worded(frame, {
        "Arm": "name", "Parameters": "n_parameters", "Beyond the reference": "extra_parameters",
        "Nats per byte": "mean", **{f"In {language}": language for language in languages},
        "S.d. over seeds": "sd", "Train, nats per token": "train_loss", "Steps": "n_steps",
        "MB read": "megabytes",
    }, digits=5)  # fmt: skip


_COLOURS = {
    "fixed": theme.CONTROL,
    "fixed_wide": "#b09a6b",
    "shared": theme.layer_colour(1, 5),
    "shared_per_head": theme.layer_colour(2, 5),
    "per_layer": theme.layer_colour(3, 5),
    "per_layer_per_head": theme.layer_colour(4, 5),
}
_ROW = 56  # pixels


def arm_colour(arm: str) -> str:
    """Return an arm's colour, the same in every figure: grey and sand are fixed RoPE."""
    return _COLOURS.get(arm, theme.INK)


def plot_differences(result: Result) -> go.Figure:
    """Draw every comparison in a row: seeds as dots, the mean, its 90 % and 95 % intervals, the margins.

    The numbers are those of `differences_frame` and `pairs_frame`.
    """
    pairs, lines, seeds = comparisons(result), differences_frame(result), pairs_frame(result)
    places = {pair: len(pairs) - 1 - i for i, pair in enumerate(pairs)}
    figure = theme.new_figure(height=_ROW * len(pairs) + 110)
    for margin in reversed(margins(result)):
        figure.add_vrect(
            x0=-margin, x1=margin, line_width=0, fillcolor=theme.faded("#2f75b5", 0.09), layer="below"
        )
    figure.add_annotation(
        x=1, y=1, xref="paper", yref="paper", xanchor="right", yanchor="bottom", showarrow=False,
        text="shaded: " + ", ".join(f"±{margin:g}" for margin in margins(result)),
        font={"size": 11, "color": theme.MUTED},
    )  # fmt: skip
    figure.add_vline(x=0, line={"color": theme.CONTROL, "width": 1})
    for line in lines.itertuples(index=False):
        for trace in _interval_traces(line, places[line.arm, line.reference]):
            figure.add_trace(trace)
    figure.add_trace(_seed_dots(seeds, places))
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[pair_name(*pair).replace(" − ", " −<br>") for pair in places],
        range=[-0.6, len(pairs) - 0.4],
        showgrid=False,
        ticks="",
    )
    shown = reach(seeds["difference"], lines["ci95_low"], lines["ci95_high"], least=(0.0, 0.0))
    figure.update_xaxes(title_text="nats per byte; left of 0 is better", range=shown, nticks=7)
    figure.update_layout(showlegend=False, margin={"l": 120, "t": 30})
    return figure


def _interval_traces(line: Any, place: int) -> list[go.Scatter]:
    """Return the intervals of a comparison, the wide one thin, and its mean above them."""
    colour = arm_colour(line.arm)
    marker = {"color": theme.PAPER, "size": 9, "line": {"color": colour, "width": 2.5}}
    bounds = {95: (line.ci95_low, line.ci95_high, 2), 90: (line.ci90_low, line.ci90_high, 7)}
    return [
        *(
            go.Scatter(
                x=[low, high], y=[place, place], mode="lines", line={"color": colour, "width": width},
                orientation="h", name=f"{share} % interval",
                hovertemplate=f"{share} % interval: %{{x:.5f}}<extra></extra>",
            )
            for share, (low, high, width) in bounds.items()
            if is_number(low)
        ),
        go.Scatter(
            x=[line.mean], y=[place], mode="markers", marker=marker, orientation="h", name="mean",
            hovertemplate=f"{arm_name(line.arm)}: mean %{{x:.5f}}<extra></extra>",
        ),
    ]  # fmt: skip


def _seed_dots(frame: Frame, places: dict[tuple[str, str], int]) -> go.Scatter:
    """Return the differences of single seeds, under their interval."""
    heights = [places[pair] - 0.3 for pair in zip(frame["arm"], frame["reference"], strict=True)]
    return go.Scatter(
        x=frame["difference"], y=heights, customdata=frame["seed"], mode="markers", name="seeds",
        orientation="h",
        marker={"color": [arm_colour(arm) for arm in frame["arm"]], "size": 6, "opacity": 0.75},
        hovertemplate="seed %{customdata}: %{x:.5f}<extra></extra>",
    )  # fmt: skip


def plot_curves(result: Result) -> go.Figure:
    """Draw validation loss over training: a thin line a run, a thick one the mean of an arm's seeds."""
    return _over_steps(curve_frame(result), "loss", "%{y:.4f} nats", "validation, nats per byte")


def plot_gaps(result: Result) -> go.Figure:
    """Draw each arm's validation loss minus the reference's of the same seed, over training."""
    reference, margin = arm_name(str(result.provenance["reference"])), margin_of(result)
    title = f"difference from {reference}, nats"
    figure = _over_steps(gap_frame(result), "difference", "%{y:+.4f} nats", title)
    shade = theme.faded("#2f75b5", 0.14)
    figure.add_hrect(y0=-margin, y1=margin, line_width=0, fillcolor=shade, layer="below")
    figure.add_hline(y=0, line={"color": theme.CONTROL, "width": 1})
    return figure


def _over_steps(frame: Frame, column: str, figures: str, title: str) -> go.Figure:
    figure = theme.new_figure(height=400)
    figure.add_traces(_lines(frame, column, figures))
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(legend=legend, margin={"t": 64})
    figure.update_xaxes(title_text="step", rangemode="tozero")
    figure.update_yaxes(title_text=title)
    return figure


def _lines(frame: Frame, column: str, figures: str) -> list[go.Scatter]:
    traces = []
    for (arm, seed), own in frame.groupby(["arm", "seed"], sort=False):
        hover = f"{arm_name(arm)}, seed {seed}, step %{{x:,}}: {figures}<extra></extra>"
        traces.append(
            go.Scatter(
                x=own["step"], y=own[column], mode="lines", name=f"{arm_name(arm)}, seed {seed}",
                legendgroup=arm, showlegend=False, hovertemplate=hover,
                line={"color": theme.faded(arm_colour(arm), 0.35), "width": 1},
            )
        )  # fmt: skip
    for arm, own in mean_over_seeds(frame, column).groupby("arm", sort=False):
        hover = f"{arm_name(arm)}, mean of seeds, step %{{x:,}}: {figures}<extra></extra>"
        traces.append(
            go.Scatter(
                x=own["step"], y=own[column], mode="lines", name=arm_name(arm), legendgroup=arm,
                hovertemplate=hover, line={"color": arm_colour(arm), "width": 2.5},
            )
        )  # fmt: skip
    return traces


FIGURES: dict[str, Callable[..., go.Figure]] = {
    "differences": plot_differences,
    "curves": plot_curves,
    "gaps": plot_gaps,
}
