"""`lrope-interp study entities`: are increments inside names another size, because they are names?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands.analysis import Analysis, shares

if TYPE_CHECKING:
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.probes.studies.entities.pairs import EntityPair

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

    how = {"seed": asked.seed, "batch_size": asked.batch_size}
    asked.report(
        model,
        lambda on_progress: study(model, _selected(asked, names), names, **how, on_progress=on_progress),
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
