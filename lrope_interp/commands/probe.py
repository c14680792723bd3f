"""`lrope-interp probe`: decode concepts from increments, and print each claim beside its best control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands.output import Output
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.probes.concepts.options import ConceptOptions
    from lrope_interp.probes.concepts.span_selection import GivenSpans
    from lrope_interp.results import Result
    from lrope_interp.runs import Run

MAX_BYTES = 100_000


@dataclass(frozen=True)
class Asked:
    """What the command line says, as it was typed.

    Attributes:
        concepts: Names between commas, or None.
        spans: A file of spans, or None.
        layer: Which layers.
        features: Names between commas.
        suite: "default" or "full".
        max_spans: The most spans of a family.
        fixed_model: A run with fixed increments, or None.
    """

    concepts: str | None
    spans: Path | None
    layer: str
    features: str
    suite: str
    max_spans: int
    fixed_model: Path | None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def probe(
        model: options.Model = None,
        data: options.Data = None,
        text: options.TextFile = None,
        spans: Annotated[
            Path | None,
            typer.Option(
                "--spans",
                metavar="FILE",
                help='Your own: lines of {"text": ..., "spans": [{"start", "end", "type"}]}.',
            ),
        ] = None,
        concept: Annotated[
            str | None,
            typer.Option(
                "--concept",
                metavar="NAME,...",
                help="Families or concepts (entities, place ...). Default: all that the text can tell.",
            ),
        ] = None,
        layer: options.Layer = "all",
        features: Annotated[
            str,
            typer.Option(
                "--features",
                metavar="increments|positions|resid",
                help="What they are decoded from; several with commas.",
            ),
        ] = "increments",
        suite: Annotated[
            str,
            typer.Option(
                "--suite", metavar="default|full", help="full: code lengths, sparse paths and erasures too."
            ),
        ] = "default",
        fixed_model: Annotated[
            Path | None,
            typer.Option(
                "--fixed-model", metavar="RUN", help="A run with fixed increments: one more control."
            ),
        ] = None,
        max_spans: Annotated[
            int,
            typer.Option("--max-spans", min=1, help="Most spans of a family; 20,000 of resid at most."),
        ] = 100_000,
        max_bytes: options.MaxBytes = MAX_BYTES,
        out: options.Out = None,
        overwrite: options.Overwrite = False,
        seed: options.Seed = 0,
        device: options.Device = "auto",
        batch_size: options.BatchSize = 16,
        encoding_errors: options.EncodingErrors = "strict",
        text_column: options.TextColumn = "text",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Decode concepts from increments, with every control."""
        from lrope_interp.commands import analyses as analysis
        from lrope_interp.commands.output import Output

        output = Output(as_json, quiet)
        asked = Asked(concept, spans, layer, features, suite, max_spans, fixed_model)
        errors = options.check_encoding_errors(encoding_errors)
        source = analysis.Source(data, text, max_bytes, errors, text_column, spread=True)
        check(asked, source)
        place = analysis.Place(analysis.find_run(model, output), "probe", out, overwrite)
        run(place, source, analysis.Computing(seed, device, batch_size), asked, output)


def check(asked: Asked, source: analysis.Source) -> None:
    """Refuse a file of spans together with anything else that says what to read."""
    source.check()
    others = {"--concept": asked.concepts, "--data": source.data, "--text": source.text}
    given = [option for option, value in others.items() if value is not None]
    if asked.spans is not None and given:
        raise LRopeError(
            f"--spans brings its own text and its own concepts: leave {' and '.join(given)} away"
        )


def run(
    place: analysis.Place, source: analysis.Source, how: analysis.Computing, asked: Asked, out: Output
) -> None:
    """Probe, write result and report, and print every claim beside its best control."""
    from lrope_interp.commands import analyses as analysis

    wanted = _options(asked, how)
    selected = (
        None if asked.spans is None else _given(place.run, asked.spans, source.max_bytes or options.MAX_BYTES)
    )
    model = analysis.load_model(place.run, how.device)
    wanted = _with_layers(wanted, asked.layer, model)
    from lrope_interp.probes.concepts.concepts import concepts
    from lrope_interp.reports.concepts.page import render_concepts

    def make() -> Result:
        selection, spans = selected or (source.select(place.run), None)
        twin = analysis.held_out_run(asked.fixed_model, "--fixed-model", selection, how.device)
        with out.progress() as on_progress:
            return concepts(model, selection, wanted, spans=spans, twin=twin, on_progress=on_progress)

    result, folder = analysis.write_resumable(place, model, make, render_concepts)
    _print_claims(result, out)
    analysis.close(result, folder, out)


def _given(run: Run, path: Path, max_bytes: int) -> tuple[Selection, GivenSpans]:
    from lrope_interp.data import read_manifest
    from lrope_interp.probes.concepts.span_selection import select_spans

    return select_spans(read_manifest(run.folder), path, max_bytes=max_bytes)


def _options(asked: Asked, how: analysis.Computing) -> ConceptOptions:
    from lrope_interp.probes.concepts.options import ConceptOptions

    return ConceptOptions(
        concepts=None if asked.concepts is None else _names(asked.concepts, "--concept"),
        features=tuple(_names(asked.features, "--features")),
        suite=asked.suite,
        max_spans=asked.max_spans,
        seed=how.seed,
        batch_size=how.batch_size,
    )


def _with_layers(wanted: ConceptOptions, layer: str, model: LRopeTransformer) -> ConceptOptions:
    from dataclasses import replace

    return replace(wanted, layers=tuple(options.pick_layers(layer, model.cfg.n_layers)))


def _names(value: str, option: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise LRopeError(f"{option} names nothing; leave it away for the default")
    return names


def _print_claims(result: Result, out: Output) -> None:
    """Print one table a kind of features: a row a concept, a column a layer."""
    from lrope_interp.reports.concepts.frames import claims_of, features_of, layers_of

    has_intervals = False
    for features in features_of(result):
        claims = claims_of(result, features)
        has_intervals = has_intervals or bool(claims["above_low"].notna().any())
        layers = layers_of(claims)
        rows: dict[str, dict[str, str]] = {}
        for line in claims.to_dict("records"):
            rows.setdefault(f"{line['family']}: {line['concept']}", {})[str(line["place"])] = _cell(line)
        out.table(
            f"ROC-AUC from {features} less that of the best control",
            ["concept", *layers],
            [[name, *(row.get(layer, "-") for layer in layers)] for name, row in rows.items()],
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
    from lrope_interp.commands.output import number

    low, high = number(line["above_low"]), number(line["above_high"])
    bounds = "" if "-" in (low, high) else f" [{low}, {high}]"
    marks = ("*" if line["verdict"] == "beyond controls" else "") + ("+" if line["is_adding"] else "")
    return f"{number(line['above'])}{bounds}{marks}"
