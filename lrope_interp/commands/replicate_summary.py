"""What `replicate` found, as the terminal shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrope_interp.commands.output import Output, number

if TYPE_CHECKING:
    from lrope_interp.probes.studies.replication.replication import Comparison
    from lrope_interp.results import Result


def show(result: Result, comparison: Comparison, out: Output) -> None:
    """Print the differences as a table, and every verdict as a sentence."""
    from lrope_interp.reports.replication.words import sentences
    from lrope_interp.training.replication import spoken

    found: Any = result.tables["differences"]
    shown = found[found["margin"] == comparison.margin]
    rows = [
        [
            f"{spoken(line.arm)} - {spoken(line.reference)}",
            _signed(line.mean),
            f"[{_signed(line.ci90_low)}, {_signed(line.ci90_high)}]" if line.n_seeds > 1 else "-",
            number(line.sd, 5),
            "no verdict" if line.verdict == "none" else line.verdict,
            number(line.power, 2),
        ]
        for line in shown.itertuples(index=False)
    ]
    header = ["nats per byte", "mean", "90 % interval", "s.d.", f"within {comparison.margin:g}", "power"]
    n_seeds = int(shown["n_seeds"].max())
    out.table(f"Differences over {n_seeds} paired seeds, full validation set", header, rows)
    for title, sentence in sentences(result):
        out.line(f"{title}. {sentence}")
    out.line()


def _signed(value: float) -> str:
    return f"{value:+.5f}"


def close(result: Result, folder: Path, report: Path, out: Output) -> None:
    """Say what to mind and where the result lies; print the JSON summary if asked."""
    for warning in result.warnings:
        out.warn(warning)
    out.line(f"result  {folder}")
    out.line(f"report  {report}")
    columns = ["arm", "reference", "margin", "mean", "ci90_low", "ci90_high", "verdict", "power"]
    differences: Any = result.tables["differences"]
    out.finish(
        {
            "result": folder,
            "report": report,
            "kind": result.kind,
            "headline": result.headline,
            "differences": differences[columns].to_dict("records"),
            "warnings": result.warnings,
        }
    )
