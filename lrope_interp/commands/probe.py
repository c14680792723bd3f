"""`lrope-interp probe`: decode concepts from increments, and print each claim beside its best control."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import OnProgress, Voice, number, within
from lrope_interp.errors import LRopeError
from lrope_interp.probes.concepts.options import MAX_BYTES

if TYPE_CHECKING:
    from lrope_interp.results import Result


@shares("probe", lacks=("gold",), max_bytes=MAX_BYTES)
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
    suite: Annotated[
        options.Suite, typer.Option(help="full: code lengths, sparse paths and erasures too.")
    ] = "default",
    fixed_model: options.FixedModel = None,
    max_spans: Annotated[
        int, typer.Option(min=1, help="Most spans of a family; 20,000 of resid at most.")
    ] = 100_000,
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
    from lrope_interp.probes.concepts.concepts import probe as decode
    from lrope_interp.reports.concepts.page import render_concepts

    twin = asked.other_model(fixed_model)

    how = {"concepts": concepts, "spans": spans, "features": read or (), "suite": suite, "fixed_model": twin}
    how |= {"max_spans": max_spans, "max_bytes": asked.max_bytes}
    how |= {"seed": asked.seed, "batch_size": asked.batch_size}

    def make(on_progress: OnProgress) -> Result:
        data = None if spans is not None else asked.select(spread=True)
        return decode(model, data=data, layers=layers, **how, on_progress=on_progress)

    asked.report(model, make, render_concepts, print_claims, is_resumable=True)


def print_claims(result: Result, out: Voice) -> None:
    """Print one table a kind of features: a row a concept, a column a layer."""
    from lrope_interp.reports.concepts.frames import claims_of, features_of, layers_of

    has_intervals = False
    for features in features_of(result):
        claims = claims_of(result, features)
        has_intervals = has_intervals or bool(claims["above_low"].notna().any())
        lines = claims.to_dict("records")
        cells = ((f"{one['family']}: {one['concept']}", str(one["place"]), _cell(one)) for one in lines)
        out.grid(
            f"ROC-AUC from {features} less that of the best control", "concept", cells, layers_of(claims)
        )
    data = result.provenance["data"]
    headline = result.headline
    out.line(f"{data['n_documents']} held-out documents of {data['name']}, {data['n_bytes']:,} bytes;")
    if has_intervals:  # without one nothing stands, and no cell has a mark
        out.line("[ ] 95 % interval of the paired difference over documents. * stands against every control,")
        out.line(
            "also of unseen words, and is selective; + adds to bytes, n-grams, place and entropy together."
        )
    counts = [f"{headline[name]:.0f}" for name in ("n_beyond_controls", "n_adding", "n_claims")]
    out.line(f"{counts[0]} * and {counts[1]} + of {counts[2]} claims.")


def _cell(line: dict[str, Any]) -> str:
    bounds = within(line["above_low"], line["above_high"])
    marks = ("*" if line["verdict"] == "beyond controls" else "") + ("+" if line["is_adding"] else "")
    return f"{number(line['above'])} {bounds}".rstrip() + marks
