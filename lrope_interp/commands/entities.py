"""`lrope-interp entities`: are increments inside names another size, and is it because they are names?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands.output import Output
    from lrope_interp.data.spans.entity_pairs import EntityPair
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.results import Result

MAX_BYTES = 300_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def entities(
        model: options.Model = None,
        data: options.Data = None,
        text: options.TextFile = None,
        pairs: Annotated[
            Path | None,
            typer.Option(
                "--pairs", metavar="FILE", help="Your own names, one a line: two words. Default: ours."
            ),
        ] = None,
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
        """Test whether names are read closer together."""
        from lrope_interp.commands import analyses as analysis
        from lrope_interp.commands.output import Output
        from lrope_interp.data.spans.entity_pairs import PAIRS, read_pairs

        output = Output(as_json, quiet)
        errors = options.check_encoding_errors(encoding_errors)
        names = PAIRS if pairs is None else read_pairs(pairs)
        source = analysis.Source(data, text, max_bytes, errors, text_column)
        place = analysis.Place(analysis.find_run(model, output), "entities", out, overwrite)
        run(place, source, analysis.Computing(seed, device, batch_size), names, output)


def run(
    place: analysis.Place,
    source: analysis.Source,
    how: analysis.Computing,
    pairs: Sequence[EntityPair],
    out: Output,
) -> None:
    """Make the tests, write result and report, and print layers and tests side by side."""
    from lrope_interp.commands import analyses as analysis

    model = analysis.load_model(place.run, how.device)
    from lrope_interp.probes.studies.entities.entities import entities
    from lrope_interp.reports.entities.page import render_entities

    def make() -> Result:
        selection = _selected(place, source, pairs)
        with out.progress() as on_progress:
            return entities(
                model, selection, pairs, seed=how.seed, batch_size=how.batch_size, on_progress=on_progress
            )

    result, folder = analysis.write(place, model, make, render_entities)
    _print_tests(result, out)
    analysis.close(result, folder, out)


def _selected(place: analysis.Place, source: analysis.Source, pairs: Sequence[EntityPair]) -> Selection:
    """Return held-out text; of a corpus the passages that hold names, which are few elsewhere."""
    from lrope_interp.data import read_manifest
    from lrope_interp.probes.studies.entities.passages import held_out_corpus, select_passages

    selection = source.select(place.run)
    if source.text is not None:
        return selection
    how = {"encoding_errors": source.encoding_errors, "text_column": source.text_column}
    corpus = held_out_corpus(read_manifest(place.run.folder), source.data, **how)
    return select_passages(selection, corpus, pairs, source.max_bytes or MAX_BYTES)


def _print_tests(result: Result, out: Output) -> None:
    """Print one table: a row a layer, a column a test."""
    from lrope_interp.reports.entities.frames import TESTS, place_name, test_frame

    shown: dict[str, dict[str, str]] = {}
    headings: list[str] = []
    for test in TESTS:
        frame = test_frame(result, test)
        own: Any = frame[frame["signal"] == "increments"] if len(frame) else frame
        if own.empty:
            continue
        headings.append(test.short)
        for line in own.itertuples(index=False):
            shown.setdefault(place_name(line.layer, line.head), {})[test.short] = _cell(line)
    rows = [[name, *(row.get(heading, "-") for heading in headings)] for name, row in shown.items()]
    data = result.provenance["data"]
    out.table("Names against what is no name, in means of the layer", ["increments", *headings], rows)
    out.line(f"{data['n_documents']} held-out texts of {data['name']}, {data['n_bytes']:,} bytes;")
    out.line(_coverage(result))
    meant = "[ ] 95 % interval; " if any("[" in cell for row in rows for cell in row[1:]) else ""
    out.line(f"{meant}reversed order: share of names that are smaller in their own order")
    out.line()


def _coverage(result: Result) -> str:
    known = result.headline
    if not known.get("n_pairs"):
        return "no English names"
    return (
        f"{known['n_pairs']:.0f} names with {known['n_first_words']:.0f} first words, "
        f"{known['coverage'] or 0:.0%} of them at least 5 times in the training text, "
        f"{known['test_occurrences']:.0f} times in the text"
    )


def _cell(line: Any) -> str:
    if math.isnan(line.value):
        return "-"
    bounds = "" if math.isnan(line.low) else f" [{line.low:.2f}, {line.high:.2f}]"
    return f"{line.value:.2f}{bounds} {line.verdict}"
