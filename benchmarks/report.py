"""The page of `make bench`, from the saved result alone."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from lrope_interp.reports.kit.frames import Frame, table_of
from lrope_interp.reports.kit.render import rendered
from lrope_interp.reports.kit.theme import ACCENT, CONTROL, new_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import facts, number
from lrope_interp.results import Result

NAMES = {
    "fixed": "ours, fixed",
    "shared": "ours, shared",
    "per_layer": "ours, per layer",
    "per_layer_per_head": "ours, per layer and head",
    "hf_llama": "Hugging Face Llama",
    "x_transformers": "x-transformers",
    "litgpt": "litgpt",
}
_READS = "Dots are medians over all steps, lines the middle half. Ours in vermilion, other libraries in grey."
_LIMITS = (
    "One machine, one batch, random bytes: nothing about quality, other sizes, or several machines. The "
    "libraries run as they come, without a compiler."
)
_TABLE = (
    "Ratios are medians of ratios within a round. The roof is the speed of the linear layers' matrix "
    "products alone, in the same rounds; a step's FLOPs are those products and causal attention."
)


def render(result: Result) -> str:
    """Return the page."""
    groups = table_of(result, "summary").groupby(["shape", "dtype", "device"], sort=False)
    return rendered(
        "kit/figures.html.j2",
        Verdicts(sentence(result), pd.DataFrame(columns=[*COLUMNS])),
        kicker="make bench",
        about=facts(result.provenance, result.created),
        warnings=result.warnings,
        title="Training speed beside other libraries",
        parts=[(", ".join(map(str, where)), plot_speed(table), _table(table)) for where, table in groups],
        reads=_READS,
        limits=_LIMITS,
        caption=_TABLE,
    )


def sentence(result: Result) -> str:
    """Say how the learned increments compare with fixed ones and with the fastest peer."""
    summary, peers = table_of(result, "summary"), table_of(result, "peers")
    largest = summary.iloc[summary["seconds"].argmax()]
    here = (summary["shape"] == largest["shape"]) & (summary["device"] == largest["device"])
    dtype = "bfloat16" if (summary[here]["dtype"] == "bfloat16").any() else largest["dtype"]
    rows = summary[here & (summary["dtype"] == dtype)].set_index("arm")
    against = peers[(peers["shape"] == largest["shape"]) & (peers["dtype"] == dtype)]
    own = against[against["arm"] == "per_layer"]
    start = (
        f"At the {largest['shape']} shape in {dtype}, learning an increment in every layer takes "
        f"{number(float(rows.loc['per_layer', 'time_to_fixed']), 3)} times the step of fixed RoPE"
    )
    if own.empty:
        return start + "; no other library was measured."
    worst = own.loc[own["ratio"].idxmin()]
    return (
        f"{start}, and trains {number(float(worst['ratio']), 2)} times as many tokens a second as "
        f"{NAMES[str(worst['peer'])]}, the fastest of the others."
    )


def plot_speed(table: Frame) -> go.Figure:
    """Return tokens a second for each model, slowest at the bottom, with the middle half as a line."""
    ordered = table.sort_values("tokens_per_second")
    rate = ordered["tokens_per_second"]
    tokens = rate * ordered["seconds"]
    figure = new_figure(height=90 + 34 * len(ordered))
    figure.add_scatter(
        x=rate,
        y=[NAMES[arm] for arm in ordered["arm"]],
        mode="markers",
        marker={
            "size": 10,
            "color": [ACCENT if NAMES[arm].startswith("ours") else CONTROL for arm in ordered["arm"]],
        },
        error_x={
            "type": "data",
            "symmetric": False,
            "array": tokens / ordered["seconds_q1"] - rate,
            "arrayminus": rate - tokens / ordered["seconds_q3"],
            "color": CONTROL,
            "thickness": 1.5,
            "width": 0,
        },
        hovertemplate="%{y}: %{x:,.0f} tokens a second<extra></extra>",
    )
    figure.update_xaxes(title="tokens a second", rangemode="tozero", separatethousands=True)
    return figure


def _table(table: Frame) -> Frame:
    return pd.DataFrame(
        {
            "Model": [NAMES[arm] for arm in table["arm"]],
            "Parameters": [f"{n:,}" for n in table["n_parameters"]],
            "Seconds a step": [number(value, 3) for value in table["seconds"]],
            "Tokens a second": [f"{value:,.0f}" for value in table["tokens_per_second"]],
            "Time to ours, fixed": [number(value, 3) for value in table["time_to_fixed"]],
            "Speed to Hugging Face": [number(value, 3) for value in table["speed_to_hf_llama"]],
            "Share of the roof": [number(value, 2) for value in table["share_of_roof"]],
            "Peak memory, MB": [f"{value:,.0f}" for value in table["peak_mb"]],
        }
    )
