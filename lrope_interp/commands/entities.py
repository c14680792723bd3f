"""`lrope-interp study entities`: are increments inside names another size, because they are names?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import Voice

if TYPE_CHECKING:
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.probes.studies.entities.pairs import EntityPair
    from lrope_interp.results import Result

MAX_BYTES = 300_000


@shares("entities", lacks=("gold",), max_bytes=MAX_BYTES)
def entities(
    asked: Analysis,
    pairs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your own names, one a line: two words. Default: ours."),
    ] = None,
) -> None:
    """Test whether names are read closer together."""
    asked.check_source()
    from lrope_interp.probes.studies.entities.pairs import PAIRS, read_pairs

    names = PAIRS if pairs is None else read_pairs(pairs)
    model = asked.load_model()
    from lrope_interp.probes.studies.entities.entities import entities as study
    from lrope_interp.reports.entities.page import render_entities

    how = {"seed": asked.seed, "batch_size": asked.batch_size}
    asked.report(
        model,
        lambda on_progress: study(model, _selected(asked, names), names, **how, on_progress=on_progress),
        render_entities,
        _print_tests,
    )


def _selected(asked: Analysis, pairs: Sequence[EntityPair]) -> Selection:
    """Return held-out text; of a corpus the passages that hold names, which are few elsewhere."""
    from lrope_interp.data import read_manifest
    from lrope_interp.probes.studies.entities.text import held_out_corpus, select_passages

    selection = asked.select()
    if asked.text is not None:
        return selection
    how = {"encoding_errors": asked.encoding_errors, "text_column": asked.text_column}
    corpus = held_out_corpus(read_manifest(asked.run.folder), asked.data, **how)
    return select_passages(selection, corpus, pairs, asked.max_bytes)


def _print_tests(result: Result, out: Voice) -> None:
    """Print one table: a row a layer, a column a test."""
    from lrope_interp.reports.entities.frames import TESTS, place_name, test_frame

    cells: list[tuple[str, str, str]] = []
    for test in TESTS:
        frame = test_frame(result, test)
        own: Any = frame[frame["signal"] == "increments"] if len(frame) else frame
        for line in own.itertuples(index=False):
            cells.append((place_name(line.layer, line.head), test.short, _cell(line)))
    data = result.provenance["data"]
    shown = out.grid("Names against what is no name, in means of the layer", "increments", cells)
    out.line(f"{data['n_documents']} held-out texts of {data['name']}, {data['n_bytes']:,} bytes;")
    out.line(_coverage(result))
    meant = "[ ] 95 % interval; " if "[" in shown else ""
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
