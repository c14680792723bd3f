"""`lrope-interp boundaries`: run the probe and print its leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import OnProgress

if TYPE_CHECKING:
    from lrope_interp.results import Result


@shares("boundaries", lacks=("max_bytes",))
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
    suite: options.Suite = "default",
    max_bytes: options.MaxBytesIfGiven = None,
) -> None:
    """Test increments as detectors of boundaries, with controls."""
    asked.check_source()
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.boundaries.boundaries import boundaries as score
    from lrope_interp.probes.capture.suites import amounts

    names = None if labels is None else [name.strip() for name in labels.split(",") if name.strip()]
    how = {"labels": names, "align": align, "seed": asked.seed, "batch_size": asked.batch_size}
    how |= {"fixed_model": asked.other_model(fixed_model), "match": asked.other_model(match)}

    def make(on_progress: OnProgress) -> Result:
        data = asked.select(**amounts("boundaries", suite, max_bytes))
        return score(model, data=data, layers=layers, suite=suite, **how, on_progress=on_progress)

    asked.report(model, make)
