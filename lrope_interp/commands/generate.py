"""`lrope-interp generate`: let a run write, byte by byte, and beside it what it writes ablated."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, shares
from lrope_interp.commands.output import Voice, console
from lrope_interp.errors import LRopeError, visible

if TYPE_CHECKING:
    from lrope_interp.models import LRopeTransformer
    from lrope_interp.probes.ablations.interventions import Intervention

LEAST_WIDTH = 80
"""Columns of a terminal that two texts need beside each other."""


@shares("generate", "model", "seed", "device", "as_json", "quiet")
def generate(
    asked: Analysis,
    prompt: Annotated[
        str, typer.Argument(metavar="[PROMPT]", help="What to write on from. Default: a new document.")
    ] = "",
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Most bytes to add; stops before that at EOS.")
    ] = 200,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 always takes the likeliest byte.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Draw among the K likeliest bytes.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the fewest bytes of this probability.")
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep keys and values: faster, same text.")
    ] = True,
    freeze: options.Freeze = None,
    layer: Annotated[
        str | None, typer.Option(metavar="N|all", help="What --freeze freezes. Default: all layers.")
    ] = None,
) -> None:
    """Let the model write on from a text."""
    if freeze is None and layer is not None:
        raise LRopeError(
            "--layer says what --freeze freezes: give --freeze 1|mean|lexical too, or leave --layer away"
        )
    run, model, out = asked.run, asked.load_model(), asked.output
    n_prompt = len(model.own_tokenizer().encode(prompt))
    if n_prompt + 1 + max_new_tokens > model.cfg.n_ctx:
        raise LRopeError(
            f"n_ctx={model.cfg.n_ctx} of {run.called} cannot hold {n_prompt} tokens of prompt "
            f"and {max_new_tokens} new ones; lower --max-new-tokens or shorten the prompt"
        )

    def pieces() -> Iterator[str]:
        return model.generate_stream(
            prompt,
            max_new_tokens,
            max_tokens_per_yield=1,
            top_k=top_k,
            top_p=top_p,
            temperature=temperature,
            use_past_kv_cache=cache,
            verbose=False,
            seed=asked.seed,
        )

    about = {"model": run.called, "prompt": prompt, "seed": asked.seed}
    if freeze is None:
        written = []
        for piece in pieces():  # shown as it comes
            written.append(piece)
            out.text(piece, end="")
        out.text("")
        out.finish(about | {"text": "".join(written)})
        return
    from lrope_interp.probes.ablations.attach import ablated
    from lrope_interp.probes.ablations.plan import FROZEN
    from lrope_interp.reports.ablations.tables import short

    layers = options.pick_layers(layer or options.ALL, model.cfg.n_layers)
    intervention = _intervention(asked, model, freeze)
    text = "".join(pieces())
    with ablated(model, intervention, layers=layers):
        other = "".join(pieces())
    where = "all layers" if layer in (None, options.ALL) else f"layer {layers[0]}"
    _show({"untouched": text, f"{where} {short(FROZEN[freeze])}": other}, out)
    at = parts_at(text, other)
    out.line(parting(at, len(prompt)))
    out.finish(about | {"text": text, "ablated": other, "parts_at": at, "freeze": freeze, "layers": layers})


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


def _intervention(asked: Analysis, model: LRopeTransformer, to: str) -> Intervention:
    """Return what is written over the increments; means are fitted on held-out text first."""
    from dataclasses import replace

    from lrope_interp.probes.ablations import interventions
    from lrope_interp.probes.capture.capture import staged
    from lrope_interp.probes.capture.increment_statistics import fit_increments
    from lrope_interp.probes.capture.suites import FULL, amounts

    if to == "1":
        return interventions.freeze(1.0)
    documents = replace(asked, model=asked.run.folder).select(**amounts("ablate", FULL)).fit
    n_bytes = sum(one.n_bytes for one in documents)
    asked.output.note(f"means of {n_bytes:,} bytes that the model was not trained on")
    with asked.output.progress() as on_progress:
        fitted = fit_increments(model, documents, on_progress=staged(on_progress, "fit"))
    return {"mean": interventions.layer_mean, "lexical": interventions.lexical_mean}[to](fitted)


def _show(texts: Mapping[str, str], out: Voice) -> None:
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
