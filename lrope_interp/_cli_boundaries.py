"""`lrope-interp boundaries`: run the probe and print its table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrope_interp import _cli_analysis as analysis
from lrope_interp._cli_options import pick_layers
from lrope_interp._cli_output import Output, number

if TYPE_CHECKING:
    from lrope_interp.results import Result

SHOWN_STRATA = ("characters", "han")


def run(
    place: analysis.Place, source: analysis.Source, how: analysis.Computing, layer: str, out: Output
) -> None:
    """Score the increments of a run, and print layers and controls side by side."""
    model = analysis.load_model(place.run, how.device)
    layers = pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.boundaries import boundaries
    from lrope_interp.reports.boundaries import render_boundaries

    def make() -> Result:
        selection = source.select(place.run)
        with out.progress() as on_progress:
            return boundaries(
                model,
                selection,
                layers=layers,
                seed=how.seed,
                batch_size=how.batch_size,
                on_progress=on_progress,
            )

    result, folder = analysis.write(place, make, render_boundaries)
    _print_scores(result, out)
    analysis.close(result, folder, out)


def _print_scores(result: Result, out: Output) -> None:
    """Print one table: a row a layer or control, a column a label and stratum."""
    scores: Any = result.tables["scores"]
    # A control of several seeds has a row a seed, and one without a seed that sums them up.
    scores = scores[(scores["metric"] == "roc_auc") & scores["stratum"].isin(SHOWN_STRATA)]
    scores = scores[scores["seed"].isna() & scores["value"].notna()]
    shown: dict[str, dict[str, str]] = {}
    for line in scores.sort_values("kind", key=lambda kind: kind != "layer", kind="stable").itertuples():
        is_default = line.stratum == SHOWN_STRATA[0]
        column = line.label if is_default else f"{line.label}, {line.stratum}"
        shown.setdefault(_name(line), {})[column] = _cell(line)
    columns = sorted({column for row in shown.values() for column in row})
    rows = [[name, *(row.get(column, "-") for column in columns)] for name, row in shown.items()]
    data = result.provenance["data"]
    size = f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes"
    out.table(f"ROC-AUC on {size}", ["signal", *columns], rows)
    out.line(
        "[ ] 95 % interval over documents; ( ) range over untrained models; all figures are in the report"
    )
    out.line()


def _name(line: Any) -> str:
    """Name a row the way the report does."""
    import pandas as pd

    from lrope_interp.reports.boundary_frames import signal_name

    layer, head = (-1 if pd.isna(value) else int(value) for value in (line.layer, line.head))
    return signal_name(line.signal, layer, head)


def _cell(line: Any) -> str:
    low, high = number(line.ci_low), number(line.ci_high)
    if "-" in (low, high):
        return number(line.value)
    bounds = f"({low}, {high})" if line.signal == "untrained" else f"[{low}, {high}]"
    return f"{number(line.value)} {bounds}"
