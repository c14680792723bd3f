"""`lrope-interp study entities`: are increments inside names another size, because they are names?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.probes.studies.entities.pairs import TESTED_BYTES

if TYPE_CHECKING:
    from lrope_interp.probes.capture.selection import Selection
    from lrope_interp.probes.studies.entities.pairs import EntityPair


@shares("entities", lacks=("gold",), max_bytes=TESTED_BYTES)
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

    asked.report(
        model,
        lambda on_progress: study(
            model,
            data=_selected(asked, names),
            pairs=names,
            seed=asked.seed,
            batch_size=asked.batch_size,
            on_progress=on_progress,
        ),
    )


def _selected(asked: Analysis, pairs: Sequence[EntityPair]) -> Selection:
    """Return held-out text; of a corpus the passages that hold names, which are few elsewhere."""
    from lrope_interp.data import read_manifest
    from lrope_interp.probes.studies.entities.text import select_names

    if asked.text is not None:
        return asked.select()
    return select_names(
        read_manifest(asked.run.folder),
        asked.data,
        pairs,
        max_bytes=asked.max_bytes,
        encoding_errors=asked.encoding_errors,
        text_column=asked.text_column,
    )
