"""`lrope-interp study definitions`: are definitions and their uses drawn together?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands.analysis import Analysis, close, shares

if TYPE_CHECKING:
    from lrope_interp.results import Result


@shares(
    *("definitions", "model", "data", "max_bytes", "out", "overwrite", "seed", "device", "batch_size"),
    *("encoding_errors", "as_json", "quiet"),
)
def definitions(
    asked: Analysis,
    max_pairs: Annotated[int | None, typer.Option(min=1, help="Most pairs. Default: 2000.")] = None,
) -> None:
    """Compare definitions and their uses in held-out Python with matched pairs."""
    model = asked.load_model()
    from lrope_interp.probes.studies.definitions.definitions import definition_uses
    from lrope_interp.probes.studies.definitions.pairs import MOST_PAIRS
    from lrope_interp.reports.definitions.page import render_definitions, verdicts

    def make() -> Result:
        selection = asked.select()
        with asked.output.progress() as on_progress:
            how = {"seed": asked.seed, "batch_size": asked.batch_size, "on_progress": on_progress}
            return definition_uses(model, selection, most_pairs=max_pairs or MOST_PAIRS, **how)

    result, folder = asked.write(model, make, render_definitions)
    for line in verdicts(result):
        asked.output.line(line)
    close(result, folder, asked.output)
