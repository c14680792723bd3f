"""`generate --freeze`: what a run writes, and what it writes ablated, side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from lrope_interp.commands import options
from lrope_interp.commands.output import Output, console
from lrope_interp.errors import LRopeError, visible

if TYPE_CHECKING:
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.ablations.interventions import Intervention
    from lrope_interp.runs import Run

LEAST_WIDTH = 80
"""Columns of a terminal that two texts need beside each other."""


@dataclass(frozen=True)
class Freezing:
    """What is frozen, and where.

    Attributes:
        to: "1", "mean" or "lexical".
        layer: A layer, or "all".
    """

    to: str
    layer: str

    @classmethod
    def asked(cls, freeze: str | None, layer: str | None) -> Freezing | None:
        """Return what ``--freeze`` and ``--layer`` ask for; None where nothing is frozen."""
        if freeze is not None:
            return cls(options.check_freeze(freeze), layer or options.ALL)
        if layer is not None:
            raise LRopeError(
                f"--layer says what --freeze freezes: give --freeze {'|'.join(options.FREEZES)} too, "
                "or leave --layer away"
            )
        return None

    def name(self, layers: list[int]) -> str:
        """Name it as the report of `ablate` does."""
        from lrope_interp.probes.ablations.plan import FROZEN
        from lrope_interp.reports.ablations.names import short

        where = "all layers" if self.layer == options.ALL else f"layer {layers[0]}"
        return f"{where} {short(FROZEN[self.to])}"


def write_both(
    run: Run, model: LRopeTransformer, freezing: Freezing, write: Callable[[], str], out: Output
) -> dict[str, Any]:
    """Let a model write untouched and ablated, show both texts, and return what JSON says of them.

    Args:
        run: Where the model came from; means are fitted on held-out text of its corpus.
        model: The model.
        freezing: What is frozen.
        write: Returns the model's text, the prompt included, the same whenever nothing is ablated.
        out: Where to show it.
    """
    from lrope_interp.probes.ablations.attach import ablated

    layers = options.pick_layers(freezing.layer, model.cfg.n_layers)
    intervention = _intervention(run, model, freezing.to, out)
    text = write()
    with ablated(model, intervention, layers=layers):
        other = write()
    _show({"untouched": text, freezing.name(layers): other}, out)
    at = parts_at(text, other)
    return {"text": text, "ablated": other, "parts_at": at, "freeze": freezing.to, "layers": layers}


def parts_at(text: str, other: str) -> int | None:
    """Return the number of the first character that differs, counted from 0; None where none does."""
    n_same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, other, strict=False)))
    return None if text == other else n_same


def parting(at: int | None, n_prompt: int) -> str:
    """Say where two texts part, in characters.

    Args:
        at: What `parts_at` gives.
        n_prompt: Characters of the prompt.
    """
    if at is None:
        return "the two texts are the same"
    return f"the texts part at character {at} (counted from 0), {at - n_prompt} after the prompt"


def _intervention(run: Run, model: LRopeTransformer, to: str, out: Output) -> Intervention:
    """Return what is written over the increments; means are fitted on held-out text first."""
    from lrope_interp.probes.ablations import interventions
    from lrope_interp.probes.capture.increment_statistics import fit_increments

    if to == "1":
        return interventions.freeze(1.0)
    from lrope_interp.commands.ablate import MAX_BYTES
    from lrope_interp.commands.analyses import Source

    documents = Source(None, None, MAX_BYTES, "strict", spread=True).select(run).fit
    out.note(f"means of {sum(one.n_bytes for one in documents):,} bytes that the model was not trained on")
    with out.progress() as on_progress:
        fitted = fit_increments(
            model, documents, on_progress=lambda _, done, total: on_progress("fit", done, total)
        )
    return {"mean": interventions.layer_mean, "lexical": interventions.lexical_mean}[to](fitted)


def _show(texts: dict[str, str], out: Output) -> None:
    """Show texts in columns on a terminal that is wide enough, else one after the other."""
    if out.as_json:
        return
    screen = console(to_stderr=False)
    if not (sys.stdout.isatty() and screen.width >= LEAST_WIDTH):
        for name, text in texts.items():
            out.text(f"--- {name} ---\n{text}\n")
        return
    from rich.table import Table
    from rich.text import Text

    columns = Table(box=None, padding=(0, 2, 0, 0), expand=True)
    for name in texts:
        columns.add_column(name, ratio=1, overflow="fold")
    columns.add_row(*(Text(visible(text, keep="\n\t")) for text in texts.values()))
    screen.print(columns)
    out.line()
