"""`lrope-interp distance`: how far apart a run takes two places of a text to be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.models.distance import Place

_LONGEST_NUMBER = 9


@shares(
    "distance",
    "model",
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
def distance(
    asked: Analysis,
    sentence: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The text to measure.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="A:B|N|WORDS", help="One place: characters, or words."),
    ] = None,
    stop: Annotated[
        str | None, typer.Option("--to", metavar="A:B|N|WORDS", help="The other place, likewise.")
    ] = None,
    text: options.OneText = None,
    layer: options.Layer = options.ALL,
) -> None:
    """Measure how far apart a model takes two places."""
    if (sentence is None) == (text is None):
        n = "none" if sentence is None else "two"
        raise LRopeError(
            f'one text is wanted: lrope-interp distance "The text itself", or --text FILE; got {n}'
        )
    whole = options.typed_text(sentence) if text is None else text
    if (start is None) != (stop is None):
        raise LRopeError("a distance has two ends: give --from and --to, or neither for the matrix alone")
    a = None if start is None else parsed_place(start, "--from")
    b = None if stop is None else parsed_place(stop, "--to")
    model = asked.load_model()
    layers = options.pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.distances.distances import distance as measure

    asked.report(model, lambda _: measure(model, whole, a, b, layers, encoding_errors=asked.encoding_errors))


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
