"""What the boundary report shows of one label in one stratum."""

from __future__ import annotations

from lrope_interp.reports.boundaries.contrast_figures import (
    plot_beyond,
    plot_differences,
    signed,
    signed_interval,
)
from lrope_interp.reports.boundaries.contrasts import BASELINES, beyond_frame, differences_frame
from lrope_interp.reports.boundaries.curves import precision_recall_frame, roc_frame
from lrope_interp.reports.boundaries.error_strips import count_of, error_strips
from lrope_interp.reports.boundaries.figures import plot_by_layer, plot_curves
from lrope_interp.reports.boundaries.frames import LANGUAGES, auc_frame
from lrope_interp.reports.boundaries.leaderboard import by_layer_frame, leaderboard_frame
from lrope_interp.reports.boundaries.leaderboard_figure import plot_leaderboard
from lrope_interp.reports.boundaries.score_table import has_word_metrics, table_frame
from lrope_interp.reports.boundaries.verdicts import beyond_sentence, paired_verdict
from lrope_interp.reports.kit.blocks import Block, Folded, Plot, Prose, Table
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.wording import NOTHING, number
from lrope_interp.results import Result

_STRATA = {
    "characters": "all gaps between characters",
    "nondelimiter": "gaps whose next character is no delimiter",
    "han": "gaps between two Chinese characters",
    "bytes": "all gaps between bytes",
    **{code: f"gaps between characters, {name} documents" for code, name in LANGUAGES.items()},
}
_LONG = 30  # rows of a table that is folded
_NARROWEST = 820  # pixels of a figure with columns of text on both sides


def stratum_name(stratum: str) -> str:
    """Say what gaps a stratum holds."""
    return _STRATA.get(stratum, stratum)


def stratum_blocks(result: Result, label: str, stratum: str, *, is_first: bool) -> list[Block]:
    """Return everything about one label in one stratum; what the result lacks is left out.

    Args:
        result: A result of kind "boundaries".
        label: Which label.
        stratum: Which gaps.
        is_first: Whether to say how each figure is read, or to point to where it was said.
    """
    blocks = [
        *_leaderboard(result, label, stratum, is_first),
        *_differences(result, label, stratum),
        *_beyond(result, label, stratum),
        *_curves(result, label, stratum),
    ]
    return [
        *blocks,
        *_errors(result, label, stratum),
        *_by_layer(result, label, stratum),
        _table(result, label, stratum),
    ]


def _leaderboard(result: Result, label: str, stratum: str, is_first: bool) -> list[Block]:
    frame = leaderboard_frame(result, label, stratum)
    if frame.empty:
        return []
    title = f"{label.replace('_', ' ').capitalize()}, {stratum_name(stratum)}"
    reads = _reads(frame) if is_first else "Read as above."
    limits = _limits(result, frame) if is_first else ""
    return [Plot(plot_leaderboard(result, label, stratum), reads, limits, title, _NARROWEST)]


def _reads(frame: Frame) -> str:
    parts = [
        "ROC-AUC is the share of (boundary, other gap) pairs that a signal orders rightly; 0.5 is "
        "chance. Best first. Before the plot: the sign (+ higher at boundaries, − lower) and which byte of "
        "a character is read, both chosen on dev.",
    ]
    if _has_intervals(frame):
        parts.append("Whiskers are 95 % intervals over documents, where there are documents enough.")
    if frame["null_low"].notna().any():
        parts.append(
            "Grey band: where the same signal lands when it is shifted within its documents; off 0.5 where "
            "documents differ, as those in two languages do."
        )
    if (frame["spread"] == "range").any():
        parts.append("Dark band: the range over seeds, the dot their mean.")
    if frame["probe"].notna().any():
        parts.append("Open mark in a layer's row: a supervised probe on that layer's hidden state.")
    if (frame["n_places"] > 1).any():
        parts.append("Of a control with a value a layer, its best layer is shown.")
    if frame["p_shift"].notna().any():
        parts.append(
            "p shift: circular shifts; p byte: shuffled among gaps of the same byte; of layers both "
            "count all layers and heads."
        )
    return " ".join(parts)


def _limits(result: Result, frame: Frame) -> str:
    unit = "token" if "unscored" in result.tables else "byte"
    picked = (
        "The top layer is picked on the text that is scored. "
        if (frame["signal"] == "increments").sum() > 1
        else ""
    )
    overlap = "Whiskers that overlap are no test: differences are tested in pairs."
    return (
        f"{picked}A layer below a control is no finding. Layer 0 sees the {unit} alone, so it cannot "
        f"exceed a table of {unit}s by knowing more. "
        f"{overlap if _has_intervals(frame) else 'There are too few documents for intervals.'}"
    )


def _has_intervals(frame: Frame) -> bool:
    return bool((frame["spread"] == "interval").any())


def _differences(result: Result, label: str, stratum: str) -> list[Block]:
    frame = differences_frame(result, label, stratum)
    if frame.empty:
        return []
    layer = f"layer {frame['layer'].iloc[0]}" + (f", head {h}" if (h := frame["head"].iloc[0]) >= 0 else "")
    reads = (
        f"The best layer ({layer}) minus each control, on the same resamples of documents; of a control "
        "with a value a layer, that of the same layer. Left of the line the control is better."
    )
    limits = "No interval is corrected for the number of controls, nor for the layer having been picked here."
    return [
        Prose(paired_verdict(result, label, stratum)),
        Plot(plot_differences(result, label, stratum), reads, limits, "Paired differences", _NARROWEST),
    ]


def _beyond(result: Result, label: str, stratum: str) -> list[Block]:
    frame = beyond_frame(result, label, stratum)
    if frame.empty:
        return []
    blocks: list[Block] = [Prose(beyond_sentence(result, label, stratum))]
    if frame["bits"].notna().any():
        blocks.append(
            Plot(
                plot_beyond(result, label, stratum),
                _BEYOND_READS,
                _BEYOND_LIMITS,
                "Beyond surprisal",
                _NARROWEST,
            )
        )
    table = Table(beyond_table(frame), _BEYOND_TABLE, left=["Layer", "Held fixed"])
    return [*blocks, Folded(f"All {len(frame)} tests beyond surprisal as a table", [table])]


_BEYOND_READS = (
    "Each layer's increment is added to a logistic model of boundaries that already has entropy, rise, "
    "surprisal and log-bigram as splines and the byte class (M0; open: also the characters' log-odds). "
    "Dots: bits a gap gained on test, with 95 % intervals. p: the increment ranks boundaries within bins "
    "of equal entropy and surprisal no better than chance."
)
_BEYOND_LIMITS = (
    "A gain above zero says that the increment knows something those numbers do not add up to. It does "
    "not say how much that matters, and p counts no other layer."
)
_BEYOND_TABLE = (
    "A layer counts as beyond a model where the intervals of both gains lie above zero; within bins, "
    "where p < 0.05 (there the gain is the ROC-AUC within bins minus 1/2)."
)


def beyond_table(frame: Frame) -> Frame:
    """Return the tests of `beyond_frame` as strings."""
    shown = frame.assign(
        auc=[
            _gain(*row, 4)
            for row in zip(frame["delta_auc"], frame["auc_low"], frame["auc_high"], strict=True)
        ],
        gain=[
            _gain(*row, 5) for row in zip(frame["bits"], frame["bits_low"], frame["bits_high"], strict=True)
        ],
        full=[_from_to(*row) for row in zip(frame["base_auc"], frame["full_auc"], strict=True)],
        beyond=[{"True": "yes", "False": "no"}.get(str(value), NOTHING) for value in frame["is_beyond"]],
        held=[BASELINES.get(str(name), str(name)) for name in frame["baseline"]],
        p=[number(value, 3) for value in frame["p"]],
    )
    headings = {
        "name": "Layer", "held": "Held fixed", "auc": "ROC-AUC gained", "gain": "Bits a gap gained",
        "full": "ROC-AUC", "p": "p", "beyond": "Beyond",
    }  # fmt: skip
    return shown[list(headings)].rename(columns=headings)


def _gain(value: float, low: float, high: float, digits: int) -> str:
    bounds = signed_interval(low, high, digits)
    return signed(value, digits) + (f" {bounds}" if bounds != NOTHING else "")


def _from_to(base: float, full: float) -> str:
    return f"{number(base, 4)} → {number(full, 4)}" if base == base else NOTHING


def _curves(result: Result, label: str, stratum: str) -> list[Block]:
    roc, precision = roc_frame(result, label, stratum), precision_recall_frame(result, label, stratum)
    if roc.empty and precision.empty:
        return []
    reads = (
        "Each curve lowers the threshold from the largest signal to the smallest. Drawn: the best layer, "
        "the strongest controls (of those with a value a layer, at the best layer), and the supervised "
        "probe where there is one."
    )
    beside = " Right: precision beside the prevalence, which a guess reaches." if len(precision) else ""
    limits = (
        ""
        if len(precision)
        else "It does not show how rare boundaries are: see average precision beside prevalence."
    )
    title = "ROC and precision-recall curves" if len(precision) else "ROC curves"
    return [Plot(plot_curves(result, label, stratum), reads + beside, limits, title, _NARROWEST + 80)]


def _errors(result: Result, label: str, stratum: str) -> list[Block]:
    strips = error_strips(result, label, stratum)
    return (
        []
        if strips is None
        else [Folded(f"The most confident errors in context: {count_of(strips)}", [strips])]
    )


def _by_layer(result: Result, label: str, stratum: str) -> list[Block]:
    frame = by_layer_frame(result, label, stratum)
    if frame["layer"].nunique() < 2 or frame["signal"].nunique() < 2:
        return []
    plot = Plot(
        plot_by_layer(result, label, stratum), _BY_LAYER_READS, _BY_LAYER_LIMITS, min_width=_NARROWEST
    )
    return [Folded("Each layer beside its own controls", [plot])]


_BY_LAYER_READS = (
    "Blue: the increments, with 95 % intervals. Vermilion: a supervised probe on the same hidden state. "
    "Grey lines: controls of the same layer; grey areas: their range over seeds. Numbers belong to the "
    "last layer."
)
_BY_LAYER_LIMITS = (
    "Signals of the whole model, entropy first of all, are not in it: they are in the leaderboard."
)


def _table(result: Result, label: str, stratum: str) -> Block:
    frame, styles = table_frame(result, label, stratum)
    counted = auc_frame(result, label, stratum).iloc[0]
    size = f"{int(counted['n']):,} gaps, {int(counted['n_positive']):,} of them boundaries"
    more = _WORD_METRICS if has_word_metrics(frame) else ""
    table = Table(frame, f"Best first; {size}. {_TABLE}{more}", left=["Signal"], row_styles=styles)
    return Folded(f"All {len(frame)} scores as a table", [table]) if len(frame) > _LONG else table


_TABLE = (
    "Sign (+ opens, − contracts at boundaries), alignment of multi-byte characters and the F1 threshold "
    "were chosen on other documents (dev). Average precision of a guess equals the prevalence. Precision "
    "and recall are at the threshold that calls as many gaps as dev has boundaries."
)
_WORD_METRICS = " Token F1 counts words with both ends right. Of Pk and WindowDiff less is better."
