"""`lrope-interp generate`: let a run write, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.commands.freezing import Freezing
    from lrope_interp.commands.output import Output
    from lrope_interp.models import LRopeTransformer


@dataclass(frozen=True)
class Writing:
    """How to write on.

    Attributes:
        max_new_tokens: Most bytes to add.
        temperature: Divides the logits; 0 takes the likeliest byte.
        top_k: Draw among the k likeliest.
        top_p: Draw among the fewest that together reach this probability.
        use_past_kv_cache: Whether to keep keys and values.
        seed: Of the draws.
        device: Where to compute.
        freezing: What is frozen for a second text; None writes one text.
    """

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    use_past_kv_cache: bool
    seed: int
    device: str
    freezing: Freezing | None = None


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command(cls=options.TextCommand)
    def generate(
        prompt: Annotated[
            str, typer.Argument(metavar="[PROMPT]", help="What to write on from. Default: a new document.")
        ] = "",
        model: options.Model = None,
        max_new_tokens: Annotated[
            int, typer.Option("--max-new-tokens", min=1, help="Most bytes to add; stops before that at EOS.")
        ] = 200,
        temperature: Annotated[
            float, typer.Option("--temperature", min=0.0, help="0 always takes the likeliest byte.")
        ] = 1.0,
        top_k: Annotated[
            int | None, typer.Option("--top-k", min=1, help="Draw among the K likeliest bytes.")
        ] = None,
        top_p: Annotated[
            float | None, typer.Option("--top-p", help="Draw among the fewest bytes of this probability.")
        ] = None,
        cache: Annotated[
            bool, typer.Option("--cache/--no-cache", help="Keep keys and values: faster, same text.")
        ] = True,
        freeze: options.Freeze = None,
        layer: Annotated[
            str | None,
            typer.Option("--layer", metavar="N|all", help="What --freeze freezes. Default: all layers."),
        ] = None,
        seed: options.Seed = 0,
        device: options.Device = "auto",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Let the model write on from a text."""
        from lrope_interp.commands.freezing import Freezing
        from lrope_interp.commands.output import Output

        freezing = Freezing.asked(freeze, layer)
        how = Writing(max_new_tokens, temperature, top_k, top_p, cache, seed, device, freezing)
        run(prompt, model, how, Output(as_json, quiet))


def run(prompt: str, model_folder: Path | None, how: Writing, out: Output) -> None:
    """Write on from `prompt`, showing the text as it comes, or two texts at the end."""
    from lrope_interp.commands import analyses as analysis

    found = analysis.find_run(model_folder, out)
    model = analysis.load_model(found, how.device)
    n_prompt = len(model.own_tokenizer().encode(prompt))
    n_needed = n_prompt + 1 + how.max_new_tokens
    if n_needed > model.cfg.n_ctx:
        raise LRopeError(
            f"n_ctx={model.cfg.n_ctx} of {found.folder} cannot hold {n_prompt} tokens of prompt "
            f"and {how.max_new_tokens} new ones; lower --max-new-tokens or shorten the prompt"
        )
    pieces = partial(_pieces, model, prompt, how)
    about = {"model": found.folder, "prompt": prompt, "seed": how.seed}
    if how.freezing is None:
        out.finish(about | {"text": _streamed(pieces(), out)})
        return
    from lrope_interp.commands.freezing import parting, write_both

    both = write_both(found, model, how.freezing, lambda: "".join(pieces()), out)
    out.line(parting(both["parts_at"], len(prompt)))
    out.finish(about | both)


def _pieces(model: LRopeTransformer, prompt: str, how: Writing) -> Iterator[str]:
    return model.generate_stream(
        prompt,
        how.max_new_tokens,
        max_tokens_per_yield=1,
        top_k=how.top_k,
        top_p=how.top_p,
        temperature=how.temperature,
        use_past_kv_cache=how.use_past_kv_cache,
        verbose=False,
        seed=how.seed,
    )


def _streamed(pieces: Iterator[str], out: Output) -> str:
    """Show a text as it comes, and return all of it."""
    written = []
    for piece in pieces:
        written.append(piece)
        out.text(piece, end="")
    out.text("")
    return "".join(written)
