"""Write the tables of docs/evidence/concepts.md from saved results: `python docs/generate_concepts.py`.

Each table stands between two comments that name it; the words around them are written by hand. What is left
out here stands on the page of the same result.
"""

from __future__ import annotations

from pathlib import Path

import marked_tables
import pandas as pd

from lrope_interp.reports.concepts.tables import best_claims, control_name
from lrope_interp.reports.kit.verdicts import MARKS
from lrope_interp.reports.kit.wording import interval, number
from lrope_interp.results import Result, load_result, verdict_on

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "evidence" / "concepts.md"
PROBES = {
    "reference": "reference-concepts",
    "small": "small-concepts-seed1",
    "Wikipedia": "small-concepts-wiki",
    "Python": "tiny-concepts-code",
}
ENTITIES = ("reference-entities", "small-entities-seed1")
SPLITS = ("", "type_")  # unseen documents, unseen words


def told(row: pd.Series, name: str, *, signed: bool = False, places: int = 3) -> str:
    """Return a number with its interval."""
    value = f"{row[name]:+.{places}f}" if signed else number(row[name], places)
    return f"{value} {interval(row[f'{name}_low'], row[f'{name}_high'], places)}".strip()


def _signs(claims: pd.DataFrame, name: str) -> pd.Series:
    """Return -1, 0 or 1 for each claim: its interval lies below 0, holds it, or lies above."""
    return (claims[f"{name}_low"] > 0).astype(int) - (claims[f"{name}_high"] < 0).astype(int)


def counts_table(results: dict[str, Result]) -> str:
    """Return how many claims of each result lose to a control by their intervals, and which add something."""
    head = ["text, features", "claims", "lose", "gain above/holding/below 0", "on unseen words", "add"]
    rows = []
    for name, result in results.items():
        for features, own in result.tables["claims"].groupby("features", sort=False):
            above = [_signs(own, f"{split}above") for split in SPLITS]
            assert not (own["verdict"] == "beyond controls").any(), "the page says that no claim stands"
            counts = len(own), int(((above[0] < 0) & (above[1] < 0)).sum())
            gains = [_signs(own, f"{split}gain").value_counts() for split in SPLITS]
            cells = ["/".join(str(gain.get(sign, 0)) for sign in (1, 0, -1)) for gain in gains]
            adding = own[own["is_adding"].astype(bool)]
            where = adding.groupby("concept", sort=False)["layer"].apply(
                lambda layers: ", ".join("all" if pd.isna(one) else str(one) for one in layers)
            )
            added = "; ".join(f"{str(one).replace('_', ' ')} ({layers})" for one, layers in where.items())
            rows.append([f"{name}, {features}", *map(str, counts), *cells, added or "none"])
    return marked_tables.table(head, rows)


def claims_table(*results: Result, features: str = "increments") -> str:
    """Return the best claim about each concept, results side by side."""
    names = ["ROC-AUC", "best control: minus it"]
    head, rows = ["concept", *names * len(results)], {}
    for result in results:
        best = best_claims(result)
        for _, claim in best[best["features"] == features].iterrows():
            control = control_name(claim["best_control"])
            marks = [
                MARKS[verdict_on(claim[f"{split}above_low"], claim[f"{split}above_high"])][0]
                for split in SPLITS
            ]
            layer = "" if claim["place"] == "all layers" else f", {claim['place']}"
            above = f"{''.join(marks)} {told(claim, 'above', signed=True)}"
            rows.setdefault(claim["what"], []).extend(
                [
                    f"{told(claim, 'auc')}{layer}",
                    f"{control} {number(claim['best_control_auc'], 3)}: {above}",
                ]
            )
    return marked_tables.table(
        head, [[what, *cells, *[""] * (len(head) - 1 - len(cells))] for what, cells in rows.items()]
    )


UNITS = (  # title, table, column, which rows, unit, language
    ("gaps between English phrases", "contrasts", "ratio", ("byte_class", "all"), "phrase", "en"),
    ("gaps between Chinese phrases", "contrasts", "ratio", ("byte_class", "all"), "phrase", "zh"),
    ("words of one Chinese name", "pairs", "value", ("metric", "roc_auc"), "entity", "zh"),
    ("trees of Chinese phrases", "trees", "value", ("metric", "f1"), "phrase", "zh"),
)


def units_table(results: dict[str, Result]) -> str:
    """Return what increments say of units in their best layer, beside three bytes and the best other."""
    rows = []
    for title, name, column, (which, wanted), unit, language in UNITS:
        rows.append([title])
        for result in (results["reference"], results["small"]):
            table = result.tables[name]
            table = table[
                (table[which] == wanted) & (table["unit"] == unit) & (table["language"] == language)
            ]
            table = table.dropna(subset=column).rename(columns={column: "best"})
            table = table.rename(columns={"ci_low": "best_low", "ci_high": "best_high", "tree": "control"})
            own = table[table["control"].isin(["", "increments"])]
            best = own.loc[own["best"].idxmax()]
            if name == "contrasts":  # a ratio is compared in one layer
                table = table[table["layer"].isna() | (table["layer"] == best["layer"])]
            others = table[~table["control"].isin(["", "increments"])]
            bytes_of = others[others["control"] == "ngram_3"]
            others = others[others["control"] != "ngram_3"]
            top = others.loc[others["best"].idxmax()]
            rows[-1].extend([
                f"{best['layer']}: {told(best, 'best')}",
                told(bytes_of.loc[bytes_of["best"].idxmax()], "best"),
                f"{SIGNALS.get(top['control'], control_name(top['control']))} {told(top, 'best')}",
            ])  # fmt: skip
    head = ["", *["layer: increments", "three bytes", "other control"] * 2]
    return marked_tables.table(head, rows)


SIGNALS = {"lexical": "byte", "bytes": "byte count"}


_SPACE = {"response": "inner_space"}
NAMES = (
    ("reversed", "reversed order, as published", {"context": "alone", "measure": "pair"}, "share"),
    ("regression", "space inside, nothing equal", _SPACE | {"model": "raw"}, "coefficient"),
    ("regression", "space inside, regression", _SPACE | {"model": "first_words"}, "coefficient"),
    ("chinese", "Chinese, nothing equal", {"response": "inner", "design": "raw"}, "difference"),
    ("chinese", "Chinese, matched words", {"response": "inner", "design": "matched"}, "difference"),
)  # fmt: skip


def names_table() -> str:
    """Return the layers in which each test leaves its null out, and those in which a control does as much."""
    rows = []
    for name, words, where, column in NAMES:
        cells = []
        for folder in ENTITIES:
            table = load_result(TOP / "results" / folder).tables[name]
            is_own = (table["signal"] == "increments") & (table[[*where]] == pd.Series(where)).all(axis=1)
            own = (
                table[is_own]
                .sort_values("layer")
                .rename(columns={"ci_low": f"{column}_low", "ci_high": f"{column}_high"})
            )
            measured, places = own[own["verdict"] != "not measured"], 2 if column == "share" else 3
            apart = [
                f"layer {row['layer']}: {told(row, column, signed=column != 'share', places=places)}"
                for _, row in own[own["verdict"].isin(["smaller", "larger"])].iterrows()
            ]
            as_much = own.loc[own["verdict"].str.contains("control"), "layer"].astype(str)
            none = "none" if len(measured) else "not measured"
            cells += ["; ".join(apart) or none, ", ".join(as_much) or none]
        rows.append([words, *cells])
    head = [
        "test",
        "reference: no control",
        "a control",
        "small: no control",
        "a control",
    ]
    return marked_tables.table(head, rows)


def tables() -> dict[str, str]:
    """Return every table of the page by its name."""
    results = {name: load_result(TOP / "results" / folder) for name, folder in PROBES.items()}
    return {
        "counts": counts_table(results),
        "people": claims_table(results["reference"], results["small"]),
        "wiki": claims_table(results["Wikipedia"]),
        "units": units_table(results),
        "names": names_table(),
    }


def filled(page: str) -> str:
    """Return the page with every table as the results have it."""
    return marked_tables.filled(page, tables())


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
