"""`lrope-interp study replicate`: train arms over seeds, compare them seed by seed; are they equal?"""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrope_interp.commands import options
from lrope_interp.commands.analysis import INTERRUPTED, Analysis, shares
from lrope_interp.commands.output import Voice
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.commands.progress import Course
    from lrope_interp.probes.studies.replication.replication import Comparison
    from lrope_interp.results import Result
    from lrope_interp.runs import Run
    from lrope_interp.training.config import TrainConfig
    from lrope_interp.training.replication import Replication


@shares("replicate", "device", "encoding_errors", "open_page", "image", "as_json", "quiet", "verbose")
def replicate(
    asked: Analysis,
    arms: Annotated[
        str,
        typer.Option(
            metavar="ARM,ARM...",
            help="Of fixed, fixed-wide, shared, per-layer, shared-per-head, per-layer-per-head.",
        ),
    ] = "fixed,fixed-wide,shared,per-layer",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0 to N - 1, for every arm.")] = 5,
    preset: Annotated[options.PresetName | None, typer.Option(help="Default: tiny.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: what the preset says.")] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="NAME|file:PATH", help="Corpus. Default: bilingual."),
    ] = None,
    reference: Annotated[
        str, typer.Option(metavar="ARM", help="The arm that the others are compared with.")
    ] = "fixed",
    margin: Annotated[
        float, typer.Option(metavar="NATS", help="Difference that counts as none, a byte.")
    ] = 0.003,
    looks: Annotated[
        int | None,
        typer.Option(min=1, help="How often arms will be compared while seeds are added. Default: once."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Its runs are gone on with. Default: runs/replicate-..."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again; --out is replaced at the end.")
    ] = False,
) -> None:
    """Train arms over paired seeds; tell whether their losses are equal."""
    from lrope_interp.commands.progress import Course, listen
    from lrope_interp.commands.train import write_report
    from lrope_interp.folders import as_given
    from lrope_interp.probes.studies.replication.replication import Comparison, next_look
    from lrope_interp.results import RESULT_FILE, load_result, stamp
    from lrope_interp.training.config import train_config
    from lrope_interp.training.replication import check_reference, opened, parse_arms, train_missing

    asked.check_image()
    say, parsed = asked.output, parse_arms(arms)
    reference = check_reference(reference, parsed)
    Comparison(reference, margin)
    base = train_config(
        preset or "tiny",
        n_steps=steps,
        data=data,
        device=None if asked.device == "auto" else asked.device,
        encoding_errors=asked.encoding_errors,
    )
    replication = _resolve(parsed, seeds, base, out, overwrite)
    has_result = (replication.folder / RESULT_FILE).exists() and not overwrite
    declared, looked_at = next_look(load_result(replication.folder) if has_result else None, seeds, looks)
    comparison = Comparison(reference, margin, declared, looked_at)
    planned = replication.runs()
    n_finished = 0 if overwrite else sum(one.trained() is not None for one in planned)
    _say_what_runs(replication, n_finished, say)
    course = Course(len(planned), n_finished, replication.base.n_steps)
    try:
        with opened(replication, overwrite=overwrite) as place:
            working = dataclasses.replace(replication, folder=as_given(replication.folder, place.folder))
            if place.is_beside:
                say.warn(f"{place.target.name} stays until {working.folder} is whole, which then replaces it")
            with listen(say, course) as on_event:
                runs = train_missing(working, on_event)
            for one in runs:
                if not (one.folder / "report.html").exists():
                    write_report(one)
            made = _compare(working, comparison, runs, say)
            folder = as_given(working.folder, place.target)
            result = stamp(made, command=_command(folder))
            _save(result, working.folder, asked.image)
            place.settle()
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(replication, course), err=True)
        raise typer.Exit(INTERRUPTED) from None
    columns = ["arm", "reference", "margin", "mean", "ci90_low", "ci90_high", "verdict", "power"]
    differences: Any = result.tables["differences"]
    asked.close(result, folder, differences=differences[columns].to_dict("records"))


def _resolve(
    arms: tuple[str, ...], n_seeds: int, base: TrainConfig, out: Path | None, overwrite: bool
) -> Replication:
    """Turn words into an experiment whose text and runs were looked at; nothing is written."""
    from lrope_interp.runs import RUNS
    from lrope_interp.training import events
    from lrope_interp.training.config import run_name
    from lrope_interp.training.preparation import prepare
    from lrope_interp.training.replication import Replication, as_begun, at_default_place, check

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LRopeError(
            "replicate trains one run after the other in one process: start it without `accelerate launch` "
            "and torchrun"
        )
    name = run_name(base).removesuffix(f"-{base.increments}-s{base.seed}")
    replication = Replication(out or RUNS / f"replicate-{name}", arms, n_seeds, base)
    if out is None and not overwrite:
        replication = at_default_place(replication)
    if not overwrite:
        replication = as_begun(replication)
    manifest = prepare(replication.runs()[0].config, events.ignore).manifest
    check(replication, manifest, is_replaced=overwrite)
    return replication


def _say_what_runs(replication: Replication, n_finished: int, out: Voice) -> None:
    from lrope_interp.training.replication import WIDENED, WIDENED_TO, extra_units, n_extra_parameters, spoken

    base, arms = replication.base, replication.arms
    n_runs = len(arms) * replication.n_seeds
    out.note(
        f"{replication.folder}: {n_runs} runs ({', '.join(map(spoken, arms))}; "
        f"seeds 0 to {replication.n_seeds - 1}; {base.n_steps} steps), {n_finished} of them finished"
    )
    for arm in arms:
        if arm == WIDENED:
            out.note(
                f"{spoken(arm)}: {extra_units(base)} more MLP units a layer, "
                f"+{n_extra_parameters(arm, base):,} parameters beside "
                f"+{n_extra_parameters(WIDENED_TO, base):,} of {spoken(WIDENED_TO)}"
            )


def _compare(replication: Replication, comparison: Comparison, runs: Sequence[Run], out: Voice) -> Result:
    """Score every run on the full validation set and compare the arms."""
    from lrope_interp.models.config import resolve_device
    from lrope_interp.probes.capture.selection import describe
    from lrope_interp.probes.studies.replication.replication import replicate_result
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


def _save(result: Result, folder: Path, image: str | None) -> None:
    from lrope_interp.folders import REPLICATE, record
    from lrope_interp.reports import write_image
    from lrope_interp.results import load_result, save_result

    save_result(result, folder)
    load_result(folder).report(folder / "report.html")
    record(folder, REPLICATE, ("result.json", "report.html", *(f"{name}.csv" for name in result.tables)))
    if image is not None:
        write_image(result, folder / f"figure.{image}")
        record(folder, REPLICATE, (f"figure.{image}",))


def _command(folder: Path) -> str:
    """Return the command as it was given, without what would begin again, and with its folder."""
    words = [word for word in ["lrope-interp", *sys.argv[1:]] if word != "--overwrite"]
    is_named = any(word == "--out" or word.startswith("--out=") for word in words)
    return shlex.join(words if is_named else [*words, "--out", str(folder)])


def _how_to_go_on(replication: Replication, course: Course) -> str:
    at_hand = ""
    if course.step and course.planned is not None:
        saved = course.saved
        where = "begins again" if saved is None else f"goes on from step {saved}"
        at_hand = f", {course.planned.name} {where}"
    return (
        f"interrupted: {course.n_finished} of {course.n_runs} runs are finished{at_hand}. "
        f"Go on with: {_command(replication.folder)}"
    )
