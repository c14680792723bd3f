"""`lrope-interp eval`: nats and bits per byte of any text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands.analysis import Analysis, close, shares
from lrope_interp.commands.output import number

if TYPE_CHECKING:
    from lrope_interp.results import Result


@shares(
    *("eval", "model", "data", "text", "out", "overwrite", "seed", "device", "batch_size"),
    *("encoding_errors", "text_column", "as_json", "quiet"),
)
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

    def make() -> Result:
        with asked.output.progress() as on_progress:
            return score(
                model,
                asked.text,
                asked.data,
                max_bytes=max_bytes,
                encoding_errors=asked.encoding_errors,
                text_column=asked.text_column,
                seed=asked.seed,
                batch_size=asked.batch_size,
                on_progress=on_progress,
            )

    result, folder = asked.write(model, make, render_evaluation)
    languages: Any = result.tables["languages"]
    rows = [
        [
            str(line.language),
            number(line.nats_per_byte, 4),
            _interval(line),
            f"{line.n_bytes:,}",
            f"{line.n_documents:,}",
        ]
        for line in languages.itertuples(index=False)
    ]
    header = ["text", "nats/byte", "95 % interval", "bytes", "documents"]
    asked.output.table(f"{result.headline['bits_per_byte']:.4f} bits per byte", header, rows)
    close(result, folder, asked.output)


def _interval(line: Any) -> str:
    low, high = number(line.ci_low, 4), number(line.ci_high, 4)
    return "-" if "-" in (low, high) else f"[{low}, {high}]"
