"""`lrope-interp ablate`: write over the increments of a run, and print what each change costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import OnProgress
from lrope_interp.errors import LRopeError, unknown

if TYPE_CHECKING:
    from lrope_interp.results import Result

EACH = "each"


@shares("ablate", lacks=("max_bytes",))
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
            help="Only at these gaps (words, inside_words ...); in the full suite: of its local edits.",
        ),
    ] = None,
    suite: options.Suite = "default",
    heads: Annotated[
        bool, typer.Option("--heads", help="Single heads too, in a model with increments per head.")
    ] = False,
    max_bytes: options.MaxBytesIfGiven = None,
) -> None:
    """Freeze or disturb increments; see what it costs."""
    if freeze is None and layer is not None:
        raise LRopeError(
            "--layer says what --freeze freezes, and a suite ablates every layer: give --freeze "
            "1|mean|lexical too, or leave --layer away"
        )
    if freeze is not None and suite == "full":
        raise LRopeError("--freeze is one intervention and --suite full many: give one of them")
    asked.check_source()
    model = asked.load_model()
    from lrope_interp.probes.ablations.ablations import ablate as measure
    from lrope_interp.probes.ablations.places import PLACES
    from lrope_interp.probes.capture.suites import amounts

    if where is not None and where not in PLACES:
        raise unknown("label for --where:", where, PLACES)
    layers = None
    if layer not in (None, EACH, options.ALL):
        layers = options.pick_layers(layer, model.cfg.n_layers, more=(EACH,))

    how = {"freeze": freeze, "is_each": layer == EACH, "where": where or "", "suite": suite}
    how |= {"heads": heads, "seed": asked.seed, "batch_size": asked.batch_size}

    def make(on_progress: OnProgress) -> Result:
        data = asked.select(**amounts("ablate", suite, max_bytes))
        return measure(model, data=data, layers=layers, **how, on_progress=on_progress)

    asked.report(model, make, is_resumable=True)
