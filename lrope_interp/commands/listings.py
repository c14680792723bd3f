"""What there is: corpora to train on, runs to read, reports to open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrope_interp.commands import options
from lrope_interp.commands.output import Voice, console, number
from lrope_interp.errors import LRopeError

if TYPE_CHECKING:
    from lrope_interp.runs import Run

REPORT = "report.html"
_WIDE = 99  # columns of a terminal that has room for the time as well


def corpora(as_json: options.Json = False) -> None:
    """List the corpora: what they are, and which are installed."""
    out = Voice(as_json)
    from lrope_interp.data import CORPORA, corpus_status

    rows, payload = [], []
    for info in CORPORA.values():
        status = corpus_status(info.name)
        is_here = "yes" if status == "installed" else "no"
        rows.append([info.name, info.summary, info.size, info.rights, is_here])
        payload.append(
            {
                "name": info.name,
                "summary": info.summary,
                "size": info.size,
                "language": info.language,
                "rights": info.rights,
                "is_installed": status == "installed",
                "install": None if status == "installed" else status,
            }
        )
    out.table("Corpora", ["name", "text", "size", "rights", "installed"], rows)
    out.line()
    for one in payload:
        if one["install"]:
            out.line(f"{one['name']}: {one['install']}")
    out.finish({"corpora": payload})


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Where the runs are. Default: ./runs.")
    ] = None,
    is_found: Annotated[bool, typer.Option("--found", help="Say under each report what it found.")] = False,
    as_json: options.Json = False,
) -> None:
    """List the runs, and the reports of the newest finished one and of the reference model."""
    from lrope_interp.folders import recover
    from lrope_interp.runs import REFERENCE, RUN_FILE, RUNS, SHIPPED, list_runs

    out = Voice(as_json)
    root = RUNS if folder is None else folder
    if folder is not None and not folder.is_dir():
        raise LRopeError(f"there is no folder {folder}; runs are under ./{RUNS} unless --out said otherwise")
    recover(root)
    found = list_runs(root, out.warn)
    finished = [run for run in found if run.is_finished]
    reports = reports_of(finished[-1].folder) if finished else []
    is_own = (root / REFERENCE / RUN_FILE).is_file()  # a run of that name, listed as such
    of_reference = [] if is_own else reports_of(root / REFERENCE)
    findings = {str(path): finding(path.parent, out.warn) for path in of_reference + reports if is_found}
    if found:
        header = ["run", "data", "increments", "seed", "steps", "nats/byte", "started"]
        n_shown = len(header) if console(to_stderr=False).width > _WIDE else -1
        rows = [_row(run, root)[:n_shown] for run in found]
        out.table(f"Runs under {root}, the newest last", header[:n_shown], rows)
        out.line()
    else:
        until = "; until then commands read the reference model" if (SHIPPED / RUN_FILE).is_file() else ""
        out.line(f"no runs under {root} yet: `lrope-interp train` makes one{until}")
    for whose, paths in (
        ("the reference model, which comes with the package (`--model reference`)", of_reference),
        (f"{finished[-1].folder}, the newest finished run" if finished else "", reports),
    ):
        out.line(f"Reports of {whose}:") if paths else None
        for path in paths:
            out.line(f"  {path}")
            if said := findings.get(str(path)):
                out.paragraph(said, "    ")
    payload = {"runs": [_entry(run) for run in found], "reports": reports, "of_reference": of_reference}
    out.finish({**payload, "found": findings} if is_found else payload)


def reports_of(folder: Path) -> list[Path]:
    """Return the training report and those of the analyses inside a run folder."""
    inner = sorted(folder.glob(f"*/{REPORT}"), key=lambda path: path.stat().st_mtime)
    own = folder / REPORT
    return [path for path in (own, *inner) if path.is_file() and not path.parent.name.startswith(".")]


def finding(folder: Path, warn: Callable[[str], object]) -> str:
    """Return what a result says in a sentence; "" of a folder without a result."""
    from lrope_interp import reports
    from lrope_interp.results import RESULT_FILE, load_result

    if not (folder / RESULT_FILE).is_file():  # a run with its training report
        return ""
    try:
        return reports.verdicts(load_result(folder)).headline
    except LRopeError as error:
        warn(f"left out: {error}")
        return ""


def _row(run: Run, root: Path) -> list[str]:
    info = run.info
    kind, _, data = str(info.get("data", "-")).rpartition(":")
    return [
        str(run.folder.relative_to(root)),
        Path(data).name if kind == "file" else data,
        str(info.get("increments", "-")).replace("_", " ") + (" per head" if info.get("per_head") else ""),
        str(info.get("seed", "-")),
        str(info.get("n_steps", "-")),
        number(run.summary.get("validation_nats_per_byte")) if run.is_finished else "unfinished",
        run.started.strftime("%Y-%m-%d %H:%M"),
    ]


def _entry(run: Run) -> dict[str, object]:
    return {"folder": run.folder, **{name: value for name, value in run.info.items() if name != "format"}}
