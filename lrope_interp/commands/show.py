"""`lrope-interp show`: draw one text as each layer spaces it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lrope_interp.commands import analyses as analysis
from lrope_interp.commands.options import pick_layers
from lrope_interp.commands.output import Output, number
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.data import Document
    from lrope_interp.results import Result


SHOWN = 6
_READ_WHOLE, _MARGIN = 1_000_000, 10_000


@dataclass(frozen=True)
class Shown:
    """Which text, and what of it.

    Attributes:
        sentence: The text itself, or None.
        file: A file that holds it, or None.
        start: First character to show.
        length: How many to show; None for as many as fit.
        attention: "LAYER.HEAD", or None.
        at: The character to look from: its number in the text, or the character itself.
        encoding_errors: "strict" or "replace".
        gold: A file with a segmented text, or None.
    """

    sentence: str | None
    file: Path | None
    start: int
    length: int | None
    attention: str | None
    at: str | None
    encoding_errors: str
    gold: Path | None = None

    def read(self, run_folder: Path) -> str | Document:
        """Return the whole text; of a gold file, with its words, as the run was taught to read."""
        n_given = sum(one is not None for one in (self.sentence, self.file, self.gold))
        if n_given != 1:
            raise LRopeError(
                'one text is wanted: lrope-interp show "The text itself", --text FILE, or --gold FILE; '
                f"got {('none', '', 'two', 'three')[n_given]}"
            )
        if self.gold is not None:
            return _gold_text(self.gold.expanduser(), self.encoding_errors, _is_despaced(run_folder))
        if self.file is None:
            return self.sentence or ""
        from lrope_interp.data.sources.plain_text import read_text

        return read_text(self.file.expanduser(), self.encoding_errors, self.most)

    @property
    def most(self) -> int:
        """How many characters of a file are read: what comes later decides nothing, but for a word's end."""
        return max(self.start + (self.length or 0) + _MARGIN, _READ_WHOLE)

    def character(self, text: str) -> int | None:
        """Return the number of the character that ``--at`` names, in the whole text."""
        if self.at is None:
            return None
        if self.at.isascii() and self.at.isdigit() and len(self.at) < 10:
            return int(self.at)
        found = text.find(self.at, self.start) if len(self.at) == 1 else -1
        if found < 0:
            raise LRopeError(
                f"--at wants the number of a character (0 is the first) or one character that occurs after "
                f"--start; got {self.at!r}"
            )
        return found


def run(place: analysis.Place, shown: Shown, layer: str, device: str, out: Output) -> None:
    """Place the characters of the text, and draw them."""
    text = shown.read(place.run.folder)
    characters = text if isinstance(text, str) else text.text
    at = shown.character(characters)
    model = analysis.load_model(place.run, device)
    layers = pick_layers(layer, model.cfg.n_layers)
    from lrope_interp.probes.spacing.spacing import spacing
    from lrope_interp.reports.spacing.page import render_spacing

    def make() -> Result:
        made = spacing(
            model,
            text,
            layer=layers[0] if layer != "all" else None,
            start=shown.start,
            length=shown.length,
            attention=shown.attention,
            at=at,
        )
        read = [f"{shown.file} was read up to character {shown.most:,} only"]
        is_cut = shown.file is not None and len(characters) == shown.most
        problems = [*(read if is_cut else []), *despaced_warnings(place, characters)]
        return replace(made, warnings=(*made.warnings, *problems))

    result, folder = analysis.write(place, model, make, render_spacing)
    _print_extremes(result, out)
    analysis.close(result, folder, out)


def despaced_warnings(place: analysis.Place, text: str) -> list[str]:
    """Say so where a model that never saw white space is shown some; the text stays as it was typed."""
    from lrope_interp.data.despacing import without_space

    if not _is_despaced(place.run.folder) or without_space(text) == text:
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
    from lrope_interp.data.labels.gold import CORPUS, gold_documents

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
