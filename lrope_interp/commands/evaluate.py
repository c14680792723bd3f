"""`lrope-interp eval`: nats and bits per byte of any text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import Voice, number, within

if TYPE_CHECKING:
    from lrope_interp.results import Result


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
    from lrope_interp.reports.evaluation.page import render_evaluation

    how = {"encoding_errors": asked.encoding_errors, "text_column": asked.text_column, "seed": asked.seed}
    how |= {"max_bytes": max_bytes, "batch_size": asked.batch_size}
    asked.report(
        model,
        lambda on_progress: score(model, asked.text, asked.data, **how, on_progress=on_progress),
        render_evaluation,
        _print_languages,
    )


def _print_languages(result: Result, out: Voice) -> None:
    languages: Any = result.tables["languages"]
    rows = [
        [
            str(line.language),
            number(line.nats_per_byte, 4),
            within(line.ci_low, line.ci_high, 4) or "-",
            f"{line.n_bytes:,}",
            f"{line.n_documents:,}",
        ]
        for line in languages.itertuples(index=False)
    ]
    header = ["text", "nats/byte", "95 % interval", "bytes", "documents"]
    out.table(f"{result.headline['bits_per_byte']:.4f} bits per byte", header, rows)
