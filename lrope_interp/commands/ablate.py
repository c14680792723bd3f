"""`lrope-interp ablate`: write over the increments of a run, and print what each change costs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import OnProgress, Voice
from lrope_interp.errors import LRopeError, unknown
from lrope_interp.probes.ablations.plan import MAX_BYTES

if TYPE_CHECKING:
    from lrope_interp.results import Result

EACH = "each"
_ONE_PLACE = ("single", "all")
_LOCAL = ("local", "local_compensated")
_FACTOR = 2.0


@shares("ablate", max_bytes=MAX_BYTES)
def ablate(
    asked: Analysis,
    freeze: options.Freeze = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="N|all|each",
            help="What --freeze freezes: one layer, all together (the default), or each alone.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Only at these gaps (words, inside_words ...); in a suite: of its local edits.",
        ),
    ] = None,
    suite: Annotated[
        options.Suite | None,
        typer.Option(help="Many interventions, without --freeze. Default: default."),
    ] = None,
    heads: Annotated[
        bool, typer.Option("--heads", help="Single heads too, in a model with increments per head.")
    ] = False,
) -> None:
    """Freeze or disturb increments; see what it costs."""
    if freeze is None and layer is not None:
        raise LRopeError(
            "--layer says what --freeze freezes, and a suite ablates every layer: give --freeze "
            "1|mean|lexical too, or leave --layer away"
        )
    if freeze is not None and suite is not None:
        raise LRopeError("--freeze is one intervention and --suite many: give one of them")
    asked.check_source()
    model = asked.load_model()
    from lrope_interp.probes.ablations.ablations import ablate as measure
    from lrope_interp.probes.ablations.places import PLACES
    from lrope_interp.reports.ablations.page import render_ablations

    if where is not None and where not in PLACES:
        raise unknown("label for --where:", where, PLACES)
    layers = None
    if layer not in (None, EACH, options.ALL):
        layers = options.pick_layers(layer, model.cfg.n_layers, more=(EACH,))

    how = {"freeze": freeze, "is_each": layer == EACH, "where": where or "", "suite": suite or "default"}
    how |= {"heads": heads, "seed": asked.seed, "batch_size": asked.batch_size}

    def make(on_progress: OnProgress) -> Result:
        data = asked.select(spread=True)
        return measure(model, data=data, layers=layers, **how, on_progress=on_progress)

    asked.report(model, make, render_ablations, _print_changes, is_resumable=True)


def _print_changes(result: Result, out: Voice) -> None:
    """Print a row a layer and a column an intervention, then the split, then what the passes cost."""
    from lrope_interp.reports.ablations.frames import find, untouched_loss, whole_frame
    from lrope_interp.reports.ablations.names import short
    from lrope_interp.reports.ablations.numbers import change, with_bounds

    def cell(value: float, low: float, high: float) -> str:  # without an interval alone, as a warning says
        return with_bounds(value, low, high) if math.isfinite(low) and math.isfinite(high) else change(value)

    shown = out.grid(
        f"Change in nats per byte (untouched: {untouched_loss(result):.4f})",
        "ablated",
        (
            (
                line.place,
                short(line.intervention, line.parameter, line.where),
                cell(line.value, line.low, line.high),
            )
            for line in _shown(result).itertuples(index=False)
        ),
    )
    data = result.provenance["data"]
    out.line(f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes;")
    meant = "[ ] 95 % interval of the paired difference over documents; " if "[" in shown else ""
    out.line(f"{meant}higher is worse; more in the report")
    parts = {}
    for name in ("total", "scale", "lexical", "contextual"):
        own: Any = find(whole_frame(result), f"split_{name}", design="all", where="", head=-1)
        for line in own.head(1).to_dict("records"):
            parts[name] = cell(line["value"], line["low"], line["high"])
    if len(parts) == 4:
        total, *others = (f"{name} {words}" for name, words in parts.items())
        out.line(f"split of freezing all layers to 1, in this order: {total} = {' + '.join(others)}")
    n_passes, gain = result.headline.get("n_passes"), result.headline.get("gain")
    if n_passes is None:
        return
    words = f"{n_passes:.0f} passes over the text, the untouched one included"
    if gain is not None:
        words += f"; without skipping the layers below the first ablated one {gain:.2f} times as many blocks"
    out.line(words)
    out.line()


def _shown(result: Result) -> Any:
    """Return the changes of single layers and of all, of what a terminal has room for, in order."""
    from lrope_interp.reports.ablations.frames import ORDER, main_where, whole_frame

    frame: Any = whole_frame(result)
    is_local = frame["intervention"].isin(_LOCAL)
    is_shown = frame["design"].isin(_ONE_PLACE) & frame["intervention"].isin(ORDER)
    is_shown &= (frame["where"] == main_where(frame)) | is_local
    is_shown &= (frame["intervention"] != "scale") | (frame["parameter"] == _FACTOR)
    rank = frame["intervention"].map({name: rank for rank, name in enumerate(ORDER)})
    frame = frame.assign(rank=rank)[is_shown]
    return frame.sort_values(
        ["design", "layer", "head", "rank"], ascending=[False, True, True, True], kind="stable"
    )
