"""`lrope-interp study definitions`: are definitions and their uses drawn together?"""

from __future__ import annotations

from typing import Annotated

import typer

from lrope_interp.commands.analysis import Analysis, shares


@shares("definitions", lacks=("text", "gold", "text_column"))
def definitions(
    asked: Analysis,
    max_pairs: Annotated[int | None, typer.Option(min=1, help="Most pairs. Default: 2000.")] = None,
) -> None:
    """Compare definitions and their uses in held-out Python with matched pairs."""
    model = asked.load_model()
    from lrope_interp.probes.studies.definitions.definitions import definition_uses
    from lrope_interp.probes.studies.definitions.pairs import MOST_PAIRS

    asked.report(
        model,
        lambda on_progress: definition_uses(
            model,
            asked.select(),
            most_pairs=max_pairs or MOST_PAIRS,
            seed=asked.seed,
            batch_size=asked.batch_size,
            on_progress=on_progress,
        ),
    )
