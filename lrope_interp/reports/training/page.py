"""The page of a training run: loss, increments over time, and how the run went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrope_interp.files import ModelFile
from lrope_interp.reports.kit.render import rendered
from lrope_interp.reports.kit.wording import facts, plural
from lrope_interp.reports.training import figures, tables
from lrope_interp.reports.training.tables import verdicts
from lrope_interp.runs import Run, read_run

__all__ = ["render", "verdicts"]


def render(run_folder: Path) -> str:
    """Render the page of a run folder, finished or not.

    Raises:
        LRopeError: The folder is missing or is no run.
    """
    folder = Path(run_folder)
    run = read_run(folder, allow_unfinished=True)
    config = tables.read_object(folder / "config.json", ModelFile)
    losses = tables.loss_frame(folder)
    step, n_steps = int(losses["step"].max()) if len(losses) else 0, int(run.info.get("n_steps") or 0)
    unfinished = f"This run is not finished: step {step:,} of {n_steps:,} is the last one logged."
    return rendered(
        "training/report.html.j2",
        verdicts(folder),
        kicker="lrope-interp train",
        about=_facts(run, config),
        warnings=() if run.is_finished else (unfinished,),
        name=folder.resolve().name,
        run=run,
        folder=folder,
        n_layers=tables.increments_frame(folder)["layer"].nunique(),
        summary=tables.summary_table(run, losses),
        settings=tables.settings_tables(folder, config),
        figures_of=figures,
        tables=tables,
    )


def _facts(run: Run, config: Mapping[str, Any]) -> dict[str, str]:
    info = run.info
    known = facts(
        {"config": config.get("model"), "versions": info.get("versions"), "seed": info.get("seed"),
         "command": info.get("command")}
    )  # fmt: skip
    n_parameters = info.get("n_parameters")
    if isinstance(n_parameters, int):
        known["Model"] = f"{known.get('Model', '')} · {n_parameters:,} parameters".strip(" ·")
    device = " ".join(str(info[key]) for key in ("device", "dtype") if info.get(key))
    threads = f", {info['threads']} threads" if info.get("threads") else ""
    extra = {
        "Run": f"preset {info.get('preset')}, {plural(int(info.get('n_steps') or 0), 'step')}",
        "Text": str(info.get("data", "")),
        "Device": device + threads,
        "Started": _minute(info.get("started")),
        "Finished": _minute(info.get("finished")) or "not yet",
    }
    return {**{name: value for name, value in extra.items() if value}, **known}


def _minute(moment: object) -> str:
    return str(moment).replace("T", " ")[:16] + " UTC" if moment else ""
