"""`lrope-interp eval`: nats and bits per byte of any text."""

from __future__ import annotations

from typing import Annotated

import typer

from lrope_interp.commands.analysis import Analysis, shares


@shares("eval", lacks=("gold", "max_bytes"))
def evaluate(
    asked: Analysis,
    max_bytes: Annotated[
        int | None,
        typer.Option(min=1, help="Most bytes a language. Default: 200000; a --text up to 8 MB as a whole."),
    ] = None,
) -> None:
    """Score text in nats and bits per byte."""
    asked.check_source()
    model = asked.load_model()
    from lrope_interp.probes.evaluation.evaluation import evaluate as score

    how = {"encoding_errors": asked.encoding_errors, "text_column": asked.text_column, "seed": asked.seed}
    how |= {"max_bytes": max_bytes, "batch_size": asked.batch_size}
    asked.report(model, lambda told: score(model, asked.text, asked.data, **how, on_progress=told))
