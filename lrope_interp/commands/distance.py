"""`lrope-interp distance`: how far apart a run takes two places to be, and definitions and their uses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands.output import Output
    from lrope_interp.models.distance import Place
    from lrope_interp.results import Result

_LONGEST_NUMBER = 9
_MOST_CHARACTERS = 1_000_000  # far more than a window holds
_OF_DEFINITIONS = "--definitions compares pairs of a whole corpus"


@dataclass(frozen=True)
class Asked:
    """What the command line says of the places, as it was typed.

    Attributes:
        sentence: The text, or None.
        file: A file that holds it, or None.
        start: `--from`, or None.
        stop: `--to`, or None.
        layer: One layer, or "all".
    """

    sentence: str | None
    file: Path | None
    start: str | None
    stop: str | None
    layer: str


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command(cls=options.TextCommand)
    def distance(
        sentence: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to measure.")] = None,
        start: Annotated[
            str | None,
            typer.Option("--from", metavar="A:B|N|WORDS", help="One place: characters, or words."),
        ] = None,
        stop: Annotated[
            str | None, typer.Option("--to", metavar="A:B|N|WORDS", help="The other place, likewise.")
        ] = None,
        text: Annotated[
            Path | None,
            typer.Option("--text", metavar="FILE", help="A file with the text instead; - reads stdin."),
        ] = None,
        definitions: Annotated[
            bool,
            typer.Option("--definitions", help="No text: definitions and their uses in held-out Python."),
        ] = False,
        model: options.Model = None,
        layer: options.Layer = "all",
        data: options.Data = None,
        max_bytes: options.MaxBytes = options.MAX_BYTES,
        max_pairs: Annotated[
            int | None,
            typer.Option("--max-pairs", min=1, help="Most pairs with --definitions. Default: 2000."),
        ] = None,
        out: options.Out = None,
        overwrite: options.Overwrite = False,
        seed: options.Seed = 0,
        device: options.Device = "auto",
        batch_size: options.BatchSize = 16,
        encoding_errors: options.EncodingErrors = "strict",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Measure how far apart a model takes two places."""
        from lrope_interp.commands import analyses as analysis
        from lrope_interp.commands.output import Output

        output = Output(as_json, quiet)
        errors = options.check_encoding_errors(encoding_errors)
        asked = Asked(sentence, text, start, stop, layer)
        check(asked, definitions, has_corpus=data is not None or max_pairs is not None)
        run_ = analysis.find_run(model, output)
        if definitions:
            source = analysis.Source(data, None, max_bytes, errors)
            place = analysis.Place(run_, "definitions", out, overwrite)
            _definitions(place, source, analysis.Computing(seed, device, batch_size), max_pairs, output)
            return
        _distances(analysis.Place(run_, "distance", out, overwrite), asked, errors, device, output)


def check(asked: Asked, is_definitions: bool, *, has_corpus: bool) -> None:
    """Refuse options of a text together with those of a corpus."""
    given = {"a text": asked.sentence, "--text": asked.file, "--from": asked.start, "--to": asked.stop}
    names = [name for name, value in given.items() if value is not None]
    if is_definitions and (names or asked.layer != options.ALL):
        raise LRopeError(f"{_OF_DEFINITIONS} and takes no {(names or ['--layer'])[0].removeprefix('a ')}")
    if not is_definitions and has_corpus:
        raise LRopeError("--data and --max-pairs go with --definitions; a text is given as such or by --text")


def parsed_place(value: str, option: str) -> Place:
    """Return what `--from` or `--to` names: a span A:B, a character, or words of the text.

    Raises:
        LRopeError: An empty word, or a span that runs backwards.
    """
    span = re.fullmatch(r"([0-9]+):([0-9]+)", value)
    if (span or (value.isascii() and value.isdigit())) and len(value) > 2 * _LONGEST_NUMBER:
        raise LRopeError(f"{option} names a character beyond any text: {value[:30]}")
    if span:
        first, past = int(span[1]), int(span[2])
        if first >= past:
            raise LRopeError(
                f"{option} A:B goes from character A to the one before B, so A must be below B; got {value}"
            )
        return first, past
    if value.isascii() and value.isdigit():
        return int(value)
    if not value:
        raise LRopeError(f"{option} wants characters A:B, the number of one, or words of the text; got none")
    return value


def _distances(place: analysis.Place, asked: Asked, errors: str, device: str, out: Output) -> None:
    """Measure the words of one text, and the two places if they were named."""
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.commands.show import despaced_warnings

    text = _text(asked, errors)
    if (asked.start is None) != (asked.stop is None):
        raise LRopeError("a distance has two ends: give --from and --to, or neither for the matrix alone")
    a = None if asked.start is None else parsed_place(asked.start, "--from")
    b = None if asked.stop is None else parsed_place(asked.stop, "--to")
    model = analysis.load_model(place.run, device)
    layers = options.pick_layers(asked.layer, model.cfg.n_layers)
    from lrope_interp.probes.distances.distances import word_distances
    from lrope_interp.reports.distances.page import render_distance

    def make() -> Result:
        layer = layers[0] if asked.layer != options.ALL else None
        made = word_distances(model, text, layer=layer, a=a, b=b)
        return replace(made, warnings=(*made.warnings, *despaced_warnings(place, text)))

    result, folder = analysis.write(place, model, make, render_distance)
    _print_distances(result, out)
    analysis.close(result, folder, out)


def _text(asked: Asked, errors: str) -> str:
    if (asked.sentence is None) == (asked.file is None):
        n = "none" if asked.sentence is None else "two"
        raise LRopeError(
            'one text is wanted: lrope-interp distance "The text itself", or --text FILE (or --definitions, '
            f"which takes none); got {n}"
        )
    if asked.file is None:
        return asked.sentence or ""
    from lrope_interp.data.sources.plain_text import read_text

    return read_text(asked.file.expanduser(), errors, most=_MOST_CHARACTERS)


def _print_distances(result: Result, out: Output) -> None:
    """Print the places asked for, or the words that the matrix is about."""
    from lrope_interp.commands.output import number
    from lrope_interp.reports.distances.figures import MEASURES, pair_frame
    from lrope_interp.reports.distances.page import headline

    rows = []
    for measure in MEASURES:
        frame: Any = pair_frame(result, measure)
        for row in frame.itertuples(index=False):
            span = f"{number(row.low)} to {number(row.high)}" if row.low == row.low else "-"
            mark = {"True": "outside", "False": "usual"}.get(str(row.is_outside), "-")
            cells = [number(row.value), str(row.n_tokens), number(row.expected), span, mark]
            rows.append([row.row_label, measure, *cells])
    if rows:
        header = ["row", "measure", "distance", "tokens", "expected", "95 % of pairs", "so it is"]
        out.table("Distance, and what is usual in this text at that token distance", header, rows)
    for line in headline(result):
        out.line(line)


def _definitions(
    place: analysis.Place,
    source: analysis.Source,
    how: analysis.Computing,
    max_pairs: int | None,
    out: Output,
) -> None:
    """Compare definitions and their uses with matched pairs."""
    from lrope_interp.commands import analyses as analysis

    model = analysis.load_model(place.run, how.device)
    from lrope_interp.probes.studies.definitions.definitions import DefinitionOptions, definition_uses
    from lrope_interp.probes.studies.definitions.search import MOST_PAIRS
    from lrope_interp.reports.definitions.page import render_definitions, verdicts

    wanted = DefinitionOptions(how.seed, how.batch_size, max_pairs or MOST_PAIRS)

    def make() -> Result:
        selection = source.select(place.run)
        with out.progress() as on_progress:
            return definition_uses(model, selection, wanted, on_progress=on_progress)

    result, folder = analysis.write(place, model, make, render_definitions)
    for line in verdicts(result):
        out.line(line)
    analysis.close(result, folder, out)
