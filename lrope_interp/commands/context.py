"""`lrope-interp study context`: what learned increments cost as context grows."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import Analysis, save, shares
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from collections.abc import Mapping

PRESET = "paper"
_SHAPE = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp", "max_increment", "rope_base")


@shares("context", "overwrite", "seed", "device", "open_page", "image", "as_json", "quiet", "verbose")
def context(
    asked: Analysis,
    preset: Annotated[options.PresetName | None, typer.Option(help="Whose shape. Default: paper.")] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run whose shape is taken instead.")
    ] = None,
    contexts: Annotated[
        str, typer.Option(metavar="N,N...", help="Tokens; trained up to 8192.")
    ] = "512,2048,8192",
    max_context: Annotated[
        int | None, typer.Option(help="The longest: contexts grow fourfold up to it, or are cut.")
    ] = None,
    skip_forward_above: Annotated[
        int | None, typer.Option(min=1, help="No forward pass beyond N tokens.")
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="ARM,ARM...", help="Of fixed, shared, per-layer, shared-per-head, per-layer-per-head."
        ),
    ] = "fixed,shared,per-layer",
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds after warm-up.")] = 5,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option(help="auto: bfloat16 where the hardware has it."),
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write. Default: runs/context, or RUN/context."),
    ] = None,
) -> None:
    """Measure what learned increments cost as context grows."""
    from lrope_interp.folders import reserved
    from lrope_interp.models.config import resolve_device
    from lrope_interp.probes.studies.context.context import measure_costs
    from lrope_interp.probes.studies.context.plan import CostPlan, parse_arms, parse_contexts
    from lrope_interp.results import stamp
    from lrope_interp.runs import RUNS, find_run
    from lrope_interp.training.distribution import resolve_dtype

    sizes, chosen = parse_contexts(contexts, max_context), parse_arms(arms)
    device = resolve_device(asked.device)
    plan = CostPlan(
        shape=_shape(preset, model),
        arms=chosen,
        contexts=sizes,
        repeats=repeats,
        device=device,
        dtype=resolve_dtype(dtype, device),
        seed=asked.seed,
        skip_forward_above=skip_forward_above,
    )
    asked.check_image()
    asked.output.note(
        f"{', '.join(arm.replace('_', '-') for arm in plan.arms)} at "
        f"{', '.join(f'{size:,}' for size in plan.contexts)} tokens, {plan.dtype} on {plan.device}"
    )
    target = out or (RUNS if model is None else find_run(model).home) / "context"
    with reserved(target, "context", overwrite=asked.overwrite, is_numbered=out is None) as reservation:
        with asked.output.progress(asked.command) as on_progress:
            measured = measure_costs(plan, on_progress=on_progress, on_note=asked.output.note)
        made = stamp(measured, command=shlex.join(["lrope-interp", *sys.argv[1:]]))
        shape = f"the shape of {model.name}" if model else f"preset {preset or PRESET}"
        made = replace(made, provenance={**made.provenance, "model": shape})
        result, where = save(made, target, reservation, asked.image)
    tables = {name: result.tables[name].to_dict("records") for name in ("arms", "costs", "angles", "targets")}
    asked.close(result, where, **tables)


def _shape(preset: str | None, model: Path | None) -> Mapping[str, Any]:
    """Return the shape of a run, or of a preset."""
    from lrope_interp.models.checkpoint import read_config
    from lrope_interp.runs import find_run
    from lrope_interp.training.config import train_config

    if model is None:
        config = train_config(preset or PRESET)
        return {name: getattr(config, name) for name in _SHAPE}
    if preset is not None:
        raise LRopeError("--preset and --model both say which shape: give one of them")
    return read_config(find_run(model).folder)["model"]
