"""`lrope-interp show`: draw one text as each layer spaces it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.data import Document


@shares(
    "show",
    "model",
    "gold",
    "out",
    "overwrite",
    "device",
    "encoding_errors",
    "open_page",
    "image",
    "as_json",
    "quiet",
    "verbose",
)
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
    whole: str | Path | Document = options.typed_text(sentence) if text is None else text
    if asked.gold is not None:
        whole = _gold_text(asked.gold.expanduser(), asked.encoding_errors, asked.run.folder)
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.spacing.spacing import show as draw

    how = {"start": start, "length": length, "encoding_errors": asked.encoding_errors}
    asked.report(model, lambda _: draw(model, whole, layers, attention=attention, at=at, **how))


def _gold_text(path: Path, encoding_errors: str, run_folder: Path) -> Document:
    """Return a gold file as one document, its words in their places."""
    from lrope_interp.data import MANIFEST_FILE, Document, Reading, read_manifest
    from lrope_interp.data.texts import CORPUS, gold_documents

    is_despaced = False
    if (run_folder / MANIFEST_FILE).exists():
        is_despaced = Reading.of(read_manifest(run_folder)).despaced
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
