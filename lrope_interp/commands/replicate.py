"""`lrope-interp replicate`: train arms over seeds, compare them seed by seed, say whether they are equal."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.errors import LRopeError
from lrope_interp.folders import as_given

if TYPE_CHECKING:
    from lrope_interp.commands.output import Output
    from lrope_interp.commands.replicate_progress import Course
    from lrope_interp.probes.studies.replication.replication import Comparison
    from lrope_interp.results import Result
    from lrope_interp.runs import Run
    from lrope_interp.training.replication import Replication

INTERRUPTED = 130


@dataclass(frozen=True)
class Asked:
    """What the user asked of `replicate`.

    Attributes:
        arms: The list as it was given.
        n_seeds: How many seeds.
        reference: The arm that the others are compared with.
        margin: Half width of what counts as equal, in nats per byte.
        given: Fields of the training config that were given.
        out: ``--out``, if it was given.
        overwrite: Whether to begin again from nothing.
    """

    arms: str
    n_seeds: int
    reference: str
    margin: float
    given: Mapping[str, Any]
    out: Path | None
    overwrite: bool


def register(app: typer.Typer) -> None:
    """Add the command to the application."""

    @app.command()
    def replicate(
        arms: Annotated[
            str,
            typer.Option(
                "--arms",
                metavar="ARM,ARM...",
                help="Of fixed, fixed-wide, shared, per-layer, shared-per-head, per-layer-per-head.",
            ),
        ] = "fixed,fixed-wide,shared,per-layer",
        seeds: Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0 to N - 1, for every arm.")] = 5,
        preset: Annotated[
            str | None, typer.Option("--preset", metavar="tiny|small|paper", help="Default: tiny.")
        ] = None,
        steps: Annotated[
            int | None, typer.Option("--steps", min=1, help="Default: what the preset says.")
        ] = None,
        data: Annotated[
            str | None,
            typer.Option("--data", metavar="NAME|file:PATH", help="Corpus. Default: bilingual."),
        ] = None,
        reference: Annotated[
            str, typer.Option("--reference", metavar="ARM", help="The arm that the others are compared with.")
        ] = "fixed",
        margin: Annotated[
            float, typer.Option("--margin", metavar="NATS", help="Difference that counts as none, a byte.")
        ] = 0.003,
        out: Annotated[
            Path | None,
            typer.Option(
                "--out", metavar="DIR", help="Its runs are gone on with. Default: runs/replicate-..."
            ),
        ] = None,
        overwrite: Annotated[
            bool, typer.Option("--overwrite", help="Begin again; --out is replaced at the end.")
        ] = False,
        device: options.Device = "auto",
        encoding_errors: options.EncodingErrors = "strict",
        as_json: options.Json = False,
        quiet: options.Quiet = False,
    ) -> None:
        """Train arms over paired seeds; tell whether their losses are equal."""
        from lrope_interp.commands.output import Output

        given = {
            "preset": preset,
            "n_steps": steps,
            "data": data,
            "device": None if device == "auto" else device,
            "encoding_errors": options.check_encoding_errors(encoding_errors),
        }
        known = {name: value for name, value in given.items() if value is not None}
        run(Asked(arms, seeds, reference, margin, known, out, overwrite), Output(as_json, quiet))


def run(asked: Asked, out: Output) -> None:
    """Train what is missing, score it, and write the result and its report."""
    from lrope_interp.training.process import set_malloc_thresholds

    set_malloc_thresholds()
    from lrope_interp.commands.replicate_progress import Course
    from lrope_interp.commands.replicate_summary import close, show
    from lrope_interp.results import stamp
    from lrope_interp.training.replication import opened

    replication, comparison = _resolve(asked)
    planned = replication.runs()
    n_finished = 0 if asked.overwrite else sum(one.trained() is not None for one in planned)
    _say_what_runs(replication, n_finished, out)
    course = Course(len(planned), n_finished, replication.base.n_steps)
    try:
        with opened(replication, overwrite=asked.overwrite) as place:
            working = dataclasses.replace(replication, folder=as_given(replication.folder, place.folder))
            if place.is_beside:
                out.warn(f"{place.target.name} stays until {working.folder} is whole, which then replaces it")
            made = _train_and_compare(working, comparison, course, out)
            folder = as_given(working.folder, place.target)
            result = stamp(made, command=_command(folder))
            _save(result, working.folder)
            place.settle()
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(replication, course), err=True)
        raise typer.Exit(INTERRUPTED) from None
    show(result, comparison, out)
    close(result, folder, folder / "report.html", out)


def _resolve(asked: Asked) -> tuple[Replication, Comparison]:
    """Turn words into an experiment whose text and runs were looked at; nothing is written."""
    from lrope_interp.commands.train import run_name
    from lrope_interp.probes.studies.replication.replication import Comparison
    from lrope_interp.runs import RUNS
    from lrope_interp.training import events
    from lrope_interp.training.config import train_config
    from lrope_interp.training.preparation import prepare
    from lrope_interp.training.replication import (
        Replication,
        as_begun,
        at_default_place,
        check,
        check_reference,
        parse_arms,
    )

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LRopeError(
            "replicate trains one run after the other in one process: start it without `accelerate launch` "
            "and torchrun"
        )
    arms = parse_arms(asked.arms)
    comparison = Comparison(check_reference(asked.reference, arms), asked.margin)
    base = train_config(**asked.given)
    name = run_name(base).removesuffix(f"-{base.increments}-s{base.seed}")
    replication = Replication(asked.out or RUNS / f"replicate-{name}", arms, asked.n_seeds, base)
    if asked.out is None and not asked.overwrite:
        replication = at_default_place(replication)
    if not asked.overwrite:
        replication = as_begun(replication)
    manifest = prepare(replication.runs()[0].config, events.ignore).manifest
    check(replication, manifest, is_replaced=asked.overwrite)
    return replication, comparison


def _say_what_runs(replication: Replication, n_finished: int, out: Output) -> None:
    from lrope_interp.training.replication import ARMS, WIDENED_TO, extra_units, n_extra_parameters, spoken

    base, arms = replication.base, replication.arms
    n_runs = len(arms) * replication.n_seeds
    out.note(
        f"{replication.folder}: {n_runs} runs ({', '.join(map(spoken, arms))}; "
        f"seeds 0 to {replication.n_seeds - 1}; {base.n_steps} steps), {n_finished} of them finished"
    )
    for arm in arms:
        if ARMS[arm].is_widened:
            out.note(
                f"{spoken(arm)}: {extra_units(base)} more MLP units a layer, "
                f"+{n_extra_parameters(arm, base):,} parameters beside "
                f"+{n_extra_parameters(WIDENED_TO, base):,} of {spoken(WIDENED_TO)}"
            )


def _train_and_compare(
    replication: Replication, comparison: Comparison, course: Course, out: Output
) -> Result:
    from lrope_interp.commands.replicate_progress import listen_to_runs
    from lrope_interp.training.replication import train_missing

    with listen_to_runs(out, course) as on_event:
        runs = train_missing(replication, on_event)
    _write_run_reports(runs)
    return _compare(replication, comparison, runs, out)


def _write_run_reports(runs: Sequence[Run]) -> None:
    from lrope_interp.commands.train import write_report

    for one in runs:
        if not (one.folder / "report.html").exists():
            write_report(one)


def _compare(replication: Replication, comparison: Comparison, runs: Sequence[Run], out: Output) -> Result:
    """Score every run on the full validation set and compare the arms."""
    from lrope_interp.probes.capture.selection import describe
    from lrope_interp.probes.studies.replication.replication import replicate_result
    from lrope_interp.training.distribution import resolve_device
    from lrope_interp.training.preparation import training_corpus
    from lrope_interp.training.replication import (
        SPLIT,
        differing_conditions,
        full_validation,
        rows_of,
        score,
    )

    base, planned = replication.base, replication.runs()
    corpus = training_corpus(base)
    documents = full_validation(corpus)
    rows: dict[str, list[dict[str, Any]]] = {"runs": [], "languages": [], "curves": []}
    with out.progress() as on_progress:
        for k, (one, trained) in enumerate(zip(planned, runs, strict=True)):
            on_progress("scoring the full validation set", k, len(planned))
            scored = score(one, trained, documents, device=resolve_device(base.device))
            for name, found in rows_of(one, trained, scored).items():
                rows[name] += found
        on_progress("scoring the full validation set", len(planned), len(planned))
    config = {name: value for name, value in base.to_dict().items() if name not in _NOT_SHARED}
    return replicate_result(
        rows,
        comparison,
        config=config,
        data=describe(corpus.name, documents, SPLIT),
        warnings=differing_conditions(runs),
    )


_NOT_SHARED = ("increments", "per_head", "widened", "seed")


def _save(result: Result, folder: Path) -> None:
    from lrope_interp.folders import REPLICATE, record
    from lrope_interp.reports.kit.page import write_page
    from lrope_interp.reports.replication.page import render_replication
    from lrope_interp.results import load_result, save_result

    save_result(result, folder)
    write_page(render_replication(load_result(folder)), folder / "report.html")
    record(folder, REPLICATE, ("result.json", "report.html", *(f"{name}.csv" for name in result.tables)))


def _command(folder: Path) -> str:
    """Return the command as it was given, without what would begin again, and with its folder."""
    words = [word for word in ["lrope-interp", *sys.argv[1:]] if word != "--overwrite"]
    is_named = any(word == "--out" or word.startswith("--out=") for word in words)
    return shlex.join(words if is_named else [*words, "--out", str(folder)])


def _how_to_go_on(replication: Replication, course: Course) -> str:
    at_hand = ""
    if course.step and course.planned is not None:
        saved = course.state.saved
        where = "begins again" if saved is None else f"goes on from step {saved}"
        at_hand = f", {course.planned.name} {where}"
    return (
        f"interrupted: {course.n_finished} of {course.n_runs} runs are finished{at_hand}. "
        f"Go on with: {_command(replication.folder)}"
    )
