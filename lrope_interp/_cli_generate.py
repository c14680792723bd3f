"""`lrope-interp generate`: let a run write, byte by byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lrope_interp import _cli_options as options
from lrope_interp.errors import LRopeError


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
    """

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    use_past_kv_cache: bool
    seed: int
    device: str


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
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
        seed: options.Seed = 0,
        device: options.Device = "auto",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Let the model write on from a text."""
        from lrope_interp._cli_output import Output

        how = Writing(max_new_tokens, temperature, top_k, top_p, cache, seed, device)
        run(prompt, model, how, Output(as_json, quiet))


def run(prompt: str, model_folder: Path | None, how: Writing, out: Any) -> None:
    """Write on from `prompt`, showing the text as it comes."""
    from lrope_interp import _cli_analysis as analysis

    found = analysis.find_run(model_folder, out)
    model = analysis.load_model(found, how.device)
    n_prompt = len(model.own_tokenizer().encode(prompt))
    n_needed = n_prompt + 1 + how.max_new_tokens
    if n_needed > model.cfg.n_ctx:
        raise LRopeError(
            f"n_ctx={model.cfg.n_ctx} of {found.folder} cannot hold {n_prompt} tokens of prompt "
            f"and {how.max_new_tokens} new ones; lower --max-new-tokens or shorten the prompt"
        )
    pieces = model.generate_stream(
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
    written = []
    for piece in pieces:
        written.append(piece)
        if not out.as_json:
            typer.echo(piece, nl=False)
    if not out.as_json:
        typer.echo()
    out.finish({"model": found.folder, "prompt": prompt, "text": "".join(written), "seed": how.seed})
