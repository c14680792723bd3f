"""`lrope-interp ablate`: write over the increments of a run, and print what each change costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands.output import Output
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.ablations.options import AblationOptions
    from lrope_interp.results import Result

MAX_BYTES = 30_000
EACH = "each"
_ONE_PLACE = ("single", "all")
_LOCAL = ("local", "local_compensated")
_FACTOR = 2.0


@dataclass(frozen=True)
class Asked:
    """What the command line says of interventions, as it was typed; None where it says nothing.

    Attributes:
        freeze: What increments are frozen to, or None for a suite.
        layer: Where they are frozen.
        where: At which gaps.
        suite: Which suite.
        heads: Whether single heads are frozen.
    """

    freeze: str | None
    layer: str | None
    where: str | None
    suite: str | None
    heads: bool


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def ablate(
        model: options.Model = None,
        data: options.Data = None,
        text: options.TextFile = None,
        gold: options.GoldFile = None,
        freeze: options.Freeze = None,
        layer: Annotated[
            str | None,
            typer.Option(
                "--layer",
                metavar="N|all|each",
                help="What --freeze freezes: one layer, all together (the default), or each alone.",
            ),
        ] = None,
        where: Annotated[
            str | None,
            typer.Option(
                "--where",
                metavar="LABEL",
                help="Only at these gaps (words, inside_words ...); in a suite: of its local edits.",
            ),
        ] = None,
        suite: Annotated[
            str | None,
            typer.Option(
                "--suite",
                metavar="default|full",
                help="Many interventions, without --freeze. Default: default.",
            ),
        ] = None,
        heads: Annotated[
            bool, typer.Option("--heads", help="Single heads too, in a model with increments per head.")
        ] = False,
        max_bytes: options.MaxBytes = MAX_BYTES,
        out: options.Out = None,
        overwrite: options.Overwrite = False,
        seed: options.Seed = 0,
        device: options.Device = "auto",
        batch_size: options.BatchSize = 16,
        encoding_errors: options.EncodingErrors = "strict",
        text_column: options.TextColumn = "text",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Freeze or disturb increments; see what it costs."""
        from lrope_interp.commands import analyses as analysis
        from lrope_interp.commands.output import Output

        output = Output(as_json, quiet)
        asked = Asked(freeze, layer, where, suite, heads)
        check(asked)
        errors = options.check_encoding_errors(encoding_errors)
        source = analysis.Source(data, text, max_bytes, errors, text_column, gold, spread=True)
        place = analysis.Place(analysis.find_run(model, output), "ablate", out, overwrite)
        run(place, source, analysis.Computing(seed, device, batch_size), asked, output)


def check(asked: Asked) -> None:
    """Refuse options that belong to a suite together with those of one intervention."""
    if asked.freeze is None and asked.layer is not None:
        raise LRopeError(
            "--layer says what --freeze freezes, and a suite ablates every layer: give --freeze "
            f"{'|'.join(options.FREEZES)} too, or leave --layer away"
        )
    if asked.freeze is not None and asked.suite is not None:
        raise LRopeError("--freeze is one intervention and --suite many: give one of them")
    if asked.freeze is not None:
        options.check_freeze(asked.freeze)


def run(
    place: analysis.Place, source: analysis.Source, how: analysis.Computing, asked: Asked, out: Output
) -> None:
    """Ablate, write result and report, and print layers and interventions side by side."""
    from lrope_interp.commands import analyses as analysis

    model = analysis.load_model(place.run, how.device)
    from lrope_interp.probes.ablations.ablations import ablations
    from lrope_interp.reports.ablations.page import render_ablations

    wanted = _options(asked, model, how)

    def make() -> Result:
        selection = source.select(place.run)
        with out.progress() as on_progress:
            return ablations(model, selection, wanted, on_progress=on_progress)

    result, folder = analysis.write_resumable(place, model, make, render_ablations)
    _print_changes(result, out)
    _print_split(result, out)
    _print_passes(result, out)
    analysis.close(result, folder, out)


def _options(asked: Asked, model: LRopeTransformer, how: analysis.Computing) -> AblationOptions:
    """Turn words into what the analysis takes; unknown ones name the nearest."""
    from lrope_interp.errors import unknown
    from lrope_interp.probes.ablations.gap_masks import PLACES
    from lrope_interp.probes.ablations.options import AblationOptions

    if asked.where is not None and asked.where not in PLACES:
        raise unknown("label for --where:", asked.where, PLACES)
    layers = None
    if asked.layer not in (None, EACH, options.ALL):
        layers = tuple(options.pick_layers(asked.layer, model.cfg.n_layers, more=(EACH,)))
    return AblationOptions(
        freeze=asked.freeze,
        layers=layers,
        is_each=asked.layer == EACH,
        where=asked.where or "",
        suite=asked.suite or "default",
        heads=asked.heads,
        seed=how.seed,
        batch_size=how.batch_size,
    )


def _print_changes(result: Result, out: Output) -> None:
    """Print one table: a row a layer, a column an intervention."""
    from lrope_interp.reports.ablations.frames import untouched_loss
    from lrope_interp.reports.ablations.names import short

    frame = _shown(result)
    columns: dict[str, None] = {}
    rows: dict[str, dict[str, str]] = {}
    for line in frame.itertuples(index=False):
        heading = short(line.intervention, line.parameter, line.where)
        columns[heading] = None
        rows.setdefault(line.place, {})[heading] = _cell(line.value, line.low, line.high)
    out.table(
        f"Change in nats per byte (untouched: {untouched_loss(result):.4f})",
        ["ablated", *columns],
        [[place, *(row.get(heading, "-") for heading in columns)] for place, row in rows.items()],
    )
    data = result.provenance["data"]
    out.line(f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes;")
    has_intervals = any("[" in cell for row in rows.values() for cell in row.values())
    meant = "[ ] 95 % interval of the paired difference over documents; " if has_intervals else ""
    out.line(f"{meant}higher is worse; more in the report")


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


def _print_split(result: Result, out: Output) -> None:
    """Print what all layers together lose, part by part, where all parts were measured."""
    from lrope_interp.reports.ablations.frames import find, whole_frame

    frame = whole_frame(result)
    parts = {}
    for name in ("total", "scale", "lexical", "contextual"):
        own: Any = find(frame, f"split_{name}", design="all", where="", head=-1)
        if own.empty:
            return
        line = own.iloc[0]
        parts[name] = _cell(line["value"], line["low"], line["high"])
    total, *others = (f"{name} {words}" for name, words in parts.items())
    out.line(f"split of freezing all layers to 1, in this order: {total} = {' + '.join(others)}")


def _cell(value: float, low: float, high: float) -> str:
    """Return a change with its interval; alone where there is none, which a warning says."""
    from lrope_interp.reports.ablations.numbers import change, with_bounds

    return with_bounds(value, low, high) if math.isfinite(low) and math.isfinite(high) else change(value)


def _print_passes(result: Result, out: Output) -> None:
    n_passes, gain = result.headline.get("n_passes"), result.headline.get("gain")
    if n_passes is None:
        return
    words = f"{n_passes:.0f} passes over the text, the untouched one included"
    if gain is not None:
        words += f"; without skipping the layers below the first ablated one {gain:.2f} times as many blocks"
    out.line(words)
    out.line()
