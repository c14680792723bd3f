"""What an ablation study ran: passes and what was skipped, what was fitted, and the files."""

from __future__ import annotations

import pandas as pd

from lrope_interp.reports.ablations.names import short
from lrope_interp.reports.kit.blocks import Block, Folded, Prose, Table
from lrope_interp.reports.kit.files_beside import files_beside, whole
from lrope_interp.reports.kit.frames import Frame, numbers, table_of
from lrope_interp.reports.kit.wording import NOTHING, is_number, number, plural
from lrope_interp.results import Result

MEANINGS = {
    "ablations": "the change of one metric under one intervention on some layers or a head, in a language "
    "and a byte class, with its interval; and the parts of the split",
    "distances": "the change at one distance (bytes) since the last boundary of a label",
    "attention": "where a head looks under an intervention on all layers, and its change from the untouched "
    "model",
    "examples": "one character of the text around one of the targets that lose most",
    "base": "the untouched model's loss in a language",
    "increments": "mean and spread of a layer's or head's increments on the fit text, and the share of "
    "their variance that the mean per byte explains",
    "places": "a place at which interventions were made: how many gaps it has, in how many documents it is "
    "known",
    "passes": "one forward pass over the whole text: what it changed and which blocks it ran",
}
_SUITES = {
    "default": "default: every intervention on every single layer and on all layers",
    "full": "full: the default, and scale curve, cumulative sets of layers, all layers but one, some gaps",
    "asked": "only what was asked for",
}


def computed_blocks(result: Result) -> list[Block]:
    """Return everything about how the numbers were made; what the result lacks is left out."""
    said = passes_sentence(result)
    blocks: list[Block] = [Prose(said)] if said else []
    increments, passes = increments_table(result), passes_table(result)
    if len(increments):
        table = Table(increments, _INCREMENTS, left=["Where"])
        heads = f"Increments on the fit text, one row a layer or head ({len(increments)})"
        blocks.append(table if len(increments) <= _LONG else Folded(heads, [table]))
    if len(passes):
        table = Table(passes, _PASSES, left=["Intervention", "Layers", "At"])
        blocks.append(Folded(f"Every pass ({len(passes):,})", [table]))
    return [*blocks, *files_beside(result, MEANINGS)]


_LONG = 16  # rows of a table that is folded
_INCREMENTS = (
    "Increments on the fit text, which no change is measured on. The lexical share is the share of their "
    "variance that the mean per byte explains: what freezing to the byte's mean keeps. It says nothing of "
    "whether the model uses it."
)
_PASSES = (
    "One row a forward pass over the whole text. A pass begins at the first layer that is changed, on the "
    "residual stream of the untouched pass; the blocks below it are not run again."
)


def computed_facts(result: Result) -> dict[str, str]:
    """Return what was fitted and run, for the facts on top of the page."""
    fit = result.provenance.get("fit") or {}
    sizes = [
        plural(int(fit[f"n_{word}s"]), word)
        for word in ("document", "byte")
        if is_number(fit.get(f"n_{word}s"))
    ]
    suite = str(result.provenance.get("suite") or "")
    return {
        name: text
        for name, text in {"Fitted on": ", ".join(sizes), "Suite": _SUITES.get(suite, suite)}.items()
        if text
    }


def passes_sentence(result: Result) -> str:
    """Say how many passes were run and what was skipped."""
    passes = table_of(result, "passes")
    n, gain = result.headline.get("n_passes"), result.headline.get("gain")
    if not is_number(n) and passes.empty:
        return ""
    count = int(n) if n is not None and is_number(n) else len(passes)
    parts = [f"{count:,} forward {'pass' if count == 1 else 'passes'} over the text"]
    if len(passes):
        run, saved = int(numbers(passes["blocks_run"]).sum()), int(numbers(passes["blocks_saved"]).sum())
        parts.append(f"{run:,} blocks run and {saved:,} saved by beginning at the first layer changed")
    if is_number(gain):
        parts.append(f"full passes would have run {number(gain, 2)} times as many blocks")
    return f"{'; '.join(parts)}."


def increments_table(result: Result) -> Frame:
    """Return the increments of the fit text as ready-made strings."""
    table = table_of(result, "increments")
    if table.empty:
        return table
    places = zip(table["layer"], table["head"], strict=True)
    return pd.DataFrame(
        {
            "Where": [f"Layer {layer}" if head < 0 else f"Head {layer}.{head}" for layer, head in places],
            "Mean": [number(value, 3) for value in table["mean"]],
            "S.d.": [number(value, 3) for value in table["sd"]],
            "Lexical share": [_percent(value) for value in table["lexical_share"]],
            "Increments": [f"{int(n):,}" if is_number(n) else NOTHING for n in table["n"]],
        }
    )


def _percent(share: object) -> str:
    return f"{100 * float(share):.0f} %" if is_number(share) else NOTHING  # pyright: ignore[reportArgumentType]


def passes_table(result: Result) -> Frame:
    """Return the passes as ready-made strings."""
    table = table_of(result, "passes")
    if table.empty:
        return table
    rows = list(table.itertuples(index=False))
    return pd.DataFrame(
        {
            "Intervention": [short(str(row.intervention), row.parameter) for row in rows],
            "Layers": [_layers(str(row.layers), int(row.head)) for row in rows],
            "At": [str(row.where) if str(row.where) not in ("", "nan") else "everywhere" for row in rows],
            "Blocks run": [whole(row.blocks_run) for row in rows],
            "Blocks saved": [whole(row.blocks_saved) for row in rows],
        }
    )


def _layers(layers: str, head: int) -> str:
    shown = layers if layers not in ("", "nan") else NOTHING
    return shown if head < 0 else f"{shown}, head {head}"
