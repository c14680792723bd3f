"""`lrope-interp boundaries`: run the probe and print its leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares


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

    names = None if labels is None else [name.strip() for name in labels.split(",") if name.strip()]
    how = {"labels": names, "align": align, "seed": asked.seed, "batch_size": asked.batch_size}
    how |= {"fixed_model": asked.other_model(fixed_model), "match": asked.other_model(match)}
    asked.report(
        model, lambda told: score(model, data=asked.select(), layers=layers, **how, on_progress=told)
    )
