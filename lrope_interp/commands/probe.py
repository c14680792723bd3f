"""`lrope-interp probe`: decode concepts from increments, and print each claim beside its best control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import OnProgress
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.results import Result


@shares("probe", lacks=("gold", "max_bytes"))
def probe(
    asked: Analysis,
    spans: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Your own: lines of {"text": ..., "spans": [{"start", "end", "type"}]}.'
        ),
    ] = None,
    concept: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Families or concepts (entities, place ...). Default: all that the text can tell.",
        ),
    ] = None,
    layer: options.Layer = options.ALL,
    features: Annotated[
        str,
        typer.Option(
            metavar="increments|positions|resid", help="What they are decoded from; several with commas."
        ),
    ] = "increments",
    suite: options.Suite = "default",
    fixed_model: options.FixedModel = None,
    max_spans: Annotated[
        int, typer.Option(min=1, help="Most spans of a family; 20,000 of resid at most.")
    ] = 100_000,
    max_bytes: options.MaxBytesIfGiven = None,
) -> None:
    """Decode concepts from increments, with every control."""
    asked.check_source()
    others = {"--concept": concept, "--data": asked.data, "--text": asked.text}
    given = [option for option, value in others.items() if value is not None]
    if spans is not None and given:
        raise LRopeError(
            f"--spans brings its own text and its own concepts: leave {' and '.join(given)} away"
        )
    concepts, read = options.names_in(concept, "--concept"), options.names_in(features, "--features")
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.capture.suites import amounts
    from lrope_interp.probes.concepts.concepts import probe as decode

    twin = asked.other_model(fixed_model)
    how = {"concepts": concepts, "spans": spans, "features": read or (), "suite": suite, "fixed_model": twin}
    how |= {"max_spans": max_spans, "max_bytes": max_bytes}
    how |= {"seed": asked.seed, "batch_size": asked.batch_size}

    def make(on_progress: OnProgress) -> Result:
        data = None if spans is not None else asked.select(**amounts("probe", suite, max_bytes))
        return decode(model, data=data, layers=layers, **how, on_progress=on_progress)

    asked.report(model, make, is_resumable=True)
