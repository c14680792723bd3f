"""`lrope-interp show`: draw one text as each layer spaces it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, close, shares
from lrope_interp.commands.output import Output, number
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.data import Document
    from lrope_interp.results import Result

SHOWN = 6
_READ_WHOLE, _MARGIN = 1_000_000, 10_000


@shares("show", "model", "gold", "out", "overwrite", "device", "encoding_errors", "as_json", "quiet")
def show(
    asked: Analysis,
    sentence: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to show.")] = None,
    text: options.OneText = None,
    layer: options.Layer = options.ALL,
    start: Annotated[int, typer.Option(min=0, help="First character to show.")] = 0,
    length: Annotated[int | None, typer.Option(min=1, help="Characters to show. Default: up to 120.")] = None,
    attention: Annotated[
        str | None, typer.Option(metavar="LAYER.HEAD", help="Draw where this head looks from --at.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="Number of a character of the text, or the character: its first after --start.",
        ),
    ] = None,
) -> None:
    """Draw a text as the model spaces it, one row a layer."""
    n_given = sum(one is not None for one in (sentence, text, asked.gold))
    if n_given != 1:
        raise LRopeError(
            'one text is wanted: lrope-interp show "The text itself", --text FILE, or --gold FILE; '
            f"got {('none', '', 'two', 'three')[n_given]}"
        )
    # What comes later in a file decides nothing, but for a word's end.
    most = max(start + (length or 0) + _MARGIN, _READ_WHOLE)
    whole: str | Document = sentence or ""
    if asked.gold is not None:
        whole = _gold_text(asked.gold.expanduser(), asked.encoding_errors, _is_despaced(asked.run.folder))
    elif text is not None:
        from lrope_interp.data.sources.plain_text import read_text

        whole = read_text(text.expanduser(), asked.encoding_errors, most)
    characters = whole if isinstance(whole, str) else whole.text
    looks_from = _character(characters, at, start)
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.spacing.spacing import spacing
    from lrope_interp.reports.spacing.page import render_spacing

    def make() -> Result:
        one = layers[0] if layer != options.ALL else None
        made = spacing(
            model, whole, layer=one, start=start, length=length, attention=attention, at=looks_from
        )
        is_cut = text is not None and len(characters) == most
        problems = [f"{text} was read up to character {most:,} only"] if is_cut else []
        problems += despaced_warnings(asked, characters)
        return replace(made, warnings=(*made.warnings, *problems))

    result, folder = asked.write(model, make, render_spacing)
    _print_extremes(result, asked.output)
    close(result, folder, asked.output)


def _character(text: str, at: str | None, start: int) -> int | None:
    """Return the number of the character that ``--at`` names, in the whole text."""
    if at is None:
        return None
    if at.isascii() and at.isdigit() and len(at) < 10:
        return int(at)
    found = text.find(at, start) if len(at) == 1 else -1
    if found < 0:
        raise LRopeError(
            f"--at wants the number of a character (0 is the first) or one character that occurs after "
            f"--start; got {at!r}"
        )
    return found


def despaced_warnings(asked: Analysis, text: str) -> list[str]:
    """Say so where a model that never saw white space is shown some; the text stays as it was typed."""
    from lrope_interp.data.labels.words import without_space

    if not _is_despaced(asked.run.folder) or without_space(text) == text:
        return []
    return [
        "this model was trained on de-spaced text and has never seen white space, of which this text has "
        "some: take it out to see what the model has learned"
    ]


def _is_despaced(run_folder: Path) -> bool:
    """Return whether a run was trained without white space; False where nothing says so."""
    from lrope_interp.data import MANIFEST_FILE, Reading, read_manifest

    if not (run_folder / MANIFEST_FILE).exists():
        return False
    return Reading.of(read_manifest(run_folder)).despaced


def _gold_text(path: Path, encoding_errors: str, is_despaced: bool) -> Document:
    """Return a gold file as one document, its words in their places."""
    from lrope_interp.data import Document
    from lrope_interp.data.texts import CORPUS, gold_documents

    documents = gold_documents(path, encoding_errors=encoding_errors, is_despaced=is_despaced)
    between = "" if is_despaced else "\n"
    words: list[tuple[int, int]] = []
    at = 0
    for document in documents:
        words += [(at + start, at + stop) for start, stop in document.words or ()]
        at += len(document.text) + len(between)
    text = between.join(document.text for document in documents)
    language = documents[0].language
    return Document(path.name, text, CORPUS, language, words=tuple(words), is_despaced=is_despaced)


def _print_extremes(result: Result, out: Output) -> None:
    """Print where each row opens most, against its own mean increment a byte (or token)."""
    import pandas as pd

    characters: Any = result.tables["characters"]
    rows = []
    for (layer, head), row in characters.groupby(["layer", "head"], dropna=False):
        n_tokens = row["n_tokens"] if "n_tokens" in row else row["bytes_hex"].str.split().str.len()
        mean = row["increment"].sum() / n_tokens.sum()
        share = (row["increment"] / n_tokens / mean)[row["character"] > 0]
        of_character = share.groupby(row["text"], sort=False).mean().nlargest(SHOWN)
        widest = [f"{_visible(character)} {value:.2f}" for character, value in of_character.items()]
        name = f"layer {layer}" if pd.isna(head) else f"head {layer}.{head}"
        rows.append([name, number(mean), "   ".join(widest)])
    unit = "token" if "n_tokens" in characters else "byte"
    out.table(f"Widest steps a {unit}, as multiples of the row's mean", ["row", "mean", "widest"], rows)


def _visible(character: str) -> str:
    if character == " ":
        return "␣"
    return character if character.isprintable() else ascii(character)[1:-1]
