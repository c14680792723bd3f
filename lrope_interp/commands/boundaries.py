"""`lrope-interp boundaries`: run the probe and print its leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import Voice, number, within

if TYPE_CHECKING:
    from lrope_interp.results import Result

SHOWN_STRATA = ("characters", "han")
_SEEDED = ("untrained", "random_head")


@shares("boundaries")
def boundaries(
    asked: Analysis,
    layer: options.Layer = options.ALL,
    labels: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Which boundaries. Default: all that the text can tell."),
    ] = None,
    align: Annotated[
        Literal["dev", "lead", "last", "sum"], typer.Option(help="How the bytes of a character are read.")
    ] = "dev",
    fixed_model: options.FixedModel = None,
    match: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run of another seed: match its layers with these.")
    ] = None,
) -> None:
    """Test increments as detectors of boundaries, with controls."""
    asked.check_source()
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.boundaries.boundaries import boundaries as score
    from lrope_interp.reports.boundaries.page import render_boundaries

    names = None if labels is None else [name.strip() for name in labels.split(",") if name.strip()]
    how = {"labels": names, "align": align, "seed": asked.seed, "batch_size": asked.batch_size}
    how |= {"fixed_model": asked.other_model(fixed_model), "match": asked.other_model(match)}
    asked.report(
        model,
        lambda told: score(model, data=asked.select(), layers=layers, **how, on_progress=told),
        render_boundaries,
        print_scores,
    )


def print_scores(result: Result, out: Voice) -> None:
    """Print one table: a row a layer or control, a column a label and stratum.

    Layers come in their order, then signals of the whole model, and each layer's control at the best layer.
    """
    from lrope_interp.reports.boundaries import frames

    cells: list[tuple[str, str, str]] = []
    for label, strata in frames.labels_and_strata(result):
        for stratum in strata:
            if stratum not in SHOWN_STRATA:
                continue
            heading = label if stratum == SHOWN_STRATA[0] else f"{label}, {stratum}"
            scores = frames.auc_frame(result, label, stratum)
            scores = scores[scores["value"].notna()]
            lines = scores[scores["kind"] == "layer"].to_dict("records")
            beside = frames.controls_beside(scores).to_dict("records")
            best, ceiling = frames.best_layer(scores), scores[scores["kind"] == "ceiling"]
            if best is not None:
                beside += ceiling[ceiling["layer"] == best["layer"]].to_dict("records")
            # controls are named without their layer: that of the best increments, which differs by column
            lines += [line | {"name": frames.signal_name(line["signal"])} for line in beside]
            cells += [(str(line["name"]), heading, _cell(line)) for line in lines]
    data = result.provenance["data"]
    size = f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes"
    shown = out.grid(f"ROC-AUC on {size}", "signal", cells)
    meanings = {"[": "[ ] 95 % interval over documents; ", "(": "( ) range over seeds; "}
    meant = "".join(meaning for mark, meaning in meanings.items() if mark in shown)
    out.line(f"{meant}all figures are in the report")
    out.line()


def _cell(line: dict[str, Any]) -> str:
    bounds = within(line["low"], line["high"], marks="()" if line["signal"] in _SEEDED else "[]")
    return f"{number(line['value'])} {bounds}".rstrip()
