"""`lrope-interp bench`: what learned increments cost as context grows."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError
from lrope_interp.folders import reserved
from lrope_interp.runs import RUNS, read_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lrope_interp.commands.output import Output
    from lrope_interp.probes.studies.context.plan import CostPlan
    from lrope_interp.results import Result

PRESET = "paper"
_SHAPE = ("n_layers", "d_model", "n_heads", "d_head", "d_mlp", "max_increment", "rope_base")


@dataclass(frozen=True)
class Asked:
    """What the user asked of `bench`; names are those of the options.

    Attributes:
        preset: Whose shape is measured; None: `PRESET`, unless a model is given.
        model: A run whose shape is measured instead.
        contexts: The list as it was given.
        max_context: The longest context, if it was given.
        skip_forward_above: No forward pass beyond so many tokens.
        arms: The list as it was given.
        repeats: Timed rounds.
        dtype: "auto", "float32" or "bfloat16".
        device: "auto", "cpu", "cuda" or "mps".
        seed: Of weights and inputs.
    """

    preset: str | None
    model: Path | None
    contexts: str
    max_context: int | None
    skip_forward_above: int | None
    arms: str
    repeats: int
    dtype: str
    device: str
    seed: int


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def bench(
        preset: Annotated[
            str | None,
            typer.Option("--preset", metavar="tiny|small|paper", help="Whose shape. Default: paper."),
        ] = None,
        model: Annotated[
            Path | None, typer.Option("--model", metavar="RUN", help="A run whose shape is taken instead.")
        ] = None,
        contexts: Annotated[
            str, typer.Option("--contexts", metavar="N,N...", help="Tokens; trained up to 8192.")
        ] = "512,2048,8192",
        max_context: Annotated[
            int | None,
            typer.Option("--max-context", help="The longest: contexts grow fourfold up to it, or are cut."),
        ] = None,
        skip_forward_above: Annotated[
            int | None,
            typer.Option("--skip-forward-above", min=1, help="No forward pass beyond N tokens."),
        ] = None,
        arms: Annotated[
            str,
            typer.Option(
                "--arms",
                metavar="ARM,ARM...",
                help="Of fixed, shared, per-layer, shared-per-head, per-layer-per-head.",
            ),
        ] = "fixed,shared,per-layer",
        repeats: Annotated[int, typer.Option("--repeats", min=1, help="Timed rounds after warm-up.")] = 5,
        dtype: Annotated[
            str,
            typer.Option(
                "--dtype", metavar="auto|float32|bfloat16", help="auto: bfloat16 where the hardware has it."
            ),
        ] = "auto",
        out: Annotated[
            Path | None,
            typer.Option("--out", metavar="DIR", help="Where to write. Default: runs/bench, or RUN/bench."),
        ] = None,
        overwrite: options.Overwrite = False,
        seed: options.Seed = 0,
        device: options.Device = "auto",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Measure what learned increments cost as context grows."""
        from lrope_interp.commands.output import Output

        limits = (contexts, max_context, skip_forward_above)
        asked = Asked(preset, model, *limits, arms, repeats, dtype, device, seed)
        run(asked, out, overwrite, Output(as_json, quiet))


def run(asked: Asked, folder: Path | None, overwrite: bool, out: Output) -> None:
    """Measure, and write result and report into a folder that appears whole or not at all."""
    from lrope_interp.training.process import set_malloc_thresholds

    set_malloc_thresholds()
    from lrope_interp.commands import analyses as analysis
    from lrope_interp.probes.studies.context.context import measure_costs
    from lrope_interp.reports.context.page import render_context_cost
    from lrope_interp.results import stamp

    plan = _plan(asked)
    out.note(
        f"{', '.join(arm.replace('_', '-') for arm in plan.arms)} at "
        f"{', '.join(f'{context:,}' for context in plan.contexts)} tokens, {plan.dtype} on {plan.device}"
    )
    target = folder or (asked.model or RUNS) / "bench"
    with reserved(target, "bench", overwrite=overwrite, is_numbered=folder is None) as reservation:
        with out.progress() as on_progress:
            measured = measure_costs(plan, on_progress=on_progress, on_note=out.note)
        made = stamp(measured, command=shlex.join(["lrope-interp", *sys.argv[1:]]))
        shape = f"the shape of {asked.model.name}" if asked.model else f"preset {asked.preset or PRESET}"
        made = replace(made, provenance={**made.provenance, "model": shape})
        result, where = analysis.save(made, render_context_cost, target, reservation)
    _print(result, out)
    _close(result, where, out)


def _plan(asked: Asked) -> CostPlan:
    """Turn words into what is measured; every mistake is found here."""
    from lrope_interp.probes.studies.context.plan import CostPlan, parse_arms, parse_contexts
    from lrope_interp.training.distribution import resolve_device, resolve_dtype

    contexts = parse_contexts(asked.contexts, asked.max_context)
    arms = parse_arms(asked.arms)
    device = resolve_device(asked.device)
    return CostPlan(
        shape=_shape(asked),
        arms=arms,
        contexts=contexts,
        repeats=asked.repeats,
        device=device,
        dtype=resolve_dtype(asked.dtype, device),
        seed=asked.seed,
        skip_forward_above=asked.skip_forward_above,
    )


def _shape(asked: Asked) -> Mapping[str, Any]:
    """Return the shape of a run, or of a preset."""
    from lrope_interp.models.checkpoint import read_config
    from lrope_interp.training.config import train_config

    if asked.model is None:
        config = train_config(asked.preset or PRESET)
        return {name: getattr(config, name) for name in _SHAPE}
    if asked.preset is not None:
        raise LRopeError("--preset and --model both say which shape: give one of them")
    return read_config(read_run(asked.model).folder)["model"]


def _print(result: Result, out: Output) -> None:
    from lrope_interp.reports.context.frames import PHASES
    from lrope_interp.reports.context.page import against, milliseconds, spread
    from lrope_interp.reports.context.words import sentences

    costs: Any = result.tables["costs"]
    rows = [
        [
            f"{line.context:,}",
            PHASES[line.phase],
            line.arm.replace("_", "-"),
            milliseconds(line.seconds_median),
            against(line, line.ratio_to_fixed),
            spread(line),
            f"{line.peak_mb:,.1f}" if line.peak_mb == line.peak_mb else "-",
        ]
        for line in costs.itertuples(index=False)
    ]
    header = ["tokens", "phase", "arm", "ms", "against fixed", "quartiles", "peak MB"]
    out.table("Costs, medians over rounds", header, rows)
    for title, sentence in sentences(result):
        out.line(f"{title}: {sentence}")
    out.line()


def _close(result: Result, folder: Path, out: Output) -> None:
    for warning in result.warnings:
        out.warn(warning)
    out.line(f"result  {folder}")
    out.line(f"report  {folder / 'report.html'}")
    tables = {name: result.tables[name].to_dict("records") for name in ("arms", "costs", "angles", "targets")}
    out.finish(
        {
            "result": folder,
            "report": folder / "report.html",
            "kind": result.kind,
            "headline": result.headline,
            **tables,
            "warnings": result.warnings,
            "provenance": result.provenance,
        }
    )
