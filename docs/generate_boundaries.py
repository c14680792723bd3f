"""Write the tables of docs/evidence/boundaries.md from saved results: `python docs/generate_boundaries.py`.

Each table stands between two comments that name it; the words around them are written by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.boundaries.tables import auc_frame, signal_name
from lrope_interp.reports.kit.wording import interval, number
from lrope_interp.results import Result, load_result

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "boundaries.md"
SMALL, DESPACED, CODE = "small-boundaries", "tiny-boundaries-despaced", "tiny-boundaries-code"
LEADERBOARDS = {
    "english": (SMALL, "en", ("words", "sentences", "punctuation")),
    "chinese": (SMALL, "han", ("words", "words_merged")),
    "despaced": (DESPACED, "characters", ("despaced", "punctuation")),
    "code": (CODE, "characters", ("tokens", "lines", "scopes", "brackets_open")),
}
BEYOND = {
    "beyond-small": (SMALL, ("words", "words_merged", "sentences")),
    "beyond-despaced": (DESPACED, ("despaced",)),
    "beyond-code": (CODE, ("tokens", "lines", "scopes", "brackets_open", "words")),
}


def leaderboard_table(result: Result, stratum: str, labels: tuple[str, ...]) -> str:
    """Return ROC-AUC of every layer, and of each control its best place, by label."""
    columns = {label: _leaders(result, label, stratum) for label in labels}
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    lines = [f"| signal | {' | '.join(labels)} |", "|---|" + "---|" * len(labels)]
    for name in names:
        cells = [columns[label].get(name, "") for label in labels]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _leaders(result: Result, label: str, stratum: str) -> dict[str, str]:
    """Return one cell a signal: layers by number, and every other signal at its best layer."""
    frame = auc_frame(result, label, stratum)
    frame = frame[frame["value"].notna()]
    layers = frame[frame["signal"] == "increments"].sort_values("layer")
    others = frame[frame["signal"] != "increments"].sort_values("value", ascending=False)
    others = others.drop_duplicates("signal").sort_values("signal")
    top = frame["value"].max()
    cells = {str(row["name"]): _cell(row, top) for _, row in layers.iterrows()}
    return cells | {signal_name(str(row["signal"])): _cell(row, top) for _, row in others.iterrows()}


def _cell(row: pd.Series, top: float) -> str:
    value = number(row["value"], 3)
    value = f"**{value}**" if row["value"] == top else value
    bounds = interval(row["low"], row["high"])
    bounds = bounds.replace("[", "(").replace("]", ")") if row["spread"] == "range" else bounds
    where = f", L{int(row['layer'])}" if row["layer"] >= 0 and row["signal"] != "increments" else ""
    return f"{value} {bounds}{where}".strip()


def beyond_table(result: Result, labels: tuple[str, ...]) -> str:
    """Return what every layer adds to both baselines, and the p of the rank test."""
    table = result.tables["beyond"]
    table = table[table["label"].isin(labels) & (table["signal"] == "increments")]
    lines = ["| label, gaps | layer | M0 alone, ROC-AUC | bits over M0 | bits over M0 + log-odds | p, bins |"]
    lines.append("|---|---|---|---|---|---|")
    for (label, stratum, layer), rows in table.groupby(["label", "stratum", "layer"], sort=False):
        by = rows.set_index("baseline")
        bits = [_bits(by.loc[name]) if name in by.index else "" for name in ("M0", "M0_lexical")]
        base, p = number(by.loc["M0", "base_auc"], 3), number(by.loc["bins", "p"], 3)
        lines.append(f"| {label}, {stratum} | {layer} | {base} | {bits[0]} | {bits[1]} | {p} |")
    return "\n".join(lines)


def _bits(row: pd.Series) -> str:
    value = f"{number(row['bits'], 4)} {interval(row['bits_low'], row['bits_high'], 4)}"
    return f"**{value}**" if not pd.isna(row["is_beyond"]) and bool(row["is_beyond"]) else value


def matches_table(result: Result) -> str:
    """Return every layer with its partner in the other seed, and both runs' scores."""
    table = result.tables["matches"]
    shown = [("words", "en"), ("words", "han"), ("punctuation", "characters"), ("whitespace", "characters")]
    lines = ["| layer | other seed | Spearman | " + " | ".join(f"{a}, {b}" for a, b in shown) + " |"]
    lines.append("|---|---|---|" + "---|" * len(shown))
    for (layer, other), rows in table.groupby(["layer", "other_layer"], sort=False):
        by = rows.set_index(["label", "stratum"])
        both = [[number(by.loc[key, name], 3) for name in ("value", "other_value")] for key in shown]
        cells = [" / ".join(pair) for pair in both]
        lines.append(f"| {layer} | {other} | {number(rows['spearman'].iloc[0], 2)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    results = {name: load_result(TOP / "results" / name) for name in (SMALL, DESPACED, CODE)}
    made: dict[str, Callable[[], str]] = {}
    for name, (result, stratum, labels) in LEADERBOARDS.items():
        made[name] = lambda r=results[result], s=stratum, a=labels: leaderboard_table(r, s, a)
    for name, (result, labels) in BEYOND.items():
        made[name] = lambda r=results[result], a=labels: beyond_table(r, a)
    made["matches"] = lambda: matches_table(results[SMALL])
    return {name: make() for name, make in made.items()}


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
