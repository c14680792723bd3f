"""Results of one kind side by side: other models, other seeds, ablated against not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from lrope_interp import reports
from lrope_interp.errors import LRopeError
from lrope_interp.reports.kit import theme
from lrope_interp.reports.kit.frames import Frame
from lrope_interp.reports.kit.glyphs import plain
from lrope_interp.reports.kit.rows_figure import dots, named, reach, rows_figure
from lrope_interp.reports.kit.verdicts import COLUMNS, Verdicts
from lrope_interp.reports.kit.wording import listed, number
from lrope_interp.results import Result


def compare(*results: Result, names: Sequence[str] | None = None) -> Result:
    """Put the verdicts of results of one kind side by side.

    Args:
        results: Two or more, of one kind.
        names: What they are called; the names of their models if None, numbered where two share one.

    Returns:
        A result of kind "compare" whose table `compared` has a row for each question and result, with the
        columns of `Result.frame()` and `result`. Differences between results are shown and not tested: their
        intervals are each their own.

    Raises:
        LRopeError: They are fewer than two or of several kinds, or names are missing or stand twice.
    """
    kinds = {result.kind for result in results if isinstance(result, Result)}
    if len(results) < 2 or len(kinds) != 1 or not all(isinstance(result, Result) for result in results):
        given = listed(sorted(kinds)) or "none"
        raise LRopeError(f"compare takes two or more results of one kind; given were {len(results)}: {given}")
    called = (
        [str(result.provenance.get("model") or "model") for result in results] if names is None else [*names]
    )
    if names is None and len({*called}) < len(called):
        called = [f"{name} ({i})" for i, name in enumerate(called, 1)]
    if len(called) != len(results) or len({*called}) < len(called):
        raise LRopeError(f"{len(results)} results want as many different names; given were {listed(called)}")
    found = [reports.verdicts(result) for result in results]
    frames = [
        one.frame.reindex(columns=list(COLUMNS)).assign(result=n)
        for one, n in zip(found, called, strict=True)
    ]
    rows: Frame = pd.concat(frames, ignore_index=True)
    order = {what: i for i, what in enumerate(dict.fromkeys(rows["what"]))}
    rows = rows.iloc[rows["what"].map(order).argsort(kind="stable")].reset_index(drop=True)
    words = ["what", "where", "control", "verdict", "result"]
    rows[words] = rows[words].fillna("").astype(str).astype("str")
    numbers = [name for name in COLUMNS if name not in words]
    rows[numbers] = rows[numbers].astype(float)
    texts = {str((result.provenance.get("data") or {}).get("sha256", "")) for result in results}
    apart = ("the results are not of the same text",) if len(texts) > 1 else ()
    warnings = [
        f"{name}: {text}" for name, result in zip(called, results, strict=True) for text in result.warnings
    ]
    (kind,) = kinds
    provenance = {**results[0].provenance, "model": listed(called), "model_sha256": "", "command": ""}
    return Result(
        "compare",
        provenance | {"compared": kind, "names": found[0].names, "of": called},
        {"n_results": len(results)},
        {"compared": rows},
        (*apart, *warnings),
    )


def verdicts(result: Result) -> Verdicts:
    """Return a row a question and result, and whether the verdicts agree."""
    rows: Frame = result.tables["compared"]
    of = result.provenance.get("of") or []
    told = rows[rows["verdict"] != ""].groupby("what", sort=False)["verdict"].agg(["nunique", "size"])
    shared = told[told["size"] == len(of)]
    n_agree = int((shared["nunique"] == 1).sum())
    headline = f"The verdicts of {len(of)} results agree for {n_agree} of {len(shared)} questions."
    frame = rows.assign(
        what=[f"{what}, {name}" for what, name in zip(rows["what"], rows["result"], strict=True)]
    )
    return Verdicts(
        headline=headline if len(shared) else f"{len(of)} results side by side; no verdict is shared by all.",
        frame=frame,
        names=dict(result.provenance.get("names") or {}),
        caption="Each interval is that of its own result; a difference between results is not tested here.",
    )


def plot_differences(result: Result) -> go.Figure:
    """Draw each result's difference from its strongest control, a row a question."""
    return _plot(result, "difference", "difference_low", "difference_high")


def plot_values(result: Result) -> go.Figure:
    """Draw each result's best value, a row a question."""
    return _plot(result, "value", "low", "high")


def _plot(result: Result, *columns: str) -> go.Figure:
    rows: Frame = result.tables["compared"]
    rows = rows.assign(**dict(zip(("value", "low", "high"), (rows[name] for name in columns), strict=True)))
    rows = rows[rows["value"].notna()]
    whats, of = list(dict.fromkeys(rows["what"])), list(dict.fromkeys(rows["result"]))
    ends = [rows[name] for name in ("value", "low", "high")]
    start = 0.0 if columns[0] == "difference" else float(rows["value"].min()) if len(rows) else 0.0
    figure = rows_figure(
        [named(what) for what in whats], [""] * len(whats), "", vertical=start, height=20 + 12 * len(of)
    )
    for i, name in enumerate(of):
        own = rows[rows["result"] == name]
        own = own.assign(y=[whats.index(what) + (i + 1) / (len(of) + 1) - 0.5 for what in own["what"]])
        hover = [f"{plain(name)}: {number(value, 3)}" for value in own["value"]]
        look = {"color": theme.layer_colour(i, len(of)), "symbol": i % 8}
        figure.add_trace(dots(own, plain(name), look, hover))
    names = result.provenance.get("names") or {}
    title = str(names.get(columns[0], columns[0]))
    figure.update_xaxes(range=reach(*ends, least=(start, start)), title_text=title)
    return figure


FIGURES: dict[str, Callable[[Result], go.Figure]] = {"differences": plot_differences, "values": plot_values}


def page_values(result: Result) -> dict[str, Any]:
    """Return the figures of which there is any value."""
    found = verdicts(result)
    return {"shown": [draw(result) for name, draw in FIGURES.items() if found.has(name.removesuffix("s"))]}
