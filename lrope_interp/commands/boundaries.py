"""`lrope-interp boundaries`: run the probe and print its leaderboard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrope_interp.commands import analyses as analysis
from lrope_interp.commands.options import pick_layers
from lrope_interp.commands.output import Output, number

if TYPE_CHECKING:
    from lrope_interp.probes.boundaries.boundaries import Beside
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.results import Result

SHOWN_STRATA = ("characters", "han")
_SEEDED = ("untrained", "random_head")


@dataclass(frozen=True)
class Asked:
    """What the command line says of layers, labels and other runs, as it was typed."""

    layer: str
    labels: str | None
    align: str
    fixed_model: Path | None
    match: Path | None


def run(
    place: analysis.Place, source: analysis.Source, how: analysis.Computing, asked: Asked, out: Output
) -> None:
    """Score the increments of a run, and print layers and controls side by side."""
    model = analysis.load_model(place.run, how.device)
    layers = pick_layers(asked.layer, model.cfg.n_layers)
    from lrope_interp.probes.boundaries.boundaries import boundaries
    from lrope_interp.probes.boundaries.options import BoundaryOptions
    from lrope_interp.reports.boundaries.page import render_boundaries

    options = BoundaryOptions(layers, _names(asked.labels), asked.align, how.seed, how.batch_size)

    def make() -> Result:
        selection = source.select(place.run)
        beside = _beside(asked, selection, how.device)
        with out.progress() as on_progress:
            return boundaries(model, selection, options, beside=beside, on_progress=on_progress)

    result, folder = analysis.write(place, model, make, render_boundaries)
    _print_scores(result, out)
    analysis.close(result, folder, out)


def _names(value: str | None) -> list[str] | None:
    """Return the names between commas; None where nothing was asked for."""
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


def _beside(asked: Asked, selection: Selection, device: str) -> Beside:
    from lrope_interp.probes.boundaries.boundaries import Beside

    return Beside(
        twin=analysis.held_out_run(asked.fixed_model, "--fixed-model", selection, device),
        match=analysis.held_out_run(asked.match, "--match", selection, device),
    )


def _print_scores(result: Result, out: Output) -> None:
    """Print one table: a row a layer or control, a column a label and stratum."""
    shown: dict[str, dict[str, str]] = {}
    headings: list[str] = []
    for label, stratum in _cells(result):
        heading = label if stratum == SHOWN_STRATA[0] else f"{label}, {stratum}"
        headings.append(heading)
        for line in _lines(result, label, stratum):
            shown.setdefault(str(line["name"]), {})[heading] = _cell(line)
    rows = [[name, *(row.get(heading, "-") for heading in headings)] for name, row in shown.items()]
    data = result.provenance["data"]
    size = f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes"
    out.table(f"ROC-AUC on {size}", ["signal", *headings], rows)
    meanings = {"[": "[ ] 95 % interval over documents; ", "(": "( ) range over seeds; "}
    shown_cells = " ".join(cell for row in rows for cell in row[1:])
    meant = "".join(meaning for mark, meaning in meanings.items() if mark in shown_cells)
    out.line(f"{meant}all figures are in the report")
    out.line()


def _cells(result: Result) -> list[tuple[str, str]]:
    from lrope_interp.reports.boundaries.frames import labels_and_strata

    return [
        (label, stratum)
        for label, strata in labels_and_strata(result)
        for stratum in strata
        if stratum in SHOWN_STRATA
    ]


def _lines(result: Result, label: str, stratum: str) -> list[dict[str, Any]]:
    """Return layers in their order, signals of the whole model, and each layer control at the best layer."""
    from lrope_interp.reports.boundaries.frames import auc_frame, best_layer, controls_beside

    scores = auc_frame(result, label, stratum)
    scores = scores[scores["value"].notna()]
    layers = scores[scores["kind"] == "layer"]
    ceiling = scores[scores["kind"] == "ceiling"]
    best = best_layer(scores)
    found = [*layers.to_dict("records"), *_named(controls_beside(scores))]
    if best is not None:
        found += _named(ceiling[ceiling["layer"] == best["layer"]])
    return found


def _named(lines: Any) -> list[dict[str, Any]]:
    """Name controls without their layer, which is that of the best increments and differs by column."""
    from lrope_interp.reports.boundaries.frames import signal_name

    return [line | {"name": signal_name(line["signal"])} for line in lines.to_dict("records")]


def _cell(line: dict[str, Any]) -> str:
    low, high = number(line["low"]), number(line["high"])
    if "-" in (low, high):
        return number(line["value"])
    bounds = f"({low}, {high})" if line["signal"] in _SEEDED else f"[{low}, {high}]"
    return f"{number(line['value'])} {bounds}"
