"""The first sections of the ablation page: heat map, split and curves, each with what it does not show."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.ablations.curves import (
    cumulative_interventions,
    plot_cumulative,
    plot_scale,
    scale_frame,
)
from lrope_interp.reports.ablations.frames import (
    CHANGE,
    FLIPS,
    KL,
    ORDER,
    PARTS,
    UNKNOWN,
    interventions_of,
    whole_frame,
)
from lrope_interp.reports.ablations.heat_map import heat_map_frame, plot_heat_map
from lrope_interp.reports.ablations.names import BEYOND, glossary, short
from lrope_interp.reports.ablations.split import is_dwarfed, plot_split, split_table, waterfall_frame
from lrope_interp.reports.kit.blocks import Beside, Block, Folded, Plot, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.results import Result

_AGAIN = "Read as the first."
_LEFT, _CELL = 170, 84  # pixels of a heat map: its sides, and a column


def heat_map_blocks(result: Result) -> list[Block]:
    """Return the heat map of the loss; behind folds those of KL and flips, and of single heads."""
    blocks: list[Block] = []
    frame = heat_map_frame(result)
    if len(frame):
        blocks.append(_heat_map(result, CHANGE, _heat_reads(frame), _HEAT_LIMITS))
        words = pd.DataFrame(
            glossary(interventions_of(frame)), columns=["Column", "What stands there instead"]
        )
        table = Table(words, left=list(words.columns))
        blocks.append(Folded("What each column does to the increments", [table]))
    for metric, summary, reads, limits in _OTHER_METRICS:
        if len(heat_map_frame(result, metric)):
            blocks.append(Folded(summary, [_heat_map(result, metric, reads, limits)]))
    if len(heads := heat_map_frame(result, is_heads=True)):
        figure = _heat_map(result, CHANGE, f"{_heat_reads(heads)} One head at a time.", _HEAT_LIMITS, True)
        blocks.append(Folded("Each head alone", [figure]) if blocks else figure)
    return blocks


def _heat_map(result: Result, metric: str, reads: str, limits: str, is_heads: bool = False) -> Plot:
    n_columns = heat_map_frame(result, metric, is_heads=is_heads)["column"].nunique()
    figure = plot_heat_map(result, metric, is_heads=is_heads)
    width = _LEFT + _CELL * n_columns
    if n_columns <= _FEW:
        figure.update_layout(width=max(width + 60, 340))
    return Plot(figure, reads, limits, min_width=width)


_FEW = 3  # columns of a heat map that is not stretched over the page


def _heat_reads(frame: Frame) -> str:
    unknown = " A question mark: no interval could be had." if (frame["shows"] == UNKNOWN).any() else ""
    return (
        "Each cell: the change in nats per byte when the row's increments are replaced as the column says, "
        "and its 95 % interval below; warm is worse, blue better. Grey with a dot: the interval holds 0. "
        f"Colours are squeezed (even in the value up to 0.005, in ratios beyond) so that small cells can be "
        f"read beside large ones; compare by the numbers.{unknown}"
    )


_HEAT_LIMITS = (
    "A change says that this trained model relies on what was taken away, not that a model trained without "
    "it would be worse. Freezing to 1 also leaves the scale that the trained model is used to (it is out of "
    "distribution), and so measures more than what the increments tell apart. Layers do not add up to all "
    "layers. No interval is corrected for the number of cells."
)
_KL_READS = (
    "Mean KL divergence of the changed predictions from the untouched ones, in nats a prediction; read as "
    "above. It counts every change of the distribution, helpful or not."
)
_KL_LIMITS = (
    "KL is never negative, so an interval above 0 shows no more than that predictions differ: it is no harm."
)
_FLIPS_READS = "Share of predictions whose likeliest next token is another one than before; read as above."
_FLIPS_LIMITS = (
    "A flip between two tokens that are nearly as likely counts as much as one between certainties, and a "
    "flip may be to the better."
)
_OTHER_METRICS = (
    (KL, "The same in KL divergence", _KL_READS, _KL_LIMITS),
    (FLIPS, "The same in flips of the likeliest token", _FLIPS_READS, _FLIPS_LIMITS),
)


def split_blocks(result: Result) -> list[Block]:
    """Return the waterfall, a second one without the scale where that dwarfs the rest, and the table."""
    frame, table = waterfall_frame(result), split_table(result)
    if frame.empty and table.empty:
        return []
    blocks: list[Block] = []
    if len(frame):
        place = str(frame["place"].iloc[0])
        blocks = [Plot(plot_split(result), _SPLIT_READS, _SPLIT_LIMITS, _title(place), 330)]
    if is_dwarfed(result):
        zoom = Plot(
            plot_split(result, is_whole=False), "The first two parts again, on an axis of their own.",
            "Heights cannot be compared with the figure beside it.",
            "Without the scale", 330,
        )  # fmt: skip
        blocks = [Beside([*blocks, zoom])]
    caption = "Every part with its 95 % interval, in nats per byte, one place a row."
    return [*blocks, Table(table, caption, left=["Where"])]


def _title(text: str) -> str:
    return text[0].upper() + text[1:]


_SPLIT_READS = (
    "From the untouched model to all increments 1, what each part costs when it is taken away after the one "
    "at its left: first what context adds, then what the byte itself says, then the scale. Whiskers: the "
    "95 % interval of that part alone. Grey: it holds 0."
)
_SPLIT_LIMITS = (
    "The order is a choice, and parts taken away in another order have other sizes. Scale is measured by "
    "leaving the scale that the trained model is used to."
)


def curve_blocks(result: Result) -> list[Block]:
    """Return the scale curve, where several factors were tried, and curves over sets of layers."""
    blocks: list[Block] = []
    if len(scale_frame(result)):
        title, width = (
            "Every increment times a factor",
            360 if scale_frame(result)["place"].nunique() < 9 else 560,
        )
        blocks.append(Plot(plot_scale(result), _SCALE_READS, _SCALE_LIMITS, title, width))
    plots: list[Block] = [
        Plot(
            plot_cumulative(result, name), _CUMULATIVE_READS if i == 0 else _AGAIN,
            _CUMULATIVE_LIMITS if i == 0 else _OWN_AXIS, f"Layer by layer, {short(name)}", 330,
        )
        for i, name in enumerate(cumulative_interventions(result))
    ]  # fmt: skip
    for start in range(0, len(plots), 2):
        pair = plots[start : start + 2]
        blocks.append(Beside(pair) if len(pair) > 1 else pair[0])
    return blocks


_SCALE_READS = (
    "The change against the number by which every increment is multiplied; bands are 95 % intervals. At 1 "
    "nothing changes. Both axes are squeezed: factors by their logarithm, changes as the colours above."
)
_SCALE_LIMITS = (
    "Multiplying by a constant turns every plane of rotation so much faster, so a steep line says how finely "
    "the layer is tuned to its scale, not what its increments tell apart."
)
_CUMULATIVE_READS = (
    "What is changed at each point: layers 0 up to this one, this one to the last, all but this one, or this "
    "one alone. Whiskers: 95 % intervals. Where the dashed line falls, that layer's own increments win back "
    "the loss."
)
_OWN_AXIS = "The axis is this figure's own."
_CUMULATIVE_LIMITS = (
    "Neighbouring points share layers, and lines are no sum of single layers: one layer may stand in for "
    "another."
)


def other_rows_note(result: Result) -> str:
    """Name interventions that the page does not know and so does not draw; empty where there are none."""
    names = dict.fromkeys(whole_frame(result)["intervention"])
    unknown = [name for name in names if name not in (*ORDER, *PARTS, BEYOND)]
    return f"Not drawn, but in ablations.csv: {', '.join(unknown)}." if unknown else ""
